"""A study's evaluation rows as an experiment file, with its own people and their answers."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from common.errors import Refusal
from common.scale import Scale

SCALE = ["scale_kind", "scale_low", "scale_high", "scale_step"]


@dataclass(frozen=True)
class Described:
    """An experiment file's content, the study's people and answers, and what couldn't be described."""

    file: dict[str, Any]
    people: pl.DataFrame
    answers: pl.DataFrame
    left_out: dict[str, int]


def describe(rows: pl.DataFrame, study: str) -> Described:
    """A study's evaluation rows as an experiment. Raises `Refusal` if no outcome has arms to compare."""
    rows = rows.filter(pl.col("study_id") == study)
    conditions = sorted(rows["condition_num"].unique())
    names = {number: f"arm {number}" for number in conditions}
    outcomes, left_out = {}, dict[str, int]()
    for (task,), part in rows.sort("task_num").group_by("task_num", maintain_order=True):
        reason = _unfit(part, conditions)
        if reason:
            left_out[reason] = left_out.get(reason, 0) + 1
        else:
            outcomes[f"outcome {task}"] = _outcome(part, names)
    if not outcomes or len(conditions) < 2:
        raise Refusal("no outcome has two arms on one scale")
    usable = rows.filter(pl.format("outcome {}", "task_num").is_in(list(outcomes)))
    file = {
        "title": f"Study {study}, described from its own stimuli",
        "description": "Held out of training; simulated with its own participants.",
        "arms": dict.fromkeys(names.values(), ""),
        "outcomes": outcomes,
        "design": _design(usable, len(conditions)),
    }
    people = usable.group_by("participant").agg(pl.col("demographic").first()).sort("participant")
    people = people.rename({"participant": "person"}).unnest("demographic")
    answers = usable.select(
        "off_scale",
        pl.col("condition_num").replace_strict(names, return_dtype=pl.String).alias("arm"),
        pl.format("outcome {}", "task_num").alias("outcome"),
        (pl.col("stimuli").rank("dense").over("condition_num", "task_num")).cast(pl.Int64).alias("wording"),
        pl.col("response").alias("answer"),
        pl.col("participant").alias("person"),
    )
    answers = answers.filter(~pl.col("off_scale")).drop("off_scale")
    answers = answers.join(people, on="person", how="left", maintain_order="left")
    return Described(file, people, answers, left_out)


def _unfit(part: pl.DataFrame, conditions: list[int]) -> str | None:
    if part.select(SCALE).n_unique() > 1 or part["scale_labels"].n_unique() > 1:
        return "the scale differs between its arms or stimuli"
    if part["condition_num"].n_unique() < len(conditions):
        return "not asked in every arm"
    return None


def _outcome(part: pl.DataFrame, names: dict[int, str]) -> dict[str, Any]:
    first = part.row(0, named=True)
    labels = {label["value"]: label["label"] for label in first["scale_labels"]}
    kind, low, high, step = (first[name] for name in SCALE)
    scale = Scale(kind, low, high, step or 1, tuple(labels.items()))
    sentence = scale.sentence()
    ends = all(text.endswith(f" {sentence}") for text in part["stimuli"].unique())
    question = {}
    for number, name in names.items():
        texts = part.filter(pl.col("condition_num") == number)["stimuli"].unique().sort().to_list()
        plain = [text.removesuffix(f" {sentence}") if ends else text for text in texts]
        question[name] = [text.replace("{", "{{").replace("}", "}}") for text in plain]
    if kind in ("open", "unstated"):
        stated: dict[str, Any] = {"kind": kind, **({"unit": labels[0]} if labels.get(0) else {})}
    else:
        stated = {"kind": kind, "low": low, "high": high, "step": step or 1, "labels": labels}
    described = {"question": question, "scale": stated} | ({} if ends else {"answer_format": ""})
    several = max(len(texts) for texts in question.values())
    answers = part.group_by("participant", "condition_num").len()["len"].to_numpy()
    return described | ({"wordings": "all"} if several > 1 and np.median(answers) >= several else {})


def _design(rows: pl.DataFrame, arms: int) -> dict[str, Any]:
    """Within subjects if people answered in several arms; sizes as they were."""
    seen = rows.group_by("participant").agg(pl.col("condition_num").n_unique())["condition_num"]
    if np.median(seen.to_numpy()) > 1:
        return {
            "kind": "within",
            "people": len(seen),
            "tasks": min(arms, round(float(seen.to_numpy().mean()))),
        }
    cells = rows.group_by("condition_num", "task_num").agg(pl.col("participant").n_unique())
    return {"kind": "between", "people_per_arm": max(2, round(float(cells["participant"].to_numpy().mean())))}
