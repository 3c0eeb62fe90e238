"""Means, effects and their errors, against simulated studies and by hand."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.api import WLS

from common.experiment_file import Design
from common.scale import Scale
from eval.simulation.effects import (
    Answers,
    arm_means,
    effect,
    measures,
    observed_effect,
    order_effects,
)
from eval.simulation.real_answers import Observed

SUPPORT = np.arange(1, 8)
BETWEEN = Design(kind="between", people_per_arm=60)


def simulated(people=200, arms=2, seed=0, every=True) -> Answers:
    """Everybody in every arm (or in one), each with answers of their own; later arms answer higher."""
    rng = np.random.default_rng(seed)
    person = np.repeat(np.arange(people), arms) if every else np.arange(people)
    arm = np.tile(np.arange(arms), people) if every else np.arange(people) % arms
    logits = rng.normal(0, 1, (people, 7))[person] + 0.3 * arm[:, None] * (SUPPORT - 4)
    probs = np.exp(logits)
    probs = (probs / probs.sum(axis=1, keepdims=True)).astype(np.float32)
    return Answers(person, arm, 0 * arm, np.zeros(len(arm), bool), SUPPORT, probs)


def drawn(rng, answers, rows):
    """One real answer for each of these rows."""
    return answers.support[(answers.probs[rows].cumsum(axis=1) < rng.random((len(rows), 1))).sum(axis=1)]


def test_the_stated_sampling_error_is_that_of_studies_of_the_planned_size():
    answers, rng = simulated(), np.random.default_rng(1)
    estimate = effect(
        arm_means(answers, SUPPORT.astype(float), np.ones(200), 2), np.array([-1.0, 1.0]), BETWEEN
    )
    effects = []
    for _ in range(600):
        means = [
            drawn(rng, answers, rng.choice(np.flatnonzero(answers.arm == arm), 60)).mean() for arm in (0, 1)
        ]
        effects.append(means[1] - means[0])
    assert np.std(effects) == pytest.approx(estimate.se_sampling, rel=0.1)
    assert np.mean(effects) == pytest.approx(estimate.value, abs=4 * np.std(effects) / np.sqrt(600))


def test_within_subjects_a_persons_own_level_doesnt_blur_the_effect():
    answers, rng = simulated(), np.random.default_rng(1)
    means = arm_means(answers, SUPPORT.astype(float), np.ones(200), 2)
    weights = np.array([-1.0, 1.0])
    estimate = effect(means, weights, Design(kind="within", people=60))
    effects = []
    for _ in range(600):
        people = rng.choice(200, 60)
        effects.append((drawn(rng, answers, 2 * people + 1) - drawn(rng, answers, 2 * people)).mean())
    assert np.std(effects) == pytest.approx(estimate.se_sampling, rel=0.1)
    assert estimate.se_sampling < effect(means, weights, BETWEEN).se_sampling


def test_the_simulation_error_is_that_of_drawing_other_people():
    values = []
    for seed in range(300):
        answers = simulated(people=40, seed=seed, every=False)
        values.append(
            effect(arm_means(answers, SUPPORT.astype(float), np.ones(40), 2), np.array([-1.0, 1.0]), BETWEEN)
        )
    spread = np.std([one.value for one in values])
    assert np.mean([one.se_simulation for one in values]) == pytest.approx(spread, rel=0.15)


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 99), arms=st.integers(2, 5))
def test_a_person_of_weight_two_counts_as_two_such_persons(seed, arms):
    answers = simulated(people=6, arms=arms, seed=seed)
    again = answers.where(answers.person == 0)
    parts = ("person", "arm", "wording", "reversed", "probs")
    both = {name: np.concatenate([getattr(answers, name), getattr(again, name)]) for name in parts}
    twin = np.concatenate([answers.person, np.full(arms, 6)])
    twice = Answers(twin, both["arm"], both["wording"], both["reversed"], SUPPORT, both["probs"])
    one = arm_means(answers, SUPPORT.astype(float), np.array([2.0, 1, 1, 1, 1, 1]), arms)
    other = arm_means(twice, SUPPORT.astype(float), np.ones(7), arms)
    for name in ("mean", "sd", "within", "variance"):
        assert np.allclose(getattr(one, name), getattr(other, name))


def test_who_answers_two_wordings_counts_once_with_half_the_noise():
    answers = simulated()
    parts = (answers.person, answers.arm, answers.wording, answers.reversed)
    both = (*(np.tile(part, 2) for part in parts), SUPPORT, np.tile(answers.probs, (2, 1)))
    one = arm_means(answers, SUPPORT.astype(float), np.ones(200), 2)
    two = arm_means(Answers(*both), SUPPORT.astype(float), np.ones(200), 2)
    assert np.allclose(one.mean, two.mean) and np.allclose(one.sd, two.sd)
    assert np.allclose(two.within, one.within / 2)
    assert np.allclose(two.variance - two.within, one.variance - one.within)
    assert np.allclose(two.influence, one.influence)


def test_a_choice_is_measured_by_the_share_of_each_label_and_shares_add_up():
    scale = Scale("choice", 1, 3, labels=((1, "cost"), (2, "jobs"), (3, "both")))
    answers = Answers(
        np.arange(2),
        *(np.zeros(2, int),) * 2,
        np.zeros(2, bool),
        np.array([1, 2, 3]),
        np.array([[0.2, 0.3, 0.5]] * 2),
    )
    shares = {
        name: arm_means(answers, value, np.ones(2), 1).mean[0]
        for name, value in measures(scale, answers.support)
    }
    assert shares == pytest.approx({"share: cost": 0.2, "share: jobs": 0.3, "share: both": 0.5})


BOTH = np.array([-1.0, 1.0])


def real(arm, answer, person, weight=None) -> Observed:
    return Observed(arm, answer, person, np.ones(len(arm)) if weight is None else weight)


@pytest.mark.parametrize("people", [3, 5, 200])
def test_observed_effects_have_welchs_interval_between_people(people):
    rng = np.random.default_rng(0)
    arm = np.arange(2 * people) % 2
    answer = rng.normal(0, 1 + arm) + arm
    effect = observed_effect(real(arm, answer, np.arange(2 * people)), BOTH)
    welch = stats.ttest_ind(answer[1::2], answer[::2], equal_var=False)
    assert effect.value == pytest.approx(answer[1::2].mean() - answer[::2].mean())
    assert (effect.low, effect.high) == pytest.approx(tuple(welch.confidence_interval()))
    one_arm = real(np.zeros(4, int), np.ones(4), np.arange(4))
    assert observed_effect(one_arm, BOTH) is None


def test_observed_effects_within_people_have_the_paired_interval():
    rng = np.random.default_rng(0)
    person, arm = np.repeat(np.arange(6), 2), np.tile([0, 1], 6)
    answer = rng.normal(0, 3, 6)[person] + rng.normal(0, 1, 12) + arm
    effect = observed_effect(real(arm, answer, person), BOTH)
    paired = stats.ttest_rel(answer[1::2], answer[::2])
    assert (effect.low, effect.high) == pytest.approx(tuple(paired.confidence_interval()))


def test_a_person_who_answers_three_times_is_one_person_of_an_observed_effect():
    rng = np.random.default_rng(0)
    arm, answer = np.arange(12) % 2, rng.normal(0, 1, 12)
    once = observed_effect(real(arm, answer, np.arange(12)), BOTH)
    thrice = observed_effect(real(np.tile(arm, 3), np.tile(answer, 3), np.tile(np.arange(12), 3)), BOTH)
    assert thrice == pytest.approx(once)


def test_weighted_observed_effects_are_those_of_weighted_least_squares():
    """With errors robust to unequal variances (HC1), which are the textbook's for weights of a survey."""
    rng, arm = np.random.default_rng(0), np.arange(80) % 2
    answer, weight = rng.normal(arm, 1 + arm), rng.uniform(0.2, 5, 80)
    effect = observed_effect(real(arm, answer, np.arange(80), weight), BOTH)
    fits = [
        WLS(answer[arm == one], np.ones(40), weights=weight[arm == one]).fit(cov_type="HC1") for one in (0, 1)
    ]
    assert effect.value == pytest.approx(fits[1].params[0] - fits[0].params[0])
    assert effect.se == pytest.approx(np.hypot(fits[0].bse[0], fits[1].bse[0]))
    scaled = observed_effect(real(arm, answer, np.arange(80), 7 * weight), BOTH)
    assert scaled == pytest.approx(effect)


def test_intervals_of_five_people_an_arm_cover_ninety_five_times_in_a_hundred():
    """Welch's are a little wide with five. With 1.96 they covered 89."""
    rng, arm = np.random.default_rng(0), np.arange(10) % 2
    effects = [observed_effect(real(arm, rng.normal(0, 1, 10), np.arange(10)), BOTH) for _ in range(2000)]
    covered = np.mean([one.low <= 0 <= one.high for one in effects])
    assert covered == pytest.approx(0.955, abs=0.015)  # three standard errors of 2,000


def test_the_order_effect_is_recovered():
    answers = simulated(people=400)
    flip = answers.person % 2 == 1
    shifted = np.where(flip[:, None], np.roll(answers.probs, 1, axis=1), answers.probs)
    answers = Answers(answers.person, answers.arm, answers.wording, flip, SUPPORT, shifted)
    value = SUPPORT.astype(float)
    difference, se = order_effects(answers, value, np.ones(400), 2)
    per_row = answers.moments(value)[0]
    assert difference == pytest.approx(per_row[flip].mean() - per_row[~flip].mean(), abs=1e-9)
    assert 0 < se < 0.2
    assert order_effects(simulated(), value, np.ones(200), 2) is None
