"""The people of a survey: who they are, which arm they are in, their weight and their demographic fields."""

import polars as pl

from common.errors import Refusal
from common.experiment import Experiment
from common.experiment_file import Columns
from common.survey.answers import Unmapped
from common.survey.arms import Cells, arm_codes
from common.survey.columns import cells_of
from common.survey.file import Survey

NUMBERS = ("age", "household_size")  # numbers in SocSci210, where everybody's is one; else text (age bands)
DECIMAL_COMMA = r"^([-+]?\d+),(\d+)$"


def people(
    survey: Survey, columns: Columns, experiment: Experiment
) -> tuple[pl.DataFrame, dict[str, int], list[Unmapped]]:
    """(a row of the survey each: row, person, participant, arm, weight, fields; dropped; unmapped arms)."""
    count = len(survey.frame)
    frame = pl.DataFrame({"row": range(count)}, schema={"row": pl.Int64})
    person = frame["row"].cast(pl.String)
    if columns.person:
        person = cells_of(survey, columns.person, columns, labelled=False)
    levels = {
        factor: Cells(cells_of(survey, column, columns), cells_of(survey, column, columns, labelled=False))
        for factor, column in _arm_columns(columns).items()
    }
    arms, unmapped = arm_codes(levels, experiment, columns.arm_values, count)
    weight = _weights(survey, columns, count)
    frame = frame.with_columns(person.alias("person"), arms.alias("arm"), weight.alias("weight"))
    named = columns.demographics
    frame = frame.with_columns(_field(name, cells_of(survey, named[name], columns)) for name in named)
    absent = {
        "no person id": frame["person"].is_null(),
        "no arm": _without_arm(levels, experiment, count),
        "no weight": frame["weight"].is_null(),
    }
    dropped = {reason: int(missing.sum()) for reason, missing in absent.items() if missing.any()}
    frame = frame.drop_nulls(["person", "arm", "weight"])
    if columns.outcomes and experiment.file.design.kind == "between":
        _refuse_repeated(survey, frame)
    ids = frame.select(pl.col("person").unique(maintain_order=True)).with_row_index("participant")
    frame = frame.join(ids, on="person", maintain_order="left")
    return _one_profile_each(frame, list(columns.demographics)), dropped, unmapped


def _without_arm(levels: dict[str, Cells], experiment: Experiment, count: int) -> pl.Series:
    """Whose cells of the arm are empty: of a factor any, of columns an arm all."""
    empty = [cells.labelled.is_null() for cells in levels.values()]
    if not empty:
        return pl.Series([False] * count, dtype=pl.Boolean)
    marked = experiment.file.factors is None and "" not in levels
    return pl.select(pl.all_horizontal(empty) if marked else pl.any_horizontal(empty)).to_series()


def _refuse_repeated(survey: Survey, frame: pl.DataFrame) -> None:
    again = frame.filter(frame["person"].is_duplicated())["person"].unique(maintain_order=True).to_list()
    if again:
        raise Refusal(
            f"{survey.path}: person ids that have several rows: {len(again):,} ({', '.join(again[:5])}); "
            "keep one row each, or write `kind: within` in the experiment's design"
        )


def _one_profile_each(frame: pl.DataFrame, fields: list[str]) -> pl.DataFrame:
    """A person's first value of each field and of the weight, in all of their rows."""
    firsts = [pl.col(name).drop_nulls().first().over("participant") for name in (*fields, "weight")]
    return frame.with_columns(firsts)


def _arm_columns(columns: Columns) -> dict[str, str]:
    if isinstance(columns.arm, dict):
        return columns.arm
    return {"": columns.arm} if columns.arm else {}


def _weights(survey: Survey, columns: Columns, count: int) -> pl.Series:
    if columns.weight is None:
        return pl.Series([1.0] * count, dtype=pl.Float64)
    cells = cells_of(survey, columns.weight, columns, labelled=False)
    weight = cells.str.replace(DECIMAL_COMMA, "$1.$2").cast(pl.Float64, strict=False)
    wrong = cells.is_not_null() & ~((weight > 0) & weight.is_finite()).fill_null(False)
    if wrong.any():
        raise Refusal(
            f"{survey.path}: the weight {cells.filter(wrong)[0]!r} is no number above 0 "
            f"({int(wrong.sum()):,} such rows); fix them, or leave them out"
        )
    return weight


def _field(name: str, cells: pl.Series) -> pl.Series:
    """A demographic field: a number where SocSci210 has one and everybody's is one, else text on one line."""
    if name in NUMBERS:
        numbers = cells.cast(pl.Float64, strict=False)
        if numbers.null_count() == cells.null_count() and (numbers.is_null() | numbers.is_finite()).all():
            return numbers.floor().cast(pl.Int64, strict=False).alias(name)
    return cells.str.replace_all(r"\s+", " ").alias(name)
