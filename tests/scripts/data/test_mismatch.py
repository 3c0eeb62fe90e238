"""The items to look at: unstated scales, and answers that disagree with the stated ones."""

import numpy as np
import pytest

from common.scale import Scale, admits
from scripts.data.facts import Items, Rows
from scripts.data.mismatch import in_words, items_to_look_at, mismatched

TEXTS = [
    "Only return an integer from 1 to 7, nothing else.",
    "Only return 1 for yes or 2 for no.",
    "How many? Only return an integer, nothing else.",
    "Only return the letter: A, B or C.",
    "Only return an integer from 0 to 10, nothing else.",
]
ANSWERS = [
    [11, 21, 31, 71, 7],  # coded in tens
    [1, 2] * 20 + [77],  # a refusal
    [0, 900],
    [1, 3],
    [0, 5, 10],
]


def rows_of(answers):
    count = len(TEXTS)
    item = np.concatenate([np.full(len(part), number) for number, part in enumerate(answers)])
    items = Items(
        study=np.zeros(count, int),
        condition=np.ones(count, int),
        task=np.arange(count),
        cell=np.arange(count),
        item_num=np.zeros(count, int),
        text=np.arange(count),
        texts=TEXTS,
    )
    return Rows(
        studies=["abc12"],
        study=np.zeros(len(item), int),
        sample=np.arange(len(item)),
        person=np.arange(len(item)),
        item=item,
        response=np.concatenate(answers).astype(np.int16),
        people_study=np.zeros(len(item), int),
        people=np.arange(len(item)),
        items=items,
    )


@pytest.fixture
def rows():
    return rows_of(ANSWERS)


def off(rows):
    return ~admits(rows.items.text_scales, rows.items.text[rows.item], rows.response)


def test_an_item_with_many_answers_off_its_scale_disagrees_one_with_a_refusal_does_not(rows):
    assert mismatched(rows, off(rows)).tolist() == [True, False, False, False, False]


def test_items_are_listed_with_text_stated_and_observed_range_and_counts_the_worst_first(rows):
    table = items_to_look_at(rows, off(rows))
    assert table["task_num"].to_list() == [0, 1, 2, 3]
    assert table.row(0, named=True) == {
        "study_id": "abc12",
        "condition_num": 1,
        "task_num": 0,
        "item_num": 0,
        "text": TEXTS[0],
        "stated": "1 to 7",
        "lowest": 7,
        "highest": 71,
        "answers": 5,
        "off_scale": 4,
        "mismatch": True,
    }
    assert table["stated"].to_list() == ["1 to 7", "1 or 2", "unstated", "unstated: letters"]
    assert table["off_scale"].to_list() == [4, 1, 0, 0]


def test_nothing_is_listed_when_every_answer_is_on_a_stated_scale():
    fine = rows_of([[1, 7], [1, 2], [], [], [0, 10]])
    assert items_to_look_at(fine, off(fine)).is_empty()


@pytest.mark.parametrize(
    ("scale", "shown"),
    [
        (Scale("ordinal", 1, 7), "1 to 7"),
        (Scale("ordinal", 0, 100, 10), "0 to 100 in steps of 10"),
        (Scale("binary", 10, 20, 10), "10 or 20"),
        (Scale("choice", 1, 9, 1, ((1, "a"), (2, "b"), (9, "c"))), "1, 2 or 9"),
        (Scale("bounded", 0, 10**6), "0 to 1000000"),
        (Scale("open", labels=((0, "dollars"),)), "no limits (dollars)"),
        (Scale("unstated", reason="letters"), "unstated: letters"),
    ],
)
def test_a_scale_in_words(scale, shown):
    assert in_words(scale) == shown
