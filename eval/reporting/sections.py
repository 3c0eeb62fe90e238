"""The sections of the report: rows of tables and figures, ready for `report.html.j2`."""

import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from urllib.parse import quote

from common.page.render import DASH, count, num, percent, signed
from eval.reporting.cell_browser import worst
from eval.reporting.results import MAIN, Results, leaders
from eval.reporting.words import Json, brackets, cell_of, interval, over_people
from eval.scoring import glossary
from eval.scoring.open_scales import OPEN
from eval.scoring.record import Difference, FieldScores, Group, Interactions, Scores, TableRow

STATED = "wasserstein_stated"
EMPTY = {"text": ""}
MANIFEST = ("dataset", "split", "seed", "rows", "pairs")  # what of a data set's manifest is shown at once


def column_of(model: str) -> str:
    """A model's key in the rows of a table; no other column can have it, whatever the model is called."""
    return f"model {model}"


def leader_section(results: Results) -> Json:
    """The leader table, all metrics of the models, and their paired differences."""
    rows, basis = leaders(results)
    models = [row for row in rows if row.kind == "model"]
    metrics = [key for key in glossary.METRICS if any(key in row.metrics for row in models)]
    metrics += sorted({key for row in models for key in row.metrics} - set(metrics))
    kinds = sorted({kind for scores in results.scores.values() for kind in scores.scale_kinds})
    comparison = results.comparison
    return {
        "rows": [_leader(row, row.name == results.best.name) for row in rows],
        "basis": basis,
        "metrics": [
            {"name": glossary.name_of(key)}
            | {column_of(row.name): cell_of(row.metrics.get(key)) for row in models}
            for key in metrics
        ]
        + [_skill_of_kind(results, kind) for kind in kinds if len(kinds) > 1],
        "models": [row.name for row in models],
        "brackets": brackets(estimate for row in rows for estimate in row.metrics.values()),
        "differences": [_difference(one) for one in comparison.differences] if comparison else [],
        "notes": [f"{note[0].upper()}{note[1:]}." for note in comparison.notes(count)] if comparison else [],
    }


def _skill_of_kind(results: Results, kind: str) -> Json:
    """A row of the metrics: corrected skill on one kind of answer scale, on all rows of each model."""
    name = f"Skill, {kind} scales" + " (of logarithms)" * (kind == OPEN)
    return {"name": name} | {
        column_of(name): cell_of(one.scale_kinds[kind].skill if kind in one.scale_kinds else None, 2)
        for name, one in results.scores.items()
    }


def _leader(row: TableRow, best: bool) -> Json:
    is_model, skill = row.kind == "model", row.skill.get(MAIN)
    accuracy = row.metrics.get("accuracy_observed")
    skills = {"skill": "corrected", "human": "corrected_human", "raw": "raw"}
    return {
        "class": "best" if best else row.kind,
        "name": {
            "text": row.name if is_model else glossary.name_of(row.name),
            "note": f"model, {row.mode}" if is_model else row.kind,
        },
        "observed": cell_of(row.metrics.get(MAIN)),
        "stated": cell_of(row.metrics.get(STATED)),
        "accuracy": cell_of(accuracy) if accuracy else EMPTY,
    } | {
        column: cell_of(getattr(skill, kind, None), 2) if is_model else EMPTY
        for column, kind in skills.items()
    }


def _difference(one: Difference) -> Json:
    note = interval(one) or one.reason or ""
    return {
        "a": one.a,
        "b": glossary.name_of(one.b),
        "metric": glossary.name_of(one.metric),
        "value": {"text": signed(one.value), "note": note, "sort": one.value},
        "p": _p(one.p, "" if one.smallest_p is None else f"at least {num(one.smallest_p, 4)}"),
        "p_bootstrap": _p(one.p_bootstrap),
        "p_holm": _p(one.p_holm),
        "p_equivalent": _p(one.p_equivalent, "" if one.margin is None else f"within {num(one.margin, 2)}"),
    }


def _p(value: float | None, note: str = "") -> Json:
    return {"text": num(value, 4), "sort": value, "note": note}


def study_rows(results: Results) -> list[Json]:
    """One row a study, the one that the closest model predicts best first."""
    best = column_of(results.best.name)
    rows = []
    for study, figures in results.best.studies.items():
        row: Json = {"study": study, "cells": figures.cells}
        row["rows"] = {"text": count(figures.rows), "sort": figures.rows}
        row["distance"] = cell_of(over_people(figures.metrics.get(MAIN), figures.people.get(MAIN)))
        for name, scores in results.scores.items():
            if study in scores.studies:
                one = scores.studies[study]
                skill = over_people(one.skill.get(MAIN), one.skill_people.get(MAIN))
                row[column_of(name)] = cell_of(skill, 2)
        rows.append(row)
    return sorted(rows, key=lambda row: float("inf") if row[best]["sort"] is None else -row[best]["sort"])


def worst_rows(results: Results) -> list[Json]:
    """The closest model's worst cells, with a link that opens each in the browser of cells."""
    rows = []
    for row in worst(results.best.cells).iter_rows(named=True):
        text = " ".join((row["stimuli"] or "").split())
        spread = over_people(row[MAIN], (row[f"{MAIN}_low"], row[f"{MAIN}_high"]))
        points = row[MAIN] * (row["observed_high"] - row["observed_low"])
        link = quote(f"{row['study_id']}/{row['task_num']}")
        rows.append(
            {
                "study": {"text": row["study_id"], "href": f"#cell={link}"},
                "task": results.outcome(row["study_id"], row["task_num"]),
                "arm": results.arm(row["study_id"], row["condition_num"]),
                "rows": row["rows"],
                "distance": cell_of(spread),
                "points": {"text": num(points, 1), "sort": points},
                "people": num(row["human_mean"], 2),
                "model": num(row["predicted_mean"], 2),
                "text": text if len(text) <= 160 else f"…{text[-160:]}",
            }
        )
    return rows


def time_rows(results: Results) -> list[Json]:
    """Scores before and after the end of a base model's training, where the settings hold dates."""
    rows: list[Json] = []
    for name, scores in results.scores.items():
        if not (times := scores.by_time):
            continue
        for metric, difference in times.difference.items():
            sides = {"before": times.before.metrics.get(metric), "after": times.after.metrics.get(metric)}
            cells = {key: cell_of(one) for key, one in (sides | {"difference": difference}).items()}
            rows.append({"name": name, "metric": glossary.name_of(metric), "cut": times.cut} | cells)
    return rows


def calibration_rows(results: Results) -> list[Json]:
    """The calibration error of each model."""
    return [
        {
            "name": name,
            "ece": cell_of(scores.calibration.ece),
            "pit": cell_of(scores.calibration.pit_error) if scores.calibration.pit_error else EMPTY,
            "reason": scores.calibration.reason or "",
        }
        for name, scores in results.scores.items()
    ]


def subgroup_section(results: Results) -> Json:
    """The closest model by demographic field: gaps, groups, effects within groups."""
    subgroups = results.best.subgroups
    if subgroups is None:
        empty: Json = {key: [] for key in ("fields", "groups", "effects", "interactions")}
        return empty | {"largest": None, "parity": None}
    effects = [
        {"field": title_of(field), "group": group, "contrasts": one.contrasts}
        | {key: cell_of(getattr(one, key), 2) for key in ("correlation", "sign_agreement", "magnitude_ratio")}
        for field, groups in subgroups.effects.items()
        for group, one in groups.items()
    ]
    return {
        "fields": [_field(field, one) for field, one in subgroups.fields.items()],
        "groups": [_group(field, group) for field, one in subgroups.fields.items() for group in one.groups],
        "effects": effects,
        "interactions": [_interaction(field, one) for field, one in subgroups.interactions.items()],
        "largest": subgroups.largest_gap,
        "parity": subgroups.demographic_parity_difference,
    }


def _field(field: str, scores: FieldScores) -> Json:
    gap = scores.parity_accuracy
    return {
        "field": title_of(field),
        "gap": cell_of(gap),
        "chance": {"text": num(gap.by_chance), "sort": gap.by_chance},
        "p": {"text": num(gap.p, 3), "sort": gap.p},
        "highest": gap.highest,
        "lowest": gap.lowest,
        "prediction": cell_of(scores.parity_prediction) if scores.groups else EMPTY,
        "human": cell_of(scores.parity_prediction_human) if scores.groups else EMPTY,
    }


def _interaction(field: str, one: Interactions) -> Json:
    statistics = ("correlation", "correlation_disattenuated", "slope", "sign_agreement")
    figures = {key: cell_of(getattr(one, key), 2) for key in statistics}
    return {"field": title_of(field), "contrasts": count(one.contrasts)} | figures


def _group(field: str, group: Group) -> Json:
    return {
        "field": title_of(field),
        "group": group.group,
        "rows": {"text": count(group.rows), "sort": group.rows},
        "accuracy": cell_of(group.accuracy_observed),
        "observed": cell_of(group.wasserstein_observed),
        "stated": cell_of(group.wasserstein_stated),
        "excess": cell_of(group.excess_observed),
    }


ROW_COUNTS = {
    "evaluation": "rows to predict",
    "missing": "rows without a prediction",
    "failed": "rows whose prediction failed",
    "scored": "rows scored",
    "clipped_observed": "predictions clipped to the observed range",
    "clipped_stated": "predictions clipped to the stated scale",
    "human_off_scale": "people's answers off the stated scale",
    "no_stated_scale": "rows whose question states no scale",
}
REPLY_COUNTS = {
    "requested": "replies asked for",
    "parsed": "replies that could be read",
    "bare": "replies that were the bare number",
}


def problem_section(results: Results) -> Json:
    """Counts of what went wrong or was treated specially, one column a model."""

    def row(words: str, text: Callable[[Scores], str]) -> Json:
        return {"what": words} | {column_of(name): text(one) for name, one in results.scores.items()}

    def counted(words: str, part: str, key: str) -> Json:
        return row(words, lambda one: count(getattr(getattr(one, part), key)))

    def left_out(reason: str) -> Json:
        return row(reason, lambda one: count(one.cell_counts.left_out.get(reason, 0)))

    off_scale = "probability off the scale, mean (exact mode)"
    reasons = sorted({reason for one in results.scores.values() for reason in one.cell_counts.left_out})
    return {
        "rows": [
            *(counted(words, "row_counts", key) for key, words in ROW_COUNTS.items()),
            *(counted(words, "parsing", key) for key, words in REPLY_COUNTS.items()),
            row(off_scale, lambda one: percent(one.parsing.off_scale_mass, 2)),
            row("parse rate", _parse_rate),
        ],
        "left_out": [left_out(reason) for reason in reasons],
        "models": results.models,
    }


def _parse_rate(scores: Scores) -> str:
    requested, parsed = scores.parsing.requested, scores.parsing.parsed
    return percent(parsed / requested, 1) if requested and parsed is not None else DASH


def run_section(results: Results) -> list[Json]:
    """What was trained and how: one block a training run."""
    return [
        {
            "name": f"{model} {stage}",
            "command": command_line(run.command),
            "recipe": run.arguments,
            "about": {
                "commit": run.git_commit,
                "hardware": run.hardware.model_dump(),
                "versions": run.versions,
                "tokens": run.tokens,
                "peak memory": f"{run.peak_memory_bytes / 2**30:.1f} GiB",
                "same data as evaluated": "yes"
                if results.manifest and run.data_manifest == results.manifest.inputs
                else "no",
            },
        }
        for (model, stage), run in results.runs.items()
    ]


def manifest_section(results: Results) -> Json | None:
    """The data set's manifest: the firewall's checks, what matters most, and the rest."""
    if results.manifest is None:
        return None
    manifest = results.manifest.model_dump(mode="json", exclude={"firewall"})
    return {
        "firewall": [check.model_dump() for check in results.manifest.firewall],
        "core": {key: manifest[key] for key in MANIFEST},
        "rest": {key: value for key, value in manifest.items() if key not in MANIFEST},
    }


def prediction_section(results: Results) -> Json:
    """How each model was asked and scored: {model: settings}."""
    stamps = ("inputs", "depends_on")  # these only tell whether a record is up to date
    about: Json = {}
    for name, scores in results.scores.items():
        record = {key: value for key, value in results.predictions[name].items() if key not in stamps}
        scoring = {"scoring": scores.settings, "versions": scores.versions}
        about[name] = {"predictions": record or "made elsewhere", **scoring}
    return about


def command_line(words: Sequence[str]) -> str:
    """The command as one would type it: `socrates` instead of its path; another program by its name."""
    program = Path(words[0])
    start = ["python", program.name] if program.suffix == ".py" else [program.name]
    return shlex.join([*(["socrates"] if program.stem == "socrates" else start), *words[1:]])


def definitions() -> list[tuple[str, list[glossary.Term]]]:
    """Every definition, in groups."""
    return [
        ("How to read it", [glossary.SKILL, *glossary.OTHER.values()]),
        ("Distances and accuracy", [*glossary.METRICS.values(), glossary.CALIBRATION]),
        ("Treatment effects", list(glossary.EFFECTS.values())),
        ("Controls and ceilings", [*glossary.CONTROLS.values(), *glossary.CEILINGS.values()]),
    ]


def title_of(field: str) -> str:
    """A demographic field's name for readers."""
    return field.replace("_", " ")
