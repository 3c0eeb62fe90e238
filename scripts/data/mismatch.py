"""The items that a person should look at: no scale is stated, or the answers disagree with the stated one.

Real studies state 1 and 2 where answers run from 1 to 12, or 1 to 7 where they run from 11 to 71. A few
answers off the scale are codes for refusals; an item whose answers are often off it was coded otherwise.
"""

import numpy as np
import polars as pl

from common.scale import Scale
from scripts.data.facts import Rows

DISAGREES = 0.1  # an item with at least this share of its answers off the stated scale disagrees with it


def mismatched(rows: Rows, off_scale: np.ndarray) -> np.ndarray:
    """True for the items whose answers disagree with their stated scale: bool (items,).

    off_scale: bool (rows,), whether a row's answer is off its item's scale.
    """
    answers = np.bincount(rows.item, minlength=len(rows.items))
    off = np.bincount(rows.item[off_scale], minlength=len(rows.items))
    return (off > 0) & (off >= DISAGREES * answers)


def items_to_look_at(rows: Rows, off_scale: np.ndarray) -> pl.DataFrame:
    """The items without a stated scale or with answers off it, those with most such answers first.

    off_scale: as in `mismatched`. Columns: study_id, condition_num, task_num, item_num; text; `stated`
    (the scale in words); `lowest` and `highest` answer; `answers`, `off_scale` (counts); `mismatch`
    (whether `mismatched` names the item).
    """
    items = rows.items
    count = len(items)
    answers = np.bincount(rows.item, minlength=count)
    off = np.bincount(rows.item[off_scale], minlength=count)
    lowest = np.full(count, np.iinfo(np.int64).max)
    highest = np.full(count, np.iinfo(np.int64).min)
    np.minimum.at(lowest, rows.item, rows.response.astype(np.int64))
    np.maximum.at(highest, rows.item, rows.response.astype(np.int64))
    unstated = np.array([scale.kind == "unstated" for scale in items.text_scales], bool)[items.text]
    shown = np.flatnonzero((answers > 0) & (unstated | (off > 0)))
    table = pl.DataFrame(
        {
            "study_id": [rows.studies[study] for study in items.study[shown]],
            "condition_num": items.condition[shown],
            "task_num": items.task[shown],
            "item_num": items.item_num[shown],
            "text": [items.texts[text] for text in items.text[shown]],
            "stated": [in_words(items.text_scales[text]) for text in items.text[shown]],
            "lowest": lowest[shown],
            "highest": highest[shown],
            "answers": answers[shown],
            "off_scale": off[shown],
            "mismatch": mismatched(rows, off_scale)[shown],
        }
    )
    keys = ["study_id", "condition_num", "task_num", "item_num"]
    return table.sort("mismatch", "off_scale", "answers", *keys, descending=[True] * 3 + [False] * 4)


def in_words(scale: Scale) -> str:
    """A scale as a person reads it: `1 to 7`, `0 to 100 in steps of 10`, `1, 2 or 9`, `unstated: letters`."""
    if scale.kind == "unstated":
        return f"unstated: {scale.reason}" if scale.reason else "unstated"
    if scale.low is None or scale.high is None:
        return f"no limits ({scale.labels[0][1]})" if scale.labels else "no limits"
    answers = scale.answers()
    if answers is not None and (
        len(answers) == 2 or answers[-1] - answers[0] != scale.step * (len(answers) - 1)
    ):
        return ", ".join(f"{answer}" for answer in answers[:-1]) + f" or {answers[-1]}"
    step = f" in steps of {scale.step}" if scale.step != 1 else ""
    return f"{scale.low} to {scale.high}{step}"
