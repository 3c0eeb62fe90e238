"""Items that a person should look at before trusting a data set: odd scales, texts that weren't filled in."""

import re

import numpy as np
import polars as pl

from common.contract import ITEM
from scripts.data.facts import Rows, combine
from scripts.data.mismatch import mismatched
from scripts.data.selection import Selection

# {name[letter]}, {{name}}, ${e://Field/x}, <<name>>, %NAME%: what programs leave when they have no value.
PLACEHOLDER = re.compile(
    r"\$\{[^{}]{1,80}\}|\{\{[^{}]{1,80}\}\}|\{[A-Za-z_][\w.]*(?:\[[^\[\]{}]{0,40}\])*\}|<<\w{1,40}>>|%[A-Z_]{2,40}%"
)
EMPTY_QUOTES = re.compile(r'(?<![\w"”])""(?!["\w])|“\s*”|(?<![\w`])``\'\'')


def unfilled(text: str) -> str | None:
    """The first placeholder or pair of empty quotation marks in a text, None when there is none."""
    match = PLACEHOLDER.search(text) or EMPTY_QUOTES.search(text)
    return match[0] if match else None


def shared_between_arms(rows: Rows) -> np.ndarray:
    """True for each item whose text another arm of its study shows, too."""
    items = rows.items
    text = combine(items.study, items.text)
    arm_text = combine(text, items.condition)
    arms = np.bincount(text[np.unique(arm_text, return_index=True)[1]], minlength=int(text.max()) + 1)
    return arms[text] > 1


def item_counts(rows: Rows, selection: Selection) -> dict[str, int]:
    """Rows of items that are worth knowing, for the manifest's `counted`."""
    items = rows.items
    texts_unfilled = np.array([unfilled(text) is not None for text in items.texts])
    unstated = np.array([scale.kind == "unstated" for scale in items.text_scales])
    count = np.bincount(rows.item, minlength=len(items))
    disagrees = mismatched(rows, selection.off_scale)
    return {
        "rows_without_stated_scale": int(count[unstated[items.text]].sum()),
        "rows_whose_scale_disagrees_with_answers": int(count[disagrees].sum()),
        "rows_with_text_not_filled_in": int(count[texts_unfilled[items.text]].sum()),
        "rows_with_text_of_several_arms": int(count[shared_between_arms(rows)].sum()),
    }


def unfilled_items(rows: Rows) -> pl.DataFrame:
    """Items whose text wasn't filled in: their keys, what is left in it (`unfilled`), text, answers."""
    items = rows.items
    left = [unfilled(text) for text in items.texts]
    shown = np.flatnonzero([left[text] is not None for text in items.text])
    answers = np.bincount(rows.item, minlength=len(items))
    table = pl.DataFrame(
        {
            "study_id": [rows.studies[study] for study in items.study[shown]],
            "condition_num": items.condition[shown],
            "task_num": items.task[shown],
            "item_num": items.item_num[shown],
            "unfilled": [left[text] for text in items.text[shown]],
            "text": [items.texts[text] for text in items.text[shown]],
            "answers": answers[shown],
        }
    )
    return table.sort(ITEM)
