"""Intervals cover what they promise, and permutation p-values are honest."""

import numpy as np
import pytest

from eval.scoring.estimates import people_interval, study_interval, study_weights, weighted_mean
from eval.scoring.metrics import SHARE
from eval.scoring.model import work_on
from eval.scoring.resampling import FIRST_ROW_SCORE, resample_people
from eval.scoring.significance import bootstrap_p, equivalence_p, holm, sign_flip_p
from eval.settings import ScoreSettings
from tests.helpers.scored_samples import evaluated, exact, population, sampled

FEW = ScoreSettings(replicates=100, ceiling_splits=10)


STATED = [1, FIRST_ROW_SCORE + 1]  # Wasserstein distance and accuracy by the stated range


def resampled(rows, replicates, seed):
    return np.concatenate(list(resample_people(rows, replicates, seed)))


def paired(seed, people=120, mode=exact, shift=0.0, studies=3, draw=0):
    rows, true = population(studies=studies, people=people, seed=seed, draw=draw)
    moved = true * np.exp(shift * np.arange(7))
    work = work_on(evaluated(rows, mode(rows, moved / moved.sum(1, keepdims=True))), None, FEW, 0)
    return work.cells, work.paired


@pytest.mark.parametrize("studies", [5, 20])
def test_intervals_over_studies_cover_the_truth_about_95_times_in_100(studies):
    rng = np.random.default_rng(1)
    weights = study_weights(studies, 600, 0)
    hits = 0
    for _ in range(400):
        values = rng.normal(0.2, 0.05, studies)
        low, high = study_interval(values.mean(), weighted_mean(values, weights), studies)
        hits += low <= 0.2 <= high
    assert 0.91 <= hits / 400 <= 0.985


@pytest.mark.parametrize("studies", [1, 2, 4])
def test_fewer_than_five_studies_have_no_interval_over_studies(studies):
    assert study_interval(0.2, np.full(100, 0.2), studies) is None


@pytest.mark.parametrize("value", [0.003, 0.5, 0.98])
def test_an_interval_stays_inside_the_range_of_its_figure(value):
    drawn = value + np.random.default_rng(0).normal(0, 0.05, 400)
    for low, high in (study_interval(value, drawn, 5, SHARE), people_interval(value, drawn, SHARE)):
        assert 0 <= low < value < high <= 1


def test_equal_seeds_give_equal_resamples_and_others_do_not():
    _, rows = paired(0)
    one, again, other = (resampled(rows, 40, seed) for seed in (7, 7, 8))
    assert np.array_equal(one, again, equal_nan=True)
    assert not np.array_equal(one, other, equal_nan=True)


def test_resampled_scores_spread_like_those_of_new_people():
    """Standard errors of distance and accuracy against 80 new samples of people of one population."""
    intervals, errors = [], []
    for draw in range(80):
        scores, rows = paired(3, people=150, shift=0.3, studies=1, draw=draw)
        intervals.append([scores.values[name].mean() for name in ("wasserstein_stated", "accuracy_stated")])
        errors.append(resampled(rows, 100, 0)[:, :, STATED].mean(1).std(0))
    assert np.mean(errors, axis=0) == pytest.approx(np.std(intervals, axis=0), rel=0.2)


def test_resampling_keeps_each_persons_prediction_with_the_answer():
    """A model that repeats people's own answers stays at distance 0 in every resample."""
    rows, _ = population(studies=1, people=60)
    answers = rows.select("study_id", "sample_id", prediction="response")
    drawn = resampled(work_on(evaluated(rows, answers), None, FEW, 0).paired, 50, 0)
    assert np.nanmax(drawn[:, :, 0]) == 0
    assert np.nanmin(drawn[:, :, FIRST_ROW_SCORE]) == 1


def test_the_upward_bias_of_a_bootstrap_is_taken_off_its_interval():
    scores, rows = paired(1, people=60, mode=sampled)
    value = np.nanmean(scores.values["wasserstein_observed"])
    drawn = np.nanmean(resampled(rows, 300, 0)[:, :, 0], axis=1)
    assert drawn.mean() > 1.1 * value
    low, high = people_interval(value, drawn)
    assert low < value < high
    assert (low + high) / 2 == pytest.approx(value, rel=0.1)


def test_p_values_are_uniform_under_no_difference_and_small_under_a_clear_one():
    rng = np.random.default_rng(0)
    same = [rng.normal(0, 1, 9) for _ in range(400)]
    for p_of in (sign_flip_p, bootstrap_p):
        p = np.array([p_of(differences, 1000, 0) for differences in same])
        assert 0.02 <= np.mean(p <= 0.05) <= 0.08
        assert p_of(rng.normal(1, 0.3, 40), 2000, 0) == pytest.approx(1 / 2001, rel=1.1)
        assert p_of(np.array([np.nan]), 100, 0) is None
    assert sign_flip_p(np.full(12, 0.1), 10_000, 0) == pytest.approx(2 / 2**12)


def test_skewed_differences_mislead_sign_flips_but_not_the_studentised_bootstrap():
    rng = np.random.default_rng(1)
    skewed = [rng.lognormal(0, 1.2, 20) - np.exp(0.72) for _ in range(300)]
    flips = np.mean([sign_flip_p(part, 500, 0) <= 0.05 for part in skewed])
    bootstrap = np.mean([bootstrap_p(part, 500, 0) <= 0.05 for part in skewed])
    assert flips > 0.09
    assert bootstrap < flips


@pytest.mark.parametrize(("studies", "given"), [(4, False), (5, False), (6, True)])
def test_a_p_that_could_not_be_below_five_percent_is_not_given(studies, given):
    assert (sign_flip_p(np.full(studies, 0.1), 1000, 0) is not None) is given


def test_holm_corrects_the_comparisons_that_have_a_p():
    assert holm([0.01, None, 0.04, 0.03]) == pytest.approx([0.03, None, 0.06, 0.06])
    assert holm([None]) == [None]


def test_equivalence_is_shown_by_small_differences_and_never_by_few_or_noisy_ones():
    rng = np.random.default_rng(0)
    assert equivalence_p(rng.normal(0, 0.005, 20), 0.01) < 0.001
    assert (
        equivalence_p(rng.normal(0, 0.1, 20), 0.01) > 0.05
    )  # no difference is seen, but neither is likeness
    assert equivalence_p(rng.normal(0.05, 0.005, 20), 0.01) > 0.99
    assert equivalence_p(np.full(8, 0.001), 0.01) == 0 and equivalence_p(np.full(8, 0.02), 0.01) == 1
    assert equivalence_p(np.zeros(4), 0.01) is None
    at_the_margin = [equivalence_p(rng.normal(0.01, 0.02, 15), 0.01) <= 0.05 for _ in range(1000)]
    assert np.mean(at_the_margin) == pytest.approx(0.05, abs=0.025)
