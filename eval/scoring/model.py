"""All scores of one model on one set of evaluation rows: what `scores.json` and `cells.parquet` hold."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from common.distances import DISTANCES
from eval.scoring.align import Aligned
from eval.scoring.answers import BINS, ROW_SCORES, reliability
from eval.scoring.ceilings import Ceiling, another_person, ceilings
from eval.scoring.controls import CONTROLS, controls
from eval.scoring.effects import effect_scores, people_means
from eval.scoring.estimates import Estimate, Studies, estimate, missing, skill, statistic
from eval.scoring.groups import (
    ALL_AGREE,
    METRICS,
    MOMENTS,
    NO_SCALE,
    NO_VARIATION,
    ONE_PERSON,
    PROBABILITY_SCORES,
    RESAMPLED,
    SAMPLED,
    GroupScores,
    paired_rows,
    score_control,
    score_groups,
)
from eval.scoring.resampling import people_interval, resample_people
from eval.scoring.subgroups import subgroup_scores
from eval.settings import ScoreSettings

SKILLS = ("wasserstein_observed", "wasserstein_stated")
NO_CONTROL = "no cell has the other answers that this control is made of"
WITH_PEOPLE = (*DISTANCES, *RESAMPLED)
CEILINGS = ("split_half_raw", "split_half_corrected", "bootstrap_raw", "bootstrap_corrected", "paired")
Say = Callable[[str], None]
StudySkills = dict[str, tuple[np.ndarray, np.ndarray | None]]  # values (S), replicates over people (R, S)


@dataclass(frozen=True)
class ModelScores:
    """One model's scores: `report` goes to scores.json (without keys that name files), frames to parquet.

    studies, controls, people ({metric: (replicates, studies)}) and mode: what a comparison needs again.
    """

    report: dict[str, Any]
    cells: GroupScores
    items: pl.DataFrame
    contrasts: pl.DataFrame
    studies: Studies
    controls: dict[str, GroupScores]
    people: dict[str, np.ndarray]
    mode: str


def score_model(
    rows: pl.DataFrame,
    aligned: Aligned,
    train_counts: Path | None,
    settings: ScoreSettings,
    seed: int,
    whole: bool = True,
    say: Say = lambda _: None,
) -> ModelScores:
    """Score aligned predictions. whole=False leaves out items, effects and subgroups (for comparisons)."""
    studies = Studies.of(aligned.cells["study_id"].to_list(), settings.replicates, seed)
    say("cells and controls")
    of_controls = controls(rows, aligned.cells, train_counts)
    uniforms = (of_controls["uniform_observed"], of_controls["uniform_stated"])
    cells = score_groups(aligned, "cell", uniforms)
    control_scores = {name: score_control(cells, of_controls[name]) for name in CONTROLS}
    paired = paired_rows(aligned, cells, uniforms)
    n_draws = aligned.rows["n_draws"].to_numpy()
    say(f"{settings.replicates} resamples of the people")
    people = resample_people(paired, settings.replicates, seed)
    say("human ceilings")
    ceiling = ceilings(paired, n_draws, settings.ceiling_splits, seed)
    skills, study_skills = _skills(cells, control_scores, ceiling, people, studies)
    of_people = {name: studies.means(people[:, :, k]) for k, name in enumerate(WITH_PEOPLE)}
    mode, modes = _modes(aligned)
    report: dict[str, Any] = {
        "mode": mode,
        "modes": modes,
        "samples": float(n_draws[n_draws > 0].mean()) if (n_draws > 0).any() else None,
        "rows": aligned.counts | _clipping(aligned, cells),
        "cells": _cell_counts(cells),
        "metrics": _metrics(cells, studies, people),
        "controls": {name: _control_metrics(scores, studies) for name, scores in control_scores.items()},
        "ceiling": _ceilings(ceiling, cells, studies),
        "skill": skills,
        "studies": _per_study(aligned, cells, studies, of_people, study_skills),
        "calibration": _calibration(aligned, cells, studies),
    }
    frame = _with_intervals(cells, people)
    items = pair_frame = pl.DataFrame()
    if whole:
        say("items, treatment effects, subgroups")
        by_item = score_groups(aligned, "item")
        items = _with_answers(by_item.frame, by_item)
        studies_of_items = Studies.of(aligned.items["study_id"].to_list(), settings.replicates, seed)
        report["item_metrics"] = _metrics(by_item, studies_of_items)
        report["effects"], pair_frame = effect_scores(
            people_means(aligned), aligned.cells, settings.replicates, seed
        )
        report["subgroups"] = subgroup_scores(aligned, cells, paired, studies, settings.min_group, seed)
    scored = GroupScores(_with_answers(frame, cells), cells.values, cells.table, cells.ranges, cells.rows)
    return ModelScores(report, scored, items, pair_frame, studies, control_scores, of_people, mode)


def reason_for(metric: str) -> str:
    """Why a metric has no value in any cell."""
    if metric in PROBABILITY_SCORES:
        return SAMPLED
    if metric == "correlation":
        return NO_VARIATION
    if metric.endswith("stated"):
        return f"no cell with {NO_SCALE.removeprefix('no ')}"
    return f"every cell has {ONE_PERSON}, or {ALL_AGREE.partition(':')[0]}"


def _metrics(cells: GroupScores, studies: Studies, people: np.ndarray | None = None) -> dict[str, Estimate]:
    out = {}
    for name in METRICS:
        resampled = (
            people[:, :, WITH_PEOPLE.index(name)] if people is not None and name in WITH_PEOPLE else None
        )
        out[name] = estimate(cells.values[name], studies, reason_for(name), resampled)
    return out


def _control_metrics(cells: GroupScores, studies: Studies) -> dict[str, Estimate]:
    """As `_metrics`; a control is the same for everybody, so it has no correlation."""
    if not np.isfinite(cells.values["exact_match"]).any():
        return dict.fromkeys(METRICS, missing(NO_CONTROL))
    return _metrics(cells, studies)


def _skills(
    cells: GroupScores,
    of_controls: dict[str, GroupScores],
    ceiling: Ceiling,
    people: np.ndarray,
    studies: Studies,
) -> tuple[dict[str, Any], StudySkills]:
    """Skill by both ranges: raw against naive split halves, corrected in the model's size and mode."""
    out, per_study = {}, {}
    for k, name in enumerate(SKILLS):
        model = cells.values[name]
        uniform = of_controls[f"uniform_{name.rpartition('_')[2]}"].values[name]
        drawn = (people[:, :, DISTANCES.index(name)], people[:, :, len(WITH_PEOPLE) + k])
        fair = ceiling.uniform[:, k]
        corrected, of_studies, drawn_of_studies = skill(model, fair, ceiling.paired[:, k], studies, drawn)
        per_study[name] = (of_studies, drawn_of_studies)
        out[name] = {
            "raw": skill(model, uniform, ceiling.split_half_raw[:, k], studies, drawn)[0],
            "corrected": corrected,
            "corrected_human": skill(model, fair, ceiling.split_half_corrected[:, k], studies, drawn)[0],
        }
    return out, per_study


def _ceilings(ceiling: Ceiling, cells: GroupScores, studies: Studies) -> dict[str, dict[str, Estimate]]:
    out = {
        kind: {
            name: estimate(getattr(ceiling, kind)[:, k], studies, "every cell has one respondent")
            for k, name in enumerate(DISTANCES)
            if not (kind == "paired" and name == "jensen_shannon")
        }
        for kind in CEILINGS
    }
    table = cells.table
    accuracy = another_person(table.offsets, table.support, table.human, cells.ranges)
    out["another_person"] = {
        name: estimate(accuracy[:, k], studies, reason_for(name)) for k, name in enumerate(RESAMPLED)
    }
    return out


def _per_study(
    aligned: Aligned,
    cells: GroupScores,
    studies: Studies,
    people: dict[str, np.ndarray],
    skills: StudySkills,
) -> dict[str, Any]:
    means = {name: studies.means(cells.values[name]) for name in METRICS}
    rows = np.bincount(studies.of_cell, aligned.cells["rows"].to_numpy())
    count = np.bincount(studies.of_cell)
    return {
        study: {
            "metrics": {name: _number(values[s]) for name, values in means.items()},
            "people": {
                name: people_interval(means[name][s], values[:, s]) for name, values in people.items()
            },
            "skill": {name: _number(values[s]) for name, (values, _) in skills.items()},
            "skill_people": {
                name: None if drawn is None else people_interval(values[s], drawn[:, s])
                for name, (values, drawn) in skills.items()
            },
            "cells": int(count[s]),
            "rows": int(rows[s]),
        }
        for s, study in enumerate(studies.names)
    }


def _calibration(aligned: Aligned, cells: GroupScores, studies: Studies) -> dict[str, Any]:
    """Reliability of the most probable answer, over all rows with probabilities; intervals over studies."""
    probable = aligned.rows["n_draws"].to_numpy() == 0
    if not probable.any():
        return {"ece": missing(SAMPLED), "bins": [], "reason": SAMPLED}
    assert cells.rows is not None
    confidence, right = (
        cells.rows[probable, ROW_SCORES.index(name)] for name in ("confidence", "confident_right")
    )
    study = studies.of_cell[aligned.rows["cell"].to_numpy()[probable]]
    table = reliability(confidence, right, study, len(studies.names))
    value = float(table.ece(np.ones((1, len(studies.names))))[0])
    with np.errstate(invalid="ignore"):
        drawn = table.ece(studies.weights)
    count, sums, hits = (part.sum(0) for part in (table.count, table.confidence, table.right))
    bins = [
        {
            "low": b / BINS, "high": (b + 1) / BINS, "count": int(count[b]),
            "confidence": float(sums[b] / count[b]), "frequency": float(hits[b] / count[b]),
        }
        for b in range(BINS) if count[b]
    ]  # fmt: skip
    return {"ece": statistic(value, drawn, len(np.unique(study))), "bins": bins, "reason": None}


def _modes(aligned: Aligned) -> tuple[str, dict[str, int]]:
    counts = dict(aligned.rows["mode"].value_counts().sort("mode").iter_rows())
    return (next(iter(counts)) if len(counts) == 1 else "mixed"), counts


def _clipping(aligned: Aligned, cells: GroupScores) -> dict[str, int]:
    assert cells.rows is not None
    response, cell = aligned.rows["response"].to_numpy(), aligned.rows["cell"].to_numpy()
    outside = [
        (cells.rows[:, ROW_SCORES.index(name)] > 0).sum() for name in ("clipped_observed", "clipped_stated")
    ]
    low, high = cells.ranges[cell, 2:].T
    return {
        "clipped_observed": int(outside[0]),
        "clipped_stated": int(outside[1]),
        "human_off_scale": int(((response < low) | (response > high)).sum()),
        "no_stated_scale": int(np.isnan(low).sum()),
    }


def _cell_counts(cells: GroupScores) -> dict[str, Any]:
    reasons = cells.frame["reason"].drop_nulls().str.split("; ").explode().value_counts()
    return {
        "all": len(cells.frame),
        "scored": int(np.isfinite(cells.values["wasserstein_observed"]).sum()),
        "left_out": dict(reasons.sort("reason").iter_rows()),
    }


def _with_intervals(cells: GroupScores, people: np.ndarray) -> pl.DataFrame:
    found = [
        people_interval(value, drawn)
        for value, drawn in zip(cells.values["wasserstein_observed"], people[:, :, 0].T, strict=True)
    ]
    ends = {
        f"wasserstein_observed_{end}": pl.Series(
            [None if pair is None else pair[k] for pair in found], dtype=pl.Float64
        )
        for k, end in enumerate(("low", "high"))
    }
    return cells.frame.with_columns(**ends)


def _with_answers(frame: pl.DataFrame, scores: GroupScores) -> pl.DataFrame:
    """Add both sides' distributions as lists, and put the columns in the documented order."""
    table = scores.table
    total = np.add.reduceat(table.predicted, table.offsets[:-1])
    probs = table.predicted / np.repeat(total, np.diff(table.offsets))
    used = (table.human > 0) | (table.predicted > 0)
    sizes = np.add.reduceat(used.astype(np.int64), table.offsets[:-1])
    group = np.repeat(np.arange(len(frame)), sizes)
    lists = (
        pl.DataFrame(
            {
                "group": group,
                "answers": table.support[used],
                "human_counts": table.human[used].astype(np.int64),
                "predicted_probs": probs[used],
            }
        )
        .group_by("group", maintain_order=True)
        .agg(pl.all())
        .drop("group")
    )
    intervals = [name for name in frame.columns if name.startswith("wasserstein_observed_")]
    keys = [name for name in ("study_id", "condition_num", "task_num", "item_num") if name in frame.columns]
    scale = ["rows", "people", "scale_kind", "scale_low", "scale_high", "observed_low", "observed_high"]
    order = [*keys, *scale, *MOMENTS, *METRICS, *intervals, "reason", "draws_per_row"]
    return pl.concat([frame.select(order), lists], how="horizontal")


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
