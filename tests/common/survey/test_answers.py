"""What a cell means: labels trimmed and case-blind, numbers on the scale, nothing guessed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.scale import Scale
from common.survey.answers import answer_of

AGREE = Scale("ordinal", 1, 3, labels=((1, "Don't agree"), (2, "Neither"), (3, "Agree")))
SLIDER = Scale("bounded", 0, 100, labels=((0, "cold"), (100, "warm")))
OPEN = Scale("open")


@pytest.mark.parametrize(
    ("cell", "scale", "answer"),
    [
        (" agree ", AGREE, 3), ("AGREE", AGREE, 3), ("don’t  agree", AGREE, 1), ("3", AGREE, 3),
        ("3.0", AGREE, 3), ("3 - Agree", AGREE, 3), ("1 = Don't agree", AGREE, 1), ("3 - Neither", AGREE, 2),
        ("3. agree", AGREE, 3), ("4", AGREE, None), ("Agreed", AGREE, None), ("2.5", AGREE, None),
        ("50", SLIDER, 50), ("101", SLIDER, None), ("warm", SLIDER, 100), ("1,200", OPEN, 1200),
        ("$1,200", OPEN, 1200), ("-5", OPEN, -5), ("many", OPEN, None), ("12.5", OPEN, None),
        ("1e3", OPEN, None), ("9" * 30, OPEN, None),
    ],
)  # fmt: skip
def test_a_cell_means_what_its_label_or_its_number_says(cell, scale, answer):
    assert answer_of(cell, scale) == answer


def test_a_files_own_label_wins_over_its_code():
    assert answer_of("11", AGREE, "Agree") == 3 and answer_of("1", AGREE, "Agree") == 3
    assert answer_of("2", AGREE, "no idea") == 2 and answer_of("11", AGREE, "no idea") is None


@given(st.text())
def test_any_text_is_an_answer_on_the_scale_or_none(text):
    for scale in (AGREE, SLIDER):
        answer = answer_of(text, scale)
        assert answer is None or scale.contains(answer)
