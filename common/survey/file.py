"""Read a survey's file (CSV, Excel, SPSS, Stata, parquet) as text cells with the labels that it brings."""

import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import polars as pl

from common.errors import Refusal
from common.readers import DELIMITERS, read_bytes, read_columns

REMEDY = "give a survey as .csv, .xlsx, .sav, .dta or .parquet"
PREVIEW_CODES = ("1", "2", "9", "17")  # of Qualtrics' column Status
NO_CELLS = (pl.Binary, pl.Object)
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
    """Every cell as it is written: an id keeps its zeros. Also as Windows writes it, with semicolons."""
    content, notes = read_bytes(path, REMEDY), list[str]()
    for encoding in ("utf-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig", "cp1252"):
        try:
            text = content.decode(encoding)
            break
        except UnicodeDecodeError:
            notes.append(f"{path.name} isn't UTF-8; it was read as Windows-1252, look at its accents")
    else:
        raise Refusal(f"{path} is neither UTF-8 nor Windows-1252 text; save it as CSV in UTF-8")
    if "\0" in text:
        raise Refusal(f"{path} is no CSV table (it holds zero bytes); save it as CSV in UTF-8")
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    stated = re.match(r'"?sep=(.)"?\n', text)  # as Excel writes it
    text = text[stated.end() :] if stated else text
    delimiter = stated[1] if stated else max(DELIMITERS, key=text.partition("\n")[0].count)
    form: dict[str, Any] = {"separator": delimiter, "has_header": False, "infer_schema": False}
    try:
        rows = pl.read_csv(text.encode(), null_values=["", "NA"], **form)
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
        if "more fields" in str(error):
            raise Refusal(
                f"{path}: a row has more cells than the header; put texts with commas in quotes"
            ) from None
        raise _unreadable(path, error, "is no CSV table") from None
    names = {column: " ".join((name or "").split()) for column, name in rows.row(0, named=True).items()}
    frame = rows[1:]
    filled = [column for column, name in names.items() if name or frame[column].count()]
    named = [names[column] or column.replace("_", " ") for column in filled]
    if twice := [name for name in named if named.count(name) > 1]:
        raise Refusal(f"{path} has two columns {twice[0]}; rename one of them")
    return Survey(
        path, _as_text(frame.select(filled).rename(dict(zip(filled, named, strict=True)))), notes=tuple(notes)
    )


def _read_excel(path: Path) -> Survey:
    try:
        frame = pl.read_excel(path, engine="calamine", infer_schema_length=None)
    except Exception as error:  # the reader raises errors of its own kinds
        raise _unreadable(path, error) from None
    return Survey(path, _as_text(frame))


def _read_parquet(path: Path) -> Survey:
    return Survey(path, _as_text(read_columns(path, "save it again")))


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


def _unreadable(path: Path, error: BaseException, what: str = "can't be read") -> Refusal:
    return Refusal(f"{path} {what} ({' '.join(str(error).split())[:160]}); save it again, or as CSV")


def _as_text(frame: pl.DataFrame) -> pl.DataFrame:
    """Every cell as trimmed text: 5 for 5.0, null for NaN and empty cells. Lists and bytes are no cells."""
    nested = [name for name, dtype in frame.schema.items() if dtype.is_nested() or dtype in NO_CELLS]
    frame = frame.drop(nested)
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
