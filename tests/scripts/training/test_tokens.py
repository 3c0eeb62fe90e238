import json
import os

import pytest

from common.errors import Refusal
from scripts.training import llamafactory, rows, tokens
from scripts.training.recipe import resolve
from tests.helpers.training_data import RECIPE, make_rows, make_workplace, write_data


@pytest.fixture(scope="module")
def workplace(tmp_path_factory):
    return make_workplace(tmp_path_factory.mktemp("work"))


@pytest.fixture(autouse=True)
def inside(workplace, monkeypatch):
    monkeypatch.chdir(workplace)


def recipe(**changes):
    return resolve({**RECIPE, **changes}, "sample", "study", "tiny", str(changes.get("stage", "sft")))


def of_llamafactory(settings, tmp_path):
    """What LLaMA-Factory's own loader makes of the same data."""
    return llamafactory.load_dataset({**settings, "output_dir": str(tmp_path), "overwrite_cache": True})


@pytest.mark.parametrize(
    "changes",
    [{}, {"stage": "dpo", "dataset": "sample_study_dpo"}, {"neat_packing": True, "packing": True}],
    ids=str,
)
def test_the_tokens_are_llamafactorys_own_to_the_id(changes, tmp_path):
    from datasets import load_from_disk

    settings = recipe(**changes)
    ours = load_from_disk(str(tokens.tokenise(settings, 1)))["train"]
    theirs = of_llamafactory(settings, tmp_path)
    assert len(ours) == len(theirs) and set(ours.column_names) == set(theirs.column_names)
    for mine, other in zip(ours, theirs, strict=True):
        assert mine == other


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
    kept = [length for length in lengths if length <= cutoff]
    assert counts["rows"] == 160 and counts["dropped_too_long"] == 160 - len(kept) > 0
    assert [len(ids) for ids in load_from_disk(str(folder))["train"]["input_ids"]] == kept
    assert counts["tokens"] == sum(kept)


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
    made = make_rows(160)
    made[7]["output"] = "12"
    write_data(workplace, made)
    changed = tokens.cache_path(recipe())
    file = workplace / "outputs/models/tiny/tokenizer_config.json"
    text = file.read_text()
    file.write_text(text + " ")
    third = tokens.cache_path(recipe())
    file.write_text(text)
    write_data(workplace, make_rows(160))
    assert len({before, changed, third}) == 3


def test_a_data_file_edited_after_its_manifest_can_not_use_the_manifests_sum(workplace):
    folder = workplace / "data/sample/study"
    (folder / "manifest.json").write_text(json.dumps({"files": {"sft.jsonl": {"sha256": "abc"}}}))
    assert rows.stamp(folder / "sft.jsonl") == "abc"
    later = (folder / "manifest.json").stat().st_mtime_ns + 10**9
    os.utime(folder / "sft.jsonl", ns=(later, later))
    assert rows.stamp(folder / "sft.jsonl") != "abc"
    (folder / "manifest.json").unlink()


def test_the_template_of_another_family_is_refused():
    with pytest.raises(Refusal, match="set the template of the model's family"):
        tokens.tokenise(recipe(template="qwen"), 1)


def test_parquet_gives_the_same_tokens_as_json_lines(workplace, monkeypatch):
    import polars as pl
    from datasets import load_from_disk

    monkeypatch.setattr(rows, "SLICE", 50)
    place = workplace / "data/sample/study"
    pl.DataFrame(make_rows(160)).write_parquet(place / "sft.parquet", row_group_size=70)
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
        tokens.tokenise(recipe(dataset="sample_study_nothing"), 1)


def test_no_half_written_cache_is_left_when_it_fails(monkeypatch):
    settings = recipe(cutoff_len=20)
    with pytest.raises(Refusal, match="raise cutoff_len"):
        tokens.tokenise(settings, 1)
    assert not tokens.cache_path(settings).exists()
