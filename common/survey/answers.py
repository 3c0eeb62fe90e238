"""What a survey's cells mean: the answer on a scale, the arm of an experiment. Trimmed and case-blind."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

import polars as pl

from common.errors import Refusal
from common.experiment import Arm, Experiment
from common.scale import Scale

INTEGER = re.compile(r"[-−+]?\d{1,18}(?:\.0*)?")
NUMBERED = re.compile(r"([-−+]?\d{1,18})\s*(?:(?:[-–—=:)]+|\.(?!\d))\s*(.*))?")  # 7 - strongly agree
THOUSANDS = re.compile(r"[$€£]?\s*([-−]?\d{1,3}(?:[,' ]\d{3}){1,5}|[-−]?\d{1,18})(?:\.0+)?")  # $1,200


@dataclass(frozen=True)
class Unmapped:
    """A value that means nothing: where it is, and in how many cells."""

    what: str
    value: str
    count: int

    def __str__(self) -> str:
        return f"{self.what}: {self.value[:60]!r} ({self.count:,})"


def same(text: str) -> str:
    """Texts that are equal but for case and spaces have the same form."""
    return " ".join(text.split()).casefold().replace("’", "'")


def answer_codes(
    cells: pl.Series, scale: Scale, labels: Mapping[str, str], outcome: str
) -> tuple[pl.Series, list[Unmapped]]:
    """(the answer of each cell, None where it has none; values that are no answer, with counts).

    cells: texts. labels: what the file says that its codes mean.
    """
    counts = cells.drop_nulls().value_counts(sort=True)
    codes: dict[str, int | None] = {}
    wrong = []
    for value, count in counts.iter_rows():
        codes[value] = answer_of(value, scale, labels.get(value))
        if codes[value] is None:
            shown = f"{value} = {labels[value]}" if value in labels else value
            wrong.append(Unmapped(outcome, shown, count))
    mapped = [None if cell is None else codes[cell] for cell in cells]
    return pl.Series("response", mapped, dtype=pl.Int64), wrong


def answer_of(value: str, scale: Scale, label: str | None = None) -> int | None:
    """The answer that a cell gives: by its label, or the scale's, or as a number on the scale."""
    of_label: dict[str, int] = {}
    if scale.kind not in ("open", "unstated"):
        for answer, meaning in scale.labels:
            of_label.setdefault(same(meaning), answer)
    for text in (label, value):
        if text is not None and same(text) in of_label:
            return of_label[same(text)]
    if INTEGER.fullmatch(value):
        number = int(float(value.replace("−", "-"))) if "." in value else int(value.replace("−", "-"))
        return number if scale.contains(number) else None
    if scale.kind in ("open", "unstated") and (match := THOUSANDS.fullmatch(value)):
        return int(re.sub(r"[,' ]", "", match[1]).replace("−", "-"))
    if match := NUMBERED.fullmatch(value):
        number = int(match[1].replace("−", "-"))
        meaning = match[2] or ""
        named = of_label.get(same(meaning))
        if named is not None:
            return named
        return number if scale.contains(number) and number not in dict(scale.labels) else None
    return None


def arm_codes(
    named: Mapping[str, pl.Series], experiment: Experiment, translated: Mapping[str, str], count: int
) -> tuple[pl.Series, list[Unmapped]]:
    """(the number of each row's arm, None where it has none; values that name no arm, with counts).

    named: the column of each factor, or the column of arms under ""; empty for a poll's one group.
    """
    if not named:
        return pl.Series("arm", [0] * count, dtype=pl.Int64), []
    words = {same(value): name for value, name in translated.items()}
    levels: dict[str, list[str | None]] = {}
    wrong = []
    for factor, cells in named.items():
        names = _level_names(experiment, factor)
        for value, name in words.items():
            names.setdefault(value, names.get(same(name), ""))
        levels[factor] = [None if cell is None else names.get(same(cell)) or None for cell in cells]
        unknown = cells.filter(pl.Series([cell is not None and not names.get(same(cell)) for cell in cells]))
        for value, times in unknown.value_counts(sort=True).iter_rows():
            wrong.append(Unmapped(f"arm{f' {factor}' if factor else ''}", value, times))
    arms = {_key(arm, list(named)): number for number, arm in enumerate(experiment.arms)}
    codes = [arms.get(tuple(row)) if None not in row else None for row in zip(*levels.values(), strict=True)]
    return pl.Series("arm", codes, dtype=pl.Int64), wrong


def _key(arm: Arm, factors: list[str]) -> tuple[str, ...]:
    return (arm.name,) if factors == [""] else tuple(arm.levels[factor] for factor in factors)


def _level_names(experiment: Experiment, factor: str) -> dict[str, str]:
    """What a cell may say, in the form of `same`: an arm's (or a level's) name, or the text it stands for."""
    if not factor:
        names = {same(arm.name): arm.name for arm in experiment.arms}
        texts = {arm.name: " ".join(arm.texts.values()) for arm in experiment.arms}
    else:
        levels = (experiment.file.factors or {}).get(factor)
        if levels is None:
            raise Refusal(f"the experiment has no factor {factor!r}")
        names, texts = {same(level): level for level in levels}, dict(levels)
    for name, text in texts.items():
        if text.strip() and list(map(same, texts.values())).count(same(text)) == 1:
            names.setdefault(same(text), name)
    return names
