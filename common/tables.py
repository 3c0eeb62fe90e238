"""Tables for other programs and for the terminal.

CSV that R, a spreadsheet or a colleague can open without harm; plain text in columns.
"""

import re
from collections.abc import Collection, Iterable, Sequence
from html import escape
from pathlib import Path

import polars as pl
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from common.files import atomic_path
from common.text import printable

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
    """Write a frame as CSV, whole, with broom's column names and nothing that a spreadsheet would run."""
    with atomic_path(path) as partial:
        harmless(frame).rename(BROOM, strict=False).write_csv(partial)


def harmless(frame: pl.DataFrame) -> pl.DataFrame:
    """Texts that a spreadsheet would run as a formula get an apostrophe in front; numbers stay."""
    text = pl.col(pl.String)
    formula = text.str.contains(FORMULA) & ~text.str.contains(NUMBER)
    frame = frame.with_columns(pl.when(formula).then("'" + text).otherwise(text).name.keep())
    return frame.rename(lambda name: f"'{name}" if re.search(FORMULA, name) else name)


def html_table(columns: Sequence[str], rows: Iterable[Sequence[object]], notes: Iterable[str] = ()) -> str:
    """A table as HTML with `notes` below it, all texts escaped."""
    head = "".join(f"<th>{escape(column)}</th>" for column in columns)
    body = "".join(f"<tr>{''.join(f'<td>{escape(str(cell))}</td>' for cell in row)}</tr>" for row in rows)
    return f"<table><tr>{head}</tr>{body}</table>" + "".join(f"<p>{escape(note)}</p>" for note in notes)


def text_table(columns: Sequence[str], rows: Iterable[Sequence[object]], left: Collection[str] = ()) -> str:
    """A table as plain text, never wrapped. The first column and those of `left` are flush left."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for number, column in enumerate(columns):
        table.add_column(
            printable(column), justify="left" if number == 0 or column in left else "right", no_wrap=True
        )
    for row in rows:
        table.add_row(*(Text(printable(str(cell)).replace("\n", " ")) for cell in row))
    console = Console(width=100_000, color_system=None, force_terminal=False, markup=False)
    with console.capture() as captured:
        console.print(table)
    return "\n".join(line.rstrip() for line in captured.get().splitlines())
