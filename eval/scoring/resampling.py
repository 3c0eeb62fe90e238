"""How sure a score is: people resampled within studies, studies resampled, and paired comparisons.

People are resampled in pairs: a person's answers and the predictions for that person come together, and a
person is drawn with all answers to all outcomes. Resampling predictions and answers separately gives
intervals 1.4 times too wide; resampling answers alone gives too narrow ones, because one person's answers
are alike. A cell's observed range is that of the people who were drawn. A bootstrap adds noise, so it moves
Wasserstein distances upward; intervals over people are therefore centred on the score itself.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numba import njit

from common import draws
from common.distances import DISTANCES, clipped_wasserstein, in_threads, pair
from eval.scoring.answers import RESAMPLED, row_score
from eval.scoring.ragged import Ragged

CHUNK = 32  # replicates that are computed side by side, and in memory at once
MOMENTS = (
    "human_mean", "human_variance", "human_entropy", "predicted_mean", "predicted_variance",
    "predicted_entropy", "stated_bias", "observed_low", "observed_high",
)  # fmt: skip
UNIFORM = (
    "uniform_observed",
    "uniform_stated",
)  # the Wasserstein distance of the uniform guess, by each range
FIRST_ROW_SCORE = len(DISTANCES) + len(MOMENTS)


class PairedRows(NamedTuple):
    """N rows of answers with predictions, sorted by cell, cells by study, for resampling people."""

    study_cells: np.ndarray
    """int64 (studies + 1): each study's first cell."""
    cell_rows: np.ndarray
    """int64 (C + 1): each cell's first row."""
    person: np.ndarray
    """int32 (N): the row's person, numbered within the study."""
    people: np.ndarray
    """int64 (studies): how many people there are."""
    weight: np.ndarray
    """float64 (N): survey weights, 1 where there are none."""
    draws: np.ndarray
    """int32 (N): answers sampled for the row; 0 for probabilities."""
    support_offsets: np.ndarray
    """int64 (C + 1)."""
    support: np.ndarray
    """float64: every answer that people gave or the model predicted, ascending in a cell."""
    human_at: np.ndarray
    """int32 (N): place of the row's answer in `support`."""
    predicted: Ragged
    """N distributions; `answers` holds places in `support` (int32), `weights` is float32."""
    ranges: np.ndarray
    """float64 (C, 4): observed low and high, stated low and high."""
    ends_scored: np.ndarray
    """bool (C, 2): whether the observed low and high are answers of these rows, so that they move with them.
    """
    row_scores: np.ndarray
    """float32 (N, K): averaged in a cell."""
    columns: np.ndarray
    """int64 (L), L <= K: which of `answers.ROW_SCORES` the first L row scores are. They depend on the range.
    """
    references: np.ndarray
    """float64 (2, S): the uniform distribution by observed and by stated range."""


def columns(row_scores: int) -> int:
    """Columns of a replicate of a cell: DISTANCES, MOMENTS, the row scores, UNIFORM."""
    return FIRST_ROW_SCORE + row_scores + len(UNIFORM)


def resample_people(rows: PairedRows, replicates: int, seed: int) -> Iterator[np.ndarray]:
    """Statistics of each cell when its study's people are drawn again: float64 (CHUNK, C, columns) at a time.

    NaN where a replicate holds nobody of a cell. Equal seeds give equal draws, with any number of threads.
    """
    for first in range(0, replicates, CHUNK):
        count = min(CHUNK, replicates - first)
        out = np.empty((count, len(rows.cell_rows) - 1, columns(rows.row_scores.shape[1])))
        in_threads(_resample, len(rows.people), rows, first, np.uint64(seed), out)
        yield out


mix = njit(cache=True)(draws.mix)  # a counter to a random 64-bit number


@njit(cache=True)
def stream(seed, group, replicate):
    """The start of an independent random stream for one group and replicate."""
    return mix(mix(mix(np.uint64(seed) + np.uint64(1)) + np.uint64(group)) + np.uint64(replicate))


@njit(cache=True)
def step(state):
    """The next state of a stream; `mix(state)` is its random number."""
    return state + draws.INCREMENT


@njit(cache=True)
def below(state, limit):
    """A whole number from 0 to limit - 1 (limit < 2^32; the bias is below 2^-32)."""
    return np.int64(((mix(state) >> np.uint64(32)) * np.uint64(limit)) >> np.uint64(32))


@njit(cache=True)
def draw_people(weight, seed, study, replicate):
    """Draw as many people as there are, with replacement: how often each was drawn, into `weight`."""
    weight[:] = 0
    state = stream(seed, study, replicate)
    for _ in range(len(weight)):
        state = step(state)
        weight[below(state, len(weight))] += 1


@njit(cache=True, nogil=True)
def _resample(first_study, last_study, rows, first_replicate, seed, out):
    for study in range(first_study, last_study):
        drawn = np.empty((rows.people[study], out.shape[0]))
        for replicate in range(out.shape[0]):
            draw_people(drawn[:, replicate], seed, study, first_replicate + replicate)
        for cell in range(rows.study_cells[study], rows.study_cells[study + 1]):
            _one_cell(rows, cell, drawn, out[:, cell])


@njit(cache=True)
def _one_cell(rows, cell, drawn, out):
    """Statistics of one cell with its people weighted by how often they were drawn.

    drawn: (people, R). out: (R, columns). All replicates of a row are added up side by side, which a
    processor does several at a time.
    """
    base, end = rows.support_offsets[cell], rows.support_offsets[cell + 1]
    points, replicates = rows.support[base:end], drawn.shape[1]
    human, predicted = np.zeros((end - base, replicates)), np.zeros((end - base, replicates))
    sums = np.zeros((rows.row_scores.shape[1], replicates))
    for i in range(rows.cell_rows[cell], rows.cell_rows[cell + 1]):
        times, weight = drawn[rows.person[i]], rows.weight[i]
        _add(human[rows.human_at[i] - base], times, weight)
        for j in range(rows.predicted.offsets[i], rows.predicted.offsets[i + 1]):
            _add(predicted[rows.predicted.answers[j] - base], times, weight * rows.predicted.weights[j])
        for k in range(len(sums)):
            _add(sums[k], times, weight * rows.row_scores[i, k])
    for r in range(replicates):
        own = human[:, r].copy()
        total = own.sum()
        if total == 0:
            out[r] = np.nan
            continue
        limits = rows.ranges[cell].copy()
        move_range(points, own, rows.ends_scored[cell], limits)
        if limits[0] != rows.ranges[cell, 0] or limits[1] != rows.ranges[cell, 1]:
            _score_again(rows, cell, drawn[:, r], limits, sums[:, r])
        group_statistics(points, own, predicted[:, r].copy(), limits, out[r])
        for k in range(len(sums)):
            out[r, FIRST_ROW_SCORE + k] = sums[k, r] / total
        _uniform_distances(rows, cell, own, limits, out[r])


@njit(cache=True)
def _add(sums, times, value):
    for r in range(len(sums)):
        sums[r] += times[r] * value


@njit(cache=True)
def _uniform_distances(rows, cell, human, limits, out):
    """The Wasserstein distances of the uniform guess into the last columns."""
    base, end = rows.support_offsets[cell], rows.support_offsets[cell + 1]
    points = rows.support[base:end]
    for r in range(2):
        uniform = rows.references[r, base:end].copy()
        if r == 0:
            uniform[(points < limits[0]) | (points > limits[1])] = 0
        mass = uniform.sum()
        out[len(out) - 2 + r] = np.nan
        if mass > 0:
            out[len(out) - 2 + r] = clipped_wasserstein(
                points, human, uniform, human.sum(), mass, limits[2 * r], limits[2 * r + 1]
            )


@njit(cache=True)
def move_range(points, human, ends_scored, limits):
    """The observed range of the people who were drawn into limits[:2]."""
    for j in range(len(points)):
        if ends_scored[0] and human[j] > 0:
            limits[0] = points[j]
            break
    for j in range(len(points) - 1, -1, -1):
        if ends_scored[1] and human[j] > 0:
            limits[1] = points[j]
            break


@njit(cache=True)
def _score_again(rows, cell, drawn, limits, sums):
    """The sums of the row scores with another observed range than the one that they were computed with."""
    scores = np.empty(RESAMPLED)
    sums[: len(rows.columns)] = 0
    for i in range(rows.cell_rows[cell], rows.cell_rows[cell + 1]):
        w = drawn[rows.person[i]] * rows.weight[i]
        if w == 0:
            continue
        start, stop = rows.predicted.offsets[i], rows.predicted.offsets[i + 1]
        answers = rows.support[rows.predicted.answers[start:stop]]
        probs, truth = rows.predicted.weights[start:stop], rows.support[rows.human_at[i]]
        row_score(answers, probs, truth, limits, rows.draws[i], scores)
        for k in range(len(rows.columns)):
            sums[k] += w * scores[rows.columns[k]]


@njit(cache=True)
def group_statistics(points, human, predicted, limits, out):
    """DISTANCES and MOMENTS of one cell's histograms into `out`; see `metrics`."""
    pair(points, human, predicted, limits, out)
    total, weight = human.sum(), predicted.sum()
    if not (total > 0 and weight > 0):
        out[:] = np.nan
        return
    mean, square, entropy, p_mean, p_square, p_entropy, stated = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
    for j in range(len(points)):
        h, p = human[j] / total, predicted[j] / weight
        clipped = min(max(points[j], limits[0]), limits[1])
        mean += h * points[j]
        p_mean += p * clipped
        stated += (p - h) * min(max(points[j], limits[2]), limits[3])
        if h > 0:
            entropy -= h * np.log2(h)
        if p > 0:
            p_entropy -= p * np.log2(p)
    for j in range(len(points)):
        square += human[j] / total * (points[j] - mean) ** 2
        clipped = min(max(points[j], limits[0]), limits[1])
        p_square += predicted[j] / weight * (clipped - p_mean) ** 2
    moments = (mean, square, entropy, p_mean, p_square, p_entropy, stated, limits[0], limits[1])
    for k in range(len(moments)):
        out[len(DISTANCES) + k] = moments[k]


class SumRows(NamedTuple):
    """N rows of K values to be added up within G groups when people are drawn again, sorted by study."""

    study_rows: np.ndarray
    """int64 (studies + 1): each study's first row."""
    person: np.ndarray
    """int32 (N): numbered within the study."""
    people: np.ndarray
    """int64 (studies)."""
    group: np.ndarray
    """int64 (N); a row with a negative one is left out."""
    values: np.ndarray
    """float64 (N, K)."""
    groups: int

    @classmethod
    def of(
        cls, study: np.ndarray, person: np.ndarray, group: np.ndarray, values: np.ndarray, groups: int
    ) -> "SumRows":
        """From the study of each row: 0, 1, 2, ... in ascending order."""
        people = np.zeros(study[-1] + 1, np.int64)
        np.maximum.at(people, study, person + 1)
        starts = np.searchsorted(study, np.arange(study[-1] + 2))
        return cls(starts, person, people, group, np.ascontiguousarray(values, np.float64), groups)


def resample_sums(rows: SumRows, replicates: int, seed: int) -> Iterator[np.ndarray]:
    """Sums of the values of each group when people are drawn again: float64 (CHUNK, G, K) at a time.

    The same people are drawn as by `resample_people` with this seed, where they are numbered alike.
    """
    for first in range(0, replicates, CHUNK):
        count = min(CHUNK, replicates - first)
        out = np.zeros((count, rows.groups, rows.values.shape[1]))
        in_threads(_add_again, count, rows, first, np.uint64(seed), out)
        yield out


@njit(cache=True, nogil=True)
def _add_again(first, last, rows, first_replicate, seed, out):
    for replicate in range(first, last):
        for study in range(len(rows.people)):
            drawn = np.empty(rows.people[study], np.float64)
            draw_people(drawn, seed, study, first_replicate + replicate)
            for i in range(rows.study_rows[study], rows.study_rows[study + 1]):
                if rows.group[i] >= 0 and drawn[rows.person[i]] > 0:
                    for k in range(rows.values.shape[1]):
                        out[replicate, rows.group[i], k] += drawn[rows.person[i]] * rows.values[i, k]
