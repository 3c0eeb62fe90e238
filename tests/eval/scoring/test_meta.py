"""Slopes of studies, combined, against simulated studies with known slopes."""

import numpy as np
import pytest
from statsmodels.regression.linear_model import GLS

from eval.scoring.contrasts import contrasts, design
from eval.scoring.meta import Arms, Slope, combine, meta_analysis, of_studies, study_slope, variances
from tests.helpers.scored_samples import evaluated, exact, population, sampled


def study(rng, slope, outcomes=4, arms=4, noise=0.0, people=60) -> Arms:
    """Arms with sampling variances of 1 / people, in squared sds; predictions with noise of their own."""
    outcome = np.repeat(np.arange(outcomes), arms)
    true = rng.normal(0, 0.4, outcomes * arms)
    variance = np.full(len(true), 1 / people)
    observed = 3 + outcome + slope * true + rng.normal(0, np.sqrt(variance))
    predicted = true + rng.normal(0, noise, len(true))
    return Arms(outcome, observed, predicted, variance, np.full(len(true), noise**2), np.zeros(len(true)))


def test_a_slope_over_arms_is_that_of_all_pairs_with_the_covariance_of_shared_arms():
    arms = study(np.random.default_rng(0), 0.7, outcomes=1, arms=5)
    unequal = arms._replace(observed_variance=np.array([1, 2, 3, 4, 5]) / 100)
    differences = np.eye(5)[1:] - np.eye(5)[0]  # every pair is a sum of these
    covariance = differences @ np.diag(unequal.observed_variance) @ differences.T
    by_pairs = GLS(differences @ arms.observed, differences @ arms.predicted, sigma=covariance).fit()
    found = study_slope(unequal)
    assert found.slope == pytest.approx(by_pairs.params[0])
    assert variances([found] * 2) == pytest.approx(by_pairs.normalized_cov_params[0, 0])


@pytest.mark.parametrize(("noise", "fewest"), [(0.0, 0.92), (0.2, 0.86)])
def test_mean_and_new_slopes_are_covered_as_often_as_promised(noise, fewest):
    """Twelve studies whose slopes spread by 0.2 around 0.7. Tolerance: three standard errors of 400.

    Where noise of predictions is half of their effects, a new study's slope is covered 89 times in 100.
    """
    mean, new = [], []
    for seed in range(400):
        rng = np.random.default_rng(seed)
        found = of_studies([study(rng, rng.normal(0.7, 0.2), noise=noise) for _ in range(12)])
        mean.append(found.low <= 0.7 <= found.high)
        new.append(found.new_low <= rng.normal(0.7, 0.2) <= found.new_high)
    assert np.mean(mean) == pytest.approx(0.95, abs=0.035)
    assert fewest <= np.mean(new) <= 0.985


def test_studies_that_predict_no_effect_are_counted_and_too_few_say_so():
    arms = study(np.random.default_rng(0), 0.7)
    assert study_slope(arms._replace(predicted=np.full(16, 2.0))) is None
    found = combine([Slope(1.0, 10.0, 0.0, 0.0, 50.0, 0.0)] * 4, without_effect=3)
    assert (found.slope, found.studies, found.without_effect) == (None, 4, 3)
    assert "fewer than 5 studies" in found.reason


@pytest.mark.parametrize("mode", [exact, sampled])
def test_a_perfect_models_slope_is_one(mode):
    rows, true = population(studies=12, people=150, seed=3)
    arms = design(evaluated(rows, mode(rows, true)))
    found = meta_analysis(arms, contrasts(arms))
    assert found.studies + found.without_effect == 12
    assert found.low <= 1 <= found.high and found.slope == pytest.approx(1, abs=0.15)
    assert found.new_low <= found.low and found.high <= found.new_high


def test_people_in_all_arms_blur_no_slope():
    """Everybody answers in three arms: levels that people share are no error of their differences."""
    rows, true = population(studies=6, arms=1, tasks=3, people=60, seed=1)
    rng = np.random.default_rng(0)
    level = rng.normal(0, 0.6, 360)[
        rows["participant"].to_numpy() + 60 * rows["study_id"].rank("dense").to_numpy() - 60
    ]
    shares = true.mean(0) * np.exp((level + 0.3 * rows["task_num"].to_numpy())[:, None] * np.arange(-3, 4))
    shares /= shares.sum(1, keepdims=True)
    response = 1 + (shares.cumsum(1) < rng.random((len(rows), 1))).sum(1).clip(0, 6)
    within = rows.with_columns(response=response, condition_num="task_num", task_num=rows["task_num"] * 0)
    between = within.with_columns(participant=within["sample_id"])
    errors = []
    for one in (within, between):
        arms = design(evaluated(one, exact(one, shares)))
        found = meta_analysis(arms, contrasts(arms))
        errors.append(found.high - found.low)
        assert found.slope == pytest.approx(1, abs=0.2)
