"""Mappings in either meaning, refused when they fit neither; generated ones keyed by seed."""

import json
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import Refusal
from scripts.data.facts import read_rows
from scripts.data.make import make_data
from scripts.data.mappings import EVAL, TRAIN, UNMAPPED, assign
from scripts.data.selection import validation_rows
from scripts.data.settings import DataSettings
from scripts.data.source import open_source
from scripts.data.splits import generate, make_splits
from tests.helpers.small_source import mappings, small_rows, write_source


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    return read_rows(open_source(write_source(tmp_path_factory.mktemp("source") / "d")))


def sides(rows, mapping, split):
    side = assign(rows, split, mapping).side
    keys = [(rows.studies[study], int(sample)) for study, sample in zip(rows.study, rows.sample, strict=True)]
    return {number: {keys[row] for row in np.flatnonzero(side == number)} for number in (0, 1, 2)}


def expected(split, name, entries):
    column = f"{split}_num"
    named = [row for row in small_rows() if row[column] in entries.get(row["study_id"], {}).get(name, [])]
    return {(row["study_id"], row["sample_id"]) for row in named}


@pytest.mark.parametrize("split", ["task", "condition"])
def test_lists_of_numbers_are_read_as_numbers(rows, split):
    mapping = mappings()[split]
    assert assign(rows, split, mapping).meaning == f"{split} numbers"
    side = sides(rows, mapping, split)
    assert side[TRAIN] == expected(split, "train", mapping)
    assert side[EVAL] == expected(split, "eval", mapping)
    assert {study for study, _ in side[UNMAPPED]} == {"st3"}


@pytest.mark.parametrize("split", ["task", "condition"])
def test_lists_of_sample_ids_are_read_as_sample_ids_and_divide_the_same_rows(rows, split):
    numbers = mappings()[split]
    by_id = {
        study: {name: sorted(s for t, s in expected(split, name, {study: lists})) for name in lists}
        for study, lists in numbers.items()
    }
    assert assign(rows, split, by_id).meaning == "sample ids"
    assert sides(rows, by_id, split) == sides(rows, numbers, split)


def test_the_study_mapping_divides_studies(rows):
    side = sides(rows, mappings()["participant"], "study")
    assert {study for study, _ in side[EVAL]} == {"st3"}
    assert not side[UNMAPPED]


@pytest.mark.parametrize(
    ("split", "mapping", "cause"),
    [
        (
            "task",
            {"st0": {"train": [0, 77777], "eval": [1]}},
            "read as task numbers, but study st0 has no task number 77777; of 3 entries exist 2 as "
            "task numbers and 2 as sample ids",
        ),
        ("task", {"nowhere": {"train": [0], "eval": [1]}}, "none of the mapping's studies"),
        (
            "condition",  # off by one: every entry is a sample id, too
            {f"st{n}": {"train": [1, 2], "eval": [3]} for n in range(4)},
            "read as condition numbers, but study st0 has no condition number 3; of 12 entries exist 8 as "
            "condition numbers and 12 as sample ids",
        ),
        ("task", {"st0": {"train": [0, 1], "eval": [1]}}, "names 1 on both sides"),
        *[
            ("task", {"st0": {"train": [entry], "eval": [1]}}, "list of integers")
            for entry in ("x", "", "1.5", 0.5, None, True, [0], "9" * 5000, 10**30, float("inf"))
        ],
        ("task", {"st0": {"train": [0], "test": [1]}}, '"train"'),
        ("task", {"st0": [0, 1]}, '"train"'),
        ("task", {}, "mapping must be"),
        ("task", [], "mapping must be"),
        ("study", {"seen": ["st8"], "unseen": ["st9"]}, "none of the mapping's studies"),
        ("study", {"seen": ["st0", "st1"], "unseen": ["st1"]}, "seen and unseen: st1"),
        ("study", {"train": ["st0"], "eval": ["st1"]}, "seen"),
        ("study", {"seen": "st0", "unseen": ["st1"]}, "list of study ids"),
    ],
)
def test_a_mapping_that_does_not_fit_is_refused_by_name(rows, split, mapping, cause):
    with pytest.raises(Refusal, match=cause):
        assign(rows, split, mapping)


@pytest.mark.parametrize("split", ["study", "task", "condition", "participant"])
def test_a_generated_mapping_has_the_released_layout_and_both_sides(rows, split):
    mapping = json.loads(json.dumps(generate(rows, split, 0, 0.25)))
    side = sides(rows, mapping, split)
    assert side[TRAIN] and side[EVAL] and not side[UNMAPPED]
    if split == "participant":
        rows_held = [row for row in small_rows() if (row["study_id"], row["sample_id"]) in side[EVAL]]
        held = {(row["study_id"], row["participant"]) for row in rows_held}
        assert len(held) == 4 * 6  # a quarter of 24 people in each of 4 studies
    assert generate(rows, split, 0, 0.25) == mapping
    assert any(generate(rows, split, seed, 0.25) != mapping for seed in range(1, 6))


def test_a_smaller_share_of_participants_is_part_of_a_larger_one(rows):
    shares = [generate(rows, "participant", 0, 0.25, fraction) for fraction in (0.1, 0.5, 1.0)]
    for smaller, larger in pairwise(shares):
        for study in larger:
            assert set(smaller[study]["train"]) < set(larger[study]["train"])
            assert smaller[study]["eval"] == larger[study]["eval"]


@given(st.integers(0, 10**6), st.floats(0.001, 0.9), st.sampled_from(["study", "participant"]))
def test_validation_takes_whole_units_at_least_one_and_never_all(rows, seed, fraction, split):
    train = rows.study != 3
    held = validation_rows(rows, train, split, seed, fraction)
    assert held.any() and np.any(train & ~held) and not np.any(held & ~train)
    whole = [
        not set(unit[held].tolist()) & set(unit[train & ~held].tolist()) for unit in (rows.cell, rows.person)
    ]
    assert whole[1] if split == "participant" else any(whole)
    one_person = np.bincount(rows.person[train]).max()
    assert held.sum() <= max(fraction * train.sum(), one_person)


def test_entries_may_be_texts_or_have_a_decimal_point_and_absent_studies_are_counted(rows):
    plain = mappings()["task"]
    written = {
        study: {side: [str(n) if n % 2 else float(n) for n in entries] for side, entries in sides.items()}
        for study, sides in plain.items()
    }
    written["elsewhere"] = {"train": [0], "eval": [1]}
    assignment = assign(rows, "task", written)
    assert np.array_equal(assignment.side, assign(rows, "task", plain).side)
    assert assignment.absent == ("elsewhere",)
    seen = {"seen": ["st0", "st1", "st2", "st9"], "unseen": ["st3"]}
    assert assign(rows, "study", seen).absent == ("st9",)


def test_with_few_cells_validation_takes_people_not_a_whole_cell(tmp_path):
    source = write_source(tmp_path / "d", small_rows(studies=1, people=200, arms=4, tasks=1))
    rows = read_rows(open_source(source))
    held = validation_rows(rows, np.ones(len(rows), bool), "condition", 0, 0.02)
    assert held.sum() == 0.02 * len(rows)
    assert set(rows.person[held]).isdisjoint(rows.person[~held])


def test_no_validation_is_taken_when_none_is_asked_for(rows):
    assert not validation_rows(rows, np.ones(len(rows), bool), "study", 0, 0.0).any()


def test_a_written_mapping_is_one_that_a_data_set_takes(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_source(tmp_path / "small")
    assert "metadata/small/mine.json: " in str(make_splits("small", "participant", name="mine"))
    options = DataSettings(mapping="metadata/small/mine.json", outputs=("sft",))
    manifest = json.loads((make_data("small", "participant", options).folder / "manifest.json").read_text())
    assert manifest["mapping"]["file"] == "mine.json"
    assert manifest["mapping"]["meaning"] == "participant numbers"
    assert manifest["rows"]["eval"] == len(small_rows()) // 4


@pytest.mark.parametrize(
    ("options", "cause"),
    [
        ({"split": "studdy"}, "unknown SPLIT=studdy"),
        ({"name": "../up"}, "can't name a file"),
        ({"name": "mine"}, "give --split, too"),
        ({"eval_fraction": 1}, "between 0 and 1"),
        ({"participants_fraction": 0}, "above 0"),
        ({"split": "task", "participants_fraction": 0.5}, "belongs to"),
    ],
)
def test_a_wrong_option_is_refused(tmp_path, monkeypatch, options, cause):
    monkeypatch.chdir(tmp_path)
    write_source(tmp_path / "small")
    with pytest.raises(Refusal, match=cause):
        make_splits("small", **options)
