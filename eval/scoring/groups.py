"""One model's (or control's) scores for each cell or item, and the arrays that resampling needs."""

from dataclasses import dataclass, replace

import numpy as np
import polars as pl

from common.distances import DISTANCES, Histograms, distances, histograms, place
from eval.scoring.align import Aligned
from eval.scoring.answers import (
    MEAN_SCORES,
    MOMENTS,
    ROW_SCORES,
    group_means,
    histogram_scores,
    moments,
    row_scores,
    within_correlation,
)
from eval.scoring.controls import CellAnswers
from eval.scoring.resampling import PairedRows

INDIVIDUAL = (*MEAN_SCORES, "correlation")
METRICS = (
    *DISTANCES, *INDIVIDUAL, "mean_error_observed", "mean_error_stated", "mean_bias_observed",
    "mean_bias_stated", "spread_ratio", "entropy_ratio",
)  # fmt: skip
PROBABILITY_SCORES = ("log_score", "brier")
RESAMPLED = ("accuracy_observed", "accuracy_stated", "exact_match")  # row scores with intervals over people
ONE_PERSON = "one respondent"
ALL_AGREE = "all people agree: the observed range has no width"
NO_SCALE = "no stated scale"
SEVERAL_SCALES = "its items state different scales"
NO_VARIATION = "predictions don't vary within it"
SAMPLED = "sampled answers are no probabilities"


@dataclass(frozen=True)
class GroupScores:
    """Scores of G cells or items.

    frame: their rows with METRICS, MOMENTS and `reason`; what can't be computed is null. values: {metric:
    float64 (G)}, NaN where null. table: answers of both sides. ranges: float64 (G, 4). rows: float64
    (N, len(ROW_SCORES)), None for a control.
    """

    frame: pl.DataFrame
    values: dict[str, np.ndarray]
    table: Histograms
    ranges: np.ndarray
    rows: np.ndarray | None


def group_ranges(groups: pl.DataFrame) -> np.ndarray:
    """Observed low and high, stated low and high: float64 (G, 4), NaN where none is stated."""
    stated = [
        pl.when(~pl.col("unlimited")).then(pl.col(name)).alias(name) for name in ("scale_low", "scale_high")
    ]
    columns = (
        groups.select(pl.col("observed_low", "observed_high"), *stated).cast(pl.Float64).fill_null(np.nan)
    )
    return np.ascontiguousarray(columns.to_numpy())


def score_groups(aligned: Aligned, level: str, also: tuple[CellAnswers, ...] = ()) -> GroupScores:
    """Score a model's predictions by `level`, "cell" or "item".

    also: answers that shall become support points (the uniform control, for resampling).
    """
    groups = aligned.cells if level == "cell" else aligned.items
    group = aligned.rows[level].to_numpy()
    starts = np.searchsorted(group, np.arange(len(groups) + 1))
    response = aligned.rows["response"].to_numpy()
    ranges = group_ranges(groups)
    table = histograms(
        response, starts, aligned.answers, aligned.offsets[starts], np.ones(len(response)), aligned.probs,
        [(extra.answers, extra.offsets) for extra in also],
    )  # fmt: skip
    rows = row_scores(aligned.offsets, aligned.answers, aligned.probs, response, group, ranges)
    means = group_means(rows, group, len(groups))
    values = _distances_and_moments(table, ranges)
    values |= {name: means[:, k] for k, name in enumerate(ROW_SCORES) if name in INDIVIDUAL}
    expected = rows[:, ROW_SCORES.index("expected")]
    values["correlation"] = within_correlation(expected, response, group, len(groups))
    draws = group_means(aligned.rows["n_draws"].to_numpy().astype(float)[:, None], group, len(groups))[:, 0]
    for name in PROBABILITY_SCORES:
        values[name][draws > 0] = np.nan
    frame = groups.with_columns(draws_per_row=pl.Series(np.where(draws > 0, draws, np.nan)).fill_nan(None))
    return _finish(frame, values, table, ranges, rows, draws > 0)


def score_control(human: GroupScores, control: CellAnswers) -> GroupScores:
    """Score a control against the people of `human`'s cells; a cell without such a control is null."""
    human_weights = human.table.human
    table = histograms(
        human.table.support,
        human.table.offsets,
        control.answers,
        control.offsets,
        human_weights,
        control.weights,
    )
    values = _distances_and_moments(table, human.ranges)
    values |= histogram_scores(table, human.ranges)
    values["correlation"] = np.full(len(human.ranges), np.nan)
    never = np.zeros(len(human.ranges), bool)
    return _finish(
        human.frame.drop(METRICS, MOMENTS, "reason", strict=False), values, table, human.ranges, None, never
    )


def paired_rows(
    aligned: Aligned, scores: GroupScores, uniforms: tuple[CellAnswers, CellAnswers]
) -> PairedRows:
    """The arrays that `bootstrap` and `ceiling` resample; `scores` must hold the uniforms' support."""
    table, rows, cells = scores.table, aligned.rows, aligned.cells
    study = _dense(cells["study_id"])
    cell = rows["cell"].to_numpy()
    person = rows.select(
        (pl.col("participant").rank("dense").over("study_id").cast(pl.Int32) - 1).alias("person")
    )["person"].to_numpy()
    people = np.zeros(study[-1] + 1, np.int64)
    np.maximum.at(people, study[cell], person + 1)
    references = np.zeros((2, len(table.support)))
    for reference, uniform in zip(references, uniforms, strict=True):
        at = place(table.offsets, table.support, uniform.answers, uniform.offsets)
        reference[at] = uniform.weights
    assert scores.rows is not None
    resampled = scores.rows[:, [ROW_SCORES.index(name) for name in RESAMPLED]]
    return PairedRows(
        study_cells=np.searchsorted(study, np.arange(study[-1] + 2)),
        cell_rows=np.searchsorted(cell, np.arange(len(cells) + 1)),
        person=person,
        people=people,
        support_offsets=table.offsets,
        support=table.support,
        human_at=table.human_at.astype(np.int32),
        entry_offsets=aligned.offsets,
        entry_at=table.predicted_at.astype(np.int32),
        entry_prob=aligned.probs.astype(np.float32),
        ranges=scores.ranges,
        row_scores=np.ascontiguousarray(resampled, np.float32),
        references=references,
    )


def subset(rows: PairedRows, kept: np.ndarray) -> PairedRows:
    """The same cells and support with only the rows marked in `kept` (bool, N)."""
    lengths = np.diff(rows.entry_offsets)
    entries = np.repeat(kept, lengths)
    before = np.concatenate([[0], np.cumsum(kept)])
    return replace(
        rows,
        cell_rows=before[rows.cell_rows],
        person=rows.person[kept],
        human_at=rows.human_at[kept],
        entry_offsets=np.concatenate([[0], np.cumsum(lengths[kept])]),
        entry_at=rows.entry_at[entries],
        entry_prob=rows.entry_prob[entries],
        row_scores=rows.row_scores[kept],
    )


def _dense(column: pl.Series) -> np.ndarray:
    """0, 1, 2, ... for the values of a sorted column."""
    return (column.rank("dense").cast(pl.Int64) - 1).to_numpy()


def _distances_and_moments(table: Histograms, ranges: np.ndarray) -> dict[str, np.ndarray]:
    found = distances(table.offsets, table.support, table.human, table.predicted, ranges)
    return {name: found[:, k].copy() for k, name in enumerate(DISTANCES)} | moments(table, ranges)


def _finish(
    groups: pl.DataFrame,
    values: dict[str, np.ndarray],
    table: Histograms,
    ranges: np.ndarray,
    rows: np.ndarray | None,
    sampled: np.ndarray,
) -> GroupScores:
    """Blank what one person can't tell, and put a reason beside every null."""
    alone = groups["people"].to_numpy() < 2
    shared = (*DISTANCES, "spread_ratio", "entropy_ratio", "mean_error_observed", "mean_error_stated",
              "mean_bias_observed", "mean_bias_stated")  # fmt: skip
    for name in shared:
        values[name][alone] = np.nan
    frame = groups.with_columns(
        pl.Series(name, values[name]).fill_nan(None) for name in (*METRICS, *MOMENTS) if name in values
    )
    agree = (pl.col("observed_low") == pl.col("observed_high")) & ~pl.Series(alone)
    stated_missing = pl.col("wasserstein_stated").is_null() & ~pl.Series(alone)
    reason = pl.concat_str(
        [
            pl.when(pl.Series(alone)).then(pl.lit(ONE_PERSON)),
            pl.when(agree).then(pl.lit(ALL_AGREE)),
            pl.when(stated_missing & pl.col("unlimited")).then(pl.lit(NO_SCALE)),
            pl.when(stated_missing & ~pl.col("unlimited")).then(pl.lit(SEVERAL_SCALES)),
            pl.when(pl.col("correlation").is_null() & ~agree & ~pl.Series(alone)).then(pl.lit(NO_VARIATION)),
            pl.when(pl.Series(sampled)).then(pl.lit(SAMPLED)),
        ],
        separator="; ",
        ignore_nulls=True,
    )
    frame = frame.with_columns(reason=pl.when(reason.str.len_chars() > 0).then(reason))
    return GroupScores(frame, {name: values[name] for name in METRICS}, table, ranges, rows)
