"""Scores of single answers against plain formulas."""

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from eval.scoring.answers import ROW_SCORES, Answers, row_scores
from eval.scoring.calibration import calibration
from eval.scoring.groups import control_groups
from eval.scoring.metrics import METRICS
from eval.scoring.model import work_on
from eval.scoring.ragged import Ragged
from eval.settings import ScoreSettings
from tests.helpers.scored_samples import evaluated, exact, population, sampled

RANGE = np.array([[2.0, 6, 1, 7]])
FEW = ScoreSettings(replicates=100, ceiling_splits=10)


def one_row(probs: dict[int, float], response: int, draws: int = 0) -> dict[str, float]:
    answers, weights = np.array(list(probs)), np.array(list(probs.values()))
    predicted = Ragged(np.array([0, len(answers)]), answers, weights)
    one = (np.array([value]) for value in (0, response, 0))
    scores = row_scores(Answers(predicted, *one, RANGE, np.array([draws])))
    return dict(zip(ROW_SCORES, scores[0], strict=True))


def test_the_published_accuracy_of_a_single_answer():
    assert one_row({5: 1.0}, 3)["accuracy_observed"] == 1 - 2 / 4
    assert one_row({5: 1.0}, 3)["accuracy_stated"] == 1 - 2 / 6


def test_a_predicted_answer_outside_the_range_is_clipped_and_counted():
    scores = one_row({1: 0.25, 900: 0.75}, 6)
    assert scores["accuracy_observed"] == pytest.approx(0.75)
    assert scores["clipped_observed"] == 1.0
    assert scores["clipped_stated"] == 0.75


@settings(max_examples=80, deadline=None)
@given(st.lists(st.floats(0.01, 1), min_size=7, max_size=7), st.integers(2, 6))
def test_scores_of_a_distribution_are_expectations(weights, response):
    probs = dict(zip(range(1, 8), np.array(weights) / sum(weights), strict=True))
    scores = one_row(probs, response)
    assert scores["accuracy_stated"] == pytest.approx(
        sum(p * (1 - abs(a - response) / 6) for a, p in probs.items())
    )
    assert scores["brier"] == pytest.approx(sum((p - (a == response)) ** 2 for a, p in probs.items()))
    assert scores["log_score"] == pytest.approx(-np.log(probs[response]))
    assert scores["exact_match"] == pytest.approx(probs[response])
    assert scores["expected"] == pytest.approx(sum(p * min(max(a, 2), 6) for a, p in probs.items()))
    assert scores["confidence"] == pytest.approx(max(probs.values()))


def test_an_answer_that_was_held_impossible_costs_a_finite_log_score():
    assert one_row({2: 1.0}, 3)["log_score"] == pytest.approx(-np.log(1e-6))


def test_the_ranked_probability_score_is_its_textbook_formula():
    """E|X - y| - E|X - X'| / 2 over the clipped answers, in units of the range."""
    probs, truth = {1: 0.1, 3: 0.4, 4: 0.3, 9: 0.2}, 4
    clipped = [(min(max(a, 2), 6), p) for a, p in probs.items()]
    miss = sum(p * abs(a - truth) for a, p in clipped)
    spread = sum(p * q * abs(a - b) for a, p in clipped for b, q in clipped)
    assert one_row(probs, truth)["crps"] == pytest.approx((miss - spread / 2) / 4)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.floats(0.01, 1), min_size=7, max_size=7), st.integers(2, 6))
def test_the_ranked_probability_score_is_half_of_scipys_squared_energy_distance(weights, response):
    """Of the predicted distribution, clipped to the range 2 to 6, from the answer that came."""
    probs = np.array(weights) / sum(weights)
    energy = stats.energy_distance(np.clip(np.arange(1, 8), 2, 6), [response], probs, [1.0])
    crps = one_row(dict(zip(range(1, 8), probs, strict=True)), response)["crps"]
    assert crps == pytest.approx(energy**2 / 2 / 4, abs=1e-9)


def test_sharpening_the_truth_raises_accuracy_but_never_the_ranked_probability_score():
    rows, true = population(studies=4, people=600)
    sure = true**3 / (true**3).sum(1, keepdims=True)
    honest, over_confident = (groups(rows, exact(rows, probs)).values for probs in (true, sure))
    assert over_confident["accuracy_observed"].mean() > honest["accuracy_observed"].mean() + 0.02
    assert over_confident["crps"].mean() > honest["crps"].mean()


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 9), min_size=2, max_size=6), st.integers(2, 6))
def test_the_ranked_probability_score_of_several_draws_is_its_fair_form(drawn, response):
    """E|X - y| - sum over i != j of |Xi - Xj| / (2 k (k - 1)) of k draws, in units of the range."""
    k, clipped = len(drawn), np.clip(drawn, 2, 6)
    pairs = np.abs(clipped[:, None] - clipped).sum() / (2 * k * (k - 1))
    probs = {answer: drawn.count(answer) / k for answer in sorted(set(drawn))}
    fair = (np.abs(clipped - response).mean() - pairs) / 4
    assert one_row(probs, response, k)["crps"] == pytest.approx(fair, abs=1e-12)


@pytest.mark.parametrize("draws", [2, 5])
def test_draws_of_a_model_have_the_ranked_probability_score_of_its_probabilities(draws, monkeypatch):
    """Counted shares taken as probabilities would add a k-th of the mean distance of two answers."""
    monkeypatch.setattr("eval.scoring.groups.PART", 1000)  # rows are scored a part at a time
    rows, true = population(studies=4, arms=2, people=600)
    rng = np.random.default_rng(3)
    answers = 1 + (true.cumsum(1)[:, None] < rng.random((len(rows), draws, 1))).sum(2).clip(0, 6)
    several = groups(rows, rows.select("study_id", "sample_id", draws=pl.Series(answers.tolist())))
    probable = groups(rows, exact(rows, true))
    assert several.values["crps"].mean() == pytest.approx(probable.values["crps"].mean(), abs=0.004)


def test_one_draw_has_no_ranked_probability_score_and_the_reason_is_said():
    rows, true = population(studies=1, people=30)
    one = groups(rows, sampled(rows, true))
    assert np.isnan(one.values["crps"]).all()
    assert one.reason("crps") == "one sampled answer has no spread"


def groups(rows, predictions):
    return work_on(evaluated(rows, predictions), None, FEW, 0).cells


def test_one_distribution_for_everybody_scores_as_its_rows_would():
    rows, true = population(studies=1, arms=1, tasks=1, people=40)
    as_rows = groups(rows, exact(rows, np.tile(true[0], (40, 1))))
    one = Ragged(np.array([0, 7]), np.arange(1, 8), true[0])
    as_control = control_groups(as_rows, one)
    for name in METRICS:
        assert as_control.values[name] == pytest.approx(as_rows.values[name], nan_ok=True), name


def test_correlation_within_a_cell_is_pearsons_and_null_without_variation():
    rows, true = population(studies=2, arms=1, tasks=1, people=60)
    tilted = true * np.exp(np.random.default_rng(1).normal(0, 1, (120, 1)) * np.arange(-3, 4))
    tilted /= tilted.sum(1, keepdims=True)
    tilted[60:] = true[60]
    cells = groups(rows, exact(rows, tilted))
    low, high = rows["response"][:60].min(), rows["response"][:60].max()
    expected = tilted[:60] @ np.clip(np.arange(1, 8), low, high)
    pearson = np.corrcoef(expected, rows["response"][:60])[0, 1]
    assert cells.values["correlation"][0] == pytest.approx(pearson)
    assert np.isnan(cells.values["correlation"][1])
    assert cells.scored["reason"][1] == "predictions don't vary within it"


def test_a_model_that_always_says_the_same_has_collapsed():
    rows, _ = population(studies=1, arms=1, tasks=1, people=4)
    rows = rows.with_columns(response=pl.Series([1, 3, 5, 7]))
    values = groups(rows, rows.select("study_id", "sample_id", prediction=pl.lit(4))).values
    assert values["spread_ratio"][0] == values["entropy_ratio"][0] == values["mean_error_observed"][0] == 0


def calibrated(rows, predictions):
    work = work_on(evaluated(rows, predictions), None, FEW, 0)
    return calibration(work.evaluated, work.cells, work.paired, work.studies, 0)


def test_calibration_error_of_an_overconfident_model_is_its_overconfidence():
    rows, _ = population(studies=2, arms=1, tasks=1, people=100)
    rows = rows.with_columns(response=pl.Series(np.tile([4, 4, 4, 1, 7], 40)))
    sure = np.tile([0.0, 0, 0.05, 0.95, 0, 0, 0], (200, 1))
    calibration = calibrated(rows, exact(rows, sure))
    assert calibration.ece.value == pytest.approx(0.35)
    assert calibration.ece.over == "people"


def test_ordinal_calibration_is_flat_for_the_truth_and_shows_what_is_wrong_otherwise():
    rows, true = population(studies=6, people=600)
    flat, both_ends, middle = (
        calibrated(rows, exact(rows, probs / probs.sum(1, keepdims=True)))
        for probs in (true, true**3, true**0.3)
    )
    assert flat.pit == pytest.approx([0.1] * 10, abs=0.01)
    assert flat.pit_error.value < 0.03 < min(both_ends.pit_error.value, middle.pit_error.value)
    assert min(both_ends.pit[0], both_ends.pit[9]) > 0.12
    assert max(middle.pit[0], middle.pit[9]) < 0.09


def test_sampled_answers_have_no_calibration_and_the_reason_is_said():
    rows, true = population(studies=1, people=30)
    calibration = calibrated(rows, sampled(rows, true))
    assert (calibration.ece.value, calibration.reason) == (None, "sampled answers are no probabilities")
