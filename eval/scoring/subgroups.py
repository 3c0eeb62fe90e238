"""Is the model as good for everybody? Scores by each demographic field, and the gaps between groups.

Definitions. *parity_accuracy*: the highest minus the lowest group's published accuracy (observed range),
each group's being the mean over studies of the mean over its rows; *demographic parity difference* is its
mean over fields. *parity_prediction*: the highest minus the lowest group's mean predicted answer on the
observed range, 0 to 1, and *parity_prediction_human* the same difference, of the same two groups, in
people's answers: what exceeds it is the model's doing. Intervals are over studies that have both groups,
for the two groups named; naming the largest of several gaps makes it look larger than it is.

Distances grow as groups shrink, so a group's Wasserstein distance stands beside the paired ceiling at its
own size (`eval/scoring/ceilings.py`), and `excess_observed` is what it keeps above that.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import polars as pl

from common.distances import distances
from eval.scoring.align import Aligned
from eval.scoring.answers import ROW_SCORES
from eval.scoring.ceilings import ceilings
from eval.scoring.effects import contrasts, people_means, statistics
from eval.scoring.estimates import Estimate, Studies, estimate, missing, study_estimate
from eval.scoring.groups import GroupScores, subset
from eval.scoring.resampling import PairedRows

AGES = ((18, 29), (30, 44), (45, 59), (60, 74), (75, 120))
MAX_GROUPS = 12  # a field with more values doesn't form groups
SPLITS = 20  # for each group's ceiling: there are many groups
GROUP_EFFECTS = ("correlation", "sign_agreement", "magnitude_ratio")
GAPS = {
    "parity_accuracy": "accuracy_observed",
    "parity_prediction": "predicted",
    "parity_prediction_human": "human",
}
TOO_FEW = "no cell (or study) with enough people of this group"
NO_GAP = "no study has two groups with enough people"


def subgroup_scores(
    aligned: Aligned, scores: GroupScores, paired: PairedRows, studies: Studies, min_group: int, seed: int
) -> dict[str, Any]:
    """The `subgroups` block of scores.json (see eval/scoring/README.md).

    A group counts in a cell (for distances) and in a study (for means) with at least `min_group` rows.
    """
    people = people_means(aligned)
    columns = _row_columns(aligned, scores)
    fields: dict[str, Any] = {}
    effects: dict[str, Any] = {}
    for field in aligned.rows["demographic"].struct.fields:
        labels = group_labels(aligned.rows["demographic"].struct.field(field))
        of_people = group_labels(people["demographic"].struct.field(field))
        counts = labels.drop_nulls().value_counts().filter(pl.col("count") >= min_group)
        groups = sorted(counts[labels.name].to_list())
        if not 2 <= len(groups) <= MAX_GROUPS:
            reason = f"{len(groups)} groups with at least {min_group} rows; 2 to {MAX_GROUPS} can be compared"
            fields[field] = {"groups": [], "reason": reason} | {gap: _no_gap(reason) for gap in GAPS}
            continue
        blocks, means, effects[field] = [], {}, {}
        for group in groups:
            mine = (labels == group).fill_null(False).to_numpy()
            means[group] = _study_means(columns, mine, studies, aligned, min_group)
            blocks.append(
                {"group": group, "rows": int(mine.sum())}
                | _distances(aligned, scores, paired, studies, mine, min_group, seed)
                | {
                    name: study_estimate(means[group][name], studies, TOO_FEW)
                    for name in columns
                    if "accuracy" in name
                }
            )
            found = contrasts(people.filter((of_people == group).fill_null(False)), aligned.cells).pairs
            all_statistics = statistics(
                found, pl.repeat(False, len(found), eager=True), len(studies.weights), seed
            )
            effects[field][group] = {"contrasts": len(found)} | {
                name: all_statistics[name] for name in GROUP_EFFECTS
            }
        fields[field] = {"groups": blocks, "reason": None} | _gaps(means, studies)
    return {
        "fields": fields,
        "demographic_parity_difference": _parity(fields),
        "largest_gap": _largest(fields),
        "effects": effects,
    }


def group_labels(values: pl.Series) -> pl.Series:
    """Groups of a field as text: ages in five bands, everything else as it stands. Nulls stay null."""
    if values.name == "age" and values.dtype.is_integer():
        bands = pl.lit(None, pl.String)
        for low, high in AGES:
            bands = (
                pl.when(pl.col("age").is_between(low, high)).then(pl.lit(f"{low}-{high}")).otherwise(bands)
            )
        return values.to_frame().select(bands.alias("age"))["age"]
    return values.cast(pl.String)


def _row_columns(aligned: Aligned, scores: GroupScores) -> dict[str, np.ndarray]:
    """What is averaged over a group's rows: accuracies, and both answers on the observed range as 0 to 1."""
    assert scores.rows is not None
    low, high = scores.ranges[aligned.rows["cell"].to_numpy(), :2].T
    width = np.where(high > low, high - low, np.nan)
    columns = {
        name: scores.rows[:, ROW_SCORES.index(name)] for name in ("accuracy_observed", "accuracy_stated")
    }
    columns["predicted"] = (scores.rows[:, ROW_SCORES.index("expected")] - low) / width
    columns["human"] = (aligned.rows["response"].to_numpy() - low) / width
    return columns


def _study_means(
    columns: Mapping[str, np.ndarray], mine: np.ndarray, studies: Studies, aligned: Aligned, min_group: int
) -> dict[str, np.ndarray]:
    study = studies.of_cell[aligned.rows["cell"].to_numpy()]
    out = {}
    for name, values in columns.items():
        kept = mine & np.isfinite(values)
        count = np.bincount(study[kept], minlength=len(studies.names))
        total = np.bincount(study[kept], values[kept], minlength=len(studies.names))
        out[name] = np.where(count >= min_group, total / np.maximum(count, 1), np.nan)
    return out


def _distances(
    aligned: Aligned,
    scores: GroupScores,
    paired: PairedRows,
    studies: Studies,
    mine: np.ndarray,
    min_group: int,
    seed: int,
) -> dict[str, Any]:
    """Wasserstein distances of one group, their paired ceiling and the excess over it."""
    cell = aligned.rows["cell"].to_numpy()
    enough = np.bincount(cell[mine], minlength=len(aligned.cells)) >= min_group
    kept = mine & enough[cell]
    names = ("wasserstein_observed", "wasserstein_stated")
    out: dict[str, Any] = {"studies": len(np.unique(studies.of_cell[cell[kept]])), "cells": int(enough.sum())}
    if not kept.any():
        absent = (*names, "ceiling_observed", "excess_observed")
        return out | {name: missing(TOO_FEW) for name in absent}
    part = subset(paired, kept)
    size = len(part.support)
    predicted = np.bincount(part.entry_at, part.entry_prob, minlength=size)
    human = np.bincount(part.human_at, minlength=size)
    found = distances(part.support_offsets, part.support, human, predicted, part.ranges)
    ceiling = ceilings(part, aligned.rows["n_draws"].to_numpy()[kept], SPLITS, seed).paired[:, 0]
    for k, name in enumerate(names):
        out[name] = estimate(found[:, k], studies, TOO_FEW)
    out["ceiling_observed"] = estimate(ceiling, studies, TOO_FEW)
    out["excess_observed"] = estimate(found[:, 0] - ceiling, studies, TOO_FEW)
    return out


def _gaps(means: Mapping[str, Mapping[str, np.ndarray]], studies: Studies) -> dict[str, Any]:
    """The largest gap of accuracy and of prediction; the human gap is that of the prediction's two groups."""
    accuracy = _widest(means, "accuracy_observed", studies)
    prediction = _widest(means, "predicted", studies)
    human = _no_gap(NO_GAP)
    if prediction["value"] is not None:
        high, low = prediction["highest"], prediction["lowest"]
        human = _gap(means[high]["human"] - means[low]["human"], high, low, studies)
    return {"parity_accuracy": accuracy, "parity_prediction": prediction, "parity_prediction_human": human}


def _widest(means: Mapping[str, Mapping[str, np.ndarray]], name: str, studies: Studies) -> dict[str, Any]:
    best: tuple[float, str, str] | None = None
    for high in means:
        for low in means:
            difference = means[high][name] - means[low][name]
            if high != low and np.isfinite(difference).any():
                found = (float(np.nanmean(difference)), high, low)
                best = found if best is None or found[0] > best[0] else best
    if best is None:
        return _no_gap(NO_GAP)
    _, high, low = best
    return _gap(means[high][name] - means[low][name], high, low, studies)


def _gap(difference: np.ndarray, highest: str, lowest: str, studies: Studies) -> dict[str, Any]:
    return {"highest": highest, "lowest": lowest} | study_estimate(difference, studies, NO_GAP)


def _no_gap(reason: str) -> dict[str, Any]:
    return {"highest": None, "lowest": None} | missing(reason)


def _parity(fields: Mapping[str, Any]) -> Estimate:
    """Mean over fields of the accuracy gap. Its interval is left out: each gap is a chosen maximum."""
    gaps = [block["parity_accuracy"]["value"] for block in fields.values()]
    known = [gap for gap in gaps if gap is not None]
    if not known:
        return missing(NO_GAP)
    return missing("no interval: a mean of chosen maxima") | {"value": float(np.mean(known))}


def _largest(fields: Mapping[str, Any]) -> dict[str, Any]:
    known = {
        name: block["parity_accuracy"] for name, block in fields.items() if block["parity_accuracy"]["value"]
    }
    if not known:
        return {"field": None} | _no_gap(NO_GAP)
    field = max(known, key=lambda name: known[name]["value"])
    return {"field": field} | known[field]
