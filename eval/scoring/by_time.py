"""Leak by time: is a model better at studies that were published before its base model's training ended?

A base model may have read about older studies. Settings name the last day of its training data
(`score.training_cut`) and a table of dates (`score.study_dates`: CSV with study_id and published,
YYYY-MM-DD). A better score before the cut than after it is a warning, no proof: older studies may be easier.
"""

from datetime import date
from pathlib import Path

import numpy as np
import polars as pl

from common.errors import Refusal
from common.readers import read_csv
from eval.scoring.estimates import Studies, mean_of_finite, missing, statistic, study_estimate, weighted_mean
from eval.scoring.metrics import METRICS
from eval.scoring.record import ByTime, Era, Estimate
from eval.settings import ScoreSettings

COMPARED = ("wasserstein_observed", "accuracy_observed", "crps")
NO_STUDY = "no study with a score on this side of the cut"
REMEDY = "give a CSV with columns study_id, published (YYYY-MM-DD)"


def read_dates(path: str | Path) -> dict[str, date]:
    """{study: day of publication}. Raises `Refusal` for what is no such table, with the first wrong row."""
    table = read_csv(Path(path), REMEDY)
    if absent := {"study_id", "published"} - set(table.columns):
        raise Refusal(f"{path} has no column {', '.join(sorted(absent))}; {REMEDY}")
    table = table.select(pl.col("study_id", "published").cast(pl.String))
    days = table["published"].str.to_date("%Y-%m-%d", strict=False)
    if days.null_count():
        at = days.is_null().arg_true()[0]
        raise Refusal(f"{path} row {at + 2}: published is {table['published'][at]!r}; write it as 2023-05-31")
    if table["study_id"].is_duplicated().any():
        study = table.filter(pl.col("study_id").is_duplicated())["study_id"][0]
        raise Refusal(f"{path}: study {study} appears more than once; keep one row for each")
    return dict(zip(table["study_id"], days, strict=True))


def by_time(
    settings: ScoreSettings, cells: dict[str, np.ndarray], studies: Studies, people: dict[str, np.ndarray]
) -> ByTime | None:
    """Scores of studies before and after the cut; None where settings name no dates.

    cells: {metric: float64 (C)}. people: {metric: (R, S)}, the studies' means when people are drawn again.
    """
    if settings.study_dates is None or settings.training_cut is None:
        return None
    days, cut = read_dates(settings.study_dates), settings.training_cut
    dated = np.array([name in days for name in studies.names])
    before = np.array([name in days and days[name] <= cut for name in studies.names])
    sides = {"before": before, "after": dated & ~before}
    means = {name: studies.means(cells[name]) for name in COMPARED}
    eras = {
        side: Era(
            studies=int(mask.sum()),
            metrics={
                name: study_estimate(
                    np.where(mask, values, np.nan), studies, NO_STUDY, 0, people[name], METRICS[name].limits
                )
                for name, values in means.items()
            },
        )
        for side, mask in sides.items()
    }
    differences = {name: _difference(values, sides, studies, people[name]) for name, values in means.items()}
    return ByTime(cut=cut.isoformat(), undated=int((~dated).sum()), difference=differences, **eras)


def _difference(
    values: np.ndarray, sides: dict[str, np.ndarray], studies: Studies, people: np.ndarray
) -> Estimate:
    """After the cut less before it."""
    parts = [np.where(sides[side], values, np.nan) for side in ("after", "before")]
    counts = [int(np.isfinite(part).sum()) for part in parts]
    if not all(counts):
        return missing(NO_STUDY)
    drawn = [weighted_mean(part, studies.weights) for part in parts]
    moved = [mean_of_finite(np.where(np.isfinite(part), people, np.nan)) for part in parts]
    value = float(np.nanmean(parts[0]) - np.nanmean(parts[1]))
    return statistic(value, drawn[0] - drawn[1], min(counts), 0, moved[0] - moved[1])
