"""Predictions on disk: shard by shard, so that a run that was killed goes on where it stopped."""

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

    Shards lie in `.parts/<inputs>/` until all are there. So a run with other settings never takes them
    for its own, and going back to the former settings finds them again.
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

    def has(self, number: int, rows: int) -> bool:
        """True if shard `number` is whole and holds `rows` rows; a torn or foreign one is removed."""
        path = self._part(number)
        try:
            if pl.scan_parquet(path).select(pl.len()).collect().item() == rows:
                return True
        except FileNotFoundError:
            return False
        except (pl.exceptions.PolarsError, OSError):
            pass
        path.unlink(missing_ok=True)
        return False

    def write(self, number: int, shard: pl.DataFrame) -> None:
        """Keep a shard: beside its place first, then renamed."""
        with atomic_path(self._part(number)) as partial:
            shard.write_parquet(partial)

    def read(self, count: int) -> pl.DataFrame:
        """All `count` shards as one table, in the order of their numbers."""
        return pl.concat([pl.read_parquet(self._part(number)) for number in range(count)])

    def finish(self, table: pl.DataFrame, record: dict[str, Any]) -> None:
        """Write the table, then the record (its existence says that all is whole), then drop the shards."""
        (self.folder / RECORD).unlink(missing_ok=True)
        with atomic_path(self.folder / TABLE) as partial:
            table.write_parquet(partial, compression="zstd")
        write_json(self.folder / RECORD, record)
        shutil.rmtree(self.folder / ".parts", ignore_errors=True)

    def _part(self, number: int) -> Path:
        return self.parts / f"{number:06d}.parquet"
