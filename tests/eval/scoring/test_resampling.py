"""Intervals cover what they promise, and permutation p-values are honest."""

import numpy as np
import pytest

from eval.scoring.align import align, load_predictions, load_rows
from eval.scoring.controls import controls
from eval.scoring.groups import paired_rows, score_groups
from eval.scoring.resampling import (
    holm,
    people_interval,
    permutation_p,
    resample_people,
    study_interval,
    study_weights,
    weighted_mean,
)
from tests.helpers.scored_samples import exact, population, sampled


def paired(tmp_path, seed, people=120, mode=exact, shift=0.0, studies=3, draw=0):
    rows, true = population(studies=studies, people=people, seed=seed, draw=draw)
    moved = true * np.exp(shift * np.arange(7))
    rows.write_parquet(tmp_path / "e.parquet")
    mode(rows, moved / moved.sum(1, keepdims=True)).write_parquet(tmp_path / "p.parquet")
    loaded = load_rows(tmp_path / "e.parquet", "")
    found = align(loaded, load_predictions(tmp_path / "p.parquet", ""), "m")
    both = controls(loaded, found.cells, None)
    uniforms = both["uniform_observed"], both["uniform_stated"]
    scores = score_groups(found, "cell", uniforms)
    return scores, paired_rows(found, scores, uniforms)


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


def test_one_study_has_no_interval_over_studies():
    assert study_interval(0.2, np.full(100, 0.2), 1) is None


def test_equal_seeds_give_equal_resamples_and_others_do_not(tmp_path):
    _, rows = paired(tmp_path, 0)
    one, again, other = (resample_people(rows, 40, seed) for seed in (7, 7, 8))
    assert np.array_equal(one, again, equal_nan=True)
    assert not np.array_equal(one, other, equal_nan=True)


def test_resampled_scores_spread_like_those_of_new_people(tmp_path):
    """Standard errors of distance and accuracy against 80 new samples of people of one population."""
    found, errors = [], []
    for draw in range(80):
        scores, rows = paired(tmp_path, 3, people=150, shift=0.3, studies=1, draw=draw)
        found.append([scores.values[name].mean() for name in ("wasserstein_stated", "accuracy_stated")])
        errors.append(resample_people(rows, 100, 0)[:, :, [1, 6]].mean(1).std(0))
    assert np.mean(errors, axis=0) == pytest.approx(np.std(found, axis=0), rel=0.2)


def test_resampling_keeps_each_persons_prediction_with_the_answer(tmp_path):
    """A model that repeats people's own answers stays at distance 0 in every resample."""
    rows, _ = population(studies=1, people=60)
    rows.write_parquet(tmp_path / "e.parquet")
    rows.select("study_id", "sample_id", prediction="response").write_parquet(tmp_path / "p.parquet")
    loaded = load_rows(tmp_path / "e.parquet", "")
    found = align(loaded, load_predictions(tmp_path / "p.parquet", ""), "m")
    both = controls(loaded, found.cells, None)
    uniforms = both["uniform_observed"], both["uniform_stated"]
    drawn = resample_people(paired_rows(found, score_groups(found, "cell", uniforms), uniforms), 50, 0)
    assert np.nanmax(drawn[:, :, 0]) == 0
    assert np.nanmin(drawn[:, :, 5]) == 1


def test_the_upward_bias_of_a_bootstrap_is_taken_off_its_interval(tmp_path):
    scores, rows = paired(tmp_path, 1, people=60, mode=sampled)
    value = np.nanmean(scores.values["wasserstein_observed"])
    drawn = np.nanmean(resample_people(rows, 300, 0)[:, :, 0], axis=1)
    assert drawn.mean() > 1.1 * value
    low, high = people_interval(value, drawn)
    assert low < value < high
    assert (low + high) / 2 == pytest.approx(value, rel=0.1)


def test_permutation_p_is_uniform_under_no_difference_and_small_under_a_clear_one():
    rng = np.random.default_rng(0)
    p = [permutation_p(rng.normal(0, 1, 9), 10_000, 0) for _ in range(400)]
    assert 0.02 <= np.mean(np.array(p) <= 0.05) <= 0.08
    assert permutation_p(np.full(12, 0.1), 10_000, 0) == pytest.approx(2 / 2**12)
    assert permutation_p(rng.normal(1, 0.3, 40), 2000, 0) == pytest.approx(1 / 2001)
    assert permutation_p(np.array([np.nan]), 100, 0) is None


def test_holm_corrects_the_comparisons_that_have_a_p():
    assert holm([0.01, None, 0.04, 0.03]) == pytest.approx([0.03, None, 0.06, 0.06])
    assert holm([None]) == [None]
