"""Pilot and predictions combined, against simulated pilots and the library for large ones."""

import numpy as np
import pytest
from statsmodels.api import WLS

from eval.simulation.ppi import Answered, contrast

ONE, EFFECT = np.ones(1), np.array([-1.0, 1.0])


def answered(real, guessed, simulated, weight=None, real_weight=None) -> Answered:
    weight = np.ones(len(simulated)) if weight is None else weight
    real_weight = np.ones(len(real)) if real_weight is None else real_weight
    columns = [np.reshape(part, (len(part), -1)).astype(float) for part in (real, guessed, simulated)]
    return Answered(*columns[:2], real_weight, columns[2], weight)


def answers_and_guess(rng, n, noise):
    """True expectation of a person, and an answer around it."""
    expected = rng.normal(0, 1, n)
    return expected, expected + rng.normal(0, noise, n)


def between(rng, n, noise=0.7, effect=0.5):
    """A pilot of two arms of n people each, the second higher, and 2,000 simulated people in both."""
    guess, answers = answers_and_guess(rng, 2 * n, noise)
    real, guessed = np.full((2 * n, 2), np.nan), np.full((2 * n, 2), np.nan)
    for arm, rows in enumerate((slice(0, n), slice(n, None))):
        real[rows, arm], guessed[rows, arm] = answers[rows] + effect * arm, guess[rows] + 2 * effect * arm
    level = rng.normal(0, 1, 2000)
    return answered(real, guessed, np.stack([level, level + 2 * effect], 1))


def within(rng, n, effect=0.5, level_sd=2.0):
    """A pilot of n people who answer in both arms, alike."""
    level = rng.normal(0, level_sd, n)
    real = np.stack([level, level + effect], 1) + rng.normal(0, 1, (n, 2))
    guessed = np.stack([level, level + 2 * effect], 1) + rng.normal(0, 0.5, (n, 2))
    simulated = rng.normal(0, level_sd, (2000, 1)) + np.array([0, 2 * effect]) + rng.normal(0, 0.5, (2000, 2))
    return answered(real, guessed, simulated)


def test_good_predictions_make_a_pilot_count_for_more_people():
    rng = np.random.default_rng(0)
    guess, answers = answers_and_guess(rng, 100, 0.5)
    estimate = contrast(answered(answers, guess, rng.normal(0, 1, 5000)), ONE)
    assert estimate.effective_n > 300  # variance 1.25 of answers, 0.25 of what predictions leave
    assert abs(estimate.mean) < 4 * estimate.se


def test_useless_predictions_leave_the_pilot_as_it_was():
    rng = np.random.default_rng(1)
    answers = rng.normal(3, 1, 200)
    estimate = contrast(answered(answers, rng.normal(0, 1, 200), rng.normal(0, 1, 5000)), ONE)
    assert estimate.mean == pytest.approx(estimate.pilot_mean, abs=0.05)
    assert 0.9 < estimate.gain < 1.15


@pytest.mark.parametrize("pilot", [between, within])
@pytest.mark.parametrize("people", [10, 15, 40])
def test_intervals_of_effects_cover_in_small_pilots_of_either_design(pilot, people):
    """Predicted effects are twice too large, which biases nothing. 0.02: three standard errors of 1,200."""
    covered = []
    for seed in range(1200):
        estimate = contrast(pilot(np.random.default_rng([seed, people]), people), EFFECT)
        low, high = estimate.interval
        covered.append(low <= 0.5 <= high)
    assert np.mean(covered) == pytest.approx(0.95, abs=0.02)


def test_people_who_saw_both_arms_are_compared_with_themselves():
    """A person's level is twice as wide as the rest of the answer: it would double an unpaired error."""
    errors = [contrast(within(np.random.default_rng(seed), 40), EFFECT) for seed in range(30)]
    assert all(one.paired and one.n == 40 for one in errors)
    assert np.mean([one.pilot_se for one in errors]) == pytest.approx(np.sqrt(2 / 40), rel=0.05)


def test_few_people_in_both_arms_leave_the_comparison_between_people_and_count_once():
    people = between(np.random.default_rng(0), 30)
    people.real[0, 1], people.guessed[0, 1] = people.real[0, 0] + 0.5, people.guessed[0, 0] + 0.5
    estimate = contrast(people, EFFECT)
    assert (estimate.paired, estimate.n) == (False, 60)


def test_simulated_people_who_are_in_both_arms_blur_the_effect_less_than_strangers():
    people = between(np.random.default_rng(0), 30)
    shuffled = people.simulated.copy()
    shuffled[:, 1] = np.random.default_rng(1).permutation(shuffled[:, 1])
    assert contrast(people, EFFECT).se < contrast(people._replace(simulated=shuffled), EFFECT).se


def test_weights_of_simulated_people_count_and_their_spread_is_no_error():
    rng = np.random.default_rng(3)
    guess, answers = answers_and_guess(rng, 400, 0.1)
    simulated = np.concatenate([np.full(500, -1.0), np.full(500, 1.0)]) + rng.normal(0, 0.1, 1000)
    heavy = np.concatenate([np.full(500, 1.0), np.full(500, 3.0)])
    equal, weighted = (contrast(answered(answers, guess, simulated, weight), ONE) for weight in (None, heavy))
    assert weighted.mean > equal.mean + 0.3
    moved = contrast(answered(answers + 50, guess + 50, simulated + 50, heavy), ONE)
    assert (moved.mean - 50, moved.se) == pytest.approx((weighted.mean, weighted.se))


def test_survey_weights_of_the_pilot_count_in_estimate_and_error():
    """Useless predictions leave the weighted mean, with the error of weighted least squares (HC1)."""
    rng = np.random.default_rng(4)
    answers, weight = rng.normal(3, 1, 60), rng.uniform(0.2, 5, 60)
    alone = contrast(answered(answers, np.ones(60), np.ones(10), real_weight=weight), ONE)
    fit = WLS(answers, np.ones(60), weights=weight).fit(cov_type="HC1")
    assert (alone.mean, alone.se) == pytest.approx((fit.params[0], fit.bse[0]))
    guess = answers + rng.normal(0, 0.3, 60)
    together = contrast(answered(answers, guess, rng.normal(3, 1, 4000), real_weight=weight), ONE)
    assert together.se < 0.6 * alone.se and abs(together.mean - 3) < 4 * together.se
    assert together.pilot_mean == pytest.approx(alone.mean)


@pytest.mark.parametrize("people", [15, 40])
def test_intervals_of_weighted_pilots_cover(people):
    """Answers that go with the weights: unweighted means would be off by 0.4."""
    rng, covered = np.random.default_rng(6), []
    for _ in range(1500):
        common = rng.random(people) < 0.5
        guess, answers = answers_and_guess(rng, people, 0.7)
        answers, weight = answers + 0.8 * common, np.where(common, 3.0, 1.0)
        simulated = rng.normal(0, 1, 2000)
        low, high = contrast(answered(answers, guess, simulated, real_weight=weight), ONE).interval
        covered.append(low <= 0.6 <= high)
    assert np.mean(covered) == pytest.approx(0.95, abs=0.025)


def test_predictions_that_never_vary_give_the_pilot_itself():
    answers = np.arange(10.0)
    estimate = contrast(answered(answers, np.ones(10), np.ones(10)), ONE)
    assert (estimate.mean, estimate.gain, estimate.df) == (pytest.approx(4.5), 1.0, 9)
    assert estimate.se == pytest.approx(answers.std(ddof=1) / np.sqrt(10))


def test_a_large_pilot_gets_what_the_library_gives():
    ppi_py = pytest.importorskip("ppi_py")
    rng = np.random.default_rng(5)
    guess, answers = answers_and_guess(rng, 3000, 0.7)
    simulated = rng.normal(0, 1, 9000)
    estimate = contrast(answered(answers, guess, simulated), ONE)
    mean = ppi_py.ppi_mean_pointestimate(answers, guess, simulated)
    assert estimate.mean == pytest.approx(float(np.squeeze(mean)), abs=2e-3)
    ends = ppi_py.ppi_mean_ci(answers, guess, simulated, alpha=0.05)
    assert estimate.interval == pytest.approx(tuple(float(np.squeeze(end)) for end in ends), abs=2e-3)


def test_an_arm_with_too_few_people_has_no_estimate():
    assert contrast(between(np.random.default_rng(0), 9), EFFECT) is None
