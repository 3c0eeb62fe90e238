"""Evaluation rows: the one reader of `eval.parquet` and of tables in its form (see data/README.md)."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl

from common.contract import EVALUATION, ITEM, KEY, SCALE
from common.errors import Refusal
from common.readers import conform, read_parquet

PREDICTED = (*ITEM, "sample_id", "system", "prompt", *SCALE)  # what a prediction is made from
SCORED = (*ITEM, "participant", "sample_id", "response", *SCALE, "demographic")  # what it is compared with
NEVER_EMPTY = (*ITEM, "participant", "sample_id", "prompt", "response", "scale_kind")
_CONTRACT = "evaluation rows are described in data/README.md"


def read_rows(path: str | Path, columns: Sequence[str] = tuple(EVALUATION)) -> pl.DataFrame:
    """Evaluation rows in the file's order: those of the contract's columns that are asked for.

    Raises `Refusal` for a file that is missing or not parquet, lacks a column or has one of another type,
    is empty, has empty values in a column of `NEVER_EMPTY`, or has a key twice.
    """
    path = Path(path)
    require_rows(path)
    rows = read_parquet(path, {name: EVALUATION[name] for name in columns}, _CONTRACT)
    return _checked(rows, str(path))


def require_rows(path: Path) -> None:
    """Refuse a file of evaluation rows that doesn't exist, with what makes it."""
    if not path.exists():
        raise Refusal(f"{path} is missing; {_maker(path)}")


def check_rows(rows: pl.DataFrame, columns: Sequence[str]) -> pl.DataFrame:
    """The columns of a table of rows, checked as `read_rows` does."""
    rows = conform(rows, {name: EVALUATION[name] for name in columns}, "the table of rows", _CONTRACT)
    return _checked(rows, "the table of rows")


def _checked(rows: pl.DataFrame, where: str) -> pl.DataFrame:
    if rows.is_empty():
        remedy = _maker(Path(where)) if _trains_all(Path(where)) else "check the split's manifest.json"
        raise Refusal(f"{where} holds no rows; {remedy}")
    for name in NEVER_EMPTY:
        if name in rows.columns and rows[name].null_count():
            first = rows.filter(pl.col(name).is_null()).select(KEY).row(0)
            raise Refusal(f"{where}: column {name} is empty in row {first}; fix the data and make it again")
    repeated = rows.select(KEY).is_duplicated()
    if repeated.any():
        first = rows.filter(repeated).select(KEY).row(0)
        raise Refusal(f"{where}: key {first} appears more than once; fix the data and make it again")
    return rows


def select_rows(rows: pl.DataFrame, max_rows: int | None, seed: int) -> pl.DataFrame:
    """At most `max_rows` rows, drawn by turns from all items so that each keeps some; order kept.

    The draw depends on the seed and the keys, not on the order of the rows.
    """
    if max_rows is None or max_rows >= len(rows):
        return rows
    keys = rows.select(*ITEM, "sample_id").with_row_index("number").sort(KEY)
    drawn = keys.with_columns(draw=np.random.default_rng(seed).random(len(keys)))
    turns = drawn.with_columns(turn=pl.col("draw").rank("ordinal").over(ITEM))
    return rows[turns.sort("turn", "draw").head(max_rows)["number"].sort()]


def _maker(path: Path) -> str:
    """What makes this file: `make data` if it lies where a data set does."""
    if _trains_all(path):
        return "with SPLIT=none all rows train; SPLIT=all, in `make data` and here, evaluates all of them"
    if _of_split(path):
        return f"run `make data DATA={path.parts[-3]} SPLIT={path.parts[-2]}` first"
    return "give a parquet file of evaluation rows, such as data/<dataset>/<split>/eval.parquet"


def _of_split(path: Path) -> bool:
    """Whether this is the place of a split's evaluation rows, data/<dataset>/<split>/eval.parquet."""
    return path.name == "eval.parquet" and path.parts[-4:-3] == ("data",)


def _trains_all(path: Path) -> bool:
    return _of_split(path) and path.parts[-2] == "none"
