"""Rows in blocks that never change, predicted and saved as they come."""

import time
from collections.abc import Callable, Collection, Iterator
from typing import Any

import polars as pl

from eval.prediction.predictor import Predictor, as_table
from eval.prediction.store import Store

BLOCK = 512  # rows that are planned together; a server's have nothing to gain from it
SAVE_S = 30.0  # seconds between two saves: what a kill may lose


def predict_into(
    store: Store,
    rows: pl.DataFrame,
    predictor: Predictor,
    count: Callable[[], object],
    share: tuple[int, int] = (0, 1),
) -> None:
    """Predict the rows of this share that `store` doesn't hold; `count` is called for each.

    Whatever was predicted before a failure is saved, so that it isn't predicted (or paid) again.
    """
    unsaved: dict[int, dict[str, Any]] = {}
    saved_at = time.monotonic()
    try:
        for row, record in stream(rows, predictor, store.done(), share):
            unsaved[row] = record
            count()
            if time.monotonic() - saved_at > SAVE_S:
                _save(store, rows, unsaved)
                saved_at = time.monotonic()
    finally:
        _save(store, rows, unsaved)


def _save(store: Store, rows: pl.DataFrame, records: dict[int, dict[str, Any]]) -> None:
    if records:
        store.write(as_table(rows, records).with_columns(row=pl.Series(sorted(records), dtype=pl.Int64)))
        records.clear()


def stream(
    rows: pl.DataFrame, predictor: Predictor, done: Collection[int] = (), share: tuple[int, int] = (0, 1)
) -> Iterator[tuple[int, dict[str, Any]]]:
    """(row number, record) of each row that isn't in `done`, block by block.

    share: (number of this process, of how many); each takes every n-th block.

    Blocks are cut from the sorted prompts, which puts rows that begin alike into one block, where their
    beginnings are read once. They don't depend on `done`: so neither do the predictions.
    """
    order = rows.select("system", "prompt").with_row_index("row").sort("system", "prompt", "row")["row"]
    size = BLOCK if predictor.settings.backend == "transformers" else len(rows)
    for start in range(share[0] * size, len(rows), share[1] * size):
        block = order[start : start + size].to_list()
        settled = {number for number, row in enumerate(block) if row in done}
        if len(settled) == len(block):
            continue
        for number, record in predictor.stream(rows[block], settled):
            if number not in settled:
                yield block[number], record
