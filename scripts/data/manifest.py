"""What was made: `manifest.json` as a typed record, and the data set as an object."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
from pydantic import BaseModel, ConfigDict, ValidationError

from common.errors import Refusal
from common.files import write_json
from common.readers import read_json

REMEDY = "run `make data` again"


class Record(BaseModel):
    """A part of the manifest. Keys that a later version added are ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class MappingRecord(Record):
    """file: the mapping's name, None when it was generated; meaning: what its lists were found to hold."""

    file: str | None
    meaning: str


class RowCounts(Record):
    """`read` = `train` + `validation` + `eval` + the sum of `dropped`, which is by reason."""

    read: int
    train: int
    validation: int
    eval: int
    dropped: dict[str, int]


class FileRecord(Record):
    sha256: str
    bytes: int
    rows: int


class SourceFile(Record):
    name: str
    bytes: int


class CheckRecord(Record):
    """One check of the firewall; see `scripts/data/firewall.py`."""

    name: str
    train: int
    eval: int
    both: int
    verdict: str
    examples: list[str]


class Manifest(Record):
    """The record of a data set; data/README.md explains every key."""

    inputs: str
    dataset: str
    split: str
    seed: int
    config: dict[str, Any]
    versions: dict[str, Any]
    mapping: MappingRecord
    source: list[SourceFile]
    rows: RowCounts
    counted: dict[str, int]
    pairs: dict[str, int] | None
    firewall: list[CheckRecord]
    files: dict[str, FileRecord]

    def write(self, path: Path) -> None:
        write_json(path, self.model_dump(mode="json"))


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a data set's folder. Raises `Refusal` when there is none, or one that isn't whole."""
    path = folder / "manifest.json"
    try:
        return Manifest.model_validate(read_json(path, REMEDY))
    except ValidationError as error:
        place = ".".join(str(part) for part in error.errors()[0]["loc"])
        raise Refusal(f"{path} is not the manifest of a data set (`{place}`); {REMEDY}") from None


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
