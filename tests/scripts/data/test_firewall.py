"""The firewall: what must not stand on both sides is found, named and refused."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import Refusal
from scripts.data.facts import read_rows
from scripts.data.firewall import check_keys, check_pairs, compare, compare_prompts, enforce
from scripts.data.make import make_data
from scripts.data.pairs import Pairs
from scripts.data.selection import EVALUATION, TRAINING, VALIDATION, Selection
from scripts.data.settings import DataSettings
from scripts.data.source import open_source
from tests.helpers.small_source import write_source

CODES = st.lists(st.integers(0, 40), max_size=30)


@given(CODES, CODES, st.booleans())
def test_what_stands_on_both_sides_is_counted_exactly(train, evaluation, allowed):
    check = compare("things", np.array(train, int), np.array(evaluation, int), str, allowed)
    both = sorted(set(train) & set(evaluation))
    assert (check.train, check.eval, check.both) == (len(set(train)), len(set(evaluation)), len(both))
    assert list(check.examples) == [str(code) for code in both[:5]]
    assert check.verdict == ("passed" if not both else "allowed" if allowed else "violated")


def test_a_violation_is_refused_with_examples_and_a_remedy():
    check = compare("people", np.arange(9), np.arange(2, 20), lambda code: f"person {code}")
    with pytest.raises(Refusal, match=r"7 people: person 2, .*and 2 more; do this"):
        enforce([check], "do this")


def test_identical_prompts_are_found_by_their_hashes():
    train = np.array([1, 2, 2, 2**63 + 5], np.uint64)
    check = compare_prompts(train, np.array([2**63 + 5, 7], np.uint64), lambda row: f"row {row}", False)
    assert (check.train, check.eval, check.both) == (3, 2, 1)
    assert (check.examples, check.verdict) == (("row 0",), "violated")


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    return read_rows(open_source(write_source(tmp_path_factory.mktemp("source") / "d")))


def verdicts(rows, evaluated, split):
    part = np.where(evaluated, EVALUATION, TRAINING).astype(np.int8)
    chosen = Selection(part, np.zeros(len(rows), bool))
    return {check.name: check.verdict for check in check_keys(rows, chosen, split)}


@pytest.mark.parametrize(
    ("split", "name"),
    [("study", "studies"), ("participant", "people"), ("condition", "arms"), ("task", "outcomes")],
)
def test_each_split_forbids_its_own_overlap(rows, split, name):
    evaluated = np.arange(len(rows)) % 5 == 0  # a random split by row: the classic leak
    verdict = verdicts(rows, evaluated, split)
    assert verdict[name] == "violated" and verdict["rows"] == "passed"
    units = {
        "study": rows.study == 3,
        "participant": rows.people[rows.person] < 6,
        "condition": rows.items.condition[rows.item] == 1,
        "task": rows.items.task[rows.item] == 2,
    }
    assert verdicts(rows, units[split], split)[name] == "passed"


@pytest.mark.parametrize("side", [EVALUATION, VALIDATION])
def test_a_rejected_answer_from_outside_training_is_a_violation(rows, side):
    part = np.full(len(rows), TRAINING, np.int8)
    part[7] = side
    rejected = np.full(len(rows), -1, np.int32)
    rejected[3] = 7
    chosen = Selection(part, np.zeros(len(rows), bool))
    check = check_pairs(rows, chosen, Pairs(rejected, 1, 0, 0, 0))
    assert check.verdict == "violated" and check.examples == ("(st0, 7)",)


def test_a_mapping_by_sample_ids_that_divides_arms_at_random_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_source(Path("small"))
    ids = list(range(96))
    leaky = {"st0": {"train": ids[::2], "eval": ids[1::2]}}
    Path("small/metadata/condition_mapping.json").write_text(json.dumps(leaky))
    with pytest.raises(Refusal, match=r"3 arms: st0 condition 0.*sample ids were read"):
        make_data("small", "condition", DataSettings())
    assert not Path("data/small/condition").exists()
