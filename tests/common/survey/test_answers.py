"""What a cell means: labels trimmed and case-blind, numbers on the scale, nothing guessed."""

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.scale import Scale
from common.survey.answers import answer_codes, answer_of

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
        ("1e3", OPEN, None), ("9" * 30, OPEN, None), ("45%", SLIDER, 45), ("Agree.", AGREE, 3),
        ("Agree\u00a0", AGREE, 3), ("3,0", AGREE, 3), ("3,5", AGREE, None), ("\u200bagree", AGREE, 3),
    ],
)  # fmt: skip
def test_a_cell_means_what_its_label_or_its_number_says(cell, scale, answer):
    assert answer_of(cell, scale) == answer


def test_a_files_own_label_wins_over_its_code():
    assert answer_of("11", AGREE, "Agree") == 3 and answer_of("1", AGREE, "Agree") == 3
    assert answer_of("2", AGREE, "no idea") is None and answer_of("11", AGREE, "no idea") is None


@given(st.text())
def test_any_text_is_an_answer_on_the_scale_or_none(text):
    for scale in (AGREE, SLIDER):
        answer = answer_of(text, scale)
        assert answer is None or scale.contains(answer)


def coded(cells: list[str], scale: Scale, labels: dict[str, str]) -> list[int | None]:
    return answer_codes(pl.Series(cells), scale, labels, "outcome")[0].to_list()


def test_codes_that_run_the_other_way_are_turned_by_the_labels_that_the_file_has():
    warm = {"1": "Warm", "7": "Cold"}
    scale = Scale("ordinal", 1, 7, labels=((1, "cold"), (7, "warm")))
    assert coded(["1", "3", "7"], scale, warm) == [7, 5, 1]
    assert coded(["1 - Warm", "3", "7 - Cold"], scale, {}) == [7, 5, 1]
    assert coded(["0", "2", "6"], scale, {"0": "Cold", "6": "Warm"}) == [1, 3, 7]
    assert coded(["1", "3", "7"], scale, {"1": "Cold", "7": "Warm"}) == [1, 3, 7]
    one_end = answer_codes(pl.Series(["1", "3", "3"]), scale, {"1": "Warm"}, "outcome")
    assert one_end[0].to_list() == [7, None, None] and str(one_end[1][0]) == "outcome: '3' (2)"


def test_a_code_whose_label_says_that_it_is_no_answer_is_none():
    assert coded(["8", "9", "5"], SLIDER, {"8": "Don't know", "9": "Refused", "5": "fairly cold"}) == [
        None, None, 5,
    ]  # fmt: skip
