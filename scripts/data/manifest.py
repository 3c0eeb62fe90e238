"""The data set as an object: its folder, its manifest and its files as frames."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from common.contract import Manifest, read_record
from common.errors import Refusal

REMEDY = "run `make data` again"


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a data set's folder. Raises `Refusal` when there is none, or one that isn't whole."""
    return read_record(folder / "manifest.json", Manifest, REMEDY)


@dataclass(frozen=True)
class DataSet:
    """A data set on disk. seconds: what making it took, None when nothing was to do."""

    folder: Path
    manifest: Manifest
    seconds: float | None = None

    @property
    def counts(self) -> Mapping[str, int]:
        """Rows by what became of them: train, validation, eval, and each reason for dropping."""
        rows = self.manifest.rows
        return {"train": rows.train, "validation": rows.validation, "eval": rows.eval} | rows.dropped

    def frame(self, name: str) -> pl.DataFrame:
        """One of the files as a frame: `eval`, `validation`, `sft`, `sft_validation`, `dpo`, ..."""
        files = {Path(file).stem: self.folder / file for file in self.manifest.files}
        if name not in files:
            raise Refusal(f"{self.folder} has no file {name!r}; there are {', '.join(sorted(files))}")
        return pl.read_ndjson(files[name]) if files[name].suffix == ".jsonl" else pl.read_parquet(files[name])

    def __str__(self) -> str:
        if self.seconds is None:
            return f"{self.folder} is up to date: nothing to do"
        rows, pairs = self.manifest.rows, self.manifest.pairs
        parts = [f"{count:,} {name}" for name, count in list(self.counts.items())[:3]]
        parts += [f"{count:,} dropped ({reason})" for reason, count in rows.dropped.items()]
        drawn = f"; {pairs['pairs']:,} DPO pairs" if pairs else ""
        return (
            f"{self.folder}: {rows.read:,} rows read = {' + '.join(parts)}{drawn}; "
            f"mapping read as {self.manifest.mapping.meaning}; {self.seconds:.1f} s"
        )
