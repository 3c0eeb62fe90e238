"""The one reader of evaluation rows: what it takes, what it refuses, how a part is drawn."""

from pathlib import Path

import polars as pl
import pytest

from common.errors import Refusal
from eval.rows import ITEM, PREDICTED, read_rows, select_rows
from tests.helpers.rows import make_rows


def test_max_rows_keeps_every_item_and_depends_on_keys_alone() -> None:
    rows = make_rows(70)
    chosen = select_rows(rows, 21, seed=3)
    assert chosen.height == 21
    assert chosen.select(ITEM).unique().height == rows.select(ITEM).unique().height
    backwards = select_rows(rows.reverse(), 21, seed=3)
    assert chosen.equals(backwards.reverse())
    assert not chosen.equals(select_rows(rows, 21, seed=4))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda rows: rows.drop("item_num"), "no column item_num"),
        (lambda rows: rows.clear(), "no rows"),
        (lambda rows: pl.concat([rows, rows[:1]]), "more than once"),
        (lambda rows: rows.with_columns(prompt=pl.lit(None, pl.String)), "column prompt is empty"),
    ],
)
def test_broken_rows_are_refused(tmp_path: Path, change, reason: str) -> None:
    path = tmp_path / "eval.parquet"
    change(make_rows(7)).write_parquet(path)
    with pytest.raises(Refusal, match=reason):
        read_rows(path, PREDICTED)


def test_a_torn_parquet_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "eval.parquet"
    make_rows(7).write_parquet(path)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(Refusal, match="damaged or no parquet"):
        read_rows(path, PREDICTED)
