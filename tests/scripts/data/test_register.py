"""LLaMA-Factory's index: an entry a data set, nobody else's lost, also with several converters at once."""

import json
import multiprocessing
from pathlib import Path

import pytest

from common.errors import Refusal
from scripts.data.register import index_path, register
from scripts.data.settings import DataSettings


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("one", "two", "three", "four"):
        (tmp_path / name).mkdir()


def index():
    return json.loads(index_path().read_text())


def test_entries_of_others_are_kept_and_stale_ones_of_the_split_go():
    index_path().parent.mkdir()
    index_path().write_text(json.dumps({"mine": {"file_name": "mine.json"}}))
    register("one", "study", DataSettings(), ["sft.jsonl", "dpo.jsonl", "eval.parquet"])
    register("one", "task", DataSettings(), ["sft.jsonl"])
    register("one", "study", DataSettings(), ["sft.jsonl"])
    assert set(index()) == {"mine", "one_study_sft", "one_task_sft"}


def test_columns_are_explicit_and_pairs_are_ranked():
    register("one", "study", DataSettings(), ["sft.jsonl", "dpo.jsonl", "eval.parquet"])
    assert index()["one_study_sft"] == {
        "file_name": "one/study/sft.jsonl",
        "columns": {"system": "system", "prompt": "instruction", "response": "output"},
    }
    assert index()["one_study_dpo"]["ranking"] is True
    register("one", "study", DataSettings(format="parquet"), ["sft.parquet"])
    assert index()["one_study_sft"]["columns"]["query"] == "input"


def test_a_broken_index_is_refused_not_overwritten():
    index_path().parent.mkdir()
    index_path().write_text('{"mine": ')
    with pytest.raises(Refusal, match="not valid JSON"):
        register("one", "study", DataSettings(), ["sft.jsonl"])
    assert index_path().read_text() == '{"mine": '


def _register_often(folder: str, name: str) -> None:
    import os

    os.chdir(folder)
    for split in ("study", "task", "condition", "participant") * 5:
        register(name, split, DataSettings(), ["sft.jsonl"])
        register(name, split, DataSettings(), ["sft.jsonl", "dpo.jsonl"])


def test_converters_at_the_same_time_keep_each_others_entries():
    names = ("one", "two", "three", "four")
    processes = [
        multiprocessing.get_context("spawn").Process(target=_register_often, args=(str(Path.cwd()), name))
        for name in names
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        assert process.exitcode == 0
    splits = ("study", "task", "condition", "participant")
    assert set(index()) == {f"{n}_{s}_{stage}" for n in names for s in splits for stage in ("sft", "dpo")}
