"""The controls' scores when people are drawn again: what their intervals over people are made of.

Most controls are other people's answers, so whoever is drawn moves the guess as well as what it is held
against. A drawn control is the sum of the drawn answers that it is made of, and of what isn't drawn: training
answers, and answers of rows that aren't scored.
"""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np
import polars as pl
from numba import njit
from scipy import sparse

from common.contract import CELL
from common.distances import in_threads
from eval.scoring.answers import RESAMPLED, ROW_SCORES, describe, score_person
from eval.scoring.controls import SCALE
from eval.scoring.estimates import Studies
from eval.scoring.groups import METRIC_ROW_SCORES, Groups
from eval.scoring.metrics import METRICS
from eval.scoring.resampling import (
    FIRST_ROW_SCORE,
    PairedRows,
    SumRows,
    group_statistics,
    move_range,
    resample_sums,
)

PLAIN, IN_RANGE, MODE = range(3)  # the guess as it is; what lies in the observed range; the most frequent
OUTCOME = ["study_id", "task_num", "response"]
# Of each control: whose support points it stands on, what it shares with the answers that it is made of, what
# it must not share with them, and its shape.
MADE_OF = {
    "uniform_observed": ("uniform_observed", None, None, IN_RANGE),
    "uniform_stated": ("uniform_stated", None, None, PLAIN),
    "pooled_others": ("pooled_others", OUTCOME, "cell", PLAIN),
    "pooled_oracle": ("pooled_oracle", OUTCOME, None, PLAIN),
    "other_outcomes": ("other_outcomes", ["study_id", *SCALE, "response"], "task_num", PLAIN),
    "training_marginal": ("training_marginal", None, None, PLAIN),
    "most_frequent_others": ("pooled_others", OUTCOME, "cell", MODE),
    "most_frequent_oracle": ("most_frequent_oracle", ["cell", "response"], None, MODE),
}


class Guess(NamedTuple):
    """A control of C cells on S support points, for compiled functions."""

    offsets: np.ndarray
    """int64 (C + 1)."""
    support: np.ndarray
    """float64 (S)."""
    ranges: np.ndarray
    """float64 (C, 4); see `PairedRows`, also for ends_scored and columns."""
    ends_scored: np.ndarray
    columns: np.ndarray
    fixed_scores: np.ndarray
    """float64 (S, K): row scores of answers that no draw changes."""
    shape: int


def control_people(
    controls: Mapping[str, Groups], people: Groups, paired: PairedRows, studies: Studies,
    replicates: int, seed: int,
) -> dict[str, dict[str, np.ndarray]]:  # fmt: skip
    """{control: {metric: float64 (R, S)}}: studies' means, with the people that `resample_people` draws."""
    drawn = {name: _Drawn(name, controls, people, paired, studies) for name in MADE_OF}
    for human in _histograms(paired, replicates, seed):
        for control in drawn.values():
            control.add(human)
    return {name: control.means() for name, control in drawn.items()}


def _histograms(paired: PairedRows, replicates: int, seed: int) -> Iterator[np.ndarray]:
    """Drawn answers on the support of `paired`: float64 (draws, S) at a time."""
    rows = SumRows(
        paired.cell_rows[paired.study_cells], paired.person, paired.people, paired.human_at.astype(np.int64),
        np.ascontiguousarray(paired.weight[:, None]), len(paired.support),
    )  # fmt: skip
    for sums in resample_sums(rows, replicates, seed):
        yield sums[..., 0]


class _Drawn:
    """One control, collected a few draws at a time."""

    def __init__(
        self, name: str, controls: Mapping[str, Groups], people: Groups, paired: PairedRows, studies: Studies
    ) -> None:
        self._studies = studies
        laid_out, shared, without, shape = MADE_OF[name]
        self._groups = groups = controls[laid_out]
        self._finite = {metric: np.isfinite(values) for metric, values in controls[name].values.items()}
        self._own = _places(people, groups)
        size = (len(groups.table.support), len(people.table.support))
        self._made_of = sparse.csr_matrix(size)
        if shared is not None:
            self._made_of = _made_of(people, groups, shared, without)
        base = groups.table.human if name == "most_frequent_oracle" else groups.table.predicted
        self._rest = np.maximum(base - self._made_of @ people.table.human, 0.0)
        fixed = np.zeros((size[0], len(METRIC_ROW_SCORES)))
        for k, metric in enumerate(METRIC_ROW_SCORES):
            fixed[groups.table.human_at, k] = groups.score_of_rows(metric)
        of_rows = [ROW_SCORES.index(one) for one in groups.averaged if one in ROW_SCORES]
        self._guess = Guess(
            groups.table.offsets, groups.table.support.astype(np.float64), groups.ranges, paired.ends_scored,
            np.array(of_rows, np.int64), fixed, shape,
        )  # fmt: skip
        self._parts: dict[str, list[np.ndarray]] = {metric: [] for metric in METRICS}

    def add(self, human: np.ndarray) -> None:
        """Score drawn people, float64 (draws, S) on the support of the model's cells."""
        own = np.where(self._own >= 0, human[:, self._own], 0.0)
        guess = np.ascontiguousarray((self._made_of @ human.T).T) + self._rest
        columns = FIRST_ROW_SCORE + len(self._guess.columns) + len(METRIC_ROW_SCORES)
        out = np.empty((len(human), len(self._groups.frame), columns))
        in_threads(_score, out.shape[1], self._guess, own, guess, out)
        for metric, values in self._groups.metrics_of(out).items():
            if metric in METRICS:
                shown = np.where(self._finite[metric], values, np.nan)
                self._parts[metric].append(self._studies.means(shown))

    def means(self) -> dict[str, np.ndarray]:
        """{metric: float64 (R, S)}."""
        return {metric: np.concatenate(parts) for metric, parts in self._parts.items()}


def _entries(groups: Groups, keep: np.ndarray) -> pl.DataFrame:
    """Support points, those to keep: `at`, `cell`, `response` and what their cell is."""
    table = groups.table
    keyed = groups.frame.select(pl.int_range(pl.len(), dtype=pl.Int64).alias("cell"), *CELL, *SCALE)
    owner = np.repeat(np.arange(len(keyed)), np.diff(table.offsets))
    points = pl.DataFrame({"at": np.arange(len(owner)), "cell": owner, "response": table.support})
    return points.filter(pl.Series(keep)).join(keyed, on="cell", maintain_order="left")


def _places(people: Groups, groups: Groups) -> np.ndarray:
    """int64 (S): where people's table has each of the control's support points; -1 where it hasn't."""
    key = ["cell", "response"]
    of_people = _entries(people, np.ones(len(people.table.support), bool))
    mine = _entries(groups, np.ones(len(groups.table.support), bool)).select(key)
    joined = mine.join(of_people.select(*key, "at"), on=key, how="left", maintain_order="left")
    return joined["at"].fill_null(-1).to_numpy()


def _made_of(people: Groups, groups: Groups, shared: list[str], without: str | None) -> sparse.csr_matrix:
    """Which of people's answers make up each point of the guess: ones in (S of control, S of people)."""
    owner = np.repeat(np.arange(len(groups.frame)), np.diff(groups.table.offsets))
    there = np.bincount(owner, groups.table.predicted, minlength=len(groups.frame)) > 0
    mine = _entries(groups, there[owner])
    pairs = mine.join(_entries(people, people.table.human > 0), on=shared, suffix="_of")
    if without is not None:
        pairs = pairs.filter(pl.col(without) != pl.col(f"{without}_of"))
    at = (pairs["at"].to_numpy(), pairs["at_of"].to_numpy())
    size = (len(groups.table.support), len(people.table.support))
    return sparse.csr_matrix((np.ones(len(pairs)), at), shape=size)


@njit(cache=True, nogil=True)
def _score(first_cell, last_cell, rows, human, guess, out):
    """Statistics of cells as `resampling.resample_people` gives them, without those of the uniform guess."""
    scores = np.empty(RESAMPLED)
    for cell in range(first_cell, last_cell):
        base, end = rows.offsets[cell], rows.offsets[cell + 1]
        points = rows.support[base:end]
        for draw in range(len(out)):
            of_draw = out[draw, cell]
            of_draw[:] = np.nan
            given, predicted = human[draw, base:end], guess[draw, base:end].copy()
            limits = rows.ranges[cell].copy()
            move_range(points, given, rows.ends_scored[cell], limits)
            _shape(points, limits, rows.shape, predicted)
            total, mass = given.sum(), predicted.sum()
            if not (total > 0 and mass > 0):
                continue
            group_statistics(points, given, predicted, limits, of_draw)
            guessed = np.flatnonzero(predicted)
            answers, probs = points[guessed], predicted[guessed] / mass
            described = describe(answers, probs, limits)
            sums = of_draw[FIRST_ROW_SCORE:]
            sums[:] = 0
            for j in range(len(points)):
                if given[j] > 0:
                    score_person(answers, probs, described, points[j], limits, 0, scores)
                    for k in range(len(rows.columns)):
                        sums[k] += given[j] / total * scores[rows.columns[k]]
                    for k in range(rows.fixed_scores.shape[1]):
                        sums[len(rows.columns) + k] += given[j] / total * rows.fixed_scores[base + j, k]


@njit(cache=True)
def _shape(points, limits, shape, guess):
    """Leave of a guess what its shape says."""
    if shape == IN_RANGE:
        guess[(points < limits[0]) | (points > limits[1])] = 0
    elif shape == MODE and len(guess):
        top = np.argmax(guess)
        mass = guess[top]
        guess[:] = 0
        guess[top] = mass
