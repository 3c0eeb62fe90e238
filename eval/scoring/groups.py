"""One model's (or control's) scores for each cell or item, and the arrays that resampling needs."""

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import polars as pl
from numba import njit

from common.distances import DISTANCES, FEWEST_PEOPLE, Histograms, histograms, in_threads, support_indices
from eval.scoring import metrics
from eval.scoring.align import Evaluated
from eval.scoring.answers import RESAMPLED, ROW_SCORES, Answers, row_scores
from eval.scoring.metrics import METRICS
from eval.scoring.ragged import Ragged, starts_of
from eval.scoring.resampling import FIRST_ROW_SCORE, MOMENTS, PairedRows, group_statistics

SHOWN_MOMENTS = ("human_mean", "human_sd", "predicted_mean", "predicted_sd")  # in answer units
PART = 2**18  # rows that are scored at once: more take more memory and no less time
METRIC_ROW_SCORES = tuple(key for key, metric in METRICS.items() if metric.row)


class Sides(NamedTuple):
    """Both sides' histograms, for compiled functions; see `common.distances.Histograms`."""

    offsets: np.ndarray
    support: np.ndarray
    human: np.ndarray
    predicted: np.ndarray
    ranges: np.ndarray


@dataclass(frozen=True)
class Groups:
    """People's and predicted answers in G cells or items: what every metric is computed from.

    frame: one row each (see `align.group_frame`). answers: N answers of people and their distributions.
    weight: float64 (N), survey weights. table: both sides' histograms.
    """

    frame: pl.DataFrame
    answers: Answers
    weight: np.ndarray
    table: Histograms

    @property
    def draws(self) -> np.ndarray:
        """int64 (N): answers sampled; 0 for probabilities."""
        return self.answers.draws

    @property
    def ranges(self) -> np.ndarray:
        """float64 (G, 4): observed low and high, stated low and high."""
        return self.answers.ranges

    @cached_property
    def _row_scores(self) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """All row scores as float32, which is half the memory, and the groups' means of those in float64."""
        scores = np.empty((len(self.weight), len(ROW_SCORES)), np.float32)
        sums = np.zeros((len(ROW_SCORES), len(self.frame)))
        for start in range(0, len(scores), PART):
            part = slice(start, start + PART)
            exact = row_scores(self.answers.part(part))
            scores[part] = exact
            for total, values in zip(sums, exact.T, strict=True):
                total += self._sum(values, part)
        return scores, dict(zip(ROW_SCORES, self._over_size(sums), strict=True))

    def row(self, name: str) -> np.ndarray:
        """One of the row scores: float32 (N)."""
        return self._row_scores[0][:, ROW_SCORES.index(name)]

    def mean(self, values: np.ndarray) -> np.ndarray:
        """Weighted mean of N values within each group: float64 (G); NaN where any value is."""
        return self._over_size(self._sum(values))

    def _sum(self, values: np.ndarray, part: slice = slice(None)) -> np.ndarray:
        """Weighted sum of the values of some rows (all) within each group: float64 (G)."""
        group, weight = self.answers.group[part], self.weight[part]
        return np.bincount(group, weight * values, minlength=len(self.frame))

    def _over_size(self, sums: np.ndarray) -> np.ndarray:
        """(..., G) sums over the groups' weights."""
        size = np.bincount(self.answers.group, self.weight, minlength=len(self.frame))
        with np.errstate(invalid="ignore", divide="ignore"):
            return sums / size

    @cached_property
    def averaged(self) -> tuple[str, ...]:
        """The averaged row scores: those of ROW_SCORES that some group can have, then metrics' own."""
        needed = {name: METRICS[name].needs if name in METRICS else () for name in ROW_SCORES[:RESAMPLED]}
        return (*(name for name in needed if not self.lacking(needed[name]).all()), *METRIC_ROW_SCORES)

    @cached_property
    def metric_scores(self) -> dict[str, np.ndarray]:
        """{metric: float64 (N)} of the metrics that have a row score of their own."""
        rows_of = {key: METRICS[key].row for key in METRIC_ROW_SCORES}
        return {key: row(self.answers) for key, row in rows_of.items() if row}

    def score_of_rows(self, name: str) -> np.ndarray:
        """One of the row scores, a metric's own among them: (N)."""
        return self.metric_scores[name] if name in METRIC_ROW_SCORES else self.row(name)

    @cached_property
    def values(self) -> dict[str, np.ndarray]:
        """{metric: float64 (G)}, NaN where it can't be computed."""
        kernel = np.empty((len(self.frame), FIRST_ROW_SCORE))
        table = self.table
        sides = Sides(
            table.offsets, table.support.astype(np.float64), table.human, table.predicted, self.ranges
        )
        in_threads(_statistics, len(kernel), sides, kernel)
        of_rows = self._row_scores[1] | {
            name: self.mean(scores) for name, scores in self.metric_scores.items()
        }
        means = [of_rows[name][:, None] for name in self.averaged]
        return self.metrics_of(np.hstack([kernel, *means]))

    def metrics_of(self, columns: np.ndarray) -> dict[str, np.ndarray]:
        """{metric: float64 (..., G)} from the statistics (..., G, columns) of a resample."""
        names = (*DISTANCES, *MOMENTS, *self.averaged)
        statistics = dict.fromkeys(ROW_SCORES[:RESAMPLED], np.full(columns.shape[:-1], np.nan))
        statistics |= {name: columns[..., k] for k, name in enumerate(names)}
        width = statistics["observed_high"] - statistics["observed_low"]
        stated = self.ranges[:, 3] - self.ranges[:, 2]
        statistics |= {
            "width_observed": np.where(width > 0, width, np.nan),
            "width_stated": np.broadcast_to(np.where(stated > 0, stated, np.nan), width.shape),
            "middle_observed": (statistics["observed_high"] + statistics["observed_low"]) / 2,
            "people": np.broadcast_to(self.frame["people"].to_numpy(), width.shape),
        }
        with np.errstate(invalid="ignore"):
            return {
                key: np.where(self.lacking(metric.needs), np.nan, metric.of(statistics))
                for key, metric in METRICS.items()
            } | {name: statistics[name] for name in MOMENTS if columns.ndim == 2}

    @cached_property
    def lacks(self) -> dict[str, np.ndarray]:
        """{need of a metric: bool (G), where it isn't there}."""
        alone = self.frame["people"].to_numpy() < FEWEST_PEOPLE
        modes = self.frame["mode"].to_numpy()
        no_range = np.isnan(self.ranges[:, 2])
        unlimited = self.frame["unlimited"].to_numpy()
        return {
            metrics.PEOPLE: alone,
            metrics.WIDTH: (self.ranges[:, 0] == self.ranges[:, 1]) & ~alone,
            metrics.SCALE: no_range & unlimited & ~alone,
            metrics.SEVERAL_SCALES: no_range & ~unlimited & ~alone,
            metrics.ORDER: (self.frame["scale_kind"] == "choice").fill_null(False).to_numpy(),
            metrics.DISTRIBUTION: np.isin(modes, ("means", "cell means")),
            metrics.PERSONS: np.isin(modes, ("cells", "cell means")),
            metrics.PROBABILITIES: self.sampled,
            metrics.SPREAD: self.mean((self.draws == 1).astype(float)) > 0,
        }

    @cached_property
    def sampled(self) -> np.ndarray:
        """bool (G): whether some prediction was drawn rather than a probability."""
        return self.mean(self.draws.astype(float)) > 0

    def lacking(self, needs: tuple[str, ...]) -> np.ndarray:
        """bool (G): where something of `needs` isn't there (a range without width shows in the values)."""
        absent = [self.lacks[need] for need in needs if need in self.lacks and need != metrics.WIDTH]
        return np.logical_or.reduce([np.zeros(len(self.frame), bool), *absent])

    def reason(self, metric: str) -> str:
        """Why a metric has no value in any group."""
        needs = METRICS[metric].needs
        if metrics.SCALE in needs:
            needs = (*needs, metrics.SEVERAL_SCALES)
        lacking = [need for need in needs if need in self.lacks and self.lacks[need].any()]
        return "; ".join(lacking) or metrics.VARIATION

    @cached_property
    def scored(self) -> pl.DataFrame:
        """`frame` with SHOWN_MOMENTS, metrics, `reason` and `draws_per_row`; null where not computable."""
        values = self.values
        ordered = np.where(self.lacks[metrics.ORDER], np.nan, 1.0)  # the codes of a choice have no mean
        shown = {
            "human_mean": values["human_mean"], "human_sd": np.sqrt(values["human_variance"]),
            "predicted_mean": values["predicted_mean"], "predicted_sd": np.sqrt(values["predicted_variance"]),
        }  # fmt: skip
        shown = {name: column * ordered for name, column in shown.items()} | {
            name: values[name] for name in METRICS
        }
        draws = self.mean(self.draws.astype(float))
        return self.frame.with_columns(
            *(pl.Series(name, column).fill_nan(None) for name, column in shown.items()),
            self._reasons().alias("reason"),
            pl.Series("draws_per_row", np.where(draws > 0, draws, np.nan)).fill_nan(None),
        )

    def _reasons(self) -> pl.Series:
        alone = self.lacks[metrics.PEOPLE] | self.lacks[metrics.WIDTH]
        no_variation = (
            np.isnan(self.values["correlation"]) & ~alone & ~self.lacking(METRICS["correlation"].needs)
        )
        masks = self.lacks | {metrics.VARIATION: no_variation}
        parts = [pl.when(pl.Series(mask)).then(pl.lit(need)) for need, mask in masks.items()]
        joined = pl.concat_str(parts, separator="; ", ignore_nulls=True)
        return self.frame.select(pl.when(joined.str.len_chars() > 0).then(joined)).to_series()


@njit(cache=True, nogil=True)
def _statistics(first, last, sides, out):
    for g in range(first, last):
        part = slice(sides.offsets[g], sides.offsets[g + 1])
        group_statistics(
            sides.support[part], sides.human[part], sides.predicted[part], sides.ranges[g], out[g]
        )


def group_ranges(groups: pl.DataFrame) -> np.ndarray:
    """Observed low and high, stated low and high: float64 (G, 4), NaN where none is stated."""
    stated = [
        pl.when(~pl.col("unlimited")).then(pl.col(name)).alias(name) for name in ("scale_low", "scale_high")
    ]
    columns = (
        groups.select(pl.col("observed_low", "observed_high"), *stated).cast(pl.Float64).fill_null(np.nan)
    )
    return np.ascontiguousarray(columns.to_numpy())


def model_groups(evaluated: Evaluated, level: str, also: tuple[Ragged, ...] = ()) -> Groups:
    """A model's groups by `level`, "cell" or "item".

    also: distributions of each group whose answers become support points (the uniform guesses, which
    resampling needs).
    """
    frame = evaluated.cells if level == "cell" else evaluated.items
    group, response = evaluated.rows[level].to_numpy(), evaluated.rows["response"].to_numpy()
    starts = np.searchsorted(group, np.arange(len(frame) + 1))
    predicted, weight = evaluated.predicted, evaluated.rows["weight"].to_numpy()
    table = histograms(
        response, starts, predicted.answers, predicted.offsets[starts], weight,
        predicted.weights * np.repeat(weight, predicted.lengths),
        [(part.answers, part.offsets) for part in also],
    )  # fmt: skip
    draws = evaluated.rows["n_draws"].to_numpy()
    answers = Answers(predicted, np.arange(len(response)), response, group, group_ranges(frame), draws)
    return Groups(frame, answers, weight, table)


def control_groups(people: Groups, control: Ragged) -> Groups:
    """The people of some cells, predicted by one distribution a cell; NaN where a cell has none."""
    given = people.table.human > 0
    group = np.repeat(np.arange(len(people.frame)), np.diff(people.table.offsets))[given]
    response, weight = people.table.support[given], people.table.human[given]
    starts = starts_of(np.bincount(group, minlength=len(people.frame)))
    table = histograms(response, starts, control.answers, control.offsets, weight, control.weights)
    total = np.bincount(control.owner, control.weights, minlength=len(people.frame))
    shares = control._replace(weights=control.weights / np.maximum(total, 1e-300)[control.owner])
    frame = people.frame.with_columns(mode=pl.lit("exact"))
    answers = Answers(shares, group, response, group, people.ranges, np.zeros(len(response), np.int64))
    return Groups(frame, answers, weight, table)


def paired_rows(
    evaluated: Evaluated, cells: Groups, uniforms: tuple[Ragged, ...], level: str = "cell"
) -> PairedRows:
    """The arrays that people are resampled with, by cell or by item.

    uniforms: whose answers `cells` must have as support; none for items.
    """
    table, rows = cells.table, evaluated.rows
    study = _dense(cells.frame["study_id"])
    cell = rows[level].to_numpy()
    person = rows.select(
        (pl.col("participant").rank("dense").over("study_id").cast(pl.Int32) - 1).alias("person")
    )["person"].to_numpy()
    people = np.zeros(study[-1] + 1, np.int64)
    np.maximum.at(people, study[cell], person + 1)
    references = np.zeros((2, len(table.support)))
    for reference, uniform in zip(references, uniforms, strict=False):
        reference[support_indices(table.offsets, table.support, uniform.answers, uniform.offsets)] = (
            uniform.weights
        )
    scored = rows.group_by(level).agg(
        pl.col("response").min().alias("low"), pl.col("response").max().alias("high")
    )
    ends = scored.sort(level).select("low", "high").to_numpy()
    return PairedRows(
        study_cells=np.searchsorted(study, np.arange(study[-1] + 2)),
        cell_rows=np.searchsorted(cell, np.arange(len(cells.frame) + 1)),
        person=person,
        people=people,
        weight=cells.weight,
        draws=cells.draws.astype(np.int32),
        support_offsets=table.offsets,
        support=table.support.astype(np.float64),
        human_at=table.human_at,
        predicted=Ragged(
            evaluated.predicted.offsets,
            table.predicted_at,
            evaluated.predicted.weights.astype(np.float32),
        ),
        ranges=cells.ranges,
        ends_scored=ends == cells.ranges[:, :2],
        row_scores=np.stack([cells.score_of_rows(name) for name in cells.averaged], 1).astype(np.float32),
        columns=np.array([ROW_SCORES.index(name) for name in cells.averaged if name in ROW_SCORES]),
        references=references,
    )


def subset(rows: PairedRows, rows_in: np.ndarray) -> PairedRows:
    """The same cells and support with only the rows marked in `kept` (bool, N)."""
    before = starts_of(rows_in)
    return rows._replace(
        cell_rows=before[rows.cell_rows],
        person=rows.person[rows_in],
        weight=rows.weight[rows_in],
        draws=rows.draws[rows_in],
        human_at=rows.human_at[rows_in],
        predicted=rows.predicted.take(np.flatnonzero(rows_in)),
        row_scores=rows.row_scores[rows_in],
    )


def _dense(column: pl.Series) -> np.ndarray:
    """0, 1, 2, ... for the values of a sorted column."""
    return (column.rank("dense").cast(pl.Int64) - 1).to_numpy()
