"""Read a survey's file (CSV, Excel, SPSS, Stata, parquet) as text cells with the labels that it brings."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import polars as pl

from common.errors import Refusal
from common.readers import read_bytes, read_csv

REMEDY = "give a survey as .csv, .xlsx, .sav, .dta or .parquet"
PREVIEW_CODES = ("1", "2", "9", "17")  # of Qualtrics' column Status
UNFINISHED = ("false", "0", "no")


@dataclass(frozen=True)
class Survey:
    """A survey's answers.

    frame: every cell as text, null where it is missing. labels: the question behind a column.
    value_labels: {column: {value: label}}. dropped: rows left out, by reason. read: rows before that.
    notes: what a person should know of the reading, one sentence each.
    """

    path: Path
    frame: pl.DataFrame
    labels: dict[str, str] = field(default_factory=dict)
    value_labels: dict[str, dict[str, str]] = field(default_factory=dict)
    dropped: dict[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def read(self) -> int:
        """Rows of the file, those included that were dropped."""
        return len(self.frame) + sum(self.dropped.values())

    def labelled(self, column: str) -> pl.Series:
        """A column with labels instead of codes, where it has them."""
        labels = self.value_labels.get(column, {})
        return self.frame[column].replace(labels) if labels else self.frame[column]


def read_survey(path: str | Path, keep_unfinished: bool = False) -> Survey:
    """Read a survey, whatever its format. Raises `Refusal` for a file that can't be read, or has no rows.

    Qualtrics' two rows below the header become labels; previews, and unless `keep_unfinished` unfinished
    interviews, are dropped and counted.
    """
    path = Path(path)
    readers: dict[str, Callable[[Path], Survey]] = {
        ".csv": _read_csv, ".tsv": _read_csv, ".txt": _read_csv, ".xlsx": _read_excel, ".xls": _read_excel,
        ".ods": _read_excel, ".sav": _read_spss, ".zsav": _read_spss, ".dta": _read_stata,
        ".parquet": _read_parquet,
    }  # fmt: skip
    if path.suffix.lower() not in readers:
        raise Refusal(f"{path} has none of the known endings; {REMEDY}")
    read_bytes(path, REMEDY)
    return _answers_of(readers[path.suffix.lower()](path), keep_unfinished)


def survey_of(frame: pl.DataFrame) -> Survey:
    """A survey that is in memory, read as from a file."""
    return _answers_of(Survey(Path("the table"), _as_text(frame)))


def _answers_of(survey: Survey, keep_unfinished: bool = False) -> Survey:
    """The survey without rows that are no answers."""
    survey = _without_header_rows(survey)
    if survey.frame.is_empty():
        raise Refusal(f"{survey.path} holds no answers; {REMEDY}")
    return _without_previews(survey, keep_unfinished)


def _read_csv(path: Path) -> Survey:
    return Survey(path, _as_text(read_csv(path, REMEDY)))


def _read_excel(path: Path) -> Survey:
    try:
        frame = pl.read_excel(path, engine="calamine", infer_schema_length=None)
    except Exception as error:  # the reader raises errors of its own kinds
        raise _unreadable(path, error) from None
    return Survey(path, _as_text(frame))


def _read_parquet(path: Path) -> Survey:
    try:
        return Survey(path, _as_text(pl.read_parquet(path, glob=False)))
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as error:
        raise _unreadable(path, error) from None


def _read_spss(path: Path) -> Survey:
    import pyreadstat

    return _read_labelled(path, pyreadstat.read_sav)


def _read_stata(path: Path) -> Survey:
    import pyreadstat

    return _read_labelled(path, pyreadstat.read_dta)


def _read_labelled(path: Path, read: Callable[..., Any]) -> Survey:
    """Values that the file declares missing are missing here, too."""
    try:
        content, meta = read(str(path), output_format="dict", disable_datetime_conversion=True)
    except Exception as error:  # the library raises errors of its own kinds
        raise _unreadable(path, error) from None
    frame = pl.DataFrame(
        {name: pl.Series(name, list(cells), strict=False) for name, cells in content.items()}
    )
    labels = {name: label for name, label in meta.column_names_to_labels.items() if label}
    value_labels = {
        name: {_text_of(value): str(label).strip() for value, label in pairs.items()}
        for name, pairs in meta.variable_value_labels.items()
    }
    return Survey(path, _as_text(frame), labels, value_labels)


def _text_of(value: Any) -> str:
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value).strip()


def _unreadable(path: Path, error: Exception) -> Refusal:
    return Refusal(f"{path} can't be read ({' '.join(str(error).split())[:160]}); save it again, or as CSV")


def _as_text(frame: pl.DataFrame) -> pl.DataFrame:
    """Every cell as trimmed text: 5 for 5.0, null for NaN and empty cells."""
    for name, dtype in frame.schema.items():
        if dtype.is_nested() or dtype in (pl.Binary, pl.Object):
            raise Refusal(f"the column {name} holds {dtype}, not one value a cell; {REMEDY}")
    numbers = pl.selectors.float()
    whole = numbers.is_finite() & (numbers == numbers.floor()) & (numbers.abs() < 2**53)
    integers = numbers.cast(pl.Int64, strict=False).cast(pl.String)
    frame = frame.with_columns(numbers.fill_nan(None))
    frame = frame.with_columns(pl.when(whole).then(integers).otherwise(numbers.cast(pl.String)))
    text = pl.all().cast(pl.String).str.strip_chars()
    return frame.select(text).select(pl.when(pl.all() == "").then(None).otherwise(pl.all()).name.keep())


def _without_header_rows(survey: Survey) -> Survey:
    """Qualtrics writes the question and an import id below the column's name."""
    frame = survey.frame
    if len(frame) < 2 or not any('"ImportId"' in (cell or "") for cell in frame.row(1)):
        return survey
    labels = {name: cell for name, cell in zip(frame.columns, frame.row(0), strict=True) if cell}
    return replace(survey, frame=frame[2:], labels=labels)


def _without_previews(survey: Survey, keep_unfinished: bool) -> Survey:
    names = set(survey.frame.columns)
    if not {"Finished", "Status", "DistributionChannel"} & names or not {"ResponseId", "StartDate"} & names:
        return survey
    dropped = {}
    frame, none = survey.frame, pl.Series([False]).new_from_index(0, len(survey.frame))
    preview = none
    if "Status" in names:
        text = survey.labelled("Status")
        preview = (text.str.contains("(?i)preview|test") | text.is_in(PREVIEW_CODES)).fill_null(False)
    if "DistributionChannel" in names:
        preview = preview | frame["DistributionChannel"].str.contains("(?i)preview|test").fill_null(False)
    unfinished = none
    if "Finished" in names and not keep_unfinished:
        unfinished = (
            survey.labelled("Finished").str.to_lowercase().is_in(UNFINISHED).fill_null(False) & ~preview
        )
    for reason, mask in (("a preview", preview), ("unfinished", unfinished)):
        if mask.any():
            dropped[reason] = int(mask.sum())
    return replace(survey, frame=frame.filter(~(preview | unfinished)), dropped=dropped)
