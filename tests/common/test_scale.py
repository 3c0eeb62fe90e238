"""Answer scales: what they admit, and how they are asked for."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.contract import SCALE
from common.scale import MAX_ANSWERS, Scale, admits, from_columns, to_columns

labels = st.dictionaries(st.integers(-3, 12), st.text(max_size=5), max_size=5).map(
    lambda pairs: tuple(sorted(pairs.items()))
)
scales = st.one_of(
    st.sampled_from([Scale("open"), Scale("unstated"), Scale("open", labels=((0, "days"),))]),
    st.builds(Scale, st.sampled_from(["ordinal", "bounded"]), st.integers(-3, 1), st.integers(2, 12),
              st.integers(1, 3), labels),
    labels.filter(bool).map(lambda pairs: Scale("choice", pairs[0][0], pairs[-1][0], 1, pairs)),
)  # fmt: skip


def test_a_bounded_scale_admits_its_steps_and_nothing_else():
    scale = Scale("bounded", 0, 100, step=10)
    assert scale.answers() == tuple(range(0, 101, 10))
    assert scale.contains(50) and not scale.contains(55) and not scale.contains(110)


def test_a_labelled_choice_admits_its_labels_only():
    scale = Scale("choice", 1, 9, labels=((1, "yes"), (2, "no"), (9, "don't know")))
    assert scale.answers() == (1, 2, 9)
    assert scale.contains(9) and not scale.contains(3)


def test_negative_answers_are_listed_in_order():
    assert Scale("ordinal", -2, 2).answers() == (-2, -1, 0, 1, 2)


@pytest.mark.parametrize("scale", [Scale("open"), Scale("unstated"), Scale("bounded", 0, MAX_ANSWERS)])
def test_a_scale_without_a_limit_or_with_too_many_answers_is_not_enumerated(scale: Scale):
    assert scale.answers() is None


@pytest.mark.parametrize(
    ("scale", "sentence"),
    [
        (
            Scale("binary", 0, 1, labels=((0, "no"), (1, "yes"))),
            "Only return an integer: 0 = no, 1 = yes, nothing else.",
        ),
        (
            Scale("ordinal", 1, 7, labels=((1, "not at all"), (7, "a lot"))),
            "Only return an integer from 1 to 7, where 1 means not at all and 7 means a lot, nothing else.",
        ),
        (
            Scale("bounded", -10, 10, step=5),
            "Only return an integer from -10 to 10 in steps of 5, nothing else.",
        ),
        (
            Scale("open", labels=((0, "dollars"),)),
            "Only return an integer representing dollars, nothing else.",
        ),
        (Scale("unstated"), "Only return an integer, nothing else."),
    ],
)
def test_the_answer_format_is_worded_as_in_the_data(scale: Scale, sentence: str):
    assert scale.sentence() == sentence


@given(st.lists(scales, min_size=1, max_size=4), st.lists(st.integers(-6, 15), max_size=30))
def test_many_answers_are_on_their_scales_as_each_one_is(several: list[Scale], answers: list[int]):
    which = np.arange(len(answers)) % len(several)
    expected = [several[number].contains(answer) for number, answer in zip(which, answers, strict=True)]
    assert admits(several, which, np.array(answers, np.int64)).tolist() == expected


@given(st.lists(scales, max_size=5))
def test_scales_come_back_from_their_columns_as_they_were(several: list[Scale]):
    columns = to_columns(several)
    assert dict(columns.schema) == SCALE
    unstepped = [
        scale if scale.low is not None else Scale(scale.kind, labels=scale.labels) for scale in several
    ]
    assert from_columns(columns) == unstepped
