"""Answers of real people to the experiment: a pilot to combine with, or observations to set beside."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
import polars as pl

from common.errors import Refusal
from common.experiment import Experiment
from common.experiment_file import suggestion
from common.prompts import DEMOGRAPHIC_FIELDS
from common.scale import Scale
from common.survey.columns import named_columns
from common.survey.file import Survey, read_survey, survey_of
from common.survey.read import survey_answers
from eval.simulation.population import Source, named, table_of

TIDY = ("arm", "outcome", "answer")
NEEDED = "it needs arm, outcome, answer, or a block `columns` in the experiment file that says what it holds"


class Observed(NamedTuple):
    """N real answers to one outcome: arm (position), answer or a measure's value of it, person (number),
    survey weight."""

    arm: np.ndarray
    answer: np.ndarray
    person: np.ndarray
    weight: np.ndarray

    def where(self, mask: np.ndarray) -> "Observed":
        """Some of the answers. mask: bool (N)."""
        return Observed(*(part[mask] for part in self))

    def share(self, answer: int) -> float:
        """The weighted share of people with this answer."""
        return float(self.weight @ (self.answer == answer) / self.weight.sum())


@dataclass(frozen=True)
class RealAnswers:
    """Real answers. `frame`: person, arm, outcome, wording (positions and names as in `assign`), reversed,
    answer, weight (1 without survey weights). `people`: their profiles, in the order of `person`."""

    frame: pl.DataFrame
    people: pl.DataFrame

    def of(self, outcome: str) -> Observed:
        """The answers to one outcome."""
        rows = self.frame.filter(self.frame["outcome"] == outcome)
        return Observed(*(rows[name].to_numpy() for name in ("arm", "answer", "person", "weight")))

    def where(self, usable: np.ndarray) -> "RealAnswers":
        """Some of the answers. usable: bool, one a row of `frame`."""
        return RealAnswers(self.frame.filter(usable), self.people)


class Weighted(Protocol):
    """Answers or choices of people with weights."""

    @property
    def person(self) -> np.ndarray:
        """int (N)."""

    @property
    def weight(self) -> np.ndarray:
        """float64 (N)."""


def parts_of(real: RealAnswers | None) -> list[Weighted]:
    """The answers to each outcome that some were given to."""
    return [real.of(outcome) for outcome in real.frame["outcome"].unique()] if real else []


def design_effect(parts: Sequence[Weighted]) -> float:
    """By how much people's weights multiply the variance of a mean, to first order; from 1 on (Kish 1965)."""
    person, weight = (np.concatenate([getattr(one, key) for one in parts]) for key in ("person", "weight"))
    _, at = np.unique(person, return_inverse=True)
    of_person = np.bincount(at, weight) / np.bincount(at)
    return float(len(of_person) * (of_person**2).sum() / of_person.sum() ** 2)


def read_answers(source: Source, experiment: Experiment) -> RealAnswers:
    """Read real answers from a file or a polars frame.

    Either a survey's export, of whatever format, as the experiment file's block `columns` describes it; or a
    tidy table with the columns arm, outcome, answer, optionally person, wording (from 1), demographic fields
    and survey weights (`weight`, or what `columns.weight` names). Raises `Refusal` with the row (tidy) or the
    value and its count (survey) for an unknown arm or outcome, and for an answer that the scale doesn't have.
    """
    survey = survey_of(source) if isinstance(source, pl.DataFrame) else read_survey(source)
    if _is_tidy(survey, experiment):
        tidy = isinstance(source, pl.DataFrame) or Path(source).suffix.lower() in (".csv", ".tsv", ".txt")
        return _tidy(table_of(source, NEEDED) if tidy else survey.frame, named(source), experiment)
    return _described(survey, named(source), experiment)


def _is_tidy(survey: Survey, experiment: Experiment) -> bool:
    """True for a table with the tidy columns, unless it has all that the experiment file names, too."""
    columns, names = experiment.file.columns, set(survey.frame.columns)
    return set(TIDY) <= names and not (columns and set(named_columns(columns)) <= names)


def _described(survey: Survey, name: str, experiment: Experiment) -> RealAnswers:
    """A survey's answers, by the experiment file's `columns`."""
    if experiment.file.columns is None:
        absent = next(column for column in TIDY if column not in survey.frame.columns)
        raise Refusal(f"{name} has no column {absent}; {NEEDED}")
    read = survey_answers(survey, experiment)
    read.refuse_unmapped(name, "Complete the labels in the experiment file, or its `columns.missing`")
    if read.frame.is_empty():
        raise Refusal(
            f"{name} leaves no answer of a person in an arm; check `columns` in the experiment file"
        )
    frame = read.frame.with_columns(pl.col("participant").cast(pl.Int64).alias("person"))
    people = frame.group_by("person").agg(pl.col(field).first() for field in read.fields).sort("person")
    outcome = pl.col("task").replace_strict(dict(enumerate(experiment.scales)), return_dtype=pl.String)
    rows = frame.select(
        pl.col("person").replace_strict(people["person"], range(len(people)), return_dtype=pl.Int64),
        pl.col("response").alias("answer"), "wording", outcome.alias("outcome"), "arm", "weight",
        reversed=pl.lit(False),
    )  # fmt: skip
    return RealAnswers(rows, people.with_columns(person=pl.int_range(len(people), dtype=pl.Int64)))


def _tidy(table: pl.DataFrame, name: str, experiment: Experiment) -> RealAnswers:
    """A table of one row an answer, whose arms and outcomes have the experiment's names."""
    arms = [arm.name for arm in experiment.arms]
    table = table.with_columns(pl.col("arm", "outcome").cast(pl.String))
    _refuse_unknown(name, table["arm"], arms, "arm")
    _refuse_unknown(name, table["outcome"], list(experiment.scales), "outcome")
    rows = range(len(table))
    person = table["person"].cast(pl.String) if "person" in table.columns else pl.Series(map(str, rows))
    answer = _answers(name, table, experiment)
    wording = _wordings(name, table, experiment)
    weight = _weights(name, table, experiment)
    table = table.with_columns(answer=answer, person_name=person, wording=wording, weight=weight)
    demographics = experiment.file.columns.demographics if experiment.file.columns else {}
    fields = [
        field for field in dict.fromkeys((*DEMOGRAPHIC_FIELDS, *demographics)) if field in table.columns
    ]
    people = table.group_by("person_name", maintain_order=True).agg(pl.col(field).first() for field in fields)
    people = people.with_row_index("person").with_columns(pl.col("person").cast(pl.Int64))
    position = {arm: index for index, arm in enumerate(arms)}
    answers = table.select("person_name", "answer", "wording", "outcome", "arm", "weight").join(
        people.select("person_name", "person"), on="person_name", how="left", maintain_order="left"
    )
    arm_position = pl.col("arm").replace_strict(position, return_dtype=pl.Int64)
    answers = answers.with_columns(arm_position, reversed=pl.lit(False))
    return RealAnswers(answers, people.drop("person_name"))


def _answers(name: str, table: pl.DataFrame, experiment: Experiment) -> pl.Series:
    """The answers as whole numbers, each one that its outcome's scale has."""
    number = table["answer"].cast(pl.Float64, strict=False)
    bad = (number.is_null() | (number.round() != number)).fill_null(True).arg_true()
    if len(bad):
        row, text = bad[0] + 2, table["answer"][bad[0]]
        raise Refusal(f"{name} row {row}: answer {text} is no whole number; leave such rows out")
    answer = number.cast(pl.Int64)
    for row, (outcome, value) in enumerate(zip(table["outcome"], answer, strict=True)):
        if not experiment.scales[outcome].contains(value):
            raise Refusal(
                f"{name} row {row + 2}: {value} is no answer on the scale of {outcome}; leave such rows out"
            )
    return answer


def _weights(name: str, table: pl.DataFrame, experiment: Experiment) -> pl.Series:
    """Survey weights, each above 0; 1 where the table has none."""
    given = experiment.file.columns.weight if experiment.file.columns else None
    column = next((one for one in (given, "weight") if one in table.columns), None)
    if column is None:
        return pl.repeat(1.0, len(table), eager=True)
    weight = table[column].cast(pl.Float64, strict=False)
    wrong = (~(weight.is_finite() & (weight > 0))).fill_null(True).arg_true()
    if len(wrong):
        row, text = wrong[0] + 2, table[column][wrong[0]]
        raise Refusal(f"{name} row {row}: {column} is {text}; write a number above 0, or leave such rows out")
    return weight


def _wordings(name: str, table: pl.DataFrame, experiment: Experiment) -> pl.Series:
    """Which of the question's texts was answered, from 0; the first where the file doesn't say."""
    if "wording" not in table.columns:
        return pl.Series([0] * len(table), dtype=pl.Int64)
    arms = {arm.name: arm for arm in experiment.arms}
    given = table["wording"].cast(pl.Int64, strict=False) - 1
    for row, (arm, outcome, wording) in enumerate(zip(table["arm"], table["outcome"], given, strict=True)):
        count = len(experiment.wordings(arms[arm], outcome))
        if wording is None or not 0 <= wording < count:
            raise Refusal(f"{name} row {row + 2}: wording is a number from 1 to {count}; fix it")
    return given


def _refuse_unknown(name: str, words: pl.Series, allowed: list[str], what: str) -> None:
    for row, word in enumerate(words):
        if word not in allowed:
            hint = suggestion(str(word), allowed) or f"there are {', '.join(allowed[:8])}"
            raise Refusal(f"{name} row {row + 2}: no {what} is named {word!r}; {hint}".rstrip())


def values_of(scale: Scale, support: np.ndarray, value: np.ndarray, answers: np.ndarray) -> np.ndarray:
    """A measure's value of each real answer; an answer outside the support counts as itself."""
    if scale.kind == "choice":
        table = dict(zip(support.tolist(), value.tolist(), strict=True))
        return np.array([table.get(answer, 0.0) for answer in answers.tolist()])
    return answers.astype(float)
