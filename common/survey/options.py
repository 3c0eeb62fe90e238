"""Select-all-that-apply questions: from the columns of a survey to a yes or no for each option.

Where every cell of a person is empty, there is no answer; where something was chosen, what wasn't is a no.
"""

import re
from collections.abc import Mapping, Sequence

import polars as pl

from common.experiment_file import Option
from common.survey.answers import Unmapped, same

CHOSEN = ("1", "yes", "true", "selected", "checked", "ticked", "marked", "mentioned", "chosen", "x", "on")
NOT_CHOSEN = ("0", "no", "false", "off", "-", *(no + word for no in ("not ", "un") for word in CHOSEN[3:9]))


def chosen_in_columns(
    columns: Sequence[pl.Series], options: Sequence[Option], labels: Sequence[Mapping[str, str]]
) -> tuple[list[pl.Series], list[Unmapped]]:
    """(of each option 1, 0 or None a row; cells that mean neither), from a column an option.

    A cell says yes (its option's label or number, 1, x, selected, ...) or no (0, not selected, ...).
    """
    asked = pl.select(pl.any_horizontal([cells.is_not_null() for cells in columns])).to_series()
    codes, wrong = [], []
    for cells, option, named in zip(columns, options, labels, strict=True):
        means: dict[str, int | None] = {}
        for value, count in cells.drop_nulls().value_counts(sort=True).iter_rows():
            means[value] = _says(value, option, named)
            if means[value] is None:
                shown = f"{value} = {named[value]}" if value in named else value
                wrong.append(Unmapped(f"{option.question}: {option.label}", shown, count))
        code = cells.replace_strict(means, default=None, return_dtype=pl.Int64)
        empty = asked & cells.is_null()
        codes.append(pl.select(pl.when(empty).then(0).otherwise(code).alias("response")).to_series())
    return codes, wrong


def _says(value: str, option: Option, labels: Mapping[str, str]) -> int | None:
    """1 if a cell says that the option was chosen, 0 if it says that it wasn't, None if neither."""
    label = same(labels.get(value, value))
    if label == same(option.label):
        return 1
    for text in (label, same(value)):
        if text in NOT_CHOSEN:
            return 0
        if text in CHOSEN or text == str(option.number):
            return 1
    return None


def chosen_in_list(cells: pl.Series, options: Sequence[Option]) -> tuple[list[pl.Series], list[Unmapped]]:
    """(of each option 1, 0 or None a row; parts of cells that are no option), from one column of lists.

    Labels may hold commas themselves, so the longest label that fits is taken; numbers are the options'.
    """
    names = {_flat(option.label): option.number for option in options}
    names |= {str(option.number): option.number for option in options if str(option.number) not in names}
    chosen: dict[str, set[int]] = {}
    wrong = []
    for value, count in cells.drop_nulls().value_counts(sort=True).iter_rows():
        chosen[value], rest = _listed(value, names)
        if rest:
            del chosen[value]
            wrong.append(Unmapped(options[0].question, rest, count))
    codes = []
    for option in options:
        says = {value: int(option.number in picks) for value, picks in chosen.items()}
        codes.append(cells.replace_strict(says, default=None, return_dtype=pl.Int64).alias("response"))
    return codes, wrong


def _flat(text: str) -> str:
    """The form of `same`, with a comma for every sign that may part a list."""
    return re.sub(r"\s*,\s*", ",", same(re.sub(r"[;|\n]", ",", text)))


def _listed(text: str, names: Mapping[str, int]) -> tuple[set[int], str]:
    """(numbers of the options that a cell lists, the first part of it that is none)."""
    parts = re.sub(r"[;|\n]", ",", text.strip("[]{}")).split(",")
    longest = 1 + max(name.count(",") for name in names)
    picks: set[int] = set()
    begin = 0
    while begin < len(parts):
        for end in range(min(begin + longest, len(parts)), begin, -1):
            if (name := _flat(",".join(parts[begin:end]).strip(" \"'"))) in names:
                picks.add(names[name])
                begin = end
                break
        else:
            if parts[begin].strip(" \"'"):
                return picks, parts[begin].strip()
            begin += 1
    return picks, ""
