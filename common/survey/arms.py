"""Which arm of an experiment a row of a survey is in."""

from collections.abc import Mapping
from typing import NamedTuple

import polars as pl

from common.experiment import Arm, Experiment
from common.survey.answers import Unmapped, same

NOT_HERE = ("0", "no", "false")  # beside an empty cell: the column of an arm that somebody wasn't in


class Cells(NamedTuple):
    """A column's cells: by the file's labels, and as they are in it."""

    labelled: pl.Series
    raw: pl.Series


def arm_codes(
    named: Mapping[str, Cells], experiment: Experiment, translated: Mapping[str, str], count: int
) -> tuple[pl.Series, list[Unmapped]]:
    """(the number of each row's arm, None where it has none; values that name no arm, with counts).

    named: the column of each factor, or of each arm, or the one column of arms under ""; empty for a poll's
    one group. translated: what values mean that aren't names.
    """
    if not named:
        return pl.Series("arm", [0] * count, dtype=pl.Int64), []
    if experiment.file.factors is None and "" not in named:
        return _marked(named, experiment, count)
    levels: dict[str, list[str | None]] = {}
    wrong = []
    for factor, cells in named.items():
        levels[factor], unknown = _levels(cells, factor, experiment, translated)
        wrong += unknown
    arms = {_key(arm, list(named)): number for number, arm in enumerate(experiment.arms)}
    codes = [arms.get(tuple(row)) if None not in row else None for row in zip(*levels.values(), strict=True)]
    return pl.Series("arm", codes, dtype=pl.Int64), wrong


def _levels(
    cells: Cells, factor: str, experiment: Experiment, translated: Mapping[str, str]
) -> tuple[list[str | None], list[Unmapped]]:
    """(the level, or arm, that each cell names; values that name none)."""
    names = _level_names(experiment, factor)
    words = dict(names)
    for value, name in translated.items():
        if same(name) in names:
            words[same(value)] = names[same(name)]
    level_of: dict[tuple[str | None, str | None], str | None] = {}
    wrong = []
    pairs = pl.DataFrame({"label": cells.labelled, "raw": cells.raw})
    for label, raw, times in pairs.group_by("label", "raw", maintain_order=True).len().iter_rows():
        if label is None:
            continue
        level_of[label, raw] = words.get(same(label)) or words.get(same(raw or ""))
        if level_of[label, raw] is None:
            wrong.append(Unmapped(f"arm{f' {factor}' if factor else ''}", label, times))
    return [level_of.get(pair) for pair in pairs.iter_rows()], wrong


def _marked(
    named: Mapping[str, Cells], experiment: Experiment, count: int
) -> tuple[pl.Series, list[Unmapped]]:
    """The arm whose column isn't empty, as randomizers write it: a column for each arm."""
    numbers = {arm.name: number for number, arm in enumerate(experiment.arms)}
    codes: list[int | None] = [None] * count
    several = 0
    for row in range(count):
        inside = [
            numbers[arm]
            for arm, cells in named.items()
            if cells.labelled[row] is not None and same(cells.labelled[row]) not in NOT_HERE
        ]
        several += len(inside) > 1
        codes[row] = inside[0] if len(inside) == 1 else None
    wrong = [Unmapped("arm", "in several arms at once", several)] if several else []
    return pl.Series("arm", codes, dtype=pl.Int64), wrong


def _key(arm: Arm, factors: list[str]) -> tuple[str, ...]:
    return (arm.name,) if factors == [""] else tuple(arm.levels[factor] for factor in factors)


def _level_names(experiment: Experiment, factor: str) -> dict[str, str]:
    """What a cell may say, in the form of `same`: an arm's (or a level's) name, or the text it stands for."""
    if not factor:
        names = {same(arm.name): arm.name for arm in experiment.arms}
        texts = {arm.name: " ".join(arm.texts.values()) for arm in experiment.arms}
    else:
        levels = (experiment.file.factors or {})[factor]
        names, texts = {same(level): level for level in levels}, dict(levels)
    for name, text in texts.items():
        if text.strip() and list(map(same, texts.values())).count(same(text)) == 1:
            names.setdefault(same(text), name)
    return names
