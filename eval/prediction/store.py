"""Predictions on disk: in parts, so that a run that was killed goes on where it stopped."""

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
from filelock import FileLock, Timeout

from common.errors import Refusal
from common.files import atomic_path, write_json

TABLE, RECORD = "predictions.parquet", "predictions.json"


class Store:
    """The folder of one model's predictions; `inputs` is the fingerprint of what they depend on.

    Parts lie in `.parts/<inputs>/` until all are there. So a run with other settings never takes them
    for its own, and going back to the former settings finds them again. A part has a column `row` (the
    row's number) and is named by its smallest; two parts never hold the same row.
    """

    def __init__(self, folder: Path, inputs: str) -> None:
        self.folder = folder
        self.parts = folder / ".parts" / inputs[:16]

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Only one run at a time may write here."""
        self.folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.folder / ".lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise Refusal(
                f"another run is writing {self.folder}; wait for it, or give another --out"
            ) from None
        try:
            yield
        finally:
            lock.release()

    def done(self) -> set[int]:
        """The numbers of the rows that are saved; a torn part is removed."""
        rows: set[int] = set()
        for path in sorted(self.parts.glob("*.parquet")):
            try:
                rows.update(pl.read_parquet(path)["row"])
            except (pl.exceptions.PolarsError, OSError):
                path.unlink(missing_ok=True)
        return rows

    def write(self, part: pl.DataFrame) -> None:
        """Save a part: beside its place first, then renamed."""
        first = min(part["row"].to_list())
        with atomic_path(self.parts / f"{first:09d}.parquet") as partial:
            part.write_parquet(partial)

    def read(self) -> pl.DataFrame:
        """All parts as one table, in the order of their rows."""
        parts = pl.concat([pl.read_parquet(path) for path in self.parts.glob("*.parquet")])
        return parts.sort("row").drop("row")

    def finish(self, table: pl.DataFrame, record: dict[str, Any]) -> None:
        """Write the table, then the record (its existence says that all is whole), then drop the parts."""
        (self.folder / RECORD).unlink(missing_ok=True)
        with atomic_path(self.folder / TABLE) as partial:
            table.write_parquet(partial, compression="zstd")
        write_json(self.folder / RECORD, record)
        self.forget()

    def forget(self) -> None:
        """Remove all parts, those of other settings, too."""
        shutil.rmtree(self.folder / ".parts", ignore_errors=True)
