"""The launcher: what it asks for, and real runs of LLaMA-Factory on a tiny model."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from scripts.training import launch, planning, record, worker
from scripts.training.preflight import Preflight
from scripts.training.request import Machines
from tests.helpers.training_data import RECIPE, REPOSITORY, make_workplace


def test_one_process_is_started_without_torchrun_and_several_with_it():
    launched = Path("launch.json")
    alone = launch.command(Machines(), 1, False, launched)
    assert alone == [sys.executable, "-m", "scripts.training.worker", "launch.json"]
    line = " ".join(launch.command(Machines(8, 4, 2, "10.0.0.1"), 8, True, launched))
    assert "torch.distributed.run --nnodes 4 --node_rank 2 --nproc_per_node 8 --master_addr 10.0.0.1" in line
    assert line.endswith("-m scripts.training.worker launch.json")


def test_the_arguments_keep_the_batch_and_let_no_nan_hide():
    recipe = {**RECIPE, "per_device_train_batch_size": 8, "gradient_accumulation_steps": 32}
    fresh = launch.run_arguments(Preflight(recipe, 8, True, []), 8, Path("cache"), None)
    assert (fresh["per_device_train_batch_size"], fresh["gradient_accumulation_steps"]) == (8, 4)
    assert fresh["tokenized_path"] == "cache" and fresh["logging_nan_inf_filter"] is False
    assert "use_cpu" not in fresh and fresh["overwrite_output_dir"]
    resumed = launch.run_arguments(
        Preflight(recipe, 1, False, []), 1, Path("cache"), Path("run/checkpoint-7")
    )
    assert resumed["resume_from_checkpoint"] == "run/checkpoint-7" and resumed["use_cpu"]
    assert not resumed["overwrite_output_dir"]


def test_a_gradient_norm_of_zero_ends_a_run_unless_it_is_updated_layer_by_layer():
    state = SimpleNamespace(global_step=3, max_steps=9)
    logs = {"grad_norm": 0.0, "loss": 1.0}
    worker.Watch(1, layerwise=True).on_log(None, state, None, logs)
    with pytest.raises(SystemExit):
        worker.Watch(1).on_log(None, state, None, logs)


# Real runs: LLaMA-Factory on a tiny model


@pytest.fixture(scope="module")
def workplace(tmp_path_factory):
    return make_workplace(tmp_path_factory.mktemp("work"))


def run(workplace, *arguments, check=True, stage="sft"):
    done = start_run(workplace, *arguments, stage=stage)
    out, _ = done.communicate(timeout=400)
    assert not check or done.returncode == 0, out
    return out


def start_run(workplace, *arguments, stage="sft"):
    env = {**os.environ, "PYTHONPATH": str(REPOSITORY), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    recipe = () if "--recipe" in arguments else ("--recipe", "sft.yaml")
    line = [sys.executable, "-m", "socrates", "train", stage, *arguments, *recipe]
    return subprocess.Popen(
        line, cwd=workplace, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


RUNS = "outputs/sample/study/tiny"


def losses(workplace, name="sft"):
    frame = record.read(workplace / RUNS / name).losses
    return dict(frame.select("step", "loss").drop_nulls().iter_rows())


def trace(workplace):
    """What must be the same after a kill: steps, losses, learning rates, and the model's bytes."""
    frame = record.read(workplace / RUNS / "sft").losses
    weights = (workplace / RUNS / "sft/model.safetensors").read_bytes()
    return frame.select("step", "epoch", "loss", "learning_rate").rows(), weights


@pytest.fixture(scope="module")
def unbroken(workplace):
    run(workplace, "--restart")
    return trace(workplace)


@pytest.mark.whole
def test_a_run_learns_and_its_record_holds_everything_to_repeat_it(workplace, unbroken):
    run = record.read(workplace / RUNS / "sft")
    by_step = losses(workplace)
    assert run.steps == len(by_step) == 20 and by_step[20] < by_step[1] - 0.5
    held = run.record
    assert held.arguments["dataset"] == "sample_study_sft" and held.arguments["seed"] == 1
    assert held.versions["llamafactory"] and held.hardware.cores and held.peak_memory_bytes > 0
    assert held.sessions[0]["tokens_per_second"] > 0 and held.tokens["train"]["rows"] == 160


@pytest.mark.whole
def test_the_same_command_again_has_nothing_to_do(workplace, unbroken):
    assert "nothing to do" in run(workplace)
    assert run(workplace, "--quiet").startswith("20 steps, loss ")


@pytest.mark.whole
@pytest.mark.parametrize("moment", ["before the first save", "in a save", "after a log", "before the record"])
def test_a_killed_run_ends_as_an_unbroken_one(workplace, unbroken, moment):
    folder = workplace / RUNS / "sft"
    process = start_run(workplace, "--restart")
    for line in process.stdout:
        if moment == "before the first save" and line.startswith("step 3/"):
            break
        if moment == "in a save" and line.startswith("step 12/"):  # its checkpoint follows at once
            while not list(folder.glob("checkpoint-12/*")):
                time.sleep(0.001)
            break
        if moment == "after a log" and line.startswith("step 15/"):
            break
        if moment == "before the record" and line.startswith("step 20/"):
            while not (folder / "checkpoint-20/whole.json").exists():
                time.sleep(0.001)
            break
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    time.sleep(0.5)  # the trainer dies with its parent
    assert not (folder / "run.json").exists()
    out = run(workplace)
    expected = {"after a log": "going on from checkpoint-12", "before the record": "finishing the run"}
    assert expected.get(moment, "training in") in out and "step 21/" not in out
    assert trace(workplace) == unbroken


@pytest.mark.whole
def test_a_torn_checkpoint_is_skipped_by_name(workplace, unbroken):
    folder = workplace / RUNS / "sft"
    (folder / "run.json").unlink()
    shutil.rmtree(folder / "checkpoint-20")
    torn = folder / "checkpoint-999"
    torn.mkdir()
    (torn / "model.safetensors").write_bytes(b"half")
    out = run(workplace)
    assert "skipped checkpoint-999" in out and "going on from checkpoint-18" in out
    assert trace(workplace) == unbroken


@pytest.mark.whole
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_all_processes_at_once_with_one_line(workplace, number, code):
    process = start_run(workplace, "--restart", "--gpus", "2")
    for line in process.stdout:
        if line.startswith("step 2/"):
            break
    begun = time.monotonic()
    process.send_signal(number)
    rest = process.stdout.read()
    assert process.wait(30) == code and time.monotonic() - begun < 5
    lines = [line for line in rest.splitlines() if not line.startswith("step ")]
    assert len(lines) == 1 and "run the same command to go on" in lines[0], rest
    process.stdout.close()


@pytest.mark.whole
def test_a_refused_run_moves_nothing(workplace, unbroken):
    folder = workplace / RUNS / "sft"
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.name != ".run.json.lock"}
    recipe = RECIPE | {"num_train_epochs": 0}
    (workplace / "bad.yaml").write_text(yaml.safe_dump(recipe))
    assert "num_train_epochs: 0" in run(workplace, "--recipe", "bad.yaml", check=False)
    (workplace / "bad.yaml").write_text(yaml.safe_dump(RECIPE | {"template": "qwen", "seed": 9}))
    assert "error: template qwen" in run(workplace, "--recipe", "bad.yaml", "--restart", check=False)
    assert {p: p.stat().st_mtime_ns for p in folder.rglob("*") if p.name != ".run.json.lock"} == before


@pytest.mark.whole
@pytest.mark.parametrize("deepspeed", [None, "zero2", "zero3"])
def test_two_processes_have_the_loss_curve_of_one(workplace, unbroken, deepspeed):
    extra = [f"deepspeed=configs/deepspeed/{deepspeed}.json"] if deepspeed else []
    run(workplace, "--restart", "--gpus", "2", *extra)
    both, one = losses(workplace), {step: loss for step, _, loss, _ in unbroken[0]}
    assert both.keys() == one.keys()
    assert max(abs(both[step] - one[step]) for step in both) < 1e-4


def killed_after(workplace, step, *arguments):
    """Start or go on with a run and kill it when it has logged this step; what it said until then."""
    process, lines = start_run(workplace, *arguments), []
    for line in process.stdout:
        lines.append(line)
        if line.startswith(f"step {step}/"):
            break
    process.kill()
    process.wait()
    process.stdout.close()
    time.sleep(0.5)  # the trainer dies with its parent
    return "".join(lines)


def goes_on_as_one_run(workplace, name, unmoved, settings):
    """A run of two processes that was killed after its first checkpoint: to the second with one, then two."""
    assert "going on from checkpoint-6" in killed_after(workplace, 14, "--gpus", "1", *settings)
    assert "going on from checkpoint-12" in run(workplace, "--gpus", "2", *settings)
    moved = losses(workplace, name)
    assert moved.keys() == unmoved.keys() and record.read(workplace / RUNS / name).steps == 20
    assert max(abs(moved[step] - unmoved[step]) for step in moved) < 1e-4


@pytest.mark.whole
@pytest.mark.parametrize("method", ["full", "lora"])
def test_a_run_goes_on_with_another_number_of_processes(workplace, method):
    """Two, one, two again: DDP's state is whole in every checkpoint, so the losses are one run's."""
    settings = ("output_dir=moved", f"finetuning_type={method}", "lora_rank=4")
    run(workplace, "--restart", *settings)
    unmoved = losses(workplace, "moved")
    killed_after(workplace, 8, "--restart", "--gpus", "2", *settings)
    goes_on_as_one_run(workplace, "moved", unmoved, settings)


@pytest.mark.whole
@pytest.mark.parametrize("method", ["full", "lora"])
def test_a_state_that_zero_has_split_goes_on_with_another_number_of_processes(workplace, method):
    """Two, one, two again, killed also before the first checkpoint of another number: one run's losses."""
    deepspeed = "deepspeed=configs/deepspeed/zero2.json"
    settings = ("output_dir=split", deepspeed, f"finetuning_type={method}", "lora_rank=4")
    run(workplace, "--restart", "--gpus", "2", *settings)
    unmoved = losses(workplace, "split")
    killed_after(workplace, 8, "--restart", "--gpus", "2", *settings)
    killed_after(workplace, 8, "--gpus", "1", *settings)
    goes_on_as_one_run(workplace, "split", unmoved, settings)


@pytest.mark.whole
def test_a_state_that_zero_has_split_and_that_cannot_be_split_anew_is_refused_in_one_line(workplace):
    config = json.loads((REPOSITORY / "configs/deepspeed/zero2.json").read_text())
    config["zero_optimization"]["round_robin_gradients"] = True  # DeepSpeed then mixes up the names
    (workplace / "robin.json").write_text(json.dumps(config))
    killed_after(workplace, 8, "--restart", "--gpus", "2", "output_dir=split", "deepspeed=robin.json")
    for deepspeed, cause in (("deepspeed=robin.json", "mixed up"), ("seed=1", "written under")):
        out = run(workplace, "--gpus", "1", "output_dir=split", deepspeed, check=False)
        assert "checkpoint-6" in out and cause in out and "Traceback" not in out


@pytest.mark.whole
def test_training_ends_when_checkpoints_come_no_nearer_to_people_and_keeps_the_nearest(workplace):
    # Nothing changes, so the second checkpoint is no nearer than the first.
    slow = ("learning_rate=1e-15", "output_dir=slow")
    out = run(workplace, "--select", "wasserstein", "--patience", "1", *slow)
    assert "checkpoint-6: Wasserstein distance" in out
    assert "training ends here" in out and "step 13/" not in out
    folder = workplace / RUNS / "slow"
    assert record.read(folder).record.selection["step"] == 6
    assert (folder / "model.safetensors").read_bytes() == (
        folder / "checkpoint-6/model.safetensors"
    ).read_bytes()


@pytest.mark.whole
def test_a_loss_that_is_no_number_stops_the_run_and_is_named(workplace):
    out = run(workplace, "learning_rate=1e30", "max_grad_norm=0", "output_dir=nan", check=False)
    assert "error: training failed:" in out and "at step" in out
    assert not (workplace / RUNS / "nan/run.json").exists()


@pytest.mark.whole
@pytest.mark.parametrize(
    ("stage", "changes"),
    [
        ("kto", {"dataset": "sample_study_kto"}),
        ("pt", {"packing": True, "cutoff_len": 256}),
        ("dpo", {"dataset": "sample_study_dpo", "pref_loss": "orpo"}),
        (
            "dpo",
            {
                "dataset": "sample_study_dpo", "pref_loss": "simpo", "val_size": 0.2, "eval_steps": 2,
                "eval_strategy": "steps",
            },
        ),
        (
            "sft",
            {
                "dataset": "sample_study_sft,my_instructions", "mix_strategy": "interleave_under",
                "interleave_probs": "0.7,0.3", "trust_remote_code": True,
            },
        ),
    ],
    ids=str,
)  # fmt: skip
def test_every_stage_and_mixture_trains(workplace, monkeypatch, stage, changes):
    monkeypatch.chdir(workplace)
    name = f"{stage}-{len(str(changes))}"
    recipe = RECIPE | {"stage": stage, "max_steps": 3, "output_dir": name} | changes
    (workplace / "stage.yaml").write_text(yaml.safe_dump(recipe))
    run = launch.train(stage, recipe="stage.yaml")
    assert run.steps == 3 and run.losses["loss"].drop_nulls().is_finite().all()
    if "val_size" in changes:
        assert run.losses["eval_loss"].drop_nulls().len() >= 1
    if "interleave_probs" in changes:
        shares = {one["dataset"]: one["share"] for one in run.record.tokens["train"]["datasets"]}
        assert 0.5 < shares["sample_study_sft"] < 0.9 and run.record.notes[0].startswith("trust_re")
        plan = planning.plan(stage, recipe="stage.yaml", gpus=1)
        assert plan.tokens.source.startswith("measured")


@pytest.mark.whole
def test_dpo_starts_from_sft_and_names_the_command_if_it_is_missing(workplace):
    shutil.rmtree(workplace / RUNS / "sft", ignore_errors=True)
    dpo = ("--recipe", "dpo.yaml")
    assert "make train-sft" in run(workplace, *dpo, check=False, stage="dpo")
    run(workplace)
    run(workplace, *dpo, stage="dpo")
    assert abs(losses(workplace, "dpo")[1] - 0.6931) < 1e-3  # equal to its reference: log 2
