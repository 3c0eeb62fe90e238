"""The cells that a reader browses: few bars, every answer once, and never more than a page can hold."""

import json
from dataclasses import replace

import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from eval.reporting.cell_browser import MOST_BARS, bars_of, payload
from eval.scoring.record import Scores


@given(
    st.integers(-1000, 1000),
    st.integers(0, 100_000),
    st.lists(st.integers(-2000, 200_000), min_size=1),
    st.data(),
)
def test_bars_are_few_and_hold_every_answer_once(low, width, answers, data):
    row = {"scale_low": low, "scale_high": low + width, "answers": sorted(set(answers))}
    bars = bars_of(row)
    weights = data.draw(
        st.lists(st.integers(0, 9), min_size=len(row["answers"]), max_size=len(row["answers"]))
    )
    gathered = bars.gather(row["answers"], weights)
    assert len(gathered) == bars.number <= MOST_BARS + 1
    assert gathered.sum() == sum(weights)
    assert bars.first <= low and bars.first + bars.number * bars.width >= low + width


def test_bars_of_common_scales_are_round():
    def drawn(low, high, answers):
        bars = bars_of({"scale_low": low, "scale_high": high, "answers": answers})
        return bars.first, bars.width, bars.number

    assert drawn(1, 7, [1, 2, 5]) == (1, 1, 7)
    assert drawn(0, 100, list(range(101))) == (0, 5, 20)
    assert drawn(0, 100, [0, 10, 50, 100]) == (0, 10, 11)
    assert drawn(-1, 1000, [-1, 3, 1000]) == (-100, 100, 11)


def test_an_answer_off_the_scale_is_put_into_the_outermost_bar():
    bars = bars_of({"scale_low": 1, "scale_high": 3, "answers": [-5, 2, 99]})
    assert bars.gather([-5, 2, 99], [1, 2, 4]).tolist() == [1, 2, 4]


def with_long_texts(scores: Scores) -> Scores:
    """The same scores, with cells whose questions are long."""
    other = scores.model_copy()
    other._frames = {"cells": scores.cells.with_columns(pl.col("stimuli") + " Long." * 200)}
    return other


def test_a_page_that_would_grow_too_large_is_cut_and_says_so(results):
    cells, notes = payload(results)
    assert not notes and len(cells["cells"]) == 45
    size = len(json.dumps(cells, separators=(",", ":")))
    long = {name: with_long_texts(scores) for name, scores in results.scores.items()}
    results = replace(results, scores=long)
    limit = size + 9 * 700
    cut, notes = payload(results, limit=limit)
    assert "question texts are cut after 600 characters" in notes[0] and len(notes) == 1
    small, notes = payload(results, limit=size // 2)
    assert "cells are on this page, those with the most answers" in notes[1]
    assert 0 < len(small["cells"]) < 45
    for content, most in ((cut, limit), (small, size // 2)):
        assert len(json.dumps(content, separators=(",", ":"))) < 1.1 * most


def test_bars_carry_the_labels_of_their_answers():
    row = {"scale_low": 1, "scale_high": 3, "answers": [1, 2, 3]}
    labels = {1: "not  at all", 3: "x" * 60}
    assert bars_of(row).names(labels) == ["not at all", "", "x" * 39 + "…"]
    wide = {"scale_low": 0, "scale_high": 100, "answers": list(range(101))}
    assert bars_of(wide).names(labels) == []
