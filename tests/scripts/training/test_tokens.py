import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from common.errors import Refusal
from common.files import sha256_file, write_json
from common.step import Step
from scripts.training import llamafactory, mixture, rows, tokens
from scripts.training.recipe import resolve
from tests.helpers.training_data import RECIPE, REPOSITORY, make_rows, make_workplace, write_data


@pytest.fixture(scope="module")
def workplace(tmp_path_factory):
    return make_workplace(tmp_path_factory.mktemp("work"))


@pytest.fixture(autouse=True)
def inside(workplace, monkeypatch):
    monkeypatch.chdir(workplace)


MIXED = {
    "dataset": "sample_study_sft,my_instructions",
    "mix_strategy": "interleave_under",
    "interleave_probs": "0.8,0.2",
}


def recipe(**changes):
    return resolve({**RECIPE, **changes}, "sample", "study", "tiny", str(changes.get("stage", "sft")))


def of_llamafactory(settings, tmp_path):
    """What LLaMA-Factory's own loader makes of the same data."""
    return llamafactory.load_dataset({**settings, "output_dir": str(tmp_path), "overwrite_cache": True})


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"stage": "dpo", "dataset": "sample_study_dpo"},
        {"stage": "kto", "dataset": "sample_study_kto"},
        {"stage": "pt"},
        {"stage": "pt", "packing": False},
        {"neat_packing": True, "packing": True},
        {"dataset": "sample_study_sft,my_instructions"},
        {"max_samples": 30},
        MIXED,
        MIXED | {"mix_strategy": "interleave_over"},
    ],
    ids=str,
)
def test_the_tokens_are_llamafactorys_own_to_the_id(changes, tmp_path):
    from datasets import load_from_disk

    settings = recipe(**changes)
    ours = load_from_disk(str(tokens.tokenise(settings, 1)))["train"]
    theirs = of_llamafactory(settings, tmp_path)
    assert len(ours) == len(theirs) and set(ours.column_names) == set(theirs.column_names)
    for row, other in zip(ours, theirs, strict=True):
        assert row == other


INTERRUPTED = """
import sys
from common.errors import run_cli
from scripts.training import rows, tokens
from tests.scripts.training.test_tokens import recipe
rows.CHUNK = 2_000  # many chunks, so that processes start
run_cli(lambda: print(tokens.tokenise(recipe(seed=int(sys.argv[1])), 3)))
"""


@pytest.mark.parametrize("victim", ["group", "worker"])
def test_an_interrupt_or_a_dead_worker_ends_tokenising_with_one_line(workplace, victim):
    env = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    process = subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED, str(len(victim))], cwd=workplace, env=env, text=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip
    workers: list[int] = []
    while len(workers) < 3:  # as soon as they exist, in the middle of their imports
        assert process.poll() is None
        time.sleep(0.02)
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        workers = [int(child) for child in children if b"spawn_main" in _command_line(child)]
    if victim == "group":  # as a terminal does
        os.killpg(process.pid, signal.SIGINT)
    else:
        os.kill(workers[0], signal.SIGKILL)
    _, err = process.communicate(timeout=60)
    lines = [
        line for line in err.splitlines() if "accelerator" not in line and not line.startswith("tokenising")
    ]
    assert process.returncode == (130 if victim == "group" else 2) and len(lines) == 1, err
    assert ("stopped" if victim == "group" else "--workers") in lines[0]
    with pytest.raises(ProcessLookupError):
        for _ in range(100):
            os.kill(workers[1], 0)
            time.sleep(0.05)


def _command_line(process_id):
    try:
        return Path(f"/proc/{process_id}/cmdline").read_bytes()
    except OSError:
        return b""


def test_a_mixture_says_whose_share_is_what():
    folder = tokens.tokenise(recipe(**MIXED), 1)
    train = json.loads((folder / "tokens.json").read_text())["train"]
    ours, others = train["datasets"]
    assert (ours["dataset"], others["dataset"]) == ("sample_study_sft", "my_instructions")
    assert ours["used"] + others["used"] == train["sequences"] and ours["share"] + others["share"] == 1
    assert 0.65 < ours["share"] < 0.92 and others["rows"] == 60
    lengths = np.load(folder / "train_lengths.npy")
    assert len(lengths) == train["sequences"] and lengths.sum() == train["tokens"]
    assert ours["tokens_used"] + others["tokens_used"] == train["tokens"]
    assert ours["tokens_used"] / ours["used"] > 2 * others["tokens_used"] / others["used"]  # ours are longer
    text = mixture.shares_text(train["datasets"])
    assert f"my_instructions: {others['share']:.1%} of the sequences ({others['used']})" in text
    assert mixture.shares_text([ours]) == ""


def test_a_further_data_set_that_holds_what_the_evaluation_asks_is_refused(tmp_path):
    asked = tmp_path / "eval.parquet"
    pl.DataFrame({"prompt": ["Who are you?", "What is 300 plus 300?"]}).write_parquet(asked)
    mixture.refuse_leaks(recipe(**MIXED), asked)
    mixture.refuse_leaks(recipe(**MIXED), tmp_path / "none.parquet")
    pl.DataFrame({"prompt": ["Who are you?", "What is 7 plus 7?\n"]}).write_parquet(asked)
    with pytest.raises(Refusal, match=r"my_instructions\.json holds 1 .*'What is 7 plus 7\?'"):
        mixture.refuse_leaks(recipe(**MIXED), asked)
    mixture.refuse_leaks(recipe(), asked)


@pytest.mark.parametrize("changes", [{}, {"stage": "dpo", "dataset": "sample_study_dpo"}], ids=str)
def test_val_size_holds_whole_people_out(changes, monkeypatch):
    settings = recipe(val_size=0.3, **changes)
    parts = tokens.parts_of(settings)
    people = {
        side: {
            row["participant"]
            for row in map(dict, rows.first_rows(part.data, 1000))
            if part.held_out.takes(row, 0)
        }
        for side, (part,) in parts.items()
    }
    assert people["train"] and people["validation"] and not people["train"] & people["validation"]
    counts = json.loads((tokens.tokenise(settings, 1) / "tokens.json").read_text())
    whole = json.loads((tokens.tokenise(recipe(**changes), 1) / "tokens.json").read_text())
    assert counts["train"]["rows"] + counts["validation"]["rows"] == whole["train"]["rows"]
    assert 0.1 < counts["validation"]["rows"] / whole["train"]["rows"] < 0.5


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"dataset": "sample_study_dpo"}, "holds pairs"),
        ({"stage": "kto"}, "trains on answers with a kto_tag"),
        ({"dataset": "other"}, "name one, or add an entry of your own"),
        ({"dataset": "broken"}, "the entry 'broken' is broken"),
        ({"dataset": "hub"}, "names no file_name"),
        ({"dataset": "folder"}, "is missing or no file"),
        ({"dataset": "columns"}, "has a row without what its entry"),
        (
            {"model_name_or_path": "outputs/nothing/here"},
            "the tokenizer of outputs/nothing/here can't be had",
        ),
        ({"model_name_or_path": "data/dataset_info.json"}, "is a file; name the model's folder"),
    ],
)
def test_data_and_models_that_can_not_be_read_are_one_line(changes, says, workplace, monkeypatch):
    file = workplace / "data/dataset_info.json"
    before = file.read_text()
    odd = {
        "broken": 5, "hub": {"hf_hub_url": "me/data"}, "folder": {"file_name": "sample"},
        "columns": {"file_name": "my_instructions.json", "columns": {"prompt": "question"}},
    }  # fmt: skip
    file.write_text(json.dumps(json.loads(before) | odd))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    try:
        with pytest.raises(Refusal, match=says) as refused:
            tokens.tokenise(recipe(**changes), 1)
    finally:
        file.write_text(before)
    assert "\n" not in str(refused.value)


def test_the_loss_is_on_the_answer_and_the_end_of_turn_alone():
    from datasets import load_from_disk
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained("outputs/models/tiny")
    data = load_from_disk(str(tokens.tokenise(recipe(), 1)))["train"]
    for row, source in zip(data, make_rows(160), strict=True):
        assert (
            tokenizer.decode([label for label in row["labels"] if label != -100])
            == f"{source['output']}<|eot_id|>"
        )


def test_a_row_too_long_is_dropped_and_counted_never_cut():
    from datasets import load_from_disk

    whole = tokens.tokenise(recipe(), 1)
    lengths = [len(ids) for ids in load_from_disk(str(whole))["train"]["input_ids"]]
    cutoff = sorted(lengths)[100]
    folder = tokens.tokenise(recipe(cutoff_len=cutoff), 1)
    counts = json.loads((folder / "tokens.json").read_text())["train"]
    fitting = [length for length in lengths if length <= cutoff]
    assert counts["rows"] == 160 and counts["dropped_too_long"] == 160 - len(fitting) > 0
    assert [len(ids) for ids in load_from_disk(str(folder))["train"]["input_ids"]] == fitting
    assert counts["tokens"] == sum(fitting)


def test_several_processes_and_chunks_give_the_same_bytes_as_one(monkeypatch):
    monkeypatch.setattr(rows, "CHUNK", 20_000)
    one = tokens.tokenise(recipe(max_samples=None, seed=5), 1)
    files = {file.name: file.read_bytes() for file in one.glob("train/*.arrow")}
    assert len(files) > 3
    monkeypatch.setattr(rows, "CHUNK", 4 * 2**20)
    whole = tokens.tokenise(recipe(seed=6), 1)
    from datasets import load_from_disk

    assert (
        load_from_disk(str(one))["train"]["input_ids"][:]
        == load_from_disk(str(whole))["train"]["input_ids"][:]
    )


@pytest.mark.parametrize("change", [{"template": "qwen"}, {"cutoff_len": 300}, {"packing": True}])
def test_a_change_that_changes_tokens_changes_the_caches_name(change):
    assert tokens.cache_path(recipe(**change)) != tokens.cache_path(recipe())
    assert tokens.cache_path(recipe(learning_rate=5.0)) == tokens.cache_path(recipe())


def test_changed_data_or_tokenizer_can_not_use_the_old_cache(workplace):
    before = tokens.cache_path(recipe())
    rows = make_rows(160)
    rows[7]["output"] = "12"
    write_data(workplace, rows)
    changed = tokens.cache_path(recipe())
    file = workplace / "outputs/models/tiny/tokenizer_config.json"
    text = file.read_text()
    file.write_text(text + " ")
    third = tokens.cache_path(recipe())
    file.write_text(text)
    write_data(workplace, make_rows(160))
    assert len({before, changed, third}) == 3


def test_a_data_file_edited_with_its_date_set_back_can_not_use_the_manifests_sum(workplace):
    folder = workplace / "data/sample/study"
    file, manifest = folder / "sft.jsonl", folder / "manifest.json"
    write_json(manifest, {"files": {"sft.jsonl": {"sha256": "the manifest's"}}})
    assert rows.stamp(file) == "the manifest's"
    before, status = file.read_bytes(), file.stat()
    file.write_bytes(before.replace(b"1", b"2", 1))
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    edited = rows.stamp(file)
    manifest.chmod(0o644)  # a manifest that was touched later vouches for nothing, either
    os.utime(manifest, ns=(0, 0))
    assert rows.stamp(file) == edited == sha256_file(file) != "the manifest's"
    file.write_bytes(before)
    manifest.unlink()


def test_a_second_process_waits_for_the_first_and_uses_its_tokens(workplace, capfd):
    settings = recipe(seed=77)
    env = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    with Step(tokens.cache_path(settings) / tokens.RECORD, whole=True):
        second = subprocess.Popen([sys.executable, "-c", INTERRUPTED, "77"], cwd=workplace, env=env)
        while "waiting: another run is writing" not in capfd.readouterr().err:
            assert second.poll() is None
            time.sleep(0.05)
        tokens._write_tokens(settings, tokens.cache_path(settings), 1, True)
        written = (tokens.cache_path(settings) / tokens.RECORD).stat().st_mtime_ns
    assert second.wait(60) == 0
    assert (tokens.cache_path(settings) / tokens.RECORD).stat().st_mtime_ns == written


def test_tokens_that_were_cut_are_made_again(workplace, capsys):
    folder = tokens.tokenise(recipe(), 1)
    tokens.tokenise(recipe(), 1)
    assert "nothing to do" in capsys.readouterr().err
    file = next(folder.glob("train/*.arrow"))
    whole = file.read_bytes()
    file.write_bytes(whole[:100])
    assert tokens.tokenise(recipe(), 1) == folder and file.read_bytes() == whole
    assert "nothing to do" not in capsys.readouterr().err


def test_the_template_of_another_family_is_refused():
    with pytest.raises(Refusal, match="set the template of the model's family"):
        tokens.tokenise(recipe(template="qwen"), 1)


def test_parquet_gives_the_same_tokens_as_json_lines(workplace, monkeypatch):
    import polars as pl
    from datasets import load_from_disk

    monkeypatch.setattr(rows, "SLICE", 50)
    split = workplace / "data/sample/study"
    pl.DataFrame(make_rows(160)).write_parquet(split / "sft.parquet", row_group_size=70)
    info = json.loads((workplace / "data/dataset_info.json").read_text())
    info["sample_task_sft"] = {**info["sample_study_sft"], "file_name": "sample/study/sft.parquet"}
    (workplace / "data/dataset_info.json").write_text(json.dumps(info))
    lines, table = (
        load_from_disk(str(tokens.tokenise({**recipe(), "dataset": name}, 1)))["train"]
        for name in ("sample_study_sft", "sample_task_sft")
    )
    assert lines["input_ids"][:] == table["input_ids"][:] and lines["labels"][:] == table["labels"][:]


def test_a_missing_data_set_names_the_command_that_makes_it():
    with pytest.raises(Refusal, match="make data"):
        tokens.tokenise(recipe(dataset="sample_study_sft_reasoning"), 1)


def test_no_half_written_cache_is_left_when_it_fails(monkeypatch):
    settings = recipe(cutoff_len=20)
    with pytest.raises(Refusal, match="raise cutoff_len"):
        tokens.tokenise(settings, 1)
    assert not tokens.cache_path(settings).exists()
