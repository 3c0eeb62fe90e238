"""From simulated answer distributions to arms, treatment effects and their errors.

With exact predictions a person's answer is a distribution, so nothing is drawn here: means, variances
and effects are expectations. Three errors are kept apart: the real study's sampling error (from its
sizes), the error of having simulated only so many people, and the model's own discrepancy
(`eval/simulation/trust.py`).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from common.scale import Scale
from eval.simulation.experiment import Contrast
from eval.simulation.experiment_file import Design
from eval.simulation.population import in_category
from eval.simulation.power import people_needed, power_at, smallest_effect
from eval.simulation.trust import Fit

SMALLEST_GROUP = 30  # a subgroup with fewer simulated people gets no effect


@dataclass(frozen=True)
class Answers:
    """R simulated answer distributions to one outcome.

    person: int (R,), a place among the people. arm, wording: int (R,). reversed: bool (R,), whether the
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

    def where(self, kept: np.ndarray) -> "Answers":
        person, arm, wording, flip = (
            part[kept] for part in (self.person, self.arm, self.wording, self.reversed)
        )
        return Answers(person, arm, wording, flip, self.support, self.probs[kept])


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
        own = np.bincount(cell, variance, minlength=count.size).reshape(shape) / count**2
        share = w / w.sum(axis=0)
        centre = np.nansum(share * expected, axis=0) / (w.sum(axis=0) > 0)
        within = np.nansum(share * own, axis=0)
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
    own = means.expected[:, used] @ c
    asked = np.isfinite(own)
    w = means.weight[asked]
    centre = np.average(own[asked], weights=w)
    return float(c**2 @ means.within[used] + np.average((own[asked] - centre) ** 2, weights=w))


def contrast_weights(contrast: Contrast, arms: Sequence[str]) -> np.ndarray:
    return np.array([contrast.weights.get(arm, 0.0) for arm in arms])


def describe(
    found: Effect, contrast: Contrast, design: Design, fit: Fit | None, unit: bool
) -> dict[str, Any]:
    """An effect's row of `effects.csv`: estimate, errors, calibrated interval (or why not) and power.

    unit: whether the measure is the answer itself (calibration is learned on those).
    """
    row: dict[str, Any] = {
        "effect": found.value,
        "se": found.se,
        "se_sampling": found.se_sampling,
        "se_simulation": found.se_simulation,
        "low_sampling": found.value - 1.96 * found.se,
        "high_sampling": found.value + 1.96 * found.se,
        "sd": found.sd,
        "effect_sd": found.value / found.sd if found.sd > 0 else None,
        "calibrated": None,
        "low_calibrated": None,
        "high_calibrated": None,
        "no_calibration": None,
    }
    reason = _uncalibrated(contrast, fit, unit)
    if reason or fit is None:
        row["no_calibration"] = reason
    else:
        centre, low, high = fit.interval(
            found.value, found.sd, float(np.hypot(found.se_sampling, fit.slope * found.se_simulation))
        )
        row |= {"calibrated": float(centre), "low_calibrated": float(low), "high_calibrated": float(high)}
    within = design.kind == "within"
    people = design.people if within else design.people_per_arm
    assert people is not None
    row |= {
        "power_planned": power_at(found.value, found.spread, people, within),
        "people_needed": people_needed(found.value, found.spread, within),
        "people_needed_calibrated": None,
        "power_planned_calibrated": None,
        "smallest_effect": smallest_effect(found.spread, people, within),
    }
    if row["calibrated"] is not None:
        row["people_needed_calibrated"] = people_needed(row["calibrated"], found.spread, within)
        row["power_planned_calibrated"] = power_at(row["calibrated"], found.spread, people, within)
    return row


def _uncalibrated(contrast: Contrast, fit: Fit | None, unit: bool) -> str | None:
    if fit is None:
        return "no evaluation of this model to learn from"
    if contrast.kind == "interaction":
        return "calibration is learned on differences of arms, not on interactions"
    if not unit:
        return "calibration is learned on means, not on shares of a choice"
    return None


def subgroup_effects(
    answers: Answers,
    value: np.ndarray,
    people: pl.DataFrame,
    contrasts: Sequence[Contrast],
    arms: Sequence[str],
    moderators: dict[str, list[str]],
    design: Design,
) -> Iterator[dict[str, Any]]:
    """Effects within groups of people, and how each differs from that of the field's other people.

    Sampling errors are those of the group's share of the planned people. Groups with fewer than
    SMALLEST_GROUP simulated people are named without an effect.
    """
    weight = people["weight"].to_numpy()
    for name, groups in moderators.items():
        for group in groups or people[name].drop_nulls().cast(pl.String).unique().sort().to_list():
            inside = in_category(people[name], group)
            known = people[name].is_not_null().to_numpy()
            for contrast in contrasts:
                row = {"field": name, "group": group, "people": int(inside.sum()), "contrast": contrast.name}
                parts = [
                    _effect_among(answers, value, weight, mask, contrast, arms, design)
                    for mask in (inside, known & ~inside)
                ]
                yield row | _compared(*parts)


def _effect_among(
    answers: Answers, value: np.ndarray, weight: np.ndarray, mask: np.ndarray, contrast: Contrast,
    arms: Sequence[str], design: Design,
) -> Effect | None:  # fmt: skip
    if mask.sum() < SMALLEST_GROUP:
        return None
    weights = contrast_weights(contrast, arms)
    means = arm_means(answers.where(mask[answers.person]), value, weight, len(arms))
    if np.isnan(means.mean[np.flatnonzero(weights)]).any():
        return None
    return effect(means, weights, design, share=float(weight[mask].sum() / weight.sum()))


def _compared(inside: Effect | None, outside: Effect | None) -> dict[str, Any]:
    row: dict[str, Any] = {
        "effect": None, "se": None, "low_sampling": None, "high_sampling": None, "difference": None,
        "difference_se": None, "reason": None,
    }  # fmt: skip
    if inside is None:
        return row | {"reason": f"fewer than {SMALLEST_GROUP} simulated people, or an arm without any"}
    row |= {"effect": inside.value, "se": inside.se}
    row |= {"low_sampling": inside.value - 1.96 * inside.se, "high_sampling": inside.value + 1.96 * inside.se}
    if outside is not None:
        row |= {
            "difference": inside.value - outside.value,
            "difference_se": float(np.hypot(inside.se, outside.se)),
        }
    return row


def observed_effect(
    arm: np.ndarray, answer: np.ndarray, person: np.ndarray, weights: np.ndarray
) -> tuple[float, float] | None:
    """A contrast of real answers and its standard error, clustered by person; None if an arm is empty.

    arm: int (n,). answer: float (n,), the measure's values. person: int (n,).
    """
    count = np.bincount(arm, minlength=len(weights))
    if (count[np.flatnonzero(weights)] < 2).any():
        return None
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.bincount(arm, answer, minlength=len(weights)) / count
    influence = weights[arm] * (answer - mean[arm]) / np.maximum(count[arm], 1)
    by_person = np.bincount(person, influence)
    return float(np.nansum(weights * np.nan_to_num(mean))), float(np.sqrt((by_person**2).sum()))


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
