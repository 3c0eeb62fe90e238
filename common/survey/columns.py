"""The columns of a survey that the experiment file names: people with their arms and fields, and answers."""

import difflib
from collections.abc import Iterator
from typing import NamedTuple

import polars as pl

from common.errors import Refusal
from common.experiment import Experiment
from common.experiment_file import Columns
from common.scale import Scale
from common.survey.answers import Unmapped, answer_codes, arm_codes, same
from common.survey.file import Survey

NUMBERS = ("age", "household_size")  # numbers in SocSci210, where everybody's is one; else text (age bands)


def check_columns(survey: Survey, columns: Columns, experiment: Experiment) -> None:
    """Refuse columns that the file lacks, and outcomes and factors that the experiment lacks."""
    wide, long = bool(columns.outcomes), columns.outcome is not None or columns.answer is not None
    if wide == long or (long and None in (columns.outcome, columns.answer)):
        raise Refusal(
            "`columns` needs either `outcomes` (a column each), or `outcome` and `answer` (one row an answer)"
        )
    if long and columns.person is None:
        raise Refusal("`columns` needs `person`: with one row an answer, people are told apart by their ids")
    for outcome in (*columns.outcomes, *columns.wordings):
        _known(outcome, list(experiment.scales), "`columns` names the outcome")
    factors = list(experiment.file.factors or ())
    if isinstance(columns.arm, dict):
        for factor in columns.arm:
            _known(factor, factors, "`columns.arm` names the factor")
        if missing := [factor for factor in factors if factor not in columns.arm]:
            raise Refusal(f"`columns.arm` lacks the factor {missing[0]}; name its column")
    elif columns.arm is None and len(experiment.arms) > 1:
        raise Refusal("`columns` needs `arm`: the column, or one column a factor, that says what people saw")
    for column in named_columns(columns):
        _known(column, survey.frame.columns, f"{survey.path} has no column")


def _known(name: str, names: list[str], what: str) -> None:
    if name not in names:
        near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise Refusal(f"{what} {name!r}; {hint}there are {', '.join(names[:20])}")


def named_columns(columns: Columns) -> list[str]:
    """Every column of the file that the description names."""
    arm = columns.arm.values() if isinstance(columns.arm, dict) else [columns.arm]
    lists = (column for each in columns.outcomes.values() for column in each)
    others = (columns.person, columns.outcome, columns.answer, columns.weight)
    named = (*others, *arm, *lists, *columns.wordings.values(), *columns.demographics.values())
    return [column for column in named if column is not None]


def _cells(survey: Survey, column: str, columns: Columns, labelled: bool = True) -> pl.Series:
    """A column's cells; null where the file, -99 or `columns.missing` say that there is none."""
    raw = survey.frame[column]
    cells = survey.labelled(column) if labelled else raw
    gone = {same(text) for text in ("-99", *columns.missing)}
    missing = [same(a or "") in gone or same(b or "") in gone for a, b in zip(cells, raw, strict=True)]
    return pl.select(pl.when(pl.Series(missing, dtype=pl.Boolean)).then(None).otherwise(cells)).to_series()


def people(
    survey: Survey, columns: Columns, experiment: Experiment
) -> tuple[pl.DataFrame, dict[str, int], list[Unmapped]]:
    """(a row of the survey each: row, person, participant, arm, weight, fields; dropped; unmapped arms)."""
    count = len(survey.frame)
    frame = pl.DataFrame({"row": range(count)}, schema={"row": pl.Int64})
    person = frame["row"].cast(pl.String)
    if columns.person:
        person = _cells(survey, columns.person, columns, labelled=False)
    levels = {factor: _cells(survey, column, columns) for factor, column in _arm_columns(columns).items()}
    arms, unmapped = arm_codes(levels, experiment, columns.arm_values, count)
    weight = _weights(survey, columns, count)
    frame = frame.with_columns(person.alias("person"), arms.alias("arm"), weight.alias("weight"))
    for name, column in columns.demographics.items():
        frame = frame.with_columns(_field(name, _cells(survey, column, columns)))
    empty = zip(*(cells.is_null() for cells in levels.values()), strict=True)
    absent = {
        "no person id": frame["person"].is_null(),
        "no arm": pl.Series([any(row) for row in empty], dtype=pl.Boolean),
        "no weight": frame["weight"].is_null(),
    }
    dropped = {reason: int(missing.sum()) for reason, missing in absent.items() if missing.any()}
    frame = frame.drop_nulls(["person", "arm", "weight"])
    if columns.outcomes and experiment.file.design.kind == "between":
        again = frame.filter(frame["person"].is_duplicated())["person"].unique(maintain_order=True).to_list()
        if again:
            raise Refusal(
                f"{survey.path}: {len(again)} people have several rows ({', '.join(again[:5])}); keep one "
                "each, or write `kind: within` in the experiment's design"
            )
    ids = frame.select(pl.col("person").unique(maintain_order=True)).with_row_index("participant")
    return frame.join(ids, on="person", maintain_order="left"), dropped, unmapped


def _arm_columns(columns: Columns) -> dict[str, str]:
    if isinstance(columns.arm, dict):
        return columns.arm
    return {"": columns.arm} if columns.arm else {}


def _weights(survey: Survey, columns: Columns, count: int) -> pl.Series:
    if columns.weight is None:
        return pl.Series([1.0] * count, dtype=pl.Float64)
    cells = _cells(survey, columns.weight, columns, labelled=False)
    weight = cells.cast(pl.Float64, strict=False)
    wrong = cells.is_not_null() & ~((weight > 0) & weight.is_finite()).fill_null(False)
    if wrong.any():
        raise Refusal(f"{survey.path}: the weight {cells.filter(wrong)[0]!r} is no number above 0; fix it")
    return weight


def _field(name: str, cells: pl.Series) -> pl.Series:
    """A demographic field: a number where SocSci210 has one and everybody's is one, else text on one line."""
    if name in NUMBERS:
        numbers = cells.cast(pl.Int64, strict=False)
        if numbers.null_count() == cells.null_count():
            return numbers.alias(name)
    return cells.str.replace_all(r"\s+", " ").alias(name)


def answers(
    survey: Survey, columns: Columns, experiment: Experiment
) -> tuple[pl.DataFrame, int, list[Unmapped]]:
    """(row, task, wording, response of every answer; how many cells are empty; values that are no answer)."""
    parts, missing, unmapped = [], 0, []
    for column in _columns_of(survey, columns, experiment):
        scale = experiment.scales[column.outcome]
        codes, wrong = answer_codes(column.cells["cell"], scale, column.labels, column.outcome)
        unmapped += wrong
        missing += column.cells["cell"].null_count()
        task = pl.lit(column.task).alias("task")
        parts.append(
            column.cells.select("row", task, column.wording, codes).drop_nulls(["wording", "response"])
        )
    empty = pl.DataFrame(schema=dict.fromkeys(("row", "task", "wording", "response"), pl.Int64))
    rows = pl.concat([empty, *(part.cast(pl.Int64) for part in parts)])
    return rows.sort("row", "task", "wording", maintain_order=True), missing, unmapped


class _Column(NamedTuple):
    """Answers to one outcome: `cells` (row, cell), what the file says its codes mean, the wording seen."""

    task: int
    outcome: str
    cells: pl.DataFrame
    labels: dict[str, str]
    wording: pl.Series


def _columns_of(survey: Survey, columns: Columns, experiment: Experiment) -> Iterator[_Column]:
    """The columns that hold answers, outcome by outcome."""
    rows = pl.Series("row", range(len(survey.frame)), dtype=pl.Int64)
    for task, (outcome, scale) in enumerate(experiment.scales.items()):
        texts = max(len(experiment.wordings(arm, outcome)) for arm in experiment.arms)
        if columns.outcome is not None and columns.answer is not None:
            chosen = _cells(survey, columns.outcome, columns)
            asked = [text is not None and same(text) == same(outcome) for text in chosen]
            here = pl.Series(asked, dtype=pl.Boolean)
            cells = pl.DataFrame([rows, _answer_cells(survey, [columns.answer], columns, scale)]).filter(here)
            wording = _wording(survey, columns, experiment, outcome).filter(here)
            yield _Column(task, outcome, cells, survey.value_labels.get(columns.answer, {}), wording)
            continue
        names = columns.outcomes.get(outcome, [])
        every = experiment.file.outcomes[outcome].wordings == "all" and texts > 1
        if every and names and len(names) != texts:
            raise Refusal(
                f"`columns.outcomes.{outcome}`: all {texts} wordings are asked; list a column for each"
            )
        groups = [[name] for name in names] if every else [names] if names else []
        for number, group in enumerate(groups):
            cells = pl.DataFrame([rows, _answer_cells(survey, group, columns, scale)])
            labels = dict(pair for name in group for pair in survey.value_labels.get(name, {}).items())
            fixed = pl.Series("wording", [number] * len(rows), dtype=pl.Int64)
            wording = fixed if every else _wording(survey, columns, experiment, outcome)
            yield _Column(task, outcome, cells, labels, wording)


def _answer_cells(survey: Survey, names: list[str], columns: Columns, scale: Scale) -> pl.Series:
    """The answers in a column, or in the one of several that a person was shown. Codes, not labels."""
    kept = [name if scale.contains(-99) and scale.low is not None else None for name in names]
    cells = [
        survey.frame[name] if keep else _cells(survey, name, columns, labelled=False)
        for name, keep in zip(names, kept, strict=True)
    ]
    return pl.select(pl.coalesce(cells).alias("cell")).to_series()


def _wording(survey: Survey, columns: Columns, experiment: Experiment, outcome: str) -> pl.Series:
    """The wording that each row saw, from 0."""
    count = len(survey.frame)
    texts = max(len(experiment.wordings(arm, outcome)) for arm in experiment.arms)
    if texts == 1:
        return pl.Series("wording", [0] * count, dtype=pl.Int64)
    if outcome not in columns.wordings:
        raise Refusal(
            f"{outcome} has {texts} wordings; `columns.wordings.{outcome}` must name the column that says "
            "which one a person saw, from 1"
        )
    known: dict[str, int] = {str(number + 1): number for number in range(texts)}
    for arm in experiment.arms:
        known |= {same(text): number for number, text in enumerate(experiment.wordings(arm, outcome))}
    cells = _cells(survey, columns.wordings[outcome], columns)
    numbers = [None if cell is None else known.get(same(cell), -1) for cell in cells]
    if -1 in numbers:
        raise Refusal(
            f"{survey.path}: {cells[numbers.index(-1)]!r} is no wording of {outcome}; write 1 to {texts}, or "
            "the text"
        )
    return pl.Series("wording", numbers, dtype=pl.Int64)
