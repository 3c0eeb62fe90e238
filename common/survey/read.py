"""A survey's answers as an experiment file describes them: one table, whatever the file's form."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import polars as pl

from common.errors import Refusal
from common.experiment import Experiment
from common.experiment_file import Columns, Option
from common.prompts import DEMOGRAPHIC_FIELDS, PROMPT_FIELDS
from common.survey.answers import Unmapped, answer_codes, same
from common.survey.columns import cells_of, check_columns, named_columns, select_all
from common.survey.file import Survey
from common.survey.options import chosen_in_columns, chosen_in_list
from common.survey.people import people

LISTED = 15  # names in a note


@dataclass(frozen=True)
class SurveyAnswers:
    """Answers of a survey.

    frame: one row an answer: row (of the survey), person (id), participant, arm, task (positions in the
    experiment), wording, response, weight, and a column a demographic field. fields: their names. dropped:
    by reason, rows or answers. unmapped: values that mean nothing, whose answers are left out. notes: what
    a person should know, one sentence each.
    """

    frame: pl.DataFrame
    fields: tuple[str, ...]
    dropped: dict[str, int]
    unmapped: tuple[Unmapped, ...]
    notes: tuple[str, ...]

    def refuse_unmapped(self, survey: str | Path, remedy: str) -> None:
        """Raise `Refusal` with values and counts, if any value means nothing."""
        if self.unmapped:
            shown = "; ".join(map(str, self.unmapped[:20])) + (" ..." if len(self.unmapped) > 20 else "")
            count = sum(each.count for each in self.unmapped)
            raise Refusal(f"{survey}: {count:,} values map to nothing: {shown}. {remedy}")


def survey_answers(survey: Survey, experiment: Experiment) -> SurveyAnswers:
    """The answers in a survey. The experiment has `columns`. Raises `Refusal` for columns that don't fit."""
    columns = experiment.file.columns
    assert columns is not None
    check_columns(survey, columns, experiment)
    respondents, dropped, unmapped = people(survey, columns, experiment)
    rows, missing, wrong = _answers(survey, columns, experiment)
    unmapped += wrong
    rows = rows.join(respondents, on="row", how="inner", maintain_order="left")
    dropped = survey.dropped | dropped | ({"no answer": missing} if missing else {})
    if unmapped:
        dropped["value maps to nothing"] = sum(each.count for each in unmapped)
    notes = tuple(_notes(survey, columns, experiment, respondents))
    return SurveyAnswers(rows, tuple(columns.demographics), dropped, tuple(unmapped), notes)


def _answers(
    survey: Survey, columns: Columns, experiment: Experiment
) -> tuple[pl.DataFrame, int, list[Unmapped]]:
    """(row, task, wording, response of every answer; how many cells are empty; values that are no answer)."""
    parts, missing, unmapped = [], 0, []
    read = _long if columns.outcome is not None else _wide
    for answered in read(survey, columns, experiment):
        task = pl.lit(list(experiment.scales).index(answered.outcome)).alias("task")
        unmapped += answered.unmapped
        missing += answered.empty
        frame = pl.DataFrame(
            [answered.row, answered.wording.alias("wording"), answered.codes.alias("response")]
        )
        parts.append(frame.select("row", task, "wording", "response").drop_nulls(["wording", "response"]))
    empty = pl.DataFrame(schema=dict.fromkeys(("row", "task", "wording", "response"), pl.Int64))
    rows = pl.concat([empty, *(part.cast(pl.Int64) for part in parts)])
    return rows.sort("row", "task", "wording", maintain_order=True), missing, unmapped


class _Answered(NamedTuple):
    """Answers to one outcome: for each row of the survey its code, None without one, and the wording seen."""

    outcome: str
    row: pl.Series
    codes: pl.Series
    wording: pl.Series
    unmapped: list[Unmapped]
    empty: int


def _long(survey: Survey, columns: Columns, experiment: Experiment) -> Iterator[_Answered]:
    """One row an answer."""
    assert columns.outcome is not None and columns.answer is not None
    rows = pl.Series("row", range(len(survey.frame)), dtype=pl.Int64)
    named = cells_of(survey, columns.outcome, columns)
    asked = [None if cell is None else same(cell) for cell in named]
    outcomes = {same(outcome): outcome for outcome in experiment.scales}
    if not set(asked) & set(outcomes):
        raise Refusal(
            f"{survey.path}: no cell of {columns.outcome} names an outcome; "
            f"there are {', '.join(experiment.scales)}"
        )
    labels = survey.value_labels.get(columns.answer, {})
    for key, outcome in outcomes.items():
        here = pl.Series([cell == key for cell in asked], dtype=pl.Boolean)
        scale = experiment.scales[outcome]
        cells = _answer_cells(survey, columns.answer, columns, outcome, experiment).filter(here)
        codes, wrong = answer_codes(cells, scale, labels, outcome)
        wording = _wording(survey, columns, experiment, outcome).filter(here)
        yield _Answered(outcome, rows.filter(here), codes, wording, wrong, cells.null_count())


def _wide(survey: Survey, columns: Columns, experiment: Experiment) -> Iterator[_Answered]:
    """One row a person, with a column (or several) an outcome."""
    rows = pl.Series("row", range(len(survey.frame)), dtype=pl.Int64)
    for options in select_all(experiment).values():
        yield from _chosen(survey, columns, experiment, options)
    for outcome, spec in experiment.file.outcomes.items():
        names = columns.outcomes.get(outcome, [])
        if not names or spec.option is not None:
            continue
        texts = _most_wordings(experiment, outcome)
        every = spec.wordings == "all" and texts > 1
        if every and len(names) != texts:
            raise Refusal(
                f"`columns.outcomes.{outcome}`: all {texts} wordings are asked; list a column for each"
            )
        for number, group in enumerate([[name] for name in names] if every else [names]):
            codes, wrong, empty = _coded(survey, columns, experiment, outcome, group)
            fixed = pl.Series("wording", [number] * len(rows), dtype=pl.Int64)
            wording = fixed if every else _wording(survey, columns, experiment, outcome)
            yield _Answered(outcome, rows, codes, wording, wrong, empty)


def _chosen(
    survey: Survey, columns: Columns, experiment: Experiment, options: dict[str, Option]
) -> Iterator[_Answered]:
    """The answers to a select-all question: yes or no for each option."""
    rows = pl.Series("row", range(len(survey.frame)), dtype=pl.Int64)
    names = columns.outcomes.get(next(iter(options.values())).question, [])
    if len(names) == 1:
        codes, wrong = chosen_in_list(cells_of(survey, names[0], columns), list(options.values()))
    else:
        if not names:  # a column an option, each under the name of its outcome
            options = {outcome: option for outcome, option in options.items() if outcome in columns.outcomes}
            names = [columns.outcomes[outcome][0] for outcome in options]
        cells = [cells_of(survey, name, columns, labelled=False) for name in names]
        labels = [survey.value_labels.get(name, {}) for name in names]
        codes, wrong = chosen_in_columns(cells, list(options.values()), labels) if names else ([], [])
    for outcome, code in zip(options, codes, strict=True):
        wording = _wording(survey, columns, experiment, outcome)
        yield _Answered(outcome, rows, code, wording, wrong, code.null_count())
        wrong = []


def _coded(
    survey: Survey, columns: Columns, experiment: Experiment, outcome: str, names: list[str]
) -> tuple[pl.Series, list[Unmapped], int]:
    """(answers in a column, or in the one of several that a person was shown; unmapped; empty cells).

    Each column is read by its own labels: the same code may mean something else in the next one.
    """
    codes, wrong, cells = [], [], []
    for name in names:
        cells.append(_answer_cells(survey, name, columns, outcome, experiment))
        labels = survey.value_labels.get(name, {})
        code, unmapped = answer_codes(cells[-1], experiment.scales[outcome], labels, outcome)
        codes.append(code.alias(name))
        wrong += unmapped
    answered = pl.select(pl.sum_horizontal([cell.is_not_null().cast(pl.Int64) for cell in cells])).to_series()
    if (several := int((answered > 1).sum())) > 0:
        raise Refusal(
            f"{survey.path}: {several:,} people answered several of {', '.join(names)}, but the columns of "
            f"one outcome are those of which a person was shown one; make {outcome} several outcomes"
        )
    return pl.select(pl.coalesce(codes)).to_series(), wrong, int((answered == 0).sum())


def _answer_cells(
    survey: Survey, name: str, columns: Columns, outcome: str, experiment: Experiment
) -> pl.Series:
    """A column's answers: codes, not labels. -99 is an answer where the scale holds it."""
    scale = experiment.scales[outcome]
    if scale.low is not None and scale.contains(-99):
        return survey.frame[name]
    return cells_of(survey, name, columns, labelled=False)


def _most_wordings(experiment: Experiment, outcome: str) -> int:
    return max(len(experiment.wordings(arm, outcome)) for arm in experiment.arms)


def _wording(survey: Survey, columns: Columns, experiment: Experiment, outcome: str) -> pl.Series:
    """The wording that each row saw, from 0."""
    count, texts = len(survey.frame), _most_wordings(experiment, outcome)
    if texts == 1:
        return pl.Series("wording", [0] * count, dtype=pl.Int64)
    if outcome not in columns.wordings:
        raise Refusal(
            f"{outcome} has {texts} wordings; `columns.wordings.{outcome}` must name the column that says "
            "which one a person saw, from 1"
        )
    numbers_of: dict[str, int] = {str(number + 1): number for number in range(texts)}
    for arm in experiment.arms:
        numbers_of |= {same(text): number for number, text in enumerate(experiment.wordings(arm, outcome))}
    cells = cells_of(survey, columns.wordings[outcome], columns)
    numbers = [None if cell is None else numbers_of.get(same(cell), -1) for cell in cells]
    if -1 in numbers:
        raise Refusal(
            f"{survey.path}: {cells[numbers.index(-1)]!r} is no wording of {outcome}; write 1 to {texts}, or "
            "the text"
        )
    return pl.Series("wording", numbers, dtype=pl.Int64)


def _notes(
    survey: Survey, columns: Columns, experiment: Experiment, respondents: pl.DataFrame
) -> Iterator[str]:
    """What a person should know of the answers, one sentence each."""
    yield from survey.notes
    named = columns.demographics
    if other := [name for name in named if name not in DEMOGRAPHIC_FIELDS]:
        yield f"shown in prompts under their own names: {_some(other)}"
    if hidden := [name for name in named if name in DEMOGRAPHIC_FIELDS and name not in PROMPT_FIELDS]:
        yield f"kept, but not part of the published prompt: {', '.join(hidden)}"
    answered = {*columns.outcomes}
    silent = [
        name
        for name, spec in experiment.file.outcomes.items()
        if columns.outcomes and not answered & {name, spec.option.question if spec.option else name}
    ]
    if silent:
        yield f"outcomes without a column: {_some(silent)}"
    if "age" in named and respondents["age"].dtype == pl.Int64:
        ages = respondents["age"].drop_nulls().sort().to_list()
        if ages and not 0 <= ages[0] <= ages[-1] <= 120:
            yield f"ages run from {ages[0]} to {ages[-1]}: put codes for no answer into `columns.missing`"
    used = set(named_columns(columns))
    if unused := [name for name in survey.frame.columns if name not in used]:
        yield f"columns not used: {_some(unused)}"
    if experiment.file.design.counterbalance_labels:
        yield "labels are in the order of the experiment file for everybody, whatever order a person saw"


def _some(names: list[str]) -> str:
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return ", ".join(names[:LISTED]) + more
