"""The firewall: proofs that nothing an evaluation asks about was seen in training.

Each check compares the two sides of a split and names what stands on both. A violation is refused
before a data set reaches its place; `make audit` runs the same checks on files.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from common.errors import Refusal
from scripts.data.facts import Rows, combine, first_rows
from scripts.data.pairs import Pairs
from scripts.data.selection import EVALUATION, TRAINING, VALIDATION, Selection

EXAMPLES = 5
# What must not stand on both sides, beside rows, for each split.
FORBIDDEN = {"study": "studies", "participant": "people", "condition": "arms", "task": "outcomes"}
PROMPTS = "evaluation rows whose prompt stands in training"
REJECTED = "rejected answers from outside training"


@dataclass(frozen=True)
class Check:
    """One comparison: how many distinct things each side has, how many both have, and whether they may."""

    name: str
    train: int
    eval: int
    both: int
    verdict: str  # "passed", "allowed" (found, and the split allows it), "violated"
    examples: tuple[str, ...] = ()

    def record(self) -> dict[str, Any]:
        return asdict(self) | {"examples": list(self.examples)}


def verdict(both: int, allowed: bool) -> str:
    """The verdict on `both` things that stand on both sides."""
    return "passed" if not both else "allowed" if allowed else "violated"


def compare(
    name: str, train: np.ndarray, evaluation: np.ndarray, show: Callable[[int], str], allowed: bool = False
) -> Check:
    """Compare dense codes (0..n) of things on the two sides. `show` names a code."""
    size = int(max(train.max(initial=-1), evaluation.max(initial=-1))) + 1
    marks = np.zeros((2, size), bool)
    marks[0, train] = True
    marks[1, evaluation] = True
    both = np.flatnonzero(marks[0] & marks[1])
    shown = tuple(show(int(code)) for code in both[:EXAMPLES])
    counts = (int(marks[0].sum()), int(marks[1].sum()), len(both))
    return Check(name, *counts, verdict(len(both), allowed), shown)


def shared(values: np.ndarray, ordered: np.ndarray) -> np.ndarray:
    """True for each of `values` that stands in the sorted array `ordered` (for instance hashes of prompts).

    Not through a hash table: one of millions of values takes several times their memory.
    """
    if not len(ordered):
        return np.zeros(len(values), bool)
    at = np.searchsorted(ordered, values)
    return ordered[np.minimum(at, len(ordered) - 1)] == values


def compare_prompts(
    train: np.ndarray, evaluation: np.ndarray, show: Callable[[int], str], allowed: bool
) -> Check:
    """Evaluation rows whose prompt is byte-identical to a training one. Values are 64-bit hashes.

    The check counts distinct training prompts, and evaluation rows.
    """
    ordered = np.sort(train)  # np.unique takes ten times as long for millions of values
    distinct = len(ordered) - int(np.sum(ordered[1:] == ordered[:-1]))
    identical = np.flatnonzero(shared(evaluation, ordered))
    shown = tuple(show(int(row)) for row in identical[:EXAMPLES])
    return Check(PROMPTS, distinct, len(evaluation), len(identical), verdict(len(identical), allowed), shown)


def enforce(checks: Sequence[Check], remedy: str) -> None:
    """Refuse if a check is violated, naming what stands on both sides."""
    for check in checks:
        if check.verdict == "violated":
            more = f" and {check.both - len(check.examples)} more" if check.both > len(check.examples) else ""
            raise Refusal(
                f"the firewall found on both sides: {check.both:,} {check.name}: "
                f"{', '.join(check.examples)}{more}; {remedy}"
            )


def check_keys(rows: Rows, selection: Selection, split: str) -> list[Check]:
    """Compare rows, studies, people, arms and outcomes of the two sides (validation belongs to training)."""
    train = np.flatnonzero((selection.part == TRAINING) | (selection.part == VALIDATION))
    evaluation = selection.rows(EVALUATION)
    items, studies = rows.items, rows.studies
    arm = combine(items.study, items.condition)
    outcome = combine(items.study, items.task)
    first_arm, first_outcome = first_rows(arm), first_rows(outcome)

    def named(kind: str, item: Any, number: np.ndarray) -> str:
        return f"{studies[items.study[item]]} {kind} {number[item]}"

    things: dict[str, tuple[np.ndarray, Any]] = {
        "rows": (np.arange(len(rows)), rows.name),
        "studies": (rows.study, lambda code: studies[code]),
        "people": (
            rows.person,
            lambda code: f"{studies[rows.people_study[code]]} participant {rows.people[code]}",
        ),
        "arms": (arm[rows.item], lambda code: named("condition", first_arm[code], items.condition)),
        "outcomes": (outcome[rows.item], lambda code: named("task", first_outcome[code], items.task)),
    }
    return [
        compare(name, codes[train], codes[evaluation], show, name not in ("rows", FORBIDDEN.get(split)))
        for name, (codes, show) in things.items()
    ]


def check_pairs(rows: Rows, selection: Selection, pairs: Pairs) -> Check:
    """Rejected answers must come from training rows: neither from evaluation nor from validation."""
    if not pairs.count:
        raise Refusal(
            "there is no pair: no two people of a training cell differ; take dpo and kto out of `outputs`"
        )
    drawn = pairs.rejected[pairs.rejected >= 0]
    outside = np.flatnonzero(selection.part != TRAINING)
    return compare(REJECTED, drawn, outside, rows.name)


def check_prompts(rows: Rows, selection: Selection, hashes: np.ndarray, allowed: bool) -> Check:
    """Evaluation prompts must not be in training to the byte, unless the split allows it.

    hashes: uint64 of each row's prompt.
    """
    evaluation = selection.rows(EVALUATION)
    train = np.flatnonzero((selection.part == TRAINING) | (selection.part == VALIDATION))
    return compare_prompts(hashes[train], hashes[evaluation], lambda row: rows.name(evaluation[row]), allowed)


def drop_identical(selection: Selection, hashes: np.ndarray) -> None:
    """Drop training rows whose prompt an evaluation row repeats to the byte."""
    part = selection.part
    same = np.zeros(len(part), bool)
    train = (part == TRAINING) | (part == VALIDATION)
    same[train] = shared(hashes[train], np.sort(hashes[part == EVALUATION]))
    selection.drop(same, "prompt stands in evaluation")
