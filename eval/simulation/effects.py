"""From simulated answer distributions to arms, treatment effects and their errors.

With exact predictions a person's answer is a distribution, so nothing is drawn here: means, variances
and effects are expectations. Three errors are kept apart: the real study's sampling error (from its
sizes), the error of having simulated only so many people, and the model's own discrepancy
(`eval/simulation/trust.py`).
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.stats import t as student

from common.experiment import Contrast
from common.experiment_file import Design
from common.scale import Scale
from eval.simulation.real_answers import Observed


@dataclass(frozen=True)
class Answers:
    """R simulated answer distributions to one outcome.

    person: int (R,), the position among the people. arm, wording: int (R,). reversed: bool (R,), whether the
    labels ran the other way (the answers here run the usual way). support: int64 (S,). probs: float32
    (R, S).
    """

    person: np.ndarray
    arm: np.ndarray
    wording: np.ndarray
    reversed: np.ndarray
    support: np.ndarray
    probs: np.ndarray

    def moments(self, value: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mean and variance of value[answer] for each row: float64 (R,) twice."""
        mean = self.probs @ value
        return mean, np.maximum(self.probs @ value**2 - mean**2, 0)

    def where(self, chosen: np.ndarray) -> "Answers":
        """Some of the rows. chosen: bool (R,)."""
        person, arm, wording, flip = (
            part[chosen] for part in (self.person, self.arm, self.wording, self.reversed)
        )
        return Answers(person, arm, wording, flip, self.support, self.probs[chosen])


def measures(scale: Scale, support: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    """What is averaged: (name, value of each answer on `support`).

    The answer itself; for a choice, whose numbers mean nothing, the share of each label.
    """
    if scale.kind != "choice":
        yield "mean", support.astype(float)
        return
    for answer, label in scale.labels:
        yield f"share: {label}", (support == answer).astype(float)


@dataclass(frozen=True)
class Means:
    """One measure's means by arm, A arms; NaN for an arm without rows.

    mean, sd: float64 (A,), of answers. influence: float64 (N, A), each simulated person's part in the
    error of each mean. expected: float64 (N, A), the mean of a person's answers, NaN where not asked.
    within, variance: float64 (A,), variance of the mean of a person's answers: the part that is the
    person's own, and in all. weight: float64 (N,).
    """

    mean: np.ndarray
    sd: np.ndarray
    influence: np.ndarray
    expected: np.ndarray
    within: np.ndarray
    variance: np.ndarray
    weight: np.ndarray


def arm_means(answers: Answers, value: np.ndarray, weight: np.ndarray, arms: int) -> Means:
    """Weighted means of a measure. weight: float64 (N,), of the people.

    A person who answers several wordings counts once, by the mean of these answers.
    """
    mean, variance = answers.moments(value)
    cell = answers.person * arms + answers.arm
    shape = (len(weight), arms)
    count = np.bincount(cell, minlength=len(weight) * arms).reshape(shape)
    w = weight[:, None] * (count > 0)
    with np.errstate(invalid="ignore", divide="ignore"):
        expected = np.bincount(cell, mean, minlength=count.size).reshape(shape) / count
        variances = np.bincount(cell, variance, minlength=count.size).reshape(shape) / count**2
        share = w / w.sum(axis=0)
        centre = np.nansum(share * expected, axis=0) / (w.sum(axis=0) > 0)
        within = np.nansum(share * variances, axis=0)
        influence = np.nan_to_num(share * (expected - centre))
        between = np.nansum(share * (expected - centre) ** 2, axis=0)
        each = (share / count)[answers.person, answers.arm]
    spread = np.bincount(answers.arm, each * (variance + (mean - centre[answers.arm]) ** 2), minlength=arms)
    return Means(centre, np.sqrt(spread), influence, expected, within, within + between, weight)


@dataclass(frozen=True)
class Effect:
    """One treatment effect in units of the measure. spread: S of `power.py`; sd: of the answers."""

    value: float
    se_sampling: float
    se_simulation: float
    sd: float
    spread: float

    @property
    def se(self) -> float:
        """The standard error that holds both."""
        return float(np.hypot(self.se_sampling, self.se_simulation))


def effect(means: Means, weights: np.ndarray, design: Design, share: float = 1.0) -> Effect:
    """A contrast of arms. weights: float64 (A,). share: of the planned people who are in this subgroup."""
    used = np.flatnonzero(weights)
    c = weights[used]
    value = float(c @ means.mean[used])
    simulation = float(np.sqrt(((means.influence[:, used] @ c) ** 2).sum()))
    variance = means.variance[used]
    sd = float(np.sqrt((means.sd[used] ** 2).mean()))
    if design.kind == "between":
        assert design.people_per_arm is not None
        spread = float(c**2 @ variance)
        people: float = design.people_per_arm
    else:
        assert design.people is not None
        spread = _within_spread(means, used, c, variance, design)
        people = design.people
    return Effect(value, float(np.sqrt(spread / (people * share))), simulation, sd, spread)


def _within_spread(
    means: Means, used: np.ndarray, c: np.ndarray, variance: np.ndarray, design: Design
) -> float:
    """Variance of one person's contrast. A person's answers are taken as independent given the profile.

    If each person sees only some of the arms, the arms' answers count as of different people, which
    overstates the variance.
    """
    arms = means.expected.shape[1]
    if design.tasks is not None and design.tasks < arms:
        return float(c**2 @ variance) * arms / design.tasks
    differences = means.expected[:, used] @ c
    asked = np.isfinite(differences)
    w = means.weight[asked]
    centre = np.average(differences[asked], weights=w)
    return float(c**2 @ means.within[used] + np.average((differences[asked] - centre) ** 2, weights=w))


def contrast_weights(contrast: Contrast, arms: Sequence[str]) -> np.ndarray:
    """A contrast's weights, float64 (A,), in the order of `arms`."""
    return np.array([contrast.weights.get(arm, 0.0) for arm in arms])


class RealEffect(NamedTuple):
    """A contrast of real answers, its standard error, and its 95% interval by Student's t."""

    value: float
    se: float
    low: float
    high: float


def observed_effect(real: Observed, weights: np.ndarray) -> RealEffect | None:
    """A contrast of (weighted) real answers, clustered by person.

    real.answer: the measure's values. None if an arm has fewer than two people. An arm of n people has
    n - 1 degrees of freedom (together: Welch 1947); arms of mostly the same people have as many as people in
    several arms, less 1.
    """
    used = np.flatnonzero(weights)
    arm, answer, person, weight = real
    asked = np.unique(person * len(weights) + arm)
    people = np.bincount(asked % len(weights), minlength=len(weights)).astype(float)
    size = np.bincount(arm, weight, minlength=len(weights))
    share = weight / size[arm]
    if (people[used] < 2).any():
        return None
    mean = np.bincount(arm, share * answer, minlength=len(weights))
    part = weights[arm] * share * (answer - mean[arm])
    part *= np.sqrt(people / np.maximum(people - 1, 1))[arm]
    several = int(person.max()) + 1
    variance = float((np.bincount(person, part) ** 2).sum())
    of_arm = np.array([(np.bincount(person, part * (arm == one), several) ** 2).sum() for one in used])
    apart = float((of_arm**2 / (people[used] - 1)).sum())
    of_used = asked[np.isin(asked % len(weights), used)] // len(weights)
    in_several = int((np.bincount(of_used) > 1).sum())
    welch = float(of_arm.sum() ** 2 / apart) if apart > 0 else np.inf
    free = in_several - 1.0 if 2 * in_several >= people[used].min() > 2 else welch
    value, se = float(weights @ mean), math.sqrt(variance)
    reach = float(student.ppf(0.975, free)) * se
    return RealEffect(value, se, value - reach, value + reach)


def order_effects(
    answers: Answers, value: np.ndarray, weight: np.ndarray, arms: int
) -> tuple[float, float] | None:
    """Mean with reversed labels minus mean with the usual ones, averaged over arms, and its error."""
    if not answers.reversed.any() or answers.reversed.all():
        return None
    parts = [
        arm_means(answers.where(mask), value, weight, arms) for mask in (answers.reversed, ~answers.reversed)
    ]
    both = np.isfinite(parts[0].mean) & np.isfinite(parts[1].mean)
    difference = float((parts[0].mean - parts[1].mean)[both].mean())
    each = both / both.sum()
    error = np.sqrt(sum(float(((part.influence @ each) ** 2).sum()) for part in parts))
    return difference, float(error)
