"""What a survey's cells mean on an answer scale. Texts are compared trimmed and case-blind."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

import polars as pl

from common.scale import Scale

INTEGER = re.compile(r"([-−+]?\d{1,18})(?:\.0*|,0{1,2})?")
NUMBERED = re.compile(r"([-−+]?\d{1,18})\s*(?:(?:[-–—=:)]+|\.(?!\d))\s*(.*))?", re.DOTALL)  # 7 - agree
AMOUNT = re.compile(r"[$€£]?\s*([-−]?\d{1,3}(?:[,' ]\d{3}){1,5}|[-−]?\d{1,18})(?:\.0+)?\s*[%$€£]?")  # $1,200
NOT_AN_ANSWER = re.compile(
    r"(?:do not|don't|dont) know|dk|no (?:answer|opinion|response|reply)|refus\w+|prefer not.*"
    r"|not applicable|n/?a|missing|skip\w*|not asked|not stated|unsure|can(?:'t|not) say"
    r"|declined?|no idea|not seen"
)


@dataclass(frozen=True)
class Unmapped:
    """A value that means nothing: where it is, and in how many cells."""

    what: str
    value: str
    count: int

    def __str__(self) -> str:
        return f"{self.what}: {self.value[:60]!r} ({self.count:,})"


def same(text: str) -> str:
    """Texts that are equal but for case, blanks, the shape of quotes and dashes, and a last full stop have
    the same form."""
    plain = re.sub(r"[\u200b-\u200f\u2060\ufeff\u00ad]", "", text)
    plain = re.sub(r"[‘’ʼ`´]", "'", re.sub(r"[“”„]", '"', re.sub(r"[‐-―−]", "-", plain)))
    return " ".join(plain.split()).casefold().rstrip(".:; ") or plain.strip()


def answer_codes(
    cells: pl.Series, scale: Scale, labels: Mapping[str, str], outcome: str
) -> tuple[pl.Series, list[Unmapped]]:
    """(the answer of each cell, None where it has none; values that are no answer, with counts).

    cells: texts of one column. labels: what the file says that its codes mean.
    """
    counts = cells.drop_nulls().value_counts(sort=True)
    code = Code.of(scale, labels, counts.to_series(0).to_list())
    codes: dict[str, int | None] = {}
    wrong = []
    for value, count in counts.iter_rows():
        codes[value] = code.answer(value)
        if codes[value] is None:
            shown = f"{value} = {labels[value]}" if value in labels else value
            wrong.append(Unmapped(outcome, shown, count))
    return cells.replace_strict(codes, default=None, return_dtype=pl.Int64).alias("response"), wrong


@dataclass(frozen=True)
class Code:
    """How a column's values answer a scale.

    of_label: {text in the form of `same`: answer}. labels: what the file says its codes mean. sign, shift:
    answer = sign * code + shift for codes without a label, as the labelled ones tell (they may run the other
    way, or start elsewhere); sign is 0 where they don't tell.
    """

    scale: Scale
    of_label: Mapping[str, int]
    labels: Mapping[str, str]
    sign: int = 1
    shift: int = 0

    @classmethod
    def of(cls, scale: Scale, labels: Mapping[str, str], values: list[str]) -> "Code":
        """The code of a column that holds `values`."""
        of_label: dict[str, int] = {}
        if scale.kind not in ("open", "unstated"):
            for answer, meaning in scale.labels:
                of_label.setdefault(same(meaning), answer)
        pairs = set()
        numbered = ((match[1], match[2] or "") for match in map(NUMBERED.fullmatch, values) if match)
        for number, meaning in (*labels.items(), *numbered):
            if (code := _integer(number)) is not None and same(meaning) in of_label:
                pairs.add((code, of_label[same(meaning)]))
        return cls(scale, of_label, labels, *_line(pairs, scale))

    def answer(self, value: str) -> int | None:
        """The answer of a value: by its label, or the scale's, or as a number on the scale."""
        label = self.labels.get(value)
        for text in (label, value):
            if text is not None and same(text) in self.of_label:
                return self.of_label[same(text)]
        number = _integer(value)
        meaning = label
        if number is None and (match := NUMBERED.fullmatch(value)):
            number, meaning = _integer(match[1]), match[2] or ""
            if same(meaning) in self.of_label:
                return self.of_label[same(meaning)]
        if number is None and (match := AMOUNT.fullmatch(value)):
            number = _integer(re.sub(r"[,' ]", "", match[1]))
        if number is None or not self.sign:
            return None
        answer = self.sign * number + self.shift
        if meaning is not None and not self._may_mean(answer, meaning):
            return None
        return answer if self.scale.contains(answer) else None

    def _may_mean(self, answer: int, meaning: str) -> bool:
        """False if the scale calls this answer something else, or the words say that it is none."""
        stated = self.scale.kind not in ("open", "unstated") and answer in dict(self.scale.labels)
        return not stated and not NOT_AN_ANSWER.fullmatch(same(meaning))


def answer_of(value: str, scale: Scale, label: str | None = None) -> int | None:
    """The answer that one value gives; label: what the file says it means."""
    return Code.of(scale, {} if label is None else {value: label}, [value]).answer(value)


def _integer(text: str) -> int | None:
    match = INTEGER.fullmatch(text)
    return int(match[1].replace("−", "-")) if match else None


def _line(pairs: set[tuple[int, int]], scale: Scale) -> tuple[int, int]:
    """(sign, shift) of the codes that have these answers: as they are unless the labels say otherwise.

    A scale without order has no line: then only codes that are the answers themselves need no label.
    """
    if all(code == answer for code, answer in pairs):
        return 1, 0
    if len({code for code, _ in pairs}) < 2 or scale.kind == "choice":
        return 0, 0
    for sign in (1, -1):
        if len(shifts := {answer - sign * code for code, answer in pairs}) == 1:
            return sign, shifts.pop()
    return 0, 0
