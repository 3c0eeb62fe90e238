"""Pilot and predictions combined."""

import numpy as np
import pytest

from eval.simulation.ppi import combine, contrast


def made(rng, n, noise):
    """True expectation of a person, and an answer around it."""
    expected = rng.normal(0, 1, n)
    return expected, expected + rng.normal(0, noise, n)


def test_good_predictions_make_a_pilot_count_for_more_people():
    rng = np.random.default_rng(0)
    guess, answers = made(rng, 100, 0.5)
    found = combine(answers, guess, rng.normal(0, 1, 5000), np.ones(5000))
    assert found.effective_n > 300  # variance 1.25 of answers, 0.25 of what predictions leave
    assert abs(found.mean) < 4 * found.se


def test_useless_predictions_leave_the_pilot_as_it_was():
    rng = np.random.default_rng(1)
    answers = rng.normal(3, 1, 200)
    found = combine(answers, rng.normal(0, 1, 200), rng.normal(0, 1, 5000), np.ones(5000))
    assert found.mean == pytest.approx(found.pilot_mean, abs=0.05)
    assert 0.9 < found.gain < 1.15


def test_biased_predictions_do_not_bias_the_combination_and_its_intervals_cover():
    rng = np.random.default_rng(2)
    covered = []
    for _ in range(300):
        guess, answers = made(rng, 60, 0.7)
        found = combine(answers, guess + 5, rng.normal(0, 1, 2000) + 5, np.ones(2000))
        covered.append(abs(found.mean) <= 1.96 * found.se)
    assert 0.9 <= np.mean(covered) <= 0.99


def test_weights_of_simulated_people_count():
    rng = np.random.default_rng(3)
    guess, answers = made(rng, 400, 0.1)
    simulated = np.concatenate([np.full(500, -1.0), np.full(500, 1.0)]) + rng.normal(0, 0.1, 1000)
    heavy = np.concatenate([np.full(500, 1.0), np.full(500, 3.0)])
    equal = combine(answers, guess, simulated, np.ones(1000)).mean
    assert combine(answers, guess, simulated, heavy).mean > equal + 0.3


def test_predictions_that_never_vary_give_the_pilot_itself():
    answers = np.array([1.0, 2.0, 3.0, 4.0])
    found = combine(answers, np.ones(4), np.ones(10), np.ones(10))
    assert (found.mean, found.gain) == (2.5, 1.0)


def test_an_effect_adds_the_variances_of_its_arms():
    rng = np.random.default_rng(4)
    arms = {}
    for name in ("a", "b"):
        guess, answers = made(rng, 50, 1)
        arms[name] = combine(answers, guess, rng.normal(0, 1, 500), np.ones(500))
    found = contrast(arms, {"a": -1, "b": 1})
    assert found.se == pytest.approx(np.hypot(arms["a"].se, arms["b"].se))
    assert found.mean == pytest.approx(arms["b"].mean - arms["a"].mean)
    assert found.n == 100
