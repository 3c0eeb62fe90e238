"""The sections of the report: rows of tables and figures, ready for `report.html.j2`."""

import shlex
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

from common.page.render import DASH, count, interval, num, percent, signed
from eval.reporting.cell_browser import worst
from eval.reporting.results import MAIN, Json, Results, leaders
from eval.scoring import glossary

STATED = "wasserstein_stated"


def column_of(model: str) -> str:
    """A model's key in the rows of a table; no other column can have it, whatever the model is called."""
    return f"model {model}"


def cell_of(value: Json | None, digits: int = 3) -> Json:
    """A table's cell of an estimate: the value, its interval or why there is none beneath, and a sort key."""
    value = value or {"value": None, "reason": "not computed"}
    number = value.get("value")
    made = {"text": num(number, digits), "note": interval(value, digits), "sort": number}
    return made if made["note"] else made | {"why": value.get("reason")}


def leader_section(results: Results) -> Json:
    """The leader table, all metrics of the models, and their paired differences."""
    rows, basis = leaders(results)
    best = results.best["name"]
    models = [row for row in rows if row["kind"] == "model"]
    table = []
    for row in rows:
        skill = row["skill"].get(MAIN, {})
        is_model = row["kind"] == "model"
        table.append(
            {
                "class": "best" if row["name"] == best else row["kind"],
                "name": {
                    "text": row["name"] if is_model else glossary.name_of(row["name"]),
                    "note": f"model, {row['mode']}" if is_model else row["kind"],
                },
                "observed": cell_of(row["metrics"].get(MAIN)),
                "stated": cell_of(row["metrics"].get(STATED)),
                "skill": cell_of(skill.get("corrected"), 2) if is_model else {"text": ""},
                "human": cell_of(skill.get("corrected_human"), 2) if is_model else {"text": ""},
                "raw": cell_of(skill.get("raw"), 2) if is_model else {"text": ""},
                "accuracy": cell_of(row["metrics"].get("accuracy_observed"))
                if "accuracy_observed" in row["metrics"]
                else {"text": ""},
            }
        )
    metrics = [key for key in glossary.METRICS if any(key in row["metrics"] for row in models)]
    metrics += sorted({key for row in models for key in row["metrics"]} - set(metrics))
    return {
        "rows": table,
        "basis": basis,
        "metrics": [
            {"name": glossary.name_of(key)}
            | {column_of(row["name"]): cell_of(row["metrics"].get(key)) for row in models}
            for key in metrics
        ],
        "models": [row["name"] for row in models],
        "differences": [
            {
                "a": one["a"],
                "b": glossary.name_of(one["b"]),
                "metric": glossary.name_of(one["metric"]),
                "value": {
                    "text": signed(one["value"]),
                    "note": interval(one) or one["reason"] or "",
                    "sort": one["value"],
                },
                "p": {"text": num(one["p"], 4), "sort": one["p"]},
                "p_holm": {"text": num(one["p_holm"], 4), "sort": one["p_holm"]},
            }
            for one in (results.comparison or {"differences": []})["differences"]
        ],
    }


def study_rows(results: Results) -> list[Json]:
    """One row a study, the one that the closest model predicts best first."""
    best = column_of(results.best["name"])
    rows = []
    for study, made in results.best["studies"].items():
        row: Json = {"study": study, "cells": made["cells"]}
        row["rows"] = {"text": count(made["rows"]), "sort": made["rows"]}
        row["distance"] = cell_of(_of_people(made["metrics"].get(MAIN), made["people"].get(MAIN)))
        for name, scores in results.scores.items():
            if study in scores["studies"]:
                one = scores["studies"][study]
                skill = _of_people(one["skill"].get(MAIN), one["skill_people"].get(MAIN))
                row[column_of(name)] = cell_of(skill, 2)
        rows.append(row)
    return sorted(rows, key=lambda row: float("inf") if row[best]["sort"] is None else -row[best]["sort"])


def _of_people(value: float | None, ends: Sequence[float] | None) -> Json:
    """A study's figure with its interval over people, as an estimate."""
    low, high = ends or (None, None)
    return {"value": value, "low": low, "high": high, "reason": "not computable" if value is None else None}


def worst_rows(results: Results) -> list[Json]:
    """The closest model's worst cells, with a link that opens each in the browser of cells."""
    rows = []
    for row in worst(results.cells(results.best["name"])).iter_rows(named=True):
        text = " ".join((row["stimuli"] or "").split())
        key = f"{row['study_id']}/{row['task_num']}"
        spread = _of_people(row[MAIN], (row[f"{MAIN}_low"], row[f"{MAIN}_high"]))
        rows.append(
            {
                "study": {"text": row["study_id"], "href": f"#cell={quote(key)}"},
                "task": row["task_num"],
                "arm": row["condition_num"],
                "rows": row["rows"],
                "distance": cell_of(spread),
                "people": num(row["human_mean"], 2),
                "model": num(row["predicted_mean"], 2),
                "text": text if len(text) <= 160 else f"…{text[-160:]}",
            }
        )
    return rows


def effect_section(results: Results) -> Json:
    """One row a statistic of treatment effects: every model, and one half of the people."""
    names = list(results.scores)
    rows = []
    for key, term in glossary.EFFECTS.items():
        row: Json = {"name": {"text": term.name, "note": ""}}
        for name in names:
            row[column_of(name)] = cell_of(results.scores[name]["effects"]["model"].get(key), 2)
        half = results.best["effects"]["half_sample"]
        row["half"] = cell_of(half[key], 2) if key in half else {"text": ""}
        rows.append(row)
    made = results.best["effects"]
    return {"rows": rows, "models": names} | {
        key: made[key] for key in ("contrasts", "outcomes", "studies", "clear", "left_out")
    }


def calibration_rows(results: Results) -> list[Json]:
    """The calibration error of each model."""
    return [
        {
            "name": name,
            "ece": cell_of(scores["calibration"]["ece"]),
            "reason": scores["calibration"]["reason"] or "",
        }
        for name, scores in results.scores.items()
    ]


def subgroup_section(results: Results) -> Json:
    """The closest model by demographic field: gaps, groups, effects within groups."""
    made = results.best["subgroups"]
    fields, groups, effects = [], [], []
    for field, one in made["fields"].items():
        gap = one["parity_accuracy"]
        fields.append(
            {
                "field": title_of(field),
                "gap": cell_of(gap),
                "highest": gap["highest"],
                "lowest": gap["lowest"],
                "prediction": cell_of(one["parity_prediction"]) if one["groups"] else {"text": ""},
                "human": cell_of(one["parity_prediction_human"]) if one["groups"] else {"text": ""},
            }
        )
        for group in one["groups"]:
            groups.append(
                {
                    "field": title_of(field),
                    "group": group["group"],
                    "rows": {"text": count(group["rows"]), "sort": group["rows"]},
                    "accuracy": cell_of(group["accuracy_observed"]),
                    "observed": cell_of(group[MAIN]),
                    "stated": cell_of(group[STATED]),
                    "excess": cell_of(group["excess_observed"]),
                }
            )
    for field, of_groups in made["effects"].items():
        for group, one in of_groups.items():
            effects.append(
                {"field": title_of(field), "group": group, "contrasts": one["contrasts"]}
                | {key: cell_of(one[key], 2) for key in ("correlation", "sign_agreement", "magnitude_ratio")}
            )
    return {
        "fields": fields,
        "groups": groups,
        "effects": effects,
        "largest": made["largest_gap"],
        "parity": made["demographic_parity_difference"],
    }


def problem_section(results: Results) -> Json:
    """Counts of what went wrong or was treated specially, one column a model."""
    names = list(results.scores)
    rows = []
    for key, (kind, words) in PROBLEMS.items():
        counts = {column_of(name): count(results.scores[name][kind].get(key)) for name in names}
        rows.append({"what": words} | counts)
    shares = {column_of(name): results.scores[name]["parsing"] for name in names}
    rows.append(
        {"what": "probability off the scale, mean (exact mode)"}
        | {name: percent(parsing.get("off_scale_mass"), 2) for name, parsing in shares.items()}
    )
    rows.append(
        {"what": "parse rate"}
        | {
            name: percent(parsing["parsed"] / parsing["requested"], 1) if parsing.get("requested") else DASH
            for name, parsing in shares.items()
        }
    )
    reasons = sorted({reason for name in names for reason in results.scores[name]["cells"]["left_out"]})
    left_out = [
        {"what": reason}
        | {column_of(name): count(results.scores[name]["cells"]["left_out"].get(reason, 0)) for name in names}
        for reason in reasons
    ]
    return {"rows": rows, "left_out": left_out, "models": names}


PROBLEMS = {
    "evaluation": ("rows", "rows to predict"),
    "missing": ("rows", "rows without a prediction"),
    "failed": ("rows", "rows whose prediction failed"),
    "scored": ("rows", "rows scored"),
    "clipped_observed": ("rows", "predictions clipped to the observed range"),
    "clipped_stated": ("rows", "predictions clipped to the stated scale"),
    "human_off_scale": ("rows", "people's answers off the stated scale"),
    "no_stated_scale": ("rows", "rows whose question states no scale"),
    "requested": ("parsing", "replies asked for"),
    "parsed": ("parsing", "replies that could be read"),
    "bare": ("parsing", "replies that were the bare number"),
}


def run_section(results: Results) -> list[Json]:
    """What was trained and how: one block a training run."""
    blocks = []
    for (model, stage), run in results.runs.items():
        made = run["arguments"]
        blocks.append(
            {
                "name": f"{model} {stage}",
                "command": command_line(run["command"]),
                "recipe": made,
                "about": {
                    "commit": run.get("git_commit"),
                    "hardware": run.get("hardware"),
                    "versions": run.get("versions"),
                    "tokens": run.get("tokens"),
                    "peak memory": f"{run['peak_memory_bytes'] / 2**30:.1f} GiB",
                    "same data as evaluated": "yes"
                    if run.get("data_manifest") == results.manifest.get("inputs")
                    else "no",
                },
            }
        )
    return blocks


def command_line(words: Sequence[str]) -> str:
    """The command as one would type it: a module instead of the path of its file."""
    path = Path(words[0])
    module = ".".join(path.with_suffix("").parts[-3:])
    start = ["python", "-m", module] if path.suffix == ".py" else [path.name]
    return shlex.join([*start, *words[1:]])


def left_out_words(left_out: dict[str, int]) -> str:
    """Counts by reason, as part of a sentence."""
    return "; ".join(f"{count(number)} {reason}" for reason, number in left_out.items())


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
