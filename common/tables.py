"""Tables for other programs: CSV that R, a spreadsheet or a colleague can open without harm."""

from pathlib import Path

import polars as pl

# names of R's broom; Python and polars have underscores
BROOM = {
    "std_error": "std.error",
    "conf_low": "conf.low",
    "conf_high": "conf.high",
    "p_value": "p.value",
}
NUMBER = r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$"
FORMULA = r"^\s*[=@+\-＝＠＋－]|^[\t\r\n]"  # full-width signs work in some spreadsheets, too


def write_csv(frame: pl.DataFrame, path: str | Path) -> None:
    """Write a frame as CSV with broom's column names and without anything that a spreadsheet would run."""
    harmless(frame).rename(BROOM, strict=False).write_csv(path)


def harmless(frame: pl.DataFrame) -> pl.DataFrame:
    """Texts that a spreadsheet would run as a formula get an apostrophe in front; numbers stay."""
    text = pl.col(pl.String)
    formula = text.str.contains(FORMULA) & ~text.str.contains(NUMBER)
    return frame.with_columns(pl.when(formula).then("'" + text).otherwise(text).name.keep())
