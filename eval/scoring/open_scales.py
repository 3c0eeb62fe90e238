"""Distances on open scales, where the largest answer decides the range.

People asked for a number without limits (dollars, hours) give answers of very different size: one of 60
million makes a range on which everybody else, and any constant answer, lies at the low end. On that range a
uniform guess is far from people and a constant is near, so skill would be high for who knows nothing. Skill
on open scales is therefore of the logarithms, sign(x) * ln(1 + abs(x)), on the observed range: the uniform
guess is uniform in the logarithm. Published distances stay as they are, beside it.
"""

from dataclasses import dataclass

import numpy as np

from common.distances import distances
from eval.scoring.ceilings import ceilings
from eval.scoring.groups import Groups, subset
from eval.scoring.resampling import PairedRows, resample_people

OPEN = "open"
OBSERVED = 0  # column of the distances


@dataclass(frozen=True)
class LogDistances:
    """Wasserstein distances of logarithms, float64 (C), NaN but for open scales.

    model, guess: of the model, and of the uniform guess as probabilities. uniform, paired, split_half_raw,
    split_half_corrected: see `ceilings.Ceiling`. people: float32 (2, R, C): the model's and the guess's when
    people are drawn again. cells: bool (C), which have open scales.
    """

    cells: np.ndarray
    model: np.ndarray
    guess: np.ndarray
    uniform: np.ndarray
    paired: np.ndarray
    split_half_raw: np.ndarray
    split_half_corrected: np.ndarray
    people: np.ndarray


def log_distances(
    cells: Groups, paired: PairedRows, splits: int, replicates: int, seed: int
) -> LogDistances | None:
    """None where no cell has an open scale."""
    chosen = (cells.frame["scale_kind"] == OPEN).fill_null(False).to_numpy()
    if not chosen.any():
        return None
    of_row = np.repeat(chosen, np.diff(paired.cell_rows))
    rows = logarithmic(subset(paired, of_row))
    ceiling = ceilings(rows, cells.draws[of_row], splits, seed)
    size = len(rows.support)
    human = np.bincount(rows.human_at, rows.weight, minlength=size)
    mass = np.repeat(rows.weight, rows.predicted.lengths) * rows.predicted.weights
    predicted = np.bincount(rows.predicted.answers, mass, minlength=size)
    model, guess = (
        distances(rows.support_offsets, rows.support, human, side, rows.ranges)[:, OBSERVED]
        for side in (predicted, rows.references[OBSERVED])
    )
    drawn = [
        chunk[..., [OBSERVED, -2]].astype(np.float32) for chunk in resample_people(rows, replicates, seed)
    ]
    return LogDistances(
        chosen, model, guess, ceiling.uniform[:, OBSERVED], ceiling.paired[:, OBSERVED],
        ceiling.split_half_raw[:, OBSERVED], ceiling.split_half_corrected[:, OBSERVED],
        np.moveaxis(np.concatenate(drawn), -1, 0),
    )  # fmt: skip


def logarithmic(rows: PairedRows) -> PairedRows:
    """The same rows with answers as logarithms, and a uniform guess that is uniform in them."""
    support, ranges = signed_log(rows.support), signed_log(rows.ranges)
    ranges[:, 2:] = np.nan  # an open scale states none
    reference = np.zeros_like(rows.references)
    for cell, (start, stop) in enumerate(zip(rows.support_offsets, rows.support_offsets[1:], strict=False)):
        inside = start + np.flatnonzero(
            (support[start:stop] >= ranges[cell, 0]) & (support[start:stop] <= ranges[cell, 1])
        )
        if len(inside) > 1:
            gaps = np.diff(support[inside]) / 2  # every point stands for half the way to its neighbours
            reference[OBSERVED, inside] = np.append(gaps, 0) + np.append(0, gaps)
    return rows._replace(
        support=support, ranges=ranges, references=reference,
        row_scores=np.empty((len(rows.person), 0), np.float32), columns=np.empty(0, np.int64),
    )  # fmt: skip


def signed_log(answers: np.ndarray) -> np.ndarray:
    """sign(x) * ln(1 + abs(x)): float64, ascending as the answers."""
    return np.sign(answers) * np.log1p(np.abs(answers))
