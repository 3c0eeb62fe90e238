"""All scores of one model on one set of evaluation rows: what `scores.json` and the tables beside it hold."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from common.distances import DISTANCES
from common.scale import admits, from_columns
from eval.scoring.align import Evaluated
from eval.scoring.by_time import by_time
from eval.scoring.calibration import calibration
from eval.scoring.ceilings import ACCURACIES, Ceiling, ceilings
from eval.scoring.control_people import control_people
from eval.scoring.controls import CONTROLS, controls
from eval.scoring.effects import effect_scores
from eval.scoring.estimates import Studies, estimate, missing, people_interval
from eval.scoring.groups import SHOWN_MOMENTS, Groups, control_groups, model_groups, paired_rows
from eval.scoring.metrics import METRICS, SHARE
from eval.scoring.open_scales import OPEN, LogDistances, log_distances
from eval.scoring.record import (
    Ceilings,
    CellCounts,
    Estimates,
    KindScores,
    RowCounts,
    Skill,
    StudyScores,
    Weighting,
)
from eval.scoring.resampling import UNIFORM, PairedRows, resample_people
from eval.scoring.skill import Distances, skill, study_skill
from eval.scoring.subgroups import People, subgroup_scores
from eval.settings import ScoreSettings

SKILLS = ("wasserstein_observed", "wasserstein_stated")
NO_CONTROL = "no cell has the other answers that this control is made of"
NO_CEILING = "every cell has one respondent, or too few for each answer that somebody gave"
CEILINGS = ("split_half_raw", "split_half_corrected", "bootstrap_raw", "bootstrap_corrected", "paired")
FAIR = ("paired", "split_half_corrected")  # ceilings in the model's size and mode
SEVERAL = "several"  # the scale kind of a cell whose items have different ones
LESS, FEWEST = 5, 100  # items and controls are resampled a fifth as often as cells, but a hundred times
Say = Callable[[str], None]


@dataclass(frozen=True)
class Resampled:
    """Scores when the people of each study are drawn again, R times.

    studies: {metric: float64 (R, S)}, means over cells. cells: {SKILLS and UNIFORM: float32 (R, C)}.
    """

    studies: dict[str, np.ndarray]
    cells: dict[str, np.ndarray]


@dataclass(frozen=True)
class Work:
    """What was computed on the way to a model's scores, and what a comparison needs again.

    control_people: {control: {metric: float64 (R, S)}}, studies' means when people are drawn again.
    """

    evaluated: Evaluated
    train: pl.DataFrame | None
    settings: ScoreSettings
    seed: int
    studies: Studies
    cells: Groups
    controls: dict[str, Groups]
    control_people: dict[str, dict[str, np.ndarray]]
    paired: PairedRows
    people: Resampled
    ceiling: Ceiling
    open_scales: LogDistances | None = None


def work_on(
    evaluated: Evaluated, train: pl.DataFrame | None, settings: ScoreSettings, seed: int,
    say: Say = lambda _: None,
) -> Work:  # fmt: skip
    """Score cells, controls and ceilings, and resample people: the expensive part."""
    studies = Studies.of(evaluated.cells["study_id"].to_list(), settings.replicates, seed)
    say("cells and controls")
    of_controls = controls(evaluated.everyone, evaluated.cells, train)
    uniforms = (of_controls["uniform_observed"], of_controls["uniform_stated"])
    cells = model_groups(evaluated, "cell", uniforms)
    paired = paired_rows(evaluated, cells, uniforms)
    say(f"{settings.replicates} resamples of the people")
    people = resample(cells, paired, studies, settings.replicates, seed)
    scored = {name: control_groups(cells, of_controls[name]) for name in CONTROLS}
    again = control_people(scored, cells, paired, studies, fewer(settings), seed)
    say("human ceilings")
    ceiling = ceilings(paired, cells.draws, settings.ceiling_splits, seed)
    opened = log_distances(cells, paired, settings.ceiling_splits, settings.replicates, seed)
    return Work(
        evaluated, train, settings, seed, studies, cells, scored, again, paired, people, ceiling, opened
    )  # fmt: skip


def fewer(settings: ScoreSettings) -> int:
    """How often people are drawn again for what is beside the models' own cells."""
    return max(FEWEST, settings.replicates // LESS)


def resample(cells: Groups, paired: PairedRows, studies: Studies, replicates: int, seed: int) -> Resampled:
    """Every metric of every study when its people are drawn again."""
    finite = {name: np.isfinite(cells.values[name]) for name in METRICS}
    of_studies: dict[str, np.ndarray] = {name: np.empty((replicates, len(studies.names))) for name in METRICS}
    size = (replicates, len(cells.frame))
    of_cells: dict[str, np.ndarray] = {name: np.empty(size, np.float32) for name in (*SKILLS, *UNIFORM)}
    start = 0
    for chunk in resample_people(paired, replicates, seed):
        part = slice(start, start + len(chunk))
        start += len(chunk)
        values = cells.metrics_of(chunk[..., : -len(UNIFORM)])
        values |= {name: chunk[..., k - len(UNIFORM)] for k, name in enumerate(UNIFORM)}
        for name, drawn in of_cells.items():
            drawn[part] = values[name]
        for name, means in of_studies.items():
            means[part] = studies.means(np.where(finite[name], values[name], np.nan))
    return Resampled(of_studies, of_cells)


def cell_scores(work: Work) -> dict[str, Any]:
    """The parts of `record.Scores` that a comparison shows: metrics, controls, ceilings, skill."""
    evaluated, cells, studies, people = work.evaluated, work.cells, work.studies, work.people
    counted = evaluated.rows["mode"].value_counts().sort("mode")
    modes = dict(counted.iter_rows())
    draws = cells.draws[cells.draws > 0]
    skills, of_studies = _skills(work)
    return {
        "name": evaluated.name,
        "mode": next(iter(modes)) if len(modes) == 1 else "mixed",
        "modes": modes,
        "samples": float(draws.mean()) if len(draws) else None,
        "weights": _weights(cells.weight),
        "row_counts": _row_counts(work),
        "cell_counts": _cell_counts(cells),
        "metrics": {
            name: estimate(
                cells.values[name], studies, cells.reason(name), people.studies[name], metric.limits
            )
            for name, metric in METRICS.items()
        },
        "controls": {
            name: _control_metrics(scores, studies, work.control_people[name])
            for name, scores in work.controls.items()
        },
        "ceiling": _ceilings(work.ceiling, cells, studies),
        "skill": skills,
        "scale_kinds": _by_kind(work),
        "studies": _per_study(work, of_studies),
        "by_time": by_time(work.settings, cells.values, studies, people.studies),
        "calibration": calibration(work.evaluated, cells, work.paired, studies, work.seed),
    }  # fmt: skip


def other_scores(work: Work) -> tuple[dict[str, Any], dict[str, pl.DataFrame]]:
    """Items, treatment effects and subgroups, and the tables of cells, items and contrasts."""
    evaluated, settings, seed = work.evaluated, work.settings, work.seed
    items = model_groups(evaluated, "item")
    of_items = Studies.of(evaluated.items["study_id"].to_list(), settings.replicates, seed)
    of_people = _people_of_items(work, items, of_items)
    effects, contrasts = effect_scores(evaluated, work.train, settings, seed)
    people = People(evaluated, work.cells, work.paired, work.studies, settings, seed)
    parts = {
        "item_metrics": {
            name: estimate(items.values[name], of_items, items.reason(name), of_people[name], metric.limits)
            for name, metric in METRICS.items()
        },
        "effects": effects,
        "subgroups": subgroup_scores(people),
    }
    frames = {
        "cells": _with_answers(_with_intervals(work), work.cells),
        "items": _with_answers(items.scored, items),
        "contrasts": contrasts,
    }
    return parts, frames


def _people_of_items(work: Work, items: Groups, of_items: Studies) -> dict[str, np.ndarray]:
    """{metric: (R, S)}: each study's mean over its items when its people are drawn again."""
    if len(items.frame) == len(work.cells.frame):  # every cell is one item
        return work.people.studies
    paired = paired_rows(work.evaluated, items, (), "item")
    return resample(items, paired, of_items, fewer(work.settings), work.seed).studies


def _control_metrics(cells: Groups, studies: Studies, people: dict[str, np.ndarray]) -> Estimates:
    """A control is the same for everybody of a cell, so it has no correlation."""
    if not np.isfinite(cells.values["exact_match"]).any():
        return dict.fromkeys(METRICS, missing(NO_CONTROL))
    return {
        name: estimate(cells.values[name], studies, cells.reason(name), people[name], metric.limits)
        for name, metric in METRICS.items()
    }


def _skills(work: Work) -> tuple[dict[str, Skill], dict[str, tuple[np.ndarray, np.ndarray]]]:
    """Skill by both ranges: raw against naive split halves, corrected in the model's size and mode."""
    out, per_study = {}, {}
    for name in SKILLS:
        raw, fair, human = (_against(work, name, kind) for kind in ("split_half_raw", *FAIR))
        out[name] = Skill(
            raw=skill(raw, work.studies), corrected=skill(fair, work.studies),
            corrected_human=skill(human, work.studies),
        )  # fmt: skip
        per_study[name] = study_skill(fair, work.studies)
    return out, per_study


def _against(work: Work, name: str, kind: str) -> Distances:
    """Distances of model, uniform guess and one kind of ceiling; on open scales those of logarithms."""
    k, uniform = SKILLS.index(name), UNIFORM[SKILLS.index(name)]
    fair = kind in FAIR
    zero = work.ceiling.uniform[:, k] if fair else work.controls[uniform].values[name]
    parts = [work.cells.values[name], zero, getattr(work.ceiling, kind)[:, k]]
    people = [work.people.cells[name], work.people.cells[uniform]]
    opened = work.open_scales
    if opened is not None and name == SKILLS[0]:
        logs = (opened.model, opened.uniform if fair else opened.guess, getattr(opened, kind))
        parts = [np.where(opened.cells, log, part) for log, part in zip(logs, parts, strict=True)]
        people = [np.where(opened.cells, log, part) for log, part in zip(opened.people, people, strict=True)]
    return Distances(parts[0], parts[1], parts[2], (people[0], people[1]))


def _by_kind(work: Work) -> dict[str, KindScores]:
    """Distance and corrected skill of the cells of each kind of scale."""
    fair, kinds = _against(work, SKILLS[0], "paired"), work.cells.frame["scale_kind"].fill_null(SEVERAL)
    out = {}
    for kind in sorted(kinds.unique()):
        part = fair.where((kinds == kind).to_numpy())
        people = work.studies.means(np.where(np.isfinite(part.model), part.people[0], np.nan))
        distance = estimate(part.model, work.studies, work.cells.reason(SKILLS[0]), people, SHARE)
        out[kind] = KindScores(
            cells=int((kinds == kind).sum()), logarithm=kind == OPEN, wasserstein=distance,
            skill=skill(part, work.studies),
        )  # fmt: skip
    return out


def _ceilings(ceiling: Ceiling, cells: Groups, studies: Studies) -> Ceilings:
    lacking = {name: cells.lacking(METRICS[name].needs) for name in DISTANCES}
    parts = {
        kind: {
            name: estimate(
                np.where(lacking[name], np.nan, getattr(ceiling, kind)[:, k]),
                studies,
                NO_CEILING,
                limits=SHARE,
            )
            for k, name in enumerate(DISTANCES)
            if not (kind == "paired" and name == "jensen_shannon")
        }
        for kind in CEILINGS
    }
    another = {
        name: estimate(ceiling.another_person[:, k], studies, cells.reason(name), limits=SHARE)
        for k, name in enumerate(ACCURACIES)
    }
    return Ceilings(**parts, another_person=another)


def _per_study(work: Work, skills: dict[str, tuple[np.ndarray, np.ndarray]]) -> dict[str, StudyScores]:
    studies, cells, people = work.studies, work.cells, work.people.studies
    means = {name: studies.means(cells.values[name]) for name in METRICS}
    rows = np.bincount(studies.of_cell, work.evaluated.cells["rows"].to_numpy())
    count = np.bincount(studies.of_cell)
    return {
        study: StudyScores(
            metrics={name: _number(values[s]) for name, values in means.items()},
            people={
                name: people_interval(means[name][s], values[:, s], METRICS[name].limits)
                for name, values in people.items()
            },
            skill={name: _number(values[s]) for name, (values, _) in skills.items()},
            skill_people={
                name: people_interval(values[s], drawn[:, s]) for name, (values, drawn) in skills.items()
            },
            cells=int(count[s]), rows=int(rows[s]),
        )
        for s, study in enumerate(studies.names)
    }  # fmt: skip


def _weights(weight: np.ndarray) -> Weighting | None:
    if (weight == weight[0]).all():
        return None
    effective = float(weight.sum() ** 2 / (weight**2).sum())
    return Weighting(design_effect=len(weight) / effective, effective_rows=effective)


def _row_counts(work: Work) -> RowCounts:
    cells, rows = work.cells, work.evaluated.rows
    stated = ~np.isnan(cells.ranges[rows["cell"].to_numpy(), 2])
    return RowCounts(
        **work.evaluated.counts,
        clipped_observed=int((cells.row("clipped_observed") > 0).sum()),
        clipped_stated=int((cells.row("clipped_stated") > 0).sum()),
        human_off_scale=int(off_scale(rows).sum()),
        no_stated_scale=int((~stated).sum()),
    )


def off_scale(rows: pl.DataFrame) -> np.ndarray:
    """bool (N): answers that their scale doesn't admit; as the data set says, where it does."""
    if rows["off_scale"].null_count() == 0:
        return rows["off_scale"].to_numpy()
    return ~admits(from_columns(rows), np.arange(len(rows)), rows["response"].to_numpy())


def _cell_counts(cells: Groups) -> CellCounts:
    reasons = cells.scored["reason"].drop_nulls().str.split("; ").explode().value_counts()
    return CellCounts(
        all=len(cells.frame),
        scored=int(np.isfinite(cells.values["wasserstein_observed"]).sum()),
        left_out=dict(reasons.sort("reason").iter_rows()),
    )


def _with_intervals(work: Work) -> pl.DataFrame:
    drawn = work.people.cells["wasserstein_observed"].T
    ends = [
        people_interval(value, replicates, SHARE)
        for value, replicates in zip(work.cells.values["wasserstein_observed"], drawn, strict=True)
    ]
    return work.cells.scored.with_columns(
        pl.Series(
            f"wasserstein_observed_{end}", [None if pair is None else pair[k] for pair in ends], pl.Float64
        )
        for k, end in enumerate(("low", "high"))
    )


def _with_answers(frame: pl.DataFrame, groups: Groups) -> pl.DataFrame:
    """Add both sides' distributions as lists, and put the columns in the documented order."""
    table = groups.table
    owner = np.repeat(np.arange(len(frame)), np.diff(table.offsets))
    total = np.bincount(owner, table.predicted, minlength=len(frame))
    used = (table.human > 0) | (table.predicted > 0)
    whole = (groups.weight == np.round(groups.weight)).all()
    entries = pl.DataFrame(
        {
            "group": owner[used],
            "answers": table.support[used],
            "human_counts": table.human[used].astype(np.int64 if whole else np.float64),
            "predicted_probs": (table.predicted / total[owner])[used],
        }
    )
    lists = entries.group_by("group", maintain_order=True).agg(pl.all()).drop("group")
    intervals = [name for name in frame.columns if name.startswith("wasserstein_observed_")]
    keys = [name for name in ("study_id", "condition_num", "task_num", "item_num") if name in frame.columns]
    scale = ["rows", "people", "scale_kind", "scale_low", "scale_high", "observed_low", "observed_high"]
    order = [*keys, *scale, *SHOWN_MOMENTS, *METRICS, *intervals, "reason", "draws_per_row"]
    return pl.concat([frame.select(order), lists], how="horizontal")


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
