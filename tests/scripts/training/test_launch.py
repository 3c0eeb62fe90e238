import collections
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from common.errors import Refusal
from scripts.training import checkpoints, export
from scripts.training import launch as train
from scripts.training import recipe as recipes
from tests.helpers.training_data import RECIPE, REPOSITORY, make_workplace


def options(*arguments):
    return train.make_parser("").parse_args(list(arguments))


def test_one_process_is_started_without_torchrun_and_several_with_it():
    launch = Path("launch.json")
    alone = train.command(options(), 1, False, launch)
    assert alone == [sys.executable, "-m", "scripts.training.worker", "launch.json"]
    settings = options("--gpus", "8", "--nnodes", "4", "--node-rank", "2", "--master-addr", "10.0.0.1")
    line = " ".join(train.command(settings, 8, True, launch))
    assert "torch.distributed.run --nnodes 4 --node_rank 2 --nproc_per_node 8 --master_addr 10.0.0.1" in line
    assert line.endswith("-m scripts.training.worker launch.json")


def test_the_machines_variables_are_the_options_defaults(monkeypatch):
    for name, value in {
        "GPUS": "4",
        "NNODES": "2",
        "NODE_RANK": "1",
        "MASTER_ADDR": "host",
        "MASTER_PORT": "7",
    }.items():
        monkeypatch.setenv(name, value)
    got = options()
    assert (got.gpus, got.nnodes, got.node_rank, got.master_addr, got.master_port) == (4, 2, 1, "host", 7)


def test_the_arguments_keep_the_batch_and_let_no_nan_hide():
    recipe = {
        **RECIPE,
        "per_device_train_batch_size": 8,
        "gradient_accumulation_steps": 32,
        "overwrite_output_dir": True,
    }
    fresh = train.run_arguments(recipe, 8, Path("cache"), None, cuda=True)
    assert (fresh["per_device_train_batch_size"], fresh["gradient_accumulation_steps"]) == (8, 4)
    assert fresh["tokenized_path"] == "cache" and fresh["logging_nan_inf_filter"] is False
    assert "use_cpu" not in fresh and fresh["overwrite_output_dir"]
    resumed = train.run_arguments(recipe, 1, Path("cache"), Path("run/checkpoint-7"), cuda=False)
    assert resumed["resume_from_checkpoint"] == "run/checkpoint-7" and resumed["use_cpu"]
    assert not resumed["overwrite_output_dir"]


def whole_checkpoint(folder, step):
    place = folder / f"checkpoint-{step}"
    place.mkdir(parents=True)
    (place / "model.safetensors").write_text("w")
    checkpoints.mark_whole(place)
    return place


def start(folder, inputs="a", processes=1, deepspeed=None, *more):
    layout = {"processes": processes, "deepspeed": deepspeed}
    return train.prepare_folder(folder, inputs, layout, options(*more))


def launched(folder, inputs="a", processes=1, deepspeed=None):
    layout = {"processes": processes, "deepspeed": deepspeed}
    (folder / "launch.json").write_text(json.dumps({"inputs": inputs, "layout": layout}))


def test_the_same_run_goes_on_and_another_is_moved_aside_not_deleted(tmp_path, capsys):
    folder = tmp_path / "sft"
    place = whole_checkpoint(folder, 5)
    launched(folder)
    assert start(folder) == place
    assert start(folder, "another recipe") is None
    (aside,) = tmp_path.glob("sft.old-*")
    assert checkpoints.is_whole(aside / "checkpoint-5") and "was moved to" in capsys.readouterr().out


def test_checkpoints_of_an_unknown_run_are_not_gone_on_from(tmp_path):
    folder = tmp_path / "sft"
    whole_checkpoint(folder, 5)  # for example by llamafactory-cli: nothing says what it was trained on
    assert start(folder) is None
    assert list(tmp_path.glob("sft.old-*/checkpoint-5"))


def test_what_holds_no_weights_is_not_kept(tmp_path):
    folder = tmp_path / "sft"
    folder.mkdir()
    launched(folder)
    assert start(folder, "b") is None
    assert [path.name for path in tmp_path.iterdir()] == ["sft"] and not list(folder.iterdir())


def test_a_checkpoint_split_over_gpus_is_not_resumed_with_another_number_of_them(tmp_path):
    whole_checkpoint(tmp_path, 5)
    launched(tmp_path, processes=8, deepspeed="configs/deepspeed/zero2.json")
    with pytest.raises(Refusal, match="split over 8 processes"):
        start(tmp_path, "a", 4, "configs/deepspeed/zero2.json")
    launched(tmp_path, processes=8)
    assert start(tmp_path, "a", 4) is not None  # DDP's checkpoints are not split


def test_two_runs_can_not_train_in_one_folder(tmp_path):
    with (
        train.only_run_in(tmp_path),
        pytest.raises(Refusal, match="another run is training"),
        train.only_run_in(tmp_path),
    ):
        pass


@pytest.mark.parametrize(
    ("code", "lines", "reason"),
    [
        (1, ["x", "torch.OutOfMemoryError: CUDA out of memory. Tried"], "halve per_device_train_batch_size"),
        (-9, [], "run the same command to go on"),
        (1, ["[rank0]: ValueError: no such layer", "ChildFailedError:"], "ValueError: no such layer"),
        (7, ["nothing"], "exit code 7"),
    ],
)
def test_a_failed_training_says_why_in_one_line(code, lines, reason):
    assert reason in train._reason(code, collections.deque(lines))


# Real runs: LLaMA-Factory on a tiny model


@pytest.fixture(scope="module")
def workplace(tmp_path_factory):
    return make_workplace(tmp_path_factory.mktemp("work"))


def run(workplace, *arguments, check=True):
    done = start_run(workplace, *arguments)
    out, _ = done.communicate(timeout=400)
    assert not check or done.returncode == 0, out
    return out


def start_run(workplace, *arguments):
    env = {**os.environ, "PYTHONPATH": str(REPOSITORY), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    recipe = () if "--recipe" in arguments else ("--recipe", "sft.yaml")
    line = [sys.executable, "-m", "scripts.training.launch", *recipe, *arguments]
    return subprocess.Popen(
        line, cwd=workplace, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def losses(workplace, stage="sft"):
    record = json.loads((workplace / "outputs/sample/study/tiny" / stage / "run.json").read_text())
    return {entry["step"]: entry["loss"] for entry in record["losses"] if "loss" in entry}


@pytest.fixture(scope="module")
def unbroken(workplace):
    run(workplace, "--restart")
    return losses(workplace)


@pytest.mark.whole
def test_a_run_learns_and_its_record_holds_everything_to_repeat_it(workplace, unbroken):
    assert len(unbroken) == 20 and unbroken[20] < unbroken[1] - 0.5
    record = json.loads((workplace / "outputs/sample/study/tiny/sft/run.json").read_text())
    assert record["arguments"]["dataset"] == "sample_study_sft" and record["arguments"]["seed"] == 1
    assert (
        record["versions"]["llamafactory"] and record["hardware"]["cores"] and record["peak_memory_bytes"] > 0
    )
    assert record["sessions"][0]["tokens_per_second"] > 0 and record["tokens"]["train"]["rows"] == 160


@pytest.mark.whole
def test_the_same_command_again_has_nothing_to_do(workplace, unbroken):
    assert "nothing to do" in run(workplace)


@pytest.mark.whole
@pytest.mark.parametrize("step", [8, 14])
def test_a_killed_run_ends_with_the_losses_of_an_unbroken_one(workplace, unbroken, step):
    process = start_run(workplace, "--restart")
    for line in process.stdout:
        if line.startswith(f"step {step}/"):
            process.send_signal(signal.SIGKILL)
            break
    process.wait()
    process.stdout.close()
    run_folder = workplace / "outputs/sample/study/tiny/sft"
    torn = run_folder / "checkpoint-999"
    torn.mkdir()
    (torn / "model.safetensors").write_bytes(b"half")
    out = run(workplace)
    assert f"going on from checkpoint-{step // 6 * 6}" in out and "skipped checkpoint-999" in out
    assert losses(workplace) == unbroken


@pytest.mark.whole
@pytest.mark.parametrize("deepspeed", [None, "zero2", "zero3"])
def test_two_processes_have_the_loss_curve_of_one(workplace, unbroken, deepspeed):
    extra = [f"deepspeed=configs/deepspeed/{deepspeed}.json"] if deepspeed else []
    run(workplace, "--restart", "--gpus", "2", *extra)
    both = losses(workplace)
    assert both.keys() == unbroken.keys()
    assert max(abs(both[step] - unbroken[step]) for step in both) < 1e-4


@pytest.mark.whole
def test_training_ends_when_checkpoints_come_no_nearer_to_people_and_keeps_the_nearest(workplace):
    slow = "learning_rate=1e-15"  # nothing changes, so the second checkpoint is no nearer than the first
    out = run(workplace, "--restart", "--select", "wasserstein", "--patience", "1", slow)
    assert "checkpoint-6: Wasserstein distance" in out
    assert "training ends here" in out and "step 13/" not in out
    folder = workplace / "outputs/sample/study/tiny/sft"
    assert json.loads((folder / "selection.json").read_text())["step"] == 6
    assert (folder / "model.safetensors").read_bytes() == (
        folder / "checkpoint-6/model.safetensors"
    ).read_bytes()


@pytest.mark.whole
def test_a_loss_that_is_no_number_stops_the_run_and_is_named(workplace):
    out = run(workplace, "--restart", "learning_rate=1e30", "max_grad_norm=0", check=False)
    assert "error: training failed:" in out and "at step" in out
    assert not (workplace / "outputs/sample/study/tiny/sft/run.json").exists()


@pytest.mark.whole
def test_dpo_starts_from_sft_and_names_the_command_if_it_is_missing(workplace):
    shutil.rmtree(workplace / "outputs/sample/study/tiny/sft", ignore_errors=True)
    dpo = ("--stage", "dpo", "--recipe", "dpo.yaml")
    assert "make train-sft" in run(workplace, *dpo, check=False)
    run(workplace)
    run(workplace, *dpo)
    assert abs(losses(workplace, "dpo")[1] - 0.6931) < 1e-3  # equal to its reference: log 2


@pytest.mark.whole
@pytest.mark.parametrize("lora", [False, True])
def test_an_export_gives_the_same_logits_and_is_never_overwritten(workplace, lora, monkeypatch, tmp_path):
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    extra = ["finetuning_type=lora", "lora_rank=4", "lora_target=all"] if lora else []
    run(workplace, *extra)
    monkeypatch.chdir(workplace)
    source, out = Path("outputs/sample/study/tiny/sft"), tmp_path / "model"
    export.export(source, out)
    ids = AutoTokenizer.from_pretrained(out)("How fair is it?", return_tensors="pt")["input_ids"]
    exported = AutoModelForCausalLM.from_pretrained(out, dtype=torch.float32)
    if lora:
        base = AutoModelForCausalLM.from_pretrained("outputs/models/tiny", dtype=torch.float32)
        trained = PeftModel.from_pretrained(base, source)
    else:
        trained = AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32)
    with torch.no_grad():
        assert torch.allclose(exported.eval()(ids).logits, trained.eval()(ids).logits, atol=1e-5)
    assert not list(out.glob("*.bin")) and "global batch | 8" in (out / "README.md").read_text()
    assert (out / "chat_template.jinja").is_file() or "chat_template" in (
        out / "tokenizer_config.json"
    ).read_text()
    with pytest.raises(Refusal, match="never overwritten"):
        export.export(source, out)


def test_a_disk_too_small_for_the_checkpoints_is_refused_before_the_start(monkeypatch):
    usage = collections.namedtuple("usage", "free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10**11))
    recipe = recipes.load_recipe("configs/llama3-8b/sft.yaml")
    with pytest.raises(Refusal, match="450 GB and 100 GB are free"):
        train.check_disk(options("--model", "llama3-8b"), recipe)
    train.check_disk(options("--model", "llama3-8b"), recipes.load_recipe("configs/llama3-8b/sft-lora.yaml"))


def test_a_gpu_recipe_on_a_machine_without_one_is_refused(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr(train, "check_disk", lambda *_: None)
    with pytest.raises(Refusal, match="try MODEL=tiny"):
        train.preflight(options("--model", "llama3-8b"), recipes.load_recipe("configs/llama3-8b/sft.yaml"))


def test_an_export_of_what_was_not_trained_names_the_command(tmp_path):
    with pytest.raises(Refusal, match="make train-sft"):
        export.export(tmp_path / "sft", tmp_path / "out")


def test_a_recipe_of_another_stage_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(REPOSITORY)
    with pytest.raises(Refusal, match="make train-dpo"):
        train.resolved_recipe(options("--stage", "sft", "--recipe", "configs/llama3-8b/dpo.yaml"))
    assert recipes.find_recipe("tiny", "sft", "x.yaml") == Path("x.yaml")
