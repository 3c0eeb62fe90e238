"""The block `columns` of an experiment file, checked against a survey's columns; cells of a column."""

import difflib
from collections.abc import Mapping

import polars as pl

from common.errors import Refusal
from common.experiment import Experiment
from common.experiment_file import Columns, Option
from common.survey.answers import same
from common.survey.file import Survey

# Beside empty cells and NA; `columns.missing` names more.
MISSING = ("-99", "#null!", "#n/a", "nan", ".")


def check_columns(survey: Survey, columns: Columns, experiment: Experiment) -> None:
    """Refuse columns that the file lacks, and outcomes and factors that the experiment lacks."""
    wide, long = bool(columns.outcomes), columns.outcome is not None or columns.answer is not None
    if wide == long or (long and None in (columns.outcome, columns.answer)):
        raise Refusal(
            "`columns` needs either `outcomes` (a column each), or `outcome` and `answer` (one row an answer)"
        )
    if long and columns.person is None:
        raise Refusal("`columns` needs `person`: with one row an answer, people are told apart by their ids")
    questions = select_all(experiment)
    for outcome in columns.outcomes:
        _refuse_unknown(outcome, [*experiment.scales, *questions], "`columns` names the outcome")
    for outcome in columns.wordings:
        _refuse_unknown(outcome, list(experiment.scales), "`columns` names the outcome")
    for question, options in questions.items():
        listed = columns.outcomes.get(question, [])
        if len(listed) not in (0, 1, len(options)):
            raise Refusal(
                f"`columns.outcomes.{question}` lists {len(listed)} columns for {len(options)} options; "
                "name one column each, in their order, or the one column that lists what was chosen"
            )
    _check_arms(columns, experiment)
    for column in named_columns(columns):
        _refuse_unknown(column, survey.frame.columns, f"{survey.path} has no column")


def _check_arms(columns: Columns, experiment: Experiment) -> None:
    factors = experiment.file.factors
    what, names = ("factor", list(factors)) if factors else ("arm", [arm.name for arm in experiment.arms])
    if isinstance(columns.arm, dict):
        for name in columns.arm:
            _refuse_unknown(name, names, f"`columns.arm` names the {what}")
        if missing := [name for name in names if name not in columns.arm]:
            raise Refusal(f"`columns.arm` lacks the {what} {missing[0]}; name its column")
    elif columns.arm is None and len(experiment.arms) > 1:
        raise Refusal("`columns` needs `arm`: the column, or one column a factor, that says what people saw")


def _refuse_unknown(name: str, names: list[str], what: str) -> None:
    if name not in names:
        near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise Refusal(f"{what} {name!r}; {hint}there are {', '.join(names[:20])}")


def select_all(experiment: Experiment) -> Mapping[str, dict[str, Option]]:
    """{select-all question: {outcome: its option}}."""
    questions: dict[str, dict[str, Option]] = {}
    for outcome, spec in experiment.file.outcomes.items():
        if spec.option is not None:
            questions.setdefault(spec.option.question, {})[outcome] = spec.option
    return questions


def named_columns(columns: Columns) -> list[str]:
    """Every column of the file that the description names."""
    arm = columns.arm.values() if isinstance(columns.arm, dict) else [columns.arm]
    lists = (column for each in columns.outcomes.values() for column in each)
    others = (columns.person, columns.outcome, columns.answer, columns.weight)
    named = (*others, *arm, *lists, *columns.wordings.values(), *columns.demographics.values())
    return [column for column in named if column is not None]


def cells_of(survey: Survey, column: str, columns: Columns, labelled: bool = True) -> pl.Series:
    """A column's cells; null where the file, MISSING or `columns.missing` say that there is none."""
    raw, named = survey.frame[column], survey.labelled(column)
    gone = [same(text) for text in (*MISSING, *columns.missing)]
    pairs = pl.DataFrame({"raw": raw, "named": named})
    values = {value: same(value) for value in pl.concat([raw, named]).drop_nulls().unique()}
    missing = pl.any_horizontal(
        pl.all().replace_strict(values, default=None, return_dtype=pl.String).is_in(gone).fill_null(False)
    )
    shown = pl.col("named" if labelled else "raw")
    return pairs.select(pl.when(missing).then(None).otherwise(shown).alias(column)).to_series()
