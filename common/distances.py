"""Distances between two answer distributions, for many groups of answers at once.

A *histogram table* holds the groups (cells or items) one after the other: `offsets` (groups + 1)
marks each group's stretch of `support` (ascending integer answers) and of the weights on it.
Sums run within a group, over whole counts, so that results equal scipy's to 1e-12.

Sources: Wasserstein-1 as in `scipy.stats.wasserstein_distance`; Jensen-Shannon is the divergence
(the square of `scipy.spatial.distance.jensenshannon`) to base 2, so 0 to 1; Kolmogorov-Smirnov is
the largest difference of the distribution functions; total variation is half the L1 distance.
"""

import itertools
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import njit

FEWEST_PEOPLE = 2  # whose answers make a distribution: a cell of one person is left out
DISTANCES = (
    "wasserstein_observed",
    "wasserstein_stated",
    "total_variation",
    "jensen_shannon",
    "kolmogorov_smirnov",
)


@dataclass(frozen=True)
class Histograms:
    """Human and predicted answers of G groups on S support points in all.

    offsets: int64 (G + 1). support: int64 (S), ascending in a group. human: float64 (S), counts.
    predicted: float64 (S), probabilities or counts. human_at, predicted_at: int32, for each value that
    went in, its place in `support`.
    """

    offsets: np.ndarray
    support: np.ndarray
    human: np.ndarray
    predicted: np.ndarray
    human_at: np.ndarray
    predicted_at: np.ndarray


def histograms(
    human: np.ndarray,
    human_offsets: np.ndarray,
    predicted: np.ndarray,
    predicted_offsets: np.ndarray,
    human_weights: np.ndarray,
    predicted_weights: np.ndarray,
    also: Sequence[tuple[np.ndarray, np.ndarray]] = (),
) -> Histograms:
    """Build the histogram table of values that lie group after group.

    human, predicted: int64 values; `human_offsets`, `predicted_offsets`: int64 (G + 1), where each
    group's values start. also: (values, offsets) that only become support points, without weight.
    """
    sizes, supports = [], []
    human_at = np.empty(len(human), np.int32)
    predicted_at = np.empty(len(predicted), np.int32)
    start = 0
    for group in range(len(human_offsets) - 1):
        of_human = slice(human_offsets[group], human_offsets[group + 1])
        of_predicted = slice(predicted_offsets[group], predicted_offsets[group + 1])
        parts = [human[of_human], predicted[of_predicted]]
        parts += [values[starts[group] : starts[group + 1]] for values, starts in also]
        support = _distinct(np.concatenate([_distinct(part) for part in parts]))
        human_at[of_human] = np.searchsorted(support, human[of_human]) + start
        predicted_at[of_predicted] = np.searchsorted(support, predicted[of_predicted]) + start
        start += len(support)
        sizes.append(len(support))
        supports.append(support)
    offsets = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    return Histograms(
        offsets,
        np.concatenate(supports).astype(np.int64) if supports else np.empty(0, np.int64),
        np.bincount(human_at, human_weights, minlength=start),
        np.bincount(predicted_at, predicted_weights, minlength=start),
        human_at,
        predicted_at,
    )


def support_indices(
    offsets: np.ndarray, support: np.ndarray, values: np.ndarray, starts: np.ndarray
) -> np.ndarray:
    """Where each group's `values` (all of them support points) stand in `support`: int64."""
    at = np.empty(len(values), np.int64)
    for group in range(len(offsets) - 1):
        of_group = slice(starts[group], starts[group + 1])
        points = support[offsets[group] : offsets[group + 1]]
        at[of_group] = np.searchsorted(points, values[of_group]) + offsets[group]
    return at


def _distinct(values: np.ndarray) -> np.ndarray:
    """np.unique, by counting where the values lie close together (most scales): several times faster."""
    if len(values) and int(values.max()) - int(values.min()) < 4096:
        low = values.min()
        return np.flatnonzero(np.bincount(values - low)) + low
    return np.unique(values)


def distances(
    offsets: np.ndarray, support: np.ndarray, human: np.ndarray, predicted: np.ndarray, ranges: np.ndarray
) -> np.ndarray:
    """Distances of G pairs of histograms: float64 (G, 5), columns as in DISTANCES.

    ranges: float64 (G, 4): observed low and high, stated low and high. Each Wasserstein distance is
    that of the answers clipped to its range, divided by high - low: 0 to 1. It is NaN where the range
    is NaN or has no width; everything is NaN where one side is empty. The other three distances know
    no range: they compare the answers as given.
    """
    out = np.empty((len(offsets) - 1, len(DISTANCES)))
    weights = human.astype(np.float64), predicted.astype(np.float64)
    in_threads(_all_pairs, len(out), offsets, support, weights, ranges, out)
    return out


def in_threads(kernel: Callable[..., None], size: int, *arguments: Any) -> None:
    """Run kernel(start, stop, *arguments) on parts of range(size), one thread a core.

    For compiled functions that let go of the interpreter's lock. They compile in half the time that
    numba's own loop parallelism takes. Arrays are made writable: numba compiles for each kind apart.
    """
    workers = len(os.sched_getaffinity(0))
    writable = [_writable(part) for part in arguments]
    edges = np.unique(np.linspace(0, size, 4 * workers + 1).astype(np.int64))
    with ThreadPoolExecutor(workers) as pool:
        tasks = [pool.submit(kernel, a, b, *writable) for a, b in itertools.pairwise(edges)]
        for task in tasks:
            task.result()


def _writable(part: Any) -> Any:
    if isinstance(part, np.ndarray):
        return np.require(part, requirements=["C", "W"])
    if isinstance(part, tuple) and hasattr(part, "_fields"):  # a NamedTuple of arrays
        return type(part)(*(_writable(inner) for inner in part))
    return part


@njit(cache=True, nogil=True)
def _all_pairs(first_group, last_group, offsets, support, weights, ranges, out):
    for group in range(first_group, last_group):
        start, end = offsets[group], offsets[group + 1]
        human, predicted = weights[0][start:end], weights[1][start:end]
        pair(support[start:end], human, predicted, ranges[group], out[group])


@njit(cache=True)
def clipped_wasserstein(support, a, b, total_a, total_b, low, high):
    """Wasserstein-1 of two histograms clipped to [low, high], over its width; NaN without a width or a mass.

    Clipping moves all mass outside to the ends, so only differences between low and high remain.
    """
    if not (high > low and total_a > 0 and total_b > 0):
        return np.nan
    sum_a, sum_b, area = 0.0, 0.0, 0.0
    for j in range(len(support) - 1):
        sum_a += a[j]
        sum_b += b[j]
        width = min(float(support[j + 1]), high) - max(float(support[j]), low)
        if width > 0:
            area += abs(sum_a / total_a - sum_b / total_b) * width
    return area / (high - low)


@njit(cache=True)
def pair(support, a, b, limits, out):
    """All five distances of one pair of histograms (weights a and b on `support`) into out[:5]."""
    total_a, total_b = a.sum(), b.sum()
    if not (total_a > 0 and total_b > 0):
        out[:5] = np.nan
        return
    out[0] = clipped_wasserstein(support, a, b, total_a, total_b, limits[0], limits[1])
    out[1] = clipped_wasserstein(support, a, b, total_a, total_b, limits[2], limits[3])
    sum_a, sum_b, variation, divergence, largest = 0.0, 0.0, 0.0, 0.0, 0.0
    for j in range(len(support)):
        sum_a += a[j]
        sum_b += b[j]
        largest = max(largest, abs(sum_a / total_a - sum_b / total_b))
        p, q = a[j] / total_a, b[j] / total_b
        variation += abs(p - q)
        if p > 0:
            divergence += p * np.log2(2 * p / (p + q))
        if q > 0:
            divergence += q * np.log2(2 * q / (p + q))
    out[2] = variation / 2
    out[3] = max(divergence / 2, 0.0)
    out[4] = largest
