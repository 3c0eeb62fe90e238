"""Predictions on disk: in parts, so that a run that was killed goes on where it stopped."""

import shutil
from pathlib import Path

import polars as pl

from common.errors import Refusal
from common.files import atomic_path

TABLE, RECORD = "predictions.parquet", "predictions.json"


class Store:
    """The parts of one model's predictions; `inputs` is the fingerprint of what they depend on.

    They lie in `.parts/<inputs>/` until all are there. So a run with other settings never takes them for
    its own, and going back to the former settings finds them again. A part has a column `row` (the row's
    number) and is named by its smallest; two parts never hold the same row.
    """

    def __init__(self, folder: Path, inputs: str) -> None:
        self.all = folder / ".parts"
        self.parts = self.all / inputs[:16]

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

    def read(self, rows: int) -> pl.DataFrame:
        """All parts as one table of `rows` rows, in their order."""
        parts = [pl.read_parquet(path) for path in self.parts.glob("*.parquet")]
        table = pl.concat(parts).sort("row") if parts else pl.DataFrame({"row": []})
        if table["row"].to_list() != list(range(rows)):
            raise Refusal(f"{self.parts} doesn't hold each row once; remove it and run again")
        return table.drop("row")

    def forget(self) -> None:
        """Remove all parts, those of other settings, too."""
        shutil.rmtree(self.all, ignore_errors=True)
