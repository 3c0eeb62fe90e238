"""How near a perfect model could come: the distance that mere sampling leaves, at the size at hand.

Naive split halves are no fair ceiling: both halves are small. With n people, a perfect model lies
c/sqrt(n) from their answers if its probabilities are exact, c * sqrt(2/n) if it is sampled once a
person, and two halves lie c * sqrt(4/n) apart: 1 to 1.41 to 2. So each ceiling is given raw and
brought to the sample size and the prediction mode of the model that it is compared with.

Two questions, two kinds of ceiling:

- *human* (split halves, bootstrap): people's answers alone; what a perfect model of each cell's answers
  keeps if it doesn't know who answers. The correction is the ratio of standard errors (of variances
  for the Jensen-Shannon divergence, which is of second order).
- *paired*: what this model would keep if its distributions were right. A model that knows people well
  has less noise (the draw of people moves prediction and answer together), so it can pass the human
  ceiling; and a person who answers several times brings more. Both are in the differences
  d_i(t) = [answer_i <= t] - P_i(answer <= t): the paired ceiling is the expected distance between the
  mean of d over resampled people and its mean over the sample. No assumption about the model is needed,
  and for a perfect one, whose mean d is pure noise, it equals the expected distance itself.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numba import njit

from common.distances import DISTANCES, clipped_wasserstein, in_threads, pair
from eval.scoring.ragged import starts_of
from eval.scoring.resampling import PairedRows, below, mix, step, stream

UNIFORM_EVERY = 4  # the uniform control's distance hardly varies: a quarter of the splits will do
JENSEN_SHANNON = DISTANCES.index("jensen_shannon")
PER_ANSWER = np.array(
    [DISTANCES.index("total_variation"), JENSEN_SHANNON]
)  # distances that know no order of answers
FEWEST_A_POINT = 3  # people for each answer that somebody gave: with fewer such distances are near their end
ACCURACIES = ("accuracy_observed", "accuracy_stated", "exact_match")


@dataclass(frozen=True)
class Ceiling:
    """Expected distances of each cell, float64 (C, 5), columns as DISTANCES; NaN with one person."""

    split_half_raw: np.ndarray
    """Between random halves of the people."""
    split_half_corrected: np.ndarray
    """The same at the sample size and in the mode of the model."""
    bootstrap_raw: np.ndarray
    """Between resampled people and all."""
    bootstrap_corrected: np.ndarray
    paired: np.ndarray
    """See above; NaN for the Jensen-Shannon divergence, which is no function of d."""
    uniform: np.ndarray
    """float64 (C, 2): the uniform control's Wasserstein distance in the model's mode, by observed and by
    stated range: the zero of a fair skill."""
    another_person: np.ndarray
    """float64 (C, 3), ACCURACIES of predicting one person's answer by another's of the same cell: what a
    perfect model of the cell's distribution is expected to reach. NaN with one person or without a range."""


class Members(NamedTuple):
    """The people of each cell: who is split and resampled, because one person's answers stay together."""

    member: np.ndarray
    """int64 (N): each row's person, numbered within the cell."""
    people: np.ndarray
    """int64 (C)."""
    draws: np.ndarray
    """int64 (N): the answers that the model sampled for each row; 0 for exact probabilities."""


def ceilings(rows: PairedRows, n_draws: np.ndarray, splits: int, seed: int) -> Ceiling:
    """All ceilings, each the mean of `splits` random splits or resamples.

    n_draws: int64 (N), the answers that the model sampled for each row; 0 for exact probabilities.
    """
    cells = len(rows.cell_rows) - 1
    cell = np.repeat(np.arange(cells), np.diff(rows.cell_rows))
    members = Members(*_members(cell, rows.person, cells), n_draws)
    out, accuracy = np.empty((cells, 3 * len(DISTANCES) + 2)), np.full((cells, len(ACCURACIES)), np.nan)
    in_threads(_simulate, cells, rows, members, splits, np.uint64(seed), out)
    in_threads(_another_person, cells, rows, members, accuracy)
    halves, resampled, paired, uniform = out[:, :5], out[:, 5:10], out[:, 10:15], out[:, 15:]
    few = _few_a_point(rows, cell, members.people)
    for part in (halves, resampled, paired):
        part[np.ix_(few, PER_ANSWER)] = np.nan
    inverse = np.where(n_draws > 0, 1 / np.maximum(n_draws, 1), 0.0)
    draw_noise = np.bincount(cell, inverse, minlength=cells) / np.maximum(np.diff(rows.cell_rows), 1)
    n = members.people.astype(float)
    with np.errstate(divide="ignore", invalid="ignore"):
        between_halves = 1 / (members.people // 2) + 1 / (members.people - members.people // 2)
        small_sample = n / (n - 1)  # resamples vary by (n - 1) / n of the true variance
        return Ceiling(
            split_half_raw=halves,
            split_half_corrected=halves * _by_order((1 + draw_noise) / n / between_halves),
            bootstrap_raw=resampled,
            bootstrap_corrected=resampled * _by_order((1 + draw_noise) * small_sample),
            paired=paired * _by_order(small_sample),
            uniform=uniform,
            another_person=accuracy,
        )


def _few_a_point(rows: PairedRows, cell: np.ndarray, people: np.ndarray) -> np.ndarray:
    """(C) indices of cells with too few people for each answer that somebody gave."""
    first_of_answer = np.unique(rows.human_at, return_index=True)[1]
    answers = np.bincount(cell[first_of_answer], minlength=len(people))
    return np.flatnonzero(people < FEWEST_A_POINT * answers)


def _members(cell: np.ndarray, person: np.ndarray, cells: int) -> tuple[np.ndarray, np.ndarray]:
    """Number people from 0 in each cell: (N) numbers, and (C) how many there are."""
    most = int(person.max()) + 1
    distinct, at = np.unique(cell * most + person, return_inverse=True)
    counts = np.bincount(distinct // most, minlength=cells)
    return at - starts_of(counts)[cell], counts


def _by_order(variance_ratio: np.ndarray) -> np.ndarray:
    """(C) ratios of variances to (C, 5) factors: their root, but for the second-order divergence."""
    factors = np.repeat(np.sqrt(variance_ratio)[:, None], len(DISTANCES), 1)
    factors[:, JENSEN_SHANNON] = variance_ratio
    return factors


@njit(cache=True, nogil=True)
def _simulate(first_cell, last_cell, rows, members, splits, seed, out):
    for cell in range(first_cell, last_cell):
        people = members.people[cell]
        out[cell] = np.nan
        if people < 2:
            continue
        base, end = rows.support_offsets[cell], rows.support_offsets[cell + 1]
        points, limits = rows.support[base:end], rows.ranges[cell]
        human, model = np.zeros(end - base), np.zeros(end - base)
        one, predicted = np.zeros(end - base), np.zeros(end - base)
        order, weight = np.arange(people), np.ones(people)
        _add_up(rows, cell, members.member, weight, human, model)
        sums = np.zeros(17)
        distance = np.empty(5)
        state = stream(seed, cell, splits)
        for split in range(splits):
            for i in range(people - 1, 0, -1):
                state = step(state)
                j = below(state, i + 1)
                order[i], order[j] = order[j], order[i]
            weight[:] = 0
            weight[order[: people // 2]] = 1
            one[:] = 0
            for i in range(rows.cell_rows[cell], rows.cell_rows[cell + 1]):
                one[rows.human_at[i] - base] += weight[members.member[i]] * rows.weight[i]
            pair(points, one, human - one, limits, distance)
            sums[:5] += distance

            weight[:] = 0
            for _ in range(people):
                state = step(state)
                weight[below(state, people)] += 1
            _add_up(rows, cell, members.member, weight, one, predicted)
            pair(points, one, human, limits, distance)
            sums[5:10] += distance
            change = (one - predicted) / one.sum() - (human - model) / human.sum()
            _size(points, change, limits, distance)
            sums[10:15] += distance

            if split % UNIFORM_EVERY:
                continue
            draws = members.draws[rows.cell_rows[cell] : rows.cell_rows[cell + 1]]
            for r in range(2):
                state = step(state)
                drawn = _draw_uniform(rows.references[r, base:end], draws, mix(state))
                sums[15 + r] += clipped_wasserstein(
                    points, human, drawn, human.sum(), drawn.sum(), limits[2 * r], limits[2 * r + 1]
                )
        out[cell] = sums / splits
        out[cell, 15:] *= splits / (1 + (splits - 1) // UNIFORM_EVERY)


@njit(cache=True)
def _add_up(rows, cell, member, weight, human, predicted):
    """Histograms of a cell's rows, weighted by person."""
    human[:] = 0
    predicted[:] = 0
    base = rows.support_offsets[cell]
    for i in range(rows.cell_rows[cell], rows.cell_rows[cell + 1]):
        w = weight[member[i]] * rows.weight[i]
        human[rows.human_at[i] - base] += w
        for j in range(rows.predicted.offsets[i], rows.predicted.offsets[i + 1]):
            predicted[rows.predicted.answers[j] - base] += w * rows.predicted.weights[j]


@njit(cache=True, nogil=True)
def _another_person(first_cell, last_cell, rows, members, out):
    """All pairs of answers of a cell, less those of one person with the same person."""
    for cell in range(first_cell, last_cell):
        if members.people[cell] < 2:
            continue
        base, end = rows.support_offsets[cell], rows.support_offsets[cell + 1]
        points, limits = rows.support[base:end], rows.ranges[cell]
        human = np.zeros(end - base)
        latest = np.full(members.people[cell], -1)
        first, last = rows.cell_rows[cell], rows.cell_rows[cell + 1]
        before = np.full(last - first, -1)
        within = np.zeros(4)  # weights of the pairs within persons, and their distances and matches
        for i in range(first, last):
            w, answer = rows.weight[i], points[rows.human_at[i] - base]
            human[rows.human_at[i] - base] += w
            within[3] += w * w
            within[2] += w * w
            before[i - first] = latest[members.member[i]]
            latest[members.member[i]] = i
            j = before[i - first]
            while j >= 0:
                other = points[rows.human_at[j] - base]
                both = 2 * w * rows.weight[j]
                within[3] += both
                within[2] += both * (answer == other)
                for r in range(2):
                    low, high = limits[2 * r], limits[2 * r + 1]
                    gap = abs(min(max(answer, low), high) - min(max(other, low), high))
                    within[r] += both * gap
                j = before[j - first]
        total = human.sum()
        pairs = total * total - within[3]
        if pairs <= 0:
            continue
        out[cell, 2] = ((human * human).sum() - within[2]) / pairs
        for r in range(2):
            low, high = limits[2 * r], limits[2 * r + 1]
            if high > low:
                below_or_at, apart = 0.0, 0.0
                for j in range(len(points) - 1):
                    below_or_at += human[j]
                    width = min(max(points[j + 1], low), high) - min(max(points[j], low), high)
                    apart += 2 * below_or_at * (total - below_or_at) * width
                out[cell, r] = 1 - (apart - within[r]) / pairs / (high - low)


@njit(cache=True)
def _size(support, change, limits, out):
    """The distances, as functions of the difference of two histograms, into out[:5]."""
    out[:] = 0
    out[3] = np.nan
    total = 0.0
    for j in range(len(support)):
        total += change[j]
        out[2] += abs(change[j]) / 2
        out[4] = max(out[4], abs(total))
        if j + 1 < len(support):
            for r in range(2):
                low, high = limits[2 * r], limits[2 * r + 1]
                width = min(float(support[j + 1]), high) - max(float(support[j]), low)
                if width > 0:
                    out[r] += abs(total) * width
    for r in range(2):
        width = limits[2 * r + 1] - limits[2 * r]
        out[r] = out[r] / width if width > 0 else np.nan


@njit(cache=True)
def _draw_uniform(uniform, n_draws, state):
    """Answers of a model that guesses uniformly, in the model's mode, as a histogram."""
    exact_rows = (n_draws == 0).sum()
    drawn = uniform * (exact_rows / max(uniform.sum(), 1e-300))
    admissible = np.flatnonzero(uniform)
    if len(admissible) == 0:
        return drawn
    alike = uniform.max() == uniform[admissible].min()
    upto = uniform.cumsum()
    for k in n_draws:
        for _ in range(k):
            state = step(state)
            if alike:
                at = admissible[below(state, len(admissible))]
            else:  # uniform in the logarithm of the answers
                at = np.searchsorted(upto, below(state, 1 << 31) / (1 << 31) * upto[-1], side="right")
            drawn[at] += 1 / k
    return drawn
