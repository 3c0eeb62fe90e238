"""How far to trust a simulated effect: what the same model got wrong on experiments with known answers.

From the evaluation of the model (`scores.json`, `cells.parquet`) every pair of arms gives a predicted and
an observed effect. In units of the predicted standard deviation of answers the model is

    observed = slope * predicted + discrepancy + sampling error

slope through the origin (which arm comes first is arbitrary), discrepancy variance by the method of
moments, as in a random-effects meta-regression (DerSimonian and Laird 1986); every study counts once,
its pairs by their precision. The slope's error is a jackknife over studies. Intervals use Student's t
with the degrees of freedom that the spread of the studies' own errors implies (Satterthwaite 1946),
between the number of studies and that of pairs. The coverage of the intervals is measured with each
study in turn left out.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from scipy.stats import t as student

from eval.scoring.record import Scores

LEVEL = 0.95
FEWEST_STUDIES = 3  # fewer can't tell a model's discrepancy from one study's peculiarity
ROUNDS = 50
VALUES = ("observed", "observed_se", "predicted")


@dataclass(frozen=True)
class Pairs:
    """P pairs of arms of evaluated studies: study names, and effects in answer units.

    observed, observed_se, predicted: float64 (P,). sd: the predicted standard deviation of answers, the
    root mean square of the two arms: the one unit that a simulation knows, too.
    """

    study: np.ndarray
    observed: np.ndarray
    observed_se: np.ndarray
    predicted: np.ndarray
    sd: np.ndarray

    def __len__(self) -> int:
        return len(self.study)

    @property
    def studies(self) -> list[str]:
        return sorted(set(self.study))

    def where(self, chosen: np.ndarray) -> "Pairs":
        parts = (self.study, self.observed, self.observed_se, self.predicted, self.sd)
        return Pairs(*(part[chosen] for part in parts))


@dataclass(frozen=True)
class Fit:
    """slope, slope_se; discrepancy: its standard deviation in answer sds; df: degrees of freedom."""

    slope: float
    slope_se: float
    discrepancy: float
    df: float

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
    if scores.contrasts.is_empty():
        return Pairs(np.array([], dtype=str), *(np.empty(0) for _ in range(4)))
    keys = ["study_id", "task_num", "condition_num"]
    ordered = scores.cells.filter(pl.col("scale_kind").ne_missing("choice"))
    spread = ordered.select(*keys, sd=pl.col("predicted_sd").cast(pl.Float64))
    pairs = scores.contrasts.select("study_id", "task_num", "condition_a", "condition_b", *VALUES)
    for arm in ("a", "b"):
        pairs = pairs.join(
            spread.rename({"condition_num": f"condition_{arm}", "sd": f"sd_{arm}"}),
            on=["study_id", "task_num", f"condition_{arm}"], how="left", maintain_order="left",
        )  # fmt: skip
    pairs = pairs.with_columns(sd=((pl.col("sd_a") ** 2 + pl.col("sd_b") ** 2) / 2).sqrt())
    numbers = [*VALUES, "sd"]
    usable = pl.all_horizontal(pl.col(*numbers).is_finite()) & (pl.min_horizontal("sd", "observed_se") > 0)
    pairs = pairs.drop_nulls(numbers).filter(usable)
    return Pairs(np.array(pairs["study_id"], dtype=str), *(pairs[name].to_numpy() for name in numbers))


def fit(pairs: Pairs) -> Fit | None:
    """Slope and discrepancy; None with fewer than FEWEST_STUDIES studies or no predicted effect."""
    studies = pairs.studies
    if len(studies) < FEWEST_STUDIES or not np.any(pairs.predicted):
        return None
    slope, discrepancy = _slope(pairs)
    without = np.array([_slope(pairs.where(pairs.study != study))[0] for study in studies])
    count = len(studies)
    slope_se = math.sqrt((count - 1) / count * float(((without - without.mean()) ** 2).sum()))
    return Fit(slope, slope_se, discrepancy, _degrees(pairs, slope))


def _degrees(pairs: Pairs, slope: float) -> float:
    """2 mean^2 / variance of the mean squared error, over studies; studies - 1 to pairs - 1."""
    errors = ((pairs.observed - slope * pairs.predicted) / pairs.sd) ** 2
    means = np.array([errors[pairs.study == study].mean() for study in pairs.studies])
    variance = float(means.var(ddof=1)) / len(means)
    free = 2 * float(means.mean()) ** 2 / variance if variance > 0 else math.inf
    return min(max(free, len(means) - 1.0), len(pairs) - 1.0)


def _slope(pairs: Pairs) -> tuple[float, float]:
    """Slope (at least 0: a negative one says that nothing is to be learned) and discrepancy sd."""
    x, y, se = pairs.predicted / pairs.sd, pairs.observed / pairs.sd, pairs.observed_se / pairs.sd
    _, study, sizes = np.unique(pairs.study, return_inverse=True, return_counts=True)
    share = 1 / sizes[study]
    variance, slope = float(np.mean(se**2)), 0.0
    for _ in range(ROUNDS):
        weight = share / (variance + se**2)
        square = float((weight * x * x).sum())
        slope = max(0.0, float((weight * x * y).sum()) / square) if square > 0 else 0.0
        residual = (y - slope * x) ** 2 - se**2
        before, variance = variance, max(0.0, float((weight * residual).sum() / weight.sum()))
        if abs(variance - before) < 1e-12:
            break
    return slope, math.sqrt(variance)


def measure_coverage(pairs: Pairs) -> Coverage | None:
    """Coverage with each study in turn left out of the fit; None with too few studies."""
    calibrated, sampling, tried = [], [], 0
    for study in pairs.studies:
        held, learned = pairs.where(pairs.study == study), fit(pairs.where(pairs.study != study))
        if learned is None:
            return None
        _, low, high = learned.interval(held.predicted, held.sd, held.observed_se)
        calibrated.append(np.mean((held.observed >= low) & (held.observed <= high)))
        sampling.append(np.mean(np.abs(held.observed - held.predicted) <= 1.96 * held.observed_se))
        tried += len(held)
    if not calibrated:
        return None
    return Coverage(float(np.mean(calibrated)), float(np.mean(sampling)), len(calibrated), tried)
