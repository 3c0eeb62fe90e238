"""Are stated probabilities right? Of the most probable answer, and of the whole distribution of ordered
answers."""

import numpy as np
from numba import njit

from common.distances import in_threads
from eval.scoring.align import Evaluated
from eval.scoring.answers import BINS, Reliability, confidence_bin
from eval.scoring.estimates import Studies, missing, statistic
from eval.scoring.groups import Groups
from eval.scoring.metrics import DISTRIBUTION, PERSONS, PROBABILITIES, SHARE
from eval.scoring.record import Calibration, ConfidenceBin
from eval.scoring.resampling import PairedRows, SumRows, resample_sums

NO_ORDER = "no row has ordered answers and probabilities"


def calibration(
    evaluated: Evaluated, cells: Groups, paired: PairedRows, studies: Studies, seed: int
) -> Calibration:
    """Reliability over all rows with probabilities of single people, with both intervals."""
    others = evaluated.rows["mode"].is_in(("cells", "means", "cell means")).to_numpy()
    probable = (cells.draws == 0) & ~others
    if not probable.any():
        modes = set(evaluated.rows["mode"])
        reason = (
            PERSONS
            if "cells" in modes
            else DISTRIBUTION
            if modes & {"means", "cell means"}
            else PROBABILITIES
        )
        return Calibration(ece=missing(reason), bins=[], reason=reason, pit=[], pit_error=missing(reason))
    study = studies.of_cell[evaluated.rows["cell"].to_numpy()]
    confidence, right, weight = cells.row("confidence"), cells.row("confident_right"), cells.weight
    at = np.where(probable, study * BINS + confidence_bin(confidence), -1)
    values = np.stack([weight, weight * confidence, weight * right], 1)
    table = _reliability(_binned(at, values, len(studies.names) * BINS), len(studies.names))
    rows = SumRows.of(study, paired.person, at, values, len(studies.names) * BINS)
    one = np.ones((1, len(studies.names)))
    people = [
        _reliability(sums, len(studies.names)).ece(one)[..., 0]
        for sums in resample_sums(rows, len(studies.weights), seed)
    ]
    with np.errstate(invalid="ignore"):
        drawn = table.ece(studies.weights)
    shares, error = _pit(evaluated, cells, study, studies, probable)
    return Calibration(
        ece=statistic(
            float(table.ece(one)[0]), drawn, len(np.unique(study[probable])), 0, np.concatenate(people),
            limits=SHARE,
        ),
        bins=_bins(table, at), reason=None, pit=shares, pit_error=error,
    )  # fmt: skip


def _binned(at: np.ndarray, values: np.ndarray, bins: int) -> np.ndarray:
    counted = at >= 0
    return np.stack([np.bincount(at[counted], column[counted], minlength=bins) for column in values.T], 1)


def _reliability(sums: np.ndarray, studies: int) -> Reliability:
    shaped = sums.reshape(*sums.shape[:-2], studies, BINS, 3)
    return Reliability(shaped[..., 0], shaped[..., 1], shaped[..., 2])


def _bins(table: Reliability, at: np.ndarray) -> list[ConfidenceBin]:
    weight, sums, hits = (part.sum(0) for part in (table.count, table.confidence, table.right))
    count = np.bincount(at[at >= 0] % BINS, minlength=BINS)
    return [
        ConfidenceBin(
            low=b / BINS, high=(b + 1) / BINS, count=int(count[b]), confidence=float(sums[b] / weight[b]),
            frequency=float(hits[b] / weight[b]),
        )
        for b in range(BINS) if weight[b] > 0
    ]  # fmt: skip


def _pit(
    evaluated: Evaluated, cells: Groups, study: np.ndarray, studies: Studies, probable: np.ndarray
) -> tuple[list[float], object]:
    """Ordinal calibration: where answers fall in their predicted distributions, as shares of BINS equal
    parts.

    The probability integral transform of discrete answers (Czado, Gneiting and Held 2009): every part holds 1
    / BINS of the answers if all cumulative probabilities are right. Many at both ends: the model is too sure;
    many in the middle: not sure enough. The error is half the sum of the deviations, 0 to 1 - 1 / BINS.
    """
    ordered = probable & (evaluated.rows["scale_kind"] != "choice").fill_null(True).to_numpy()
    if not ordered.any():
        return [], missing(NO_ORDER)
    shares = np.empty((len(ordered), BINS))
    in_threads(_pit_shares, len(shares), cells.answers, shares)
    sums = np.stack(
        [
            np.bincount(study[ordered], (cells.weight * column)[ordered], len(studies.names))
            for column in shares.T
        ],
        1,
    )
    weight = sums.sum(1)

    def error(over: np.ndarray) -> np.ndarray:
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.abs(over / over.sum(-1, keepdims=True) - 1 / BINS).sum(-1) / 2

    total = sums.sum(0)
    estimate = statistic(
        float(error(total)), error(studies.weights @ sums), int((weight > 0).sum()), limits=(0, 1 - 1 / BINS)
    )
    return (total / total.sum()).tolist(), estimate


@njit(cache=True, nogil=True)
def _pit_shares(first, last, rows, out):
    parts = out.shape[1]
    for i in range(first, last):
        start, stop = rows.predicted.offsets[rows.which[i]], rows.predicted.offsets[rows.which[i] + 1]
        before, at = 0.0, 0.0
        for j in range(start, stop):
            if rows.predicted.answers[j] < rows.response[i]:
                before += rows.predicted.weights[j]
            elif rows.predicted.answers[j] == rows.response[i]:
                at = rows.predicted.weights[j]
        for part in range(parts):
            low, high = part / parts, (part + 1) / parts
            if at > 1e-12:
                ends = min(max((high - before) / at, 0.0), 1.0) - min(max((low - before) / at, 0.0), 1.0)
                out[i, part] = max(ends, 0.0)
            else:  # the answer was held impossible: all of it where the distribution function stands there
                last_part = part == parts - 1 and before >= low
                out[i, part] = 1.0 if low <= before < high or last_part else 0.0
