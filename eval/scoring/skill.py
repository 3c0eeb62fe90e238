"""Skill: how much of the distance that can be closed is closed, from a uniform guess (0) to a ceiling (1).

Skill is a ratio of overall means, (uniform - model) / (uniform - ceiling). Where the uniform guess isn't
clearly worse than the ceiling (few people, or answers that are nearly uniform) the denominator may be zero,
and the ratio says nothing (Fieller 1954): such a skill is null, with its reason.
"""

from dataclasses import dataclass

import numpy as np

from eval.scoring.estimates import (
    FEWEST_STUDIES,
    LEVEL,
    Studies,
    mean_of_finite,
    missing,
    statistic,
    weighted_mean,
)
from eval.scoring.record import Estimate

NO_CELL = "no cell has the model's distance, the uniform control and the ceiling"
NO_ROOM = "the uniform guess is not clearly worse than the ceiling, so there is nothing to be skilled at"


@dataclass(frozen=True)
class Distances:
    """Distances (C) of the model, of the uniform guess (skill 0) and of the ceiling (skill 1).

    people: (R, C) replicates of the model's and of the uniform guess's.
    """

    model: np.ndarray
    zero: np.ndarray
    one: np.ndarray
    people: tuple[np.ndarray, np.ndarray]

    def where(self, mask: np.ndarray) -> "Distances":
        """The same, with the cells that aren't `kept` (bool, C) unknown."""
        model, zero, one = (np.where(mask, part, np.nan) for part in (self.model, self.zero, self.one))
        return Distances(model, zero, one, self.people)


def skill(given: Distances, studies: Studies) -> Estimate:
    """Skill over the cells that have all three distances."""
    shared = np.isfinite(given.model) & np.isfinite(given.zero) & np.isfinite(given.one)
    if not shared.any():
        return missing(NO_CELL)
    model, zero, one = (
        studies.means(np.where(shared, x, np.nan)) for x in (given.model, given.zero, given.one)
    )
    over_studies = [weighted_mean(part, studies.weights) for part in (model, zero, one)]
    finite = np.isfinite(model)
    value = [part[finite].mean() for part in (model, zero, one)]
    moved = [_centred(mean_of_finite(studies.means(np.where(shared, part, np.nan)))) for part in given.people]
    over_people = [value[0] + moved[0], value[1] + moved[1], np.full(len(moved[0]), value[2])]
    room = [part[1] - part[2] for part in (over_studies, over_people)]
    count = int(finite.sum())
    if _near_zero(value[1] - value[2], room[1]) or (
        count >= FEWEST_STUDIES and _near_zero(value[1] - value[2], room[0])
    ):
        return missing(NO_ROOM)
    drawn, resampled = (ratio(*part) for part in (over_studies, over_people))
    one_estimate = statistic(float(ratio(*value)), drawn, count, int(shared.sum()), resampled, NO_ROOM)
    dropped = int((~np.isfinite(drawn)).sum() + (~np.isfinite(resampled)).sum())
    return one_estimate.model_copy(update={"dropped": dropped})


def study_skill(given: Distances, studies: Studies) -> tuple[np.ndarray, np.ndarray]:
    """Each study's skill (S), NaN where it has no room, and its replicates over people (R, S)."""
    shared = np.isfinite(given.model) & np.isfinite(given.zero) & np.isfinite(given.one)
    model, zero, one = (
        studies.means(np.where(shared, x, np.nan)) for x in (given.model, given.zero, given.one)
    )
    moved = [_centred(studies.means(np.where(shared, part, np.nan))) for part in given.people]
    drawn = ratio(model + moved[0], zero + moved[1], one)
    with np.errstate(invalid="ignore"):
        room = np.quantile(np.nan_to_num(zero - one + moved[1], nan=-1.0), (1 - LEVEL) / 2, axis=0) > 0
    return np.where(room, ratio(model, zero, one), np.nan), drawn


def ratio(model: np.ndarray, zero: np.ndarray, one: np.ndarray) -> np.ndarray:
    """(zero - model) / (zero - one), NaN where that isn't positive."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(zero > one, (zero - model) / (zero - one), np.nan)


def _near_zero(value: float, replicates: np.ndarray) -> bool:
    """True unless 97.5% of the replicates of a difference lie above zero."""
    finite = replicates[np.isfinite(replicates)]
    return bool(value <= 0 or (len(finite) and np.quantile(finite, (1 - LEVEL) / 2) <= 0))


def _centred(values: np.ndarray) -> np.ndarray:
    """Replicates (R, ...) around 0."""
    finite = np.isfinite(values)
    return values - np.where(finite, values, 0).sum(0) / np.maximum(finite.sum(0), 1)
