"""An item's answer scale: which integers answer it, what they mean, and the sentence that asks for them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import polars as pl

from common.contract import SCALE

Kind = Literal["binary", "choice", "ordinal", "bounded", "open", "unstated"]
KINDS: tuple[Kind, ...] = ("binary", "choice", "ordinal", "bounded", "open", "unstated")
MAX_ANSWERS = 1000  # an item with more admissible answers is sampled, not enumerated


@dataclass(frozen=True)
class Scale:
    """A typed answer scale.

    kind: `binary` (two answers), `choice` (labelled, no order), `ordinal` (ordered points, such as
    Likert), `bounded` (a numeric range, such as 0-100), `open` (a number without stated limits),
    `unstated` (the text says nothing). low, high: the lowest and highest answer, None when open or
    unstated. step: distance between neighbouring answers. labels: (answer, meaning) pairs, sorted;
    all answers of a choice, often only the end points of the others. span: start and end of the
    sentence in the text that states the scale. reason: why a scale is unstated, if that is known:
    "letters" (letters or words are the answers), "fractions" or "several" (numbers in one answer).
    """

    kind: Kind
    low: int | None = None
    high: int | None = None
    step: int = 1
    labels: tuple[tuple[int, str], ...] = ()
    span: tuple[int, int] | None = None
    reason: str = ""

    def answers(self) -> tuple[int, ...] | None:
        """Every admissible answer, ascending; None when there is no limit or more than MAX_ANSWERS."""
        if self.kind == "choice" and self.labels:
            return tuple(value for value, _ in self.labels)
        if self.low is None or self.high is None or (self.high - self.low) // self.step + 1 > MAX_ANSWERS:
            return None
        return tuple(range(self.low, self.high + 1, self.step))

    def contains(self, answer: int) -> bool:
        """True if `answer` is admissible; an open or unstated scale admits every integer."""
        if self.low is None or self.high is None:
            return True
        if self.kind == "choice" and self.labels:
            return any(value == answer for value, _ in self.labels)
        return self.low <= answer <= self.high and (answer - self.low) % self.step == 0

    def sentence(self) -> str:
        """The answer-format sentence that ends a stimulus, worded as in SocSci210."""
        if self.kind == "unstated":
            return "Only return an integer, nothing else."
        if self.kind == "open":
            unit = self.labels[0][1] if self.labels else ""
            return f"Only return an integer{f' representing {unit}' if unit else ''}, nothing else."
        if self.kind == "bounded" or (self.kind == "ordinal" and len(self.labels) == 2):
            step = f" in steps of {self.step}" if self.step != 1 else ""
            meaning = " and ".join(f"{value} means {label}" for value, label in self.labels)
            where = f", where {meaning}" if meaning else ""
            return f"Only return an integer from {self.low} to {self.high}{step}{where}, nothing else."
        if self.labels:
            listed = ", ".join(f"{value} = {label}" for value, label in self.labels)
            return f"Only return an integer: {listed}, nothing else."
        return f"Only return an integer from {self.low} to {self.high}, nothing else."


def to_columns(scales: Sequence[Scale]) -> pl.DataFrame:
    """Scales as the columns of the contract (`common.contract.SCALE`), one row each."""
    labels = [[{"value": value, "label": text} for value, text in scale.labels] for scale in scales]
    columns: dict[str, Any] = {
        "scale_kind": [scale.kind for scale in scales],
        "scale_low": [scale.low for scale in scales],
        "scale_high": [scale.high for scale in scales],
        "scale_step": [None if scale.low is None else scale.step for scale in scales],
        "scale_labels": labels,
    }
    return pl.DataFrame({name: pl.Series(columns[name], dtype=dtype) for name, dtype in SCALE.items()})


def from_columns(rows: pl.DataFrame) -> list[Scale]:
    """Each row's scale, from the columns of the contract; equal ones are one object."""
    distinct: dict[Any, Scale] = {}
    scales = []
    for kind, low, high, step, labels in rows.select(list(SCALE)).iter_rows():
        pairs = tuple((label["value"], label["label"]) for label in labels or ())
        key = (kind, low, high, step, pairs)
        if key not in distinct:
            distinct[key] = Scale(kind, low, high, step or 1, pairs)
        scales.append(distinct[key])
    return scales


def admits(scales: Sequence[Scale], which: np.ndarray, answers: np.ndarray) -> np.ndarray:
    """`scales[which].contains(answers)` for N answers at once: bool (N,).

    which: int (N,), positions in `scales`. answers: int64 (N,). An answer that its scale doesn't admit is
    "off the scale"; this is the one definition of it.
    """
    stated = np.array([scale.low is not None and scale.high is not None for scale in scales], bool)
    low = np.array([scale.low or 0 for scale in scales], np.int64)[which]
    high = np.array([scale.high or 0 for scale in scales], np.int64)[which]
    step = np.array([scale.step for scale in scales], np.int64)[which]
    admitted = (answers >= low) & (answers <= high)
    stepped = admitted & (step > 1)
    admitted[stepped] = (answers[stepped] - low[stepped]) % step[stepped] == 0
    listed = np.array([scale.kind == "choice" and bool(scale.labels) for scale in scales], bool)
    rows = np.flatnonzero(listed[which])
    rows = rows[np.argsort(which[rows], kind="stable")]
    for group in np.split(rows, np.flatnonzero(np.diff(which[rows])) + 1):
        labels = scales[which[group[0]]].labels if len(group) else ()
        admitted[group] = np.isin(answers[group], [value for value, _ in labels])
    return admitted | ~stated[which]
