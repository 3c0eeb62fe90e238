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
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from scipy.stats import t as student

from common.readers import read_json

LEVEL = 0.95
FEWEST_STUDIES = 3  # fewer can't tell a model's discrepancy from one study's peculiarity
ROUNDS = 50


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

    def where(self, kept: np.ndarray) -> "Pairs":
        parts = (self.study, self.observed, self.observed_se, self.predicted, self.sd)
        return Pairs(*(part[kept] for part in parts))


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
        spread = np.sqrt(
            (self.discrepancy * sd) ** 2 + (self.slope_se * effect) ** 2 + np.square(sampling_se)
        )
        centre = self.slope * effect
        reach = float(student.ppf((1 + LEVEL) / 2, self.df)) * spread
        return centre, centre - reach, centre + reach


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


def load_pairs(folder: Path) -> tuple[Pairs, dict[str, Any], pl.DataFrame]:
    """The pairs of `folder` (an `eval/<model name>/`), its scores and its cells."""
    remedy = "`make eval` writes it; or leave --calibration out"
    scores = read_json(folder / "scores.json", remedy)
    cells = pl.read_parquet(folder / "cells.parquet")
    listed = (scores.get("effects") or {}).get("pairs") or []
    keys = ["study_id", "task_num", "condition_num"]
    ordered = cells.filter(pl.col("scale_kind").ne_missing("choice"))  # a choice's codes have no mean
    sds = {tuple(row[:3]): row[3] for row in ordered.select(*keys, "predicted_sd").iter_rows()}
    table = []
    for pair in listed:
        cell = (pair["study_id"], pair["task_num"])
        both = [sds.get((*cell, pair[arm])) for arm in ("condition_a", "condition_b")]
        values: list[Any] = [pair["observed"], pair["observed_se"], pair["predicted"], *both]
        if all(value is not None and math.isfinite(value) for value in values):
            sd = math.sqrt((values[3] ** 2 + values[4] ** 2) / 2)
            if sd > 0 and pair["observed_se"] > 0:
                table.append((pair["study_id"], *values[:3], sd))
    columns = list(zip(*table, strict=True)) if table else [()] * 5
    return Pairs(np.array(columns[0], dtype=str), *(np.array(c, float) for c in columns[1:])), scores, cells


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
    _, place, sizes = np.unique(pairs.study, return_inverse=True, return_counts=True)
    share = 1 / sizes[place]
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


@dataclass(frozen=True)
class Nearest:
    """An evaluated study and how alike its texts are: cosine of TF-IDF vectors, 0 to 1."""

    study: str
    similarity: float
    pairs: int
    sign_agreement: float | None


@dataclass(frozen=True)
class Likeness:
    """The nearest evaluated studies, and warnings about what no evaluated study was like."""

    nearest: list[Nearest]
    warnings: list[str]


def compare(
    texts: Sequence[str],
    kinds: Sequence[str],
    has_profile: bool,
    pairs: Pairs,
    cells: pl.DataFrame,
    most: int = 3,
) -> Likeness:
    """How like the evaluated experiments this one is, by its texts, scale kinds and profiles."""
    from sklearn.feature_extraction.text import TfidfVectorizer  # slow to import: only with an evaluation

    by_study = cells.group_by("study_id").agg(pl.col("stimuli").drop_nulls()).sort("study_id")
    documents = [" ".join(stimuli) for stimuli in by_study["stimuli"]]
    warnings = []
    nearest: list[Nearest] = []
    vectorizer = TfidfVectorizer(sublinear_tf=True, stop_words="english")
    if any(documents):
        known = vectorizer.fit_transform(documents)
        alike = (vectorizer.transform([" ".join(texts)]) @ known.T).toarray()[0]
        for place in np.argsort(-alike)[:most]:
            study = by_study["study_id"][int(place)]
            nearest.append(Nearest(study, float(alike[place]), *_signs(pairs, study)))
        among = (known @ known.T).toarray()
        np.fill_diagonal(among, 0)
        usual = float(np.quantile(among.max(axis=1), 0.05)) if len(documents) > 1 else 0.0
        if alike.max() < usual:
            warnings.append(
                f"its words are unlike every evaluated study (similarity {alike.max():.2f}; "
                f"evaluated studies have {usual:.2f} or more with their nearest)"
            )
    lengths = cells["stimuli"].drop_nulls().str.len_chars()
    if len(lengths):
        low, high = lengths.to_numpy().min(), lengths.to_numpy().max()
        outside = [len(text) for text in texts if not 0.8 * low <= len(text) <= 1.25 * high]
        if outside:
            warnings.append(f"texts of {outside[0]} characters: evaluated ones have {low} to {high}")
    unknown = sorted(set(kinds) - set(cells["scale_kind"].drop_nulls()))
    if unknown:
        warnings.append(f"no evaluated study has an answer scale of kind {', '.join(unknown)}")
    if not has_profile:
        warnings.append("the people have no demographic profile: the model was evaluated with profiles")
    return Likeness(nearest, warnings)


def _signs(pairs: Pairs, study: str) -> tuple[int, float | None]:
    held = pairs.where(pairs.study == study)
    agree = np.sign(held.predicted) == np.sign(held.observed)
    return len(held), float(agree.mean()) if len(held) else None
