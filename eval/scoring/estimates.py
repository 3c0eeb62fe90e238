"""From cells to figures: means over cells, then studies, with both intervals and a reason for every gap."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from eval.scoring.resampling import people_interval, study_interval, study_means, study_weights, weighted_mean

Estimate = dict[str, Any]
ONE_STUDY = "no interval over studies: only one study"


@dataclass(frozen=True)
class Studies:
    """Which study each of C cells belongs to, and how often each study is drawn in each resample.

    names: the S study ids. of_cell: int64 (C), ascending. weights: float64 (R, S).
    """

    names: list[str]
    of_cell: np.ndarray
    weights: np.ndarray

    @classmethod
    def of(cls, study_ids: list[str], replicates: int, seed: int) -> "Studies":
        """From the cells' study ids, which are sorted."""
        names, of_cell = np.unique(study_ids, return_inverse=True)
        return cls(list(names), of_cell, study_weights(len(names), replicates, seed))

    def means(self, values: np.ndarray) -> np.ndarray:
        """(..., C) to (..., S): each study's mean over its cells that have a value."""
        return study_means(values, self.of_cell, len(self.names))


def missing(reason: str) -> Estimate:
    """An estimate that can't be computed."""
    return _pack(None, None, None, 0, 0, reason)


def estimate(cells: np.ndarray, studies: Studies, reason: str, people: np.ndarray | None = None) -> Estimate:
    """Estimate of the mean over studies of the mean over cells (C).

    people: (R, C), the cells' values when people are drawn again. reason: why the value is null, if no
    cell has one.
    """
    known = np.isfinite(cells)
    if not known.any():
        return missing(reason)
    resampled = None
    if people is not None:
        with np.errstate(invalid="ignore"):
            resampled = _mean(studies.means(np.where(known, people, np.nan)))
    return study_estimate(studies.means(cells), studies, reason, int(known.sum()), resampled)


def study_estimate(
    values: np.ndarray, studies: Studies, reason: str, cells: int = 0, people: np.ndarray | None = None
) -> Estimate:
    """Estimate of the mean over studies (S), NaN where a study has none. people: (R) replicates."""
    known = np.isfinite(values)
    if not known.any():
        return missing(reason)
    value = float(values[known].mean())
    return statistic(value, weighted_mean(values, studies.weights), int(known.sum()), cells, people)


def statistic(
    value: float, replicates: np.ndarray, studies: int, cells: int = 0, people: np.ndarray | None = None,
    reason: str = "not computable: a quantity that it divides by is zero or negative",
    bounds: tuple[float, float] | None = None,
) -> Estimate:  # fmt: skip
    """Estimate of any statistic from its value and its replicates over studies (R) and people (R).

    bounds: the statistic's own limits, where the interval ends.
    """
    if not np.isfinite(value):
        return missing(reason)
    interval = study_interval(value, replicates, studies)
    if interval and bounds:
        interval = (max(interval[0], bounds[0]), min(interval[1], bounds[1]))
    return _pack(
        float(value),
        interval,
        None if people is None else people_interval(value, people),
        studies,
        cells,
        None if interval else ONE_STUDY,
    )


def skill(
    model: np.ndarray,
    zero: np.ndarray,
    one: np.ndarray,
    studies: Studies,
    people: tuple[np.ndarray, np.ndarray] | None = None,
) -> tuple[Estimate, np.ndarray, np.ndarray | None]:
    """Skill (zero - model) / (zero - one) of overall means, of each study (S), and its replicates (R, S).

    model, zero, one: distances (C) of the model, of the uniform guess (skill 0) and of the ceiling
    (skill 1), on the cells that have all three. people: (R, C) replicates of model and zero.
    """
    shared = np.isfinite(model) & np.isfinite(zero) & np.isfinite(one)
    if not shared.any():
        reason = "no cell has the model's distance, the uniform control and the ceiling"
        return missing(reason), np.full(len(studies.names), np.nan), None
    of_model, of_zero, of_one = (studies.means(np.where(shared, part, np.nan)) for part in (model, zero, one))
    known = np.isfinite(of_model)
    weights = studies.weights
    drawn = _ratio(*(weighted_mean(part, weights) for part in (of_model, of_zero, of_one)))
    value = _ratio(of_model[known].mean(), of_zero[known].mean(), of_one[known].mean())
    resampled = by_study = None
    if people is not None:
        parts = [studies.means(np.where(shared, part, np.nan)) for part in people]
        moved = [_centred(_mean(part)) for part in parts]
        by_study = _ratio(of_model + _centred(parts[0]), of_zero + _centred(parts[1]), of_one)
        resampled = _ratio(
            of_model[known].mean() + moved[0], of_zero[known].mean() + moved[1], of_one[known].mean()
        )
    reason = "the ceiling is no better than the uniform guess"
    overall = statistic(float(value), drawn, int(known.sum()), int(shared.sum()), resampled, reason)
    return overall, _ratio(of_model, of_zero, of_one), by_study


def _ratio(model: Any, zero: Any, one: Any) -> Any:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(zero > one, (zero - model) / (zero - one), np.nan)


def _mean(study_values: np.ndarray) -> np.ndarray:
    """(R, S) to (R): mean over the studies that have a value."""
    known = np.isfinite(study_values)
    return np.where(known, study_values, 0).sum(-1) / np.maximum(known.sum(-1), 1)


def _centred(values: np.ndarray) -> np.ndarray:
    """Replicates (R, ...) around 0."""
    return values - values.mean(0)


def _pack(
    value: float | None,
    interval: tuple[float, float] | None,
    people: tuple[float, float] | None,
    studies: int,
    cells: int,
    reason: str | None,
) -> Estimate:
    low, high = interval or (None, None)
    low_people, high_people = people or (None, None)
    return {
        "value": value, "low": low, "high": high, "low_people": low_people, "high_people": high_people,
        "studies": studies, "cells": cells, "reason": reason,
    }  # fmt: skip
