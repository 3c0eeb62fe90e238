"""How far to trust a simulated effect: what the same model got wrong on experiments with known answers.

From the evaluation of the model (`scores.json`, `cells.parquet`) every pair of arms gives a predicted and
an observed effect. In units of the predicted standard deviation of answers the model is

    observed = slope * predicted + discrepancy + sampling error

slope through the origin (which arm comes first is arbitrary), discrepancy variance by the method of
moments, as in a random-effects meta-regression (DerSimonian and Laird 1986); every study counts once,
its pairs by their precision. All pairs take part: choosing clear ones would choose large errors. Predicted
effects have noise of their own (sampled answers, the draw of people), which alone would pull the slope
towards zero: it is taken off the sums (Fuller 1987, section 1.2). Predictions are of the people who answered,
so the two errors are correlated, and the error of their difference is what the discrepancy is judged against.

A simulation knows only the model's spread of answers. Its sampling errors are multiplied by `spread_ratio`,
people's spread over the model's, learned from the same pairs. The slope's error is a jackknife over studies.
Intervals use Student's t with the degrees of freedom that the spread of the studies' own errors implies
(Satterthwaite 1946), between the number of studies and that of pairs. The coverage of the intervals is
measured with each study in turn left out, with the errors that a simulation of it would have stated.
"""

import math
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import polars as pl
from scipy.stats import t as student

from eval.scoring.record import Scores

LEVEL = 0.95
FEWEST_STUDIES = 3  # fewer can't tell a model's discrepancy from one study's peculiarity
ROUNDS = 50
BEYOND_NOISE = 1.645  # standard errors that the spread of predicted effects must exceed its noise by
VALUES = ("observed", "predicted", "observed_se", "predicted_se", "difference_se")


@dataclass(frozen=True)
class Pairs:
    """P pairs of arms of evaluated studies: study names, and effects and errors in answer units.

    observed, predicted, observed_se, predicted_se, difference_se, sd, spread: float64 (P). sd: the predicted
    standard deviation of answers, the root mean square of the two arms: the one unit that a simulation
    knows, too. spread: people's standard deviation over the predicted one.
    """

    study: np.ndarray
    observed: np.ndarray
    predicted: np.ndarray
    observed_se: np.ndarray
    predicted_se: np.ndarray
    difference_se: np.ndarray
    sd: np.ndarray
    spread: np.ndarray

    def __len__(self) -> int:
        return len(self.study)

    @property
    def studies(self) -> list[str]:
        return sorted(set(self.study))

    def where(self, chosen: np.ndarray) -> "Pairs":
        return Pairs(*(getattr(self, one.name)[chosen] for one in fields(self)))

    @property
    def covariance(self) -> np.ndarray:
        """float64 (P): of the errors of observed and predicted effect."""
        return (self.observed_se**2 + self.predicted_se**2 - self.difference_se**2) / 2

    def error(self, slope: float, ratio: np.ndarray | float) -> np.ndarray:
        """Standard error of observed minus slope times predicted effect: float64 (P).

        ratio: what the model's spread is multiplied by to get people's; `spread` gives the error that people
        had.
        """
        people = ratio * self.observed_se / self.spread
        square = people**2 + (slope * self.predicted_se) ** 2 - 2 * slope * self.covariance
        return np.sqrt(np.maximum(square, 0))


@dataclass(frozen=True)
class Fit:
    """What a model's errors were. slope, slope_se; discrepancy: its standard deviation in answer sds; df:
    degrees of freedom; spread_ratio: people's spread of answers over the model's."""

    slope: float
    slope_se: float
    discrepancy: float
    df: float
    spread_ratio: float = 1.0

    def error(self, se_sampling: float, se_simulation: float) -> float:
        """Sampling error of a calibrated effect, from the two that a simulation states."""
        return math.hypot(self.spread_ratio * se_sampling, self.slope * se_simulation)

    def interval(
        self, effect: np.ndarray | float, sd: np.ndarray | float, sampling_se: np.ndarray | float
    ) -> tuple[Any, Any, Any]:
        """Calibrated effect, low and high (95%), of what a study with this sampling error will observe."""
        spread = np.hypot(self.spread(effect, sd), sampling_se)
        centre = self.slope * effect
        reach = float(student.ppf((1 + LEVEL) / 2, self.df)) * spread
        return centre, centre - reach, centre + reach

    def spread(self, effect: np.ndarray | float, sd: np.ndarray | float) -> Any:
        """How far the true effect may be from the calibrated one: standard error, without sampling error."""
        return np.hypot(self.discrepancy * sd, self.slope_se * effect)


@dataclass(frozen=True)
class Coverage:
    """Share of observed effects inside the 95% interval, studies weighted equally.

    calibrated: with the model's discrepancy, learned without the study. sampling: with sampling error
    alone. studies, pairs: how many were tried.
    """

    calibrated: float
    sampling: float
    studies: int
    pairs: int


def pairs_of(scores: Scores) -> Pairs:
    """Every pair of arms of an evaluation whose effects and spread are numbers; choices aside.

    A choice's codes have no mean, so their differences teach nothing.
    """
    numbers = [*VALUES, "sd", "spread"]
    if scores.contrasts.is_empty():
        return Pairs(np.array([], dtype=str), *(np.empty(0) for _ in numbers))
    keys = ["study_id", "task_num", "condition_num"]
    ordered = scores.cells.filter(pl.col("scale_kind").ne_missing("choice"))
    spread = ordered.select(*keys, *(pl.col(name).cast(pl.Float64) for name in ("predicted_sd", "human_sd")))
    pairs = scores.contrasts.select("study_id", "task_num", "condition_a", "condition_b", *VALUES)
    for arm in ("a", "b"):
        renamed = {
            "condition_num": f"condition_{arm}",
            "predicted_sd": f"sd_{arm}",
            "human_sd": f"human_{arm}",
        }
        pairs = pairs.join(
            spread.rename(renamed), on=["study_id", "task_num", f"condition_{arm}"], how="left",
            maintain_order="left",
        )  # fmt: skip
    sd, human = (
        ((pl.col(f"{name}_a") ** 2 + pl.col(f"{name}_b") ** 2) / 2).sqrt() for name in ("sd", "human")
    )
    pairs = pairs.with_columns(sd=sd, spread=human / sd)
    positive = pl.min_horizontal("sd", "spread", "observed_se") > 0
    usable = pl.all_horizontal(pl.col(*numbers).is_finite()) & positive
    pairs = pairs.drop_nulls(numbers).filter(usable)
    return Pairs(np.array(pairs["study_id"], dtype=str), *(pairs[name].to_numpy() for name in numbers))


def fit(pairs: Pairs) -> Fit | None:
    """What is learned from pairs; None with fewer than FEWEST_STUDIES studies or no predicted effect."""
    studies = pairs.studies
    if len(studies) < FEWEST_STUDIES or not np.any(pairs.predicted):
        return None
    slope, slope_se, discrepancy = _slope(pairs)
    return Fit(slope, slope_se, discrepancy, _degrees(pairs, slope), _spread_ratio(pairs))


def _spread_ratio(pairs: Pairs) -> float:
    """People's spread over the model's, studies weighted equally.

    The mean share of people's variance in the sum of both, as a ratio again: a study whose predictions
    hardly vary has a ratio without bound, but a share of at most 1.
    """
    share = pairs.spread**2 / (1 + pairs.spread**2)
    mean = float(np.mean([share[pairs.study == study].mean() for study in pairs.studies]))
    return math.sqrt(mean / (1 - mean))


def _degrees(pairs: Pairs, slope: float) -> float:
    """2 mean^2 / variance of the mean squared error, over studies; studies - 1 to pairs - 1."""
    errors = ((pairs.observed - slope * pairs.predicted) / pairs.sd) ** 2
    means = np.array([errors[pairs.study == study].mean() for study in pairs.studies])
    variance = float(means.var(ddof=1)) / len(means)
    free = 2 * float(means.mean()) ** 2 / variance if variance > 0 else math.inf
    return min(max(free, len(means) - 1.0), len(pairs) - 1.0)


def _slope(pairs: Pairs) -> tuple[float, float, float]:
    """Slope, its standard error, and discrepancy sd.

    The slope is at least 0: a negative one says that nothing is to be learned. It is 0, too, where predicted
    effects aren't larger than their own noise: calibrated effects are 0 then, give or take what effects are.
    """
    x, y, noise = pairs.predicted / pairs.sd, pairs.observed / pairs.sd, (pairs.predicted_se / pairs.sd) ** 2
    _, study, sizes = np.unique(pairs.study, return_inverse=True, return_counts=True)
    share, covariance = 1 / sizes[study], pairs.covariance / pairs.sd**2
    variance, slope = float(np.mean((pairs.observed_se / pairs.sd) ** 2)), 0.0
    for _ in range(ROUNDS):
        error = (pairs.error(slope, pairs.spread) / pairs.sd) ** 2
        weight = share / np.maximum(variance + error, 1e-12)
        top, bottom, by_chance = (
            np.bincount(study, weight * part) for part in (x * y - covariance, x * x - noise, noise)
        )
        clear = bottom.sum() > BEYOND_NOISE * math.sqrt(2 * float((by_chance**2).sum()))
        slope = max(0.0, float(top.sum() / bottom.sum())) if clear else 0.0
        residual = (y - slope * x) ** 2 - error
        before, variance = variance, max(0.0, float((weight * residual).sum() / weight.sum()))
        if abs(variance - before) < 1e-12:
            break
    with np.errstate(divide="ignore", invalid="ignore"):
        without = np.maximum((top.sum() - top) / (bottom.sum() - bottom), 0) if clear else np.zeros(len(top))
    finite = without[np.isfinite(without)]
    error_of_slope = math.sqrt((len(finite) - 1) / len(finite) * float(((finite - finite.mean()) ** 2).sum()))
    return slope, error_of_slope, math.sqrt(variance)


def measure_coverage(pairs: Pairs) -> Coverage | None:
    """Coverage with each study in turn left out of the fit; None with too few studies."""
    calibrated, sampling, tried = [], [], 0
    for study in pairs.studies:
        held, learned = pairs.where(pairs.study == study), fit(pairs.where(pairs.study != study))
        if learned is None:
            return None
        error = held.error(learned.slope, learned.spread_ratio)
        _, low, high = learned.interval(held.predicted, held.sd, error)
        calibrated.append(np.mean((held.observed >= low) & (held.observed <= high)))
        sampling.append(np.mean(np.abs(held.observed - held.predicted) <= 1.96 * held.error(1.0, 1.0)))
        tried += len(held)
    if not calibrated:
        return None
    return Coverage(float(np.mean(calibrated)), float(np.mean(sampling)), len(calibrated), tried)
