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

import numpy as np
from numba import njit

from common.distances import DISTANCES, clipped_wasserstein, in_threads, pair
from eval.scoring.resampling import PairedRows, below, mix, step, stream

UNIFORM_EVERY = 4  # the uniform control's distance hardly varies: a quarter of the splits will do
JENSEN_SHANNON = DISTANCES.index("jensen_shannon")


@dataclass(frozen=True)
class Ceiling:
    """Expected distances of each cell, float64 (C, 5), columns as DISTANCES; NaN with one person.

    split_half_raw: between random halves of the people. bootstrap_raw: between resampled people and all.
    *_corrected: at the sample size and in the mode of the model. paired: see above (NaN for the
    Jensen-Shannon divergence, which is no function of d). uniform: (C, 2), the uniform control's
    Wasserstein distance in the model's mode, by observed and by stated range: the zero of a fair skill.
    """

    split_half_raw: np.ndarray
    split_half_corrected: np.ndarray
    bootstrap_raw: np.ndarray
    bootstrap_corrected: np.ndarray
    paired: np.ndarray
    uniform: np.ndarray


def ceilings(rows: PairedRows, n_draws: np.ndarray, splits: int, seed: int) -> Ceiling:
    """All ceilings, each the mean of `splits` random splits or resamples.

    n_draws: int64 (N), the answers that the model sampled for each row; 0 for exact probabilities.
    People, not rows, are split and resampled: one person's answers in a cell stay together.
    """
    cells = len(rows.cell_rows) - 1
    cell = np.repeat(np.arange(cells), np.diff(rows.cell_rows))
    member, members = _members(cell, rows.person, cells)
    out = np.empty((cells, 3 * len(DISTANCES) + 2))
    in_threads(
        _simulate, cells, rows.cell_rows, member, members, rows.support_offsets, rows.support, rows.human_at,
        rows.entry_offsets, rows.entry_at, rows.entry_prob, rows.ranges, rows.references, n_draws,
        splits, np.uint64(seed), out,
    )  # fmt: skip
    halves, resampled, paired, uniform = out[:, :5], out[:, 5:10], out[:, 10:15], out[:, 15:]
    inverse = np.where(n_draws > 0, 1 / np.maximum(n_draws, 1), 0.0)
    draw_noise = np.bincount(cell, inverse, minlength=cells) / np.maximum(np.diff(rows.cell_rows), 1)
    n = members.astype(float)
    with np.errstate(divide="ignore", invalid="ignore"):
        between_halves = 1 / (members // 2) + 1 / (members - members // 2)
        small_sample = n / (n - 1)  # resamples vary by (n - 1) / n of the true variance
        return Ceiling(
            split_half_raw=halves,
            split_half_corrected=halves * _by_order((1 + draw_noise) / n / between_halves),
            bootstrap_raw=resampled,
            bootstrap_corrected=resampled * _by_order((1 + draw_noise) * small_sample),
            paired=paired * _by_order(small_sample),
            uniform=uniform,
        )


def another_person(
    offsets: np.ndarray, support: np.ndarray, human: np.ndarray, ranges: np.ndarray
) -> np.ndarray:
    """Accuracy of predicting one person's answer by another's of the same cell: float64 (C, 3).

    Columns: published accuracy by observed and by stated range, and exact match. This is what a perfect
    model of the cell's distribution is expected to reach. NaN with one answer or without a range.
    """
    out = np.full((len(offsets) - 1, 3), np.nan)
    for cell in range(len(out)):
        values = support[offsets[cell] : offsets[cell + 1]].astype(float)
        counts = human[offsets[cell] : offsets[cell + 1]]
        n = counts.sum()
        if n < 2:
            continue
        out[cell, 2] = (counts * (counts - 1)).sum() / (n * (n - 1))
        below_or_at = counts.cumsum()[:-1]
        for column in range(2):
            low, high = ranges[cell, 2 * column : 2 * column + 2]
            if high > low:
                gaps = np.diff(np.clip(values, low, high))
                distance = 2 * (below_or_at * (n - below_or_at) * gaps).sum() / (n * (n - 1))
                out[cell, column] = 1 - distance / (high - low)
    return out


def _members(cell: np.ndarray, person: np.ndarray, cells: int) -> tuple[np.ndarray, np.ndarray]:
    """Number people from 0 in each cell: (N) numbers, and (C) how many there are."""
    key = cell * (int(person.max()) + 1) + person
    distinct, place = np.unique(key, return_inverse=True)
    owner = distinct // (int(person.max()) + 1)
    starts = np.searchsorted(owner, np.arange(cells))
    return place - starts[cell], np.bincount(owner, minlength=cells)


def _by_order(variance_ratio: np.ndarray) -> np.ndarray:
    """(C) ratios of variances to (C, 5) factors: their root, but for the second-order divergence."""
    factors = np.repeat(np.sqrt(variance_ratio)[:, None], len(DISTANCES), 1)
    factors[:, JENSEN_SHANNON] = variance_ratio
    return factors


@njit(cache=True, nogil=True)
def _simulate(
    first_cell, last_cell, cell_rows, member, members, support_offsets, support, human_at,
    entry_offsets, entry_at, entry_prob, ranges, references, n_draws, splits, seed, out,
):  # fmt: skip
    for cell in range(first_cell, last_cell):
        people = members[cell]
        out[cell] = np.nan
        if people < 2:
            continue
        first, last = cell_rows[cell], cell_rows[cell + 1]
        base, end = support_offsets[cell], support_offsets[cell + 1]
        points = support[base:end]
        human, model = np.zeros(end - base), np.zeros(end - base)
        one, predicted = np.zeros(end - base), np.zeros(end - base)
        order = np.arange(people)
        weight = np.ones(people)
        _add_up(
            first, last, base, member, weight, human_at, entry_offsets, entry_at, entry_prob, human, model
        )
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
            for i in range(first, last):
                one[human_at[i] - base] += weight[member[i]]
            pair(points, one, human - one, ranges[cell], distance)
            sums[:5] += distance

            weight[:] = 0
            for _ in range(people):
                state = step(state)
                weight[below(state, people)] += 1
            _add_up(
                first,
                last,
                base,
                member,
                weight,
                human_at,
                entry_offsets,
                entry_at,
                entry_prob,
                one,
                predicted,
            )
            pair(points, one, human, ranges[cell], distance)
            sums[5:10] += distance
            change = (one - predicted) / one.sum() - (human - model) / human.sum()
            _size(points, change, ranges[cell], distance)
            sums[10:15] += distance

            if split % UNIFORM_EVERY:
                continue
            for r in range(2):
                state = step(state)
                drawn = _draw_uniform(references[r, base:end], n_draws[first:last], mix(state))
                sums[15 + r] += clipped_wasserstein(
                    points,
                    human,
                    drawn,
                    human.sum(),
                    drawn.sum(),
                    ranges[cell, 2 * r],
                    ranges[cell, 2 * r + 1],
                )
        out[cell] = sums / splits
        out[cell, 15:] *= splits / (1 + (splits - 1) // UNIFORM_EVERY)


@njit(cache=True)
def _add_up(
    first, last, base, member, weight, human_at, entry_offsets, entry_at, entry_prob, human, predicted
):
    """Histograms of a cell's rows, weighted by person."""
    human[:] = 0
    predicted[:] = 0
    for i in range(first, last):
        w = weight[member[i]]
        human[human_at[i] - base] += w
        for j in range(entry_offsets[i], entry_offsets[i + 1]):
            predicted[entry_at[j] - base] += w * entry_prob[j]


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
    if len(admissible):
        for k in n_draws:
            for _ in range(k):
                state = step(state)
                drawn[admissible[below(state, len(admissible))]] += 1 / k
    return drawn
