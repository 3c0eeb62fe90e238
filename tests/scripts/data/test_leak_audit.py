"""The audit: a proof from files alone, also for a data set that somebody else made."""

import json
from pathlib import Path

import pytest

from common.errors import Refusal
from scripts.data import leak_audit
from scripts.data.make import make_data
from scripts.data.settings import DataSettings
from tests.helpers.small_source import write_source


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_source(tmp_path / "small")


@pytest.mark.parametrize("form", ["alpaca", "sharegpt"])
@pytest.mark.parametrize("format", ["jsonl", "parquet"])
def test_a_data_set_made_here_passes_with_the_figures_of_its_manifest(form, format):
    options = DataSettings(form=form, format=format, outputs=("sft", "sft_reasoning", "dpo"))
    folder = make_data("small", "study", options).folder
    manifest = json.loads((folder / "manifest.json").read_text())
    checks = {check.name: check for check in leak_audit.audit_folder(folder, "study")}
    assert all(check.verdict == "passed" for check in checks.values())
    for recorded in manifest["firewall"]:
        if recorded["name"] in leak_audit.KEYS:
            check = checks[recorded["name"]]
            assert (check.train, check.eval, check.both) == (recorded["train"], recorded["eval"], 0)


@pytest.mark.parametrize("split", ["task", "condition", "participant"])
def test_every_split_passes_its_own_audit(split):
    folder = make_data("small", split, DataSettings(identical_prompts="count")).folder
    assert "violated" not in {check.verdict for check in leak_audit.audit_folder(folder, split)}


def test_a_file_that_changed_after_it_was_made_is_refused():
    folder = make_data("small", "study", DataSettings()).folder
    with (folder / "sft.jsonl").open("a") as file:
        file.write("\n")
    with pytest.raises(Refusal, match=r"sft\.jsonl is not the file"):
        leak_audit.audit_folder(folder, "study")


def test_a_leak_in_somebody_elses_files_is_found_and_refused():
    row = {
        "instruction": "Who?",
        "input": "",
        "output": "1",
        "study_id": "a",
        "sample_id": 1,
        "participant": 5,
    }
    Path("train.json").write_text(json.dumps([row, row | {"instruction": "What?", "sample_id": 2}]))
    Path("eval.jsonl").write_text(
        json.dumps({"prompt": "What?", "study_id": "b", "sample_id": 9, "participant": 5})
    )
    result = leak_audit.audit_files([Path("train.json")], [Path("eval.jsonl")], "study")
    with pytest.raises(Refusal, match="whose prompt stands in training"):
        result.enforce()
    table = str(result)
    assert "(b, 9)" in table and "can't tell: rows without condition_num" in table


def test_files_without_keys_are_compared_by_prompt():
    Path("train.jsonl").write_text(json.dumps({"conversations": [{"from": "human", "value": "A"}]}) + "\n")
    Path("eval.jsonl").write_text(json.dumps({"instruction": "B", "input": "C"}) + "\n")
    result = leak_audit.audit_files([Path("train.jsonl")], [Path("eval.jsonl")])
    assert "can't tell: rows without study_id" in str(result)


def test_a_rejected_answer_from_evaluation_is_found():
    folder = make_data("small", "study", DataSettings()).folder
    pairs, train = leak_audit.read_side([folder / "dpo.jsonl"]), leak_audit.read_side([folder / "sft.jsonl"])
    assert leak_audit.audit_rejected(pairs, train).verdict == "passed"
    checks = leak_audit.audit_rejected(pairs.with_columns(study_id=leak_audit.pl.lit("st3")), train)
    assert checks.verdict == "violated" and checks.examples


@pytest.mark.parametrize(
    ("content", "cause"),
    [
        ("{not json\n", "line 1 is not valid JSON"),
        ('{"text": "x"}\n', "row 1 has no prompt"),
        ("[1]\n", "row 1"),
    ],
)
def test_a_file_that_cannot_be_read_is_refused_by_line(content, cause):
    Path("bad.jsonl").write_text(content)
    with pytest.raises(Refusal, match=cause):
        leak_audit.audit_files([Path("bad.jsonl")], [Path("bad.jsonl")])


def test_a_missing_data_set_is_refused_with_the_command():
    with pytest.raises(Refusal, match="make data"):
        leak_audit.audit("small", "study")
