"""DPO pairs: another person, another answer, the same question; whatever the order of the rows."""

from collections import Counter, defaultdict
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scripts.data.facts import Items, Rows, read_rows
from scripts.data.pairs import build_pairs
from scripts.data.settings import PairSettings
from scripts.data.source import open_source
from tests.helpers.small_source import write_source


def table(groups, persons, responses):
    """Rows of one study with one text each group; sample ids count up."""
    count = int(max(groups)) + 1
    zeros = np.zeros(count, np.int64)
    items = Items(zeros, zeros, np.arange(count), np.arange(count), zeros, zeros, ["text"])
    people = int(max(persons)) + 1
    return Rows(
        studies=["st0"],
        study=np.zeros(len(groups), np.int32),
        sample=np.arange(len(groups)),
        person=np.array(persons, np.int32),
        item=np.array(groups, np.int32),
        response=np.array(responses, np.int64),
        people_study=np.zeros(people, np.int32),
        people=np.arange(people),
        items=items,
    )


ROWS = st.lists(
    st.tuples(st.integers(0, 3), st.integers(0, 5), st.integers(-2, 3), st.booleans()),
    min_size=1,
    max_size=60,
)


@given(ROWS, st.sampled_from(["uniform", "balanced"]), st.integers(0, 99), st.sampled_from([None, 1, 3]))
@settings(max_examples=200)
def test_a_rejected_answer_differs_and_is_another_persons_of_the_same_group(entries, scheme, seed, most):
    groups, persons, responses, train = (np.array(column) for column in zip(*entries, strict=True))
    rows = table(groups, persons, responses)
    pairs = build_pairs(rows, train, PairSettings(scheme=scheme, most_per_cell=most), seed)
    without = 0
    for row in range(len(rows)):
        other = pairs.rejected[row]
        fitting = train & (groups == groups[row]) & (persons != persons[row]) & (responses != responses[row])
        if other >= 0:
            assert train[row] and fitting[other]
        elif train[row] and not fitting.any():
            without += 1
        else:
            assert not train[row] or most is not None
    assert pairs.rows_without == without
    assert pairs.count + pairs.rows_without + pairs.beyond_cap == train.sum()
    if most:
        assert max(Counter(groups[pairs.rejected >= 0].tolist()).values(), default=0) <= most


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    return read_rows(open_source(write_source(tmp_path_factory.mktemp("source") / "d")))


def named(rows, pairs):
    name = [(rows.studies[s], int(n)) for s, n in zip(rows.study, rows.sample, strict=True)]
    return {name[row]: name[pairs.rejected[row]] for row in np.flatnonzero(pairs.rejected >= 0)}


@pytest.mark.parametrize("scheme", ["uniform", "balanced"])
def test_pairs_do_not_depend_on_the_order_of_rows(small, scheme):
    options = PairSettings(scheme=scheme, most_per_cell=5)
    train = small.study != 3
    shuffle = np.random.default_rng(0).permutation(len(small))
    per_row = ("study", "sample", "person", "item", "response")
    mixed = replace(small, **{name: getattr(small, name)[shuffle] for name in per_row})
    one = named(small, build_pairs(small, train, options, 7))
    assert one == named(mixed, build_pairs(mixed, train[shuffle], options, 7))
    assert one != named(small, build_pairs(small, train, options, 8))


def test_pairs_within_an_item_share_their_text_and_within_a_cell_need_not(small):
    everything = np.ones(len(small), bool)
    for within in ("item", "cell"):
        pairs = build_pairs(small, everything, PairSettings(within=within), 0)
        have = np.flatnonzero(pairs.rejected >= 0)
        same = small.item[have] == small.item[pairs.rejected[have]]
        assert np.all(small.cell[have] == small.cell[pairs.rejected[have]])
        assert np.all(same) if within == "item" else not np.all(same)


def shares(scheme):
    """How often each answer is rejected for people who answered 0: 1 is frequent, 2 is rare."""
    answers = [0] * 2000 + [1] * 900 + [2] * 100
    rows = table([0] * 3000, list(range(3000)), answers)
    pairs = build_pairs(rows, np.ones(3000, bool), PairSettings(scheme=scheme), 1)
    counts = defaultdict(int)
    for row in range(2000):
        counts[answers[pairs.rejected[row]]] += 1 / 2000
    return counts


def test_uniform_pairs_reject_answers_as_often_as_people_give_them():
    assert shares("uniform")[1] == pytest.approx(0.9, abs=0.03)


def test_balanced_pairs_reject_every_other_answer_equally_often():
    assert shares("balanced")[1] == pytest.approx(0.5, abs=0.04)


def test_groups_without_disagreement_are_counted():
    rows = table([0, 0, 1, 1, 2], [0, 1, 0, 1, 0], [5, 5, 1, 2, 3])
    pairs = build_pairs(rows, np.ones(5, bool), PairSettings(), 0)
    assert (pairs.groups, pairs.without_disagreement, pairs.rows_without, pairs.count) == (3, 2, 3, 2)
