"""Scores of single answers against plain formulas."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.distances import histograms
from eval.scoring.answers import (
    ROW_SCORES,
    histogram_scores,
    moments,
    reliability,
    row_scores,
    within_correlation,
)

RANGE = np.array([[2.0, 6, 1, 7]])


def one_row(probs: dict[int, float], response: int) -> dict[str, float]:
    answers, weights = np.array(list(probs)), np.array(list(probs.values()))
    found = row_scores(
        np.array([0, len(answers)]), answers, weights, np.array([response]), np.array([0]), RANGE
    )
    return dict(zip(ROW_SCORES, found[0], strict=True))


def test_the_published_accuracy_of_a_single_answer():
    assert one_row({5: 1.0}, 3)["accuracy_observed"] == 1 - 2 / 4
    assert one_row({5: 1.0}, 3)["accuracy_stated"] == 1 - 2 / 6


def test_a_predicted_answer_outside_the_range_is_clipped_and_counted():
    found = one_row({1: 0.25, 900: 0.75}, 6)
    assert found["accuracy_observed"] == pytest.approx(0.75)
    assert found["clipped_observed"] == 1.0
    assert found["clipped_stated"] == 0.75


@settings(max_examples=80, deadline=None)
@given(st.lists(st.floats(0.01, 1), min_size=7, max_size=7), st.integers(2, 6))
def test_scores_of_a_distribution_are_expectations(weights, response):
    probs = dict(zip(range(1, 8), np.array(weights) / sum(weights), strict=True))
    found = one_row(probs, response)
    assert found["accuracy_stated"] == pytest.approx(
        sum(p * (1 - abs(a - response) / 6) for a, p in probs.items())
    )
    assert found["brier"] == pytest.approx(sum((p - (a == response)) ** 2 for a, p in probs.items()))
    assert found["log_score"] == pytest.approx(-np.log(probs[response]))
    assert found["exact_match"] == pytest.approx(probs[response])
    assert found["expected"] == pytest.approx(sum(p * min(max(a, 2), 6) for a, p in probs.items()))
    assert found["confidence"] == pytest.approx(max(probs.values()))


def test_an_answer_that_was_held_impossible_costs_a_finite_log_score():
    assert one_row({2: 1.0}, 3)["log_score"] == pytest.approx(-np.log(1e-6))


def test_one_distribution_for_everybody_scores_as_its_rows_would():
    rng = np.random.default_rng(0)
    response, probs = rng.integers(2, 7, 40), rng.dirichlet(np.ones(7))
    starts = np.array([0, 40])
    rows = row_scores(
        np.arange(41) * 7,
        np.tile(np.arange(1, 8), 40),
        np.tile(probs, 40),
        response,
        np.zeros(40, int),
        RANGE,
    )
    table = histograms(response, starts, np.arange(1, 8), np.array([0, 7]), np.ones(40), probs)
    for name, found in histogram_scores(table, RANGE).items():
        assert found[0] == pytest.approx(rows[:, ROW_SCORES.index(name)].mean()), name


def test_correlation_within_a_group_is_pearsons_and_nan_without_variation():
    rng = np.random.default_rng(1)
    x, y, group = rng.normal(size=60), rng.integers(1, 8, 60), np.repeat([0, 1, 2], 20)
    x[group == 2] = 3.3
    found = within_correlation(x, y, group, 3)
    for g in (0, 1):
        assert found[g] == pytest.approx(np.corrcoef(x[group == g], y[group == g])[0, 1])
    assert np.isnan(found[2])


def test_a_model_that_always_says_the_same_has_collapsed():
    answers, starts = np.array([1, 3, 5, 7]), np.array([0, 4])
    table = histograms(answers, starts, np.array([4]), np.array([0, 1]), np.ones(4), np.ones(1))
    found = moments(table, np.array([[1.0, 7, 1, 7]]))
    assert found["spread_ratio"][0] == found["entropy_ratio"][0] == found["mean_error_observed"][0] == 0


def test_calibration_error_of_an_overconfident_model_is_its_overconfidence():
    right = np.tile([1.0, 1, 1, 0, 0], 40)
    table = reliability(np.full(200, 0.95), right, np.repeat([0, 1], 100), 2)
    assert table.ece(np.ones((1, 2)))[0] == pytest.approx(0.35)
