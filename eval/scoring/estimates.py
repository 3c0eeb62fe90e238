"""From cells to figures: means over cells, then studies, with both intervals and a reason for every gap."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy import stats

from eval.scoring.metrics import Limits
from eval.scoring.record import Estimate

LEVEL = 0.95
FEWEST_STUDIES = 5  # an interval over fewer studies is too wide to say anything
UNLIMITED: Limits = (-np.inf, np.inf)
NOT_COMPUTABLE = "not computable: a quantity that it divides by is zero or negative"
Interval = tuple[float, float] | None


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


def study_means(values: np.ndarray, study: np.ndarray, studies: int) -> np.ndarray:
    """Mean over each study's cells that have a value: (..., C) to (..., studies); NaN where none has.

    study: each cell's study number, ascending.
    """
    flat = np.atleast_2d(values)
    finite = np.isfinite(flat)
    filled = np.where(finite, flat, 0.0)
    means = np.full((len(flat), studies), np.nan)
    if len(study):
        # A study without any cell has no mean: only those that have one are added up.
        present, starts = np.unique(study, return_index=True)
        sums = np.add.reduceat(filled, starts, axis=-1, dtype=np.float64)
        counts = np.add.reduceat(finite, starts, axis=-1, dtype=np.float64)
        means[:, present] = np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)
    return means.reshape(*values.shape[:-1], studies)


def study_weights(studies: int, replicates: int, seed: int) -> np.ndarray:
    """How often each study is drawn in each replicate: float64 (replicates, studies)."""
    rng = np.random.default_rng([seed, studies])
    return rng.multinomial(studies, np.full(studies, 1 / studies), size=replicates).astype(np.float64)


def missing(reason: str) -> Estimate:
    """An estimate that can't be computed."""
    return Estimate(value=None, reason=reason)


def estimate(
    cells: np.ndarray, studies: Studies, reason: str, people: np.ndarray | None = None,
    limits: Limits = UNLIMITED,
) -> Estimate:  # fmt: skip
    """Estimate of the mean over studies of the mean over cells (C).

    people: (R, S), the studies' means when people are drawn again. reason: why the value is null, if no cell
    has one. limits: the values that the figure can take.
    """
    scored = int(np.isfinite(cells).sum())
    return study_estimate(studies.means(cells), studies, reason, scored, people, limits)


def study_estimate(
    values: np.ndarray, studies: Studies, reason: str, cells: int = 0, people: np.ndarray | None = None,
    limits: Limits = UNLIMITED,
) -> Estimate:  # fmt: skip
    """Estimate of the mean over studies (S), NaN where a study has none. people: (R, S) replicates."""
    finite = np.isfinite(values)
    if not finite.any():
        return missing(reason)
    resampled = None if people is None else mean_of_finite(np.where(finite, people, np.nan))
    return statistic(
        float(values[finite].mean()), weighted_mean(values, studies.weights), int(finite.sum()), cells,
        resampled, limits=limits,
    )  # fmt: skip


def statistic(
    value: float, replicates: np.ndarray, studies: int, cells: int = 0, people: np.ndarray | None = None,
    reason: str = NOT_COMPUTABLE, limits: Limits = UNLIMITED,
) -> Estimate:  # fmt: skip
    """Estimate of any statistic from its value and its replicates over studies (R) and people (R)."""
    if not np.isfinite(value):
        return missing(reason)
    low, high = study_interval(value, replicates, studies, limits) or (None, None)
    low_people, high_people = (None if people is None else people_interval(value, people, limits)) or (
        None,
        None,
    )
    return Estimate(
        value=float(value), low=low, high=high, low_people=low_people, high_people=high_people,
        studies=studies, cells=cells, reason=few_studies(studies) if low is None else None,
    )  # fmt: skip


def few_studies(studies: int) -> str:
    """Why there is no interval over studies."""
    if studies >= FEWEST_STUDIES:
        return "no interval over studies: too few resamples of them give a value"
    count = "only one study" if studies == 1 else f"only {studies} studies, fewer than {FEWEST_STUDIES}"
    return f"no interval over studies: {count}"


def study_interval(
    value: float, replicates: np.ndarray, studies: int, limits: Limits = UNLIMITED
) -> Interval:
    """95% interval over studies from replicates of a statistic; None with fewer than FEWEST_STUDIES.

    Expanded percentile interval (Hesterberg 2015, section 4.4): a plain percentile interval is too
    narrow with few studies; the deviations are stretched by sqrt(n / (n - 1)) and t over normal.
    """
    finite = replicates[np.isfinite(replicates)]
    if studies < FEWEST_STUDIES or len(finite) < 2 or not np.isfinite(value):
        return None
    tail = (1 - LEVEL) / 2
    return _inside(value, stretch(studies) * (np.quantile(finite, [tail, 1 - tail]) - value), limits)


@lru_cache
def stretch(studies: int) -> float:
    """How much a bootstrap over so few studies is widened (Hesterberg 2015, section 4.4)."""
    tail = (1 - LEVEL) / 2
    student, normal = stats.t.ppf(1 - tail, studies - 1), stats.norm.ppf(1 - tail)
    return float(np.sqrt(studies / (studies - 1)) * student / normal)


def people_interval(value: float, replicates: np.ndarray, limits: Limits = UNLIMITED) -> Interval:
    """95% interval over people: the replicates' quantiles, moved so that their mean is the value."""
    finite = replicates[np.isfinite(replicates)]
    if len(finite) < 2 or not np.isfinite(value):
        return None
    return _inside(value, np.quantile(finite - finite.mean(), [(1 - LEVEL) / 2, (1 + LEVEL) / 2]), limits)


def _inside(value: float, deviations: np.ndarray, limits: Limits) -> tuple[float, float]:
    """The interval that deviates so from the value, kept within limits.

    An end that faces a limit deviates on the logarithmic scale of its distance from that limit: as far, to
    first order, where the limit is far away, and never beyond it.
    """
    low, high = limits
    below, above = float(deviations[0]), float(deviations[1])
    if not low <= value <= high:
        return value + below, value + above
    if np.isfinite(low) and below < 0:
        below = (value - low) * (np.exp(below / (value - low)) - 1) if value > low else 0.0
    if np.isfinite(high) and above > 0:
        above = (high - value) * (1 - np.exp(-above / (high - value))) if value < high else 0.0
    return float(value + below), float(value + above)


def weighted_mean(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Mean over studies (S) with each row of weights (R, S), over the studies that have a value: (R)."""
    finite = np.isfinite(values)
    total = weights @ finite
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(total > 0, (weights @ np.where(finite, values, 0.0)) / total, np.nan)


def mean_of_finite(study_values: np.ndarray) -> np.ndarray:
    """(R, S) to (R): mean over the studies that have a value; NaN where none has."""
    finite = np.isfinite(study_values)
    with np.errstate(invalid="ignore"):
        return np.where(finite, study_values, 0).sum(-1) / np.where(finite.any(-1), finite.sum(-1), np.nan)
