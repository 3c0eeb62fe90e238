"""Stated distributions: read, normalised, or refused."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.scale import Scale
from eval.prediction.modes import parse_distribution

SCALE = Scale("ordinal", 1, 7)


@given(st.dictionaries(st.integers(1, 7), st.floats(0.01, 100), min_size=1))
def test_what_is_stated_comes_out_normalised(stated: dict[int, float]) -> None:
    for text in (json.dumps(stated), f"```json\n{json.dumps(stated)}\n```"):
        distribution = parse_distribution(text, SCALE)
        assert distribution is not None
        assert sum(distribution.values()) == pytest.approx(1)
        total = sum(stated.values())
        assert distribution == pytest.approx({answer: value / total for answer, value in stated.items()})


@given(st.text())
def test_any_text_is_read_or_refused(text: str) -> None:
    distribution = parse_distribution(text, SCALE)
    assert distribution is None or sum(distribution.values()) == pytest.approx(1)


@pytest.mark.parametrize(
    "text",
    [
        "", "5", "[1, 2]", "{}", '{"1": 0}', '{"1": -5, "2": 105}', '{"8": 100}', '{"1.5": 100}',
        '{"1": "many"}', '{"1": NaN}', '{"1": 1e999}', '{"1": 50, "1": 50}', '{"1": 50} {"2": 50}',
        'Sure: {"1": 100}', '{"1": [5]}', '{"one": 100}', '{"1": null}', '{"01": 50, "1": 50}',
        '{"1": 10, "x": 1}', '{"1": true}', "[" * 100000,
        "[[1, 50], [2, 50]]", '{"1": 1e308, "2": 1e308}', '{"1": ' + "9" * 400 + "}",
    ],
)  # fmt: skip
def test_what_is_no_distribution_over_the_scale_is_refused(text: str) -> None:
    assert parse_distribution(text, SCALE) is None
