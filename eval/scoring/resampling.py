"""How sure a score is: people resampled within studies, studies resampled, and paired comparisons.

People are resampled in pairs: a person's answers and the predictions for that person come together.
Resampling the two separately gives intervals 1.4 times too wide. A bootstrap adds noise, so it moves
Wasserstein distances upward; intervals over people are therefore centred on the score itself.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numba import njit
from scipy import stats
from statsmodels.stats.multitest import multipletests

from common import draws
from common.distances import DISTANCES, clipped_wasserstein, in_threads, pair

LEVEL = 0.95
BLOCK = 32  # replicates that one task computes while its study's rows stay in the cache


@dataclass(frozen=True)
class PairedRows:
    """N rows of answers with predictions, sorted by cell, cells by study, for resampling people.

    study_cells: int64 (studies + 1), each study's first cell. cell_rows: int64 (C + 1), each cell's
    first row. person: int32 (N), dense in a study. people: int64 (studies). support_offsets: int64
    (C + 1). support: int64. human_at: int32 (N), place of the answer in `support`. entry_offsets:
    int64 (N + 1). entry_at: int32, entry_prob: float32: the predicted distribution. ranges: float64
    (C, 4). row_scores: float32 (N, 3), averaged in a cell. references: float64 (2, S): the uniform
    distribution by observed and by stated range.
    """

    study_cells: np.ndarray
    cell_rows: np.ndarray
    person: np.ndarray
    people: np.ndarray
    support_offsets: np.ndarray
    support: np.ndarray
    human_at: np.ndarray
    entry_offsets: np.ndarray
    entry_at: np.ndarray
    entry_prob: np.ndarray
    ranges: np.ndarray
    row_scores: np.ndarray
    references: np.ndarray


def resample_people(rows: PairedRows, replicates: int, seed: int) -> np.ndarray:
    """Scores of each cell when its study's people are drawn again: float32 (replicates, C, 10).

    Columns: DISTANCES, the three row scores, and the uniform control's Wasserstein distance by observed and
    by stated range. NaN where a replicate holds nobody of a cell. Equal seeds give equal draws, with
    any number of threads.
    """
    out = np.empty((replicates, len(rows.cell_rows) - 1, len(DISTANCES) + 5), np.float32)
    tasks = len(rows.people) * -(-replicates // BLOCK)
    in_threads(
        _resample, tasks, rows.study_cells, rows.cell_rows, rows.person, rows.people,
        rows.support_offsets, rows.support, rows.human_at, rows.entry_offsets, rows.entry_at,
        rows.entry_prob, rows.ranges, rows.row_scores, rows.references, np.uint64(seed), out,
    )  # fmt: skip
    return out


mix = njit(cache=True)(draws.mix)  # a counter to a random 64-bit number


@njit(cache=True)
def stream(seed, group, replicate):
    """The start of an independent random stream for one group and replicate."""
    return mix(mix(mix(np.uint64(seed) + np.uint64(1)) + np.uint64(group)) + np.uint64(replicate))


@njit(cache=True)
def step(state):
    """The next state of a stream; `mix(state)` is its random number."""
    return state + np.uint64(0x9E3779B97F4A7C15)


@njit(cache=True)
def below(state, limit):
    """A whole number from 0 to limit - 1 (limit < 2^32; the bias is below 2^-32)."""
    return np.int64(((mix(state) >> np.uint64(32)) * np.uint64(limit)) >> np.uint64(32))


@njit(cache=True, nogil=True)
def _resample(
    first_task, last_task, study_cells, cell_rows, person, people, support_offsets, support, human_at,
    entry_offsets, entry_at, entry_prob, ranges, row_scores, references, seed, out,
):  # fmt: skip
    replicates = out.shape[0]
    blocks = (replicates + BLOCK - 1) // BLOCK
    for task in range(first_task, last_task):
        study = task // blocks
        first = (task % blocks) * BLOCK
        weight = np.empty(people[study], np.float64)
        for replicate in range(first, min(first + BLOCK, replicates)):
            weight[:] = 0
            state = stream(seed, study, replicate)
            for _ in range(people[study]):
                state = step(state)
                weight[below(state, people[study])] += 1
            for cell in range(study_cells[study], study_cells[study + 1]):
                base, end = support_offsets[cell], support_offsets[cell + 1]
                human = np.zeros(end - base)
                predicted = np.zeros(end - base)
                total, first_sum, second_sum, third_sum = 0.0, 0.0, 0.0, 0.0
                for i in range(cell_rows[cell], cell_rows[cell + 1]):
                    w = weight[person[i]]  # often 0, but a branch would cost more than adding 0
                    total += w
                    human[human_at[i] - base] += w
                    for j in range(entry_offsets[i], entry_offsets[i + 1]):
                        predicted[entry_at[j] - base] += w * entry_prob[j]
                    first_sum += w * row_scores[i, 0]
                    second_sum += w * row_scores[i, 1]
                    third_sum += w * row_scores[i, 2]
                row = out[replicate, cell]
                if total == 0:
                    row[:] = np.nan
                    continue
                pair(support[base:end], human, predicted, ranges[cell], row)
                row[5], row[6], row[7] = first_sum / total, second_sum / total, third_sum / total
                for r in range(2):
                    uniform = references[r, base:end]
                    row[8 + r] = clipped_wasserstein(
                        support[base:end], human, uniform, total, uniform.sum(),
                        ranges[cell, 2 * r], ranges[cell, 2 * r + 1],
                    )  # fmt: skip


def study_means(values: np.ndarray, study: np.ndarray, studies: int) -> np.ndarray:
    """Mean over each study's cells that have a value: (..., C) to (..., studies); NaN where none has."""
    flat = np.atleast_2d(values)
    known = np.isfinite(flat)
    filled = np.where(known, flat, 0.0)
    starts = np.searchsorted(study, np.arange(studies))
    sums = np.add.reduceat(filled, starts, axis=-1, dtype=np.float64)
    counts = np.add.reduceat(known, starts, axis=-1, dtype=np.float64)
    with np.errstate(invalid="ignore"):
        means = np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)
    return means.reshape(*values.shape[:-1], studies)


def study_weights(studies: int, replicates: int, seed: int) -> np.ndarray:
    """How often each study is drawn in each replicate: float64 (replicates, studies)."""
    rng = np.random.default_rng([seed, studies])
    return rng.multinomial(studies, np.full(studies, 1 / studies), size=replicates).astype(np.float64)


def study_interval(value: float, replicates: np.ndarray, studies: int) -> tuple[float, float] | None:
    """95% interval over studies from replicates of a statistic; None with fewer than two studies.

    Expanded percentile interval (Hesterberg 2015, section 4.4): a plain percentile interval is too
    narrow with few studies; the deviations are stretched by sqrt(n / (n - 1)) and t over normal.
    """
    known = replicates[np.isfinite(replicates)]
    if studies < 2 or len(known) < 2 or not np.isfinite(value):
        return None
    stretch = _stretch(studies)
    tail = (1 - LEVEL) / 2
    low, high = np.quantile(known, [tail, 1 - tail])
    return float(value + stretch * (low - value)), float(value + stretch * (high - value))


@lru_cache
def _stretch(studies: int) -> float:
    tail = (1 - LEVEL) / 2
    student, normal = stats.t.ppf(1 - tail, studies - 1), stats.norm.ppf(1 - tail)
    return float(np.sqrt(studies / (studies - 1)) * student / normal)


def weighted_mean(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Mean over studies (S) with each row of weights (R, S), over the studies that have a value: (R)."""
    known = np.isfinite(values)
    total = weights @ known
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(total > 0, (weights @ np.where(known, values, 0.0)) / total, np.nan)


def people_interval(value: float, replicates: np.ndarray) -> tuple[float, float] | None:
    """95% interval over people: the replicates' quantiles, moved so that their mean is the value."""
    known = replicates[np.isfinite(replicates)]
    if len(known) < 2 or not np.isfinite(value):
        return None
    low, high = np.quantile(known - known.mean(), [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(value + low), float(value + high)


def permutation_p(differences: np.ndarray, permutations: int, seed: int) -> float | None:
    """Two-sided p of "the two models are alike" by flipping signs of studies' paired differences.

    Every sign pattern if there are at most `permutations`, else that many random ones (the observed
    pattern counted, so that p is never 0). None without a study.
    """
    known = differences[np.isfinite(differences)]
    if not len(known):
        return None
    observed = abs(known.mean()) - 1e-12
    if 2 ** len(known) <= permutations:
        patterns = (np.arange(2 ** len(known))[:, None] >> np.arange(len(known))) & 1
        return float((np.abs((1 - 2 * patterns) @ known) / len(known) >= observed).mean())
    signs = np.random.default_rng([seed, len(known)]).choice([-1.0, 1.0], size=(permutations, len(known)))
    return float((1 + (np.abs(signs @ known) / len(known) >= observed).sum()) / (permutations + 1))


def holm(p_values: list[float | None]) -> list[float | None]:
    """Holm's correction over the comparisons that have a p."""
    known = [p for p in p_values if p is not None]
    if not known:
        return list(p_values)
    corrected = iter(multipletests(known, method="holm")[1])
    return [None if p is None else float(next(corrected)) for p in p_values]
