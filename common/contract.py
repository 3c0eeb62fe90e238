"""The contract of `data/` and `outputs/` as code: keys, tables, and the records of data sets and runs.

data/README.md says what each column means; tests compare its tables with the schemas here.

    rows = read_parquet(path, EVALUATION, "run `make data`")              # common/readers.py
    manifest = read_record(folder / "manifest.json", Manifest, "run `make data`")
"""

from pathlib import Path
from typing import Any, Literal, TypeVar

import polars as pl
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from common.errors import Refusal
from common.files import write_json
from common.readers import read_json

KEY = ["study_id", "sample_id"]  # a row: one answer
PERSON = ["study_id", "participant"]
CELL = ["study_id", "condition_num", "task_num"]  # one arm and one outcome
ITEM = [*CELL, "item_num"]  # a cell's answers to one and the same stimulus

SCALE: dict[str, Any] = {
    "scale_kind": pl.String,
    "scale_low": pl.Int64,
    "scale_high": pl.Int64,
    "scale_step": pl.Int64,
    "scale_labels": pl.List(pl.Struct({"value": pl.Int64, "label": pl.String})),
}
EVALUATION: dict[str, Any] = {  # eval.parquet, validation.parquet
    "study_id": pl.String,
    "sample_id": pl.Int64,
    "participant": pl.Int64,
    "condition_num": pl.Int64,
    "task_num": pl.Int64,
    "item_num": pl.Int64,
    "system": pl.String,
    "prompt": pl.String,
    "stimuli": pl.String,
    "response": pl.Int64,
    **SCALE,
    "off_scale": pl.Boolean,
    "demographic": pl.Struct,
}
TRAIN_COUNTS: dict[str, Any] = {
    "study_id": pl.String,
    "condition_num": pl.Int64,
    "task_num": pl.Int64,
    "item_num": pl.Int64,
    "scale_kind": pl.String,
    "scale_low": pl.Int64,
    "scale_high": pl.Int64,
    "response": pl.Int64,
    "count": pl.Int64,
}
PREDICTIONS: dict[str, Any] = {
    "study_id": pl.String,
    "sample_id": pl.Int64,
    "mode": pl.String,
    "answers": pl.List(pl.Int64),
    "probs": pl.List(pl.Float32),
    "draws": pl.List(pl.Int64),
    "off_scale_mass": pl.Float32,
    "unread_mass": pl.Float32,
    "n_requested": pl.Int32,
    "n_parsed": pl.Int32,
    "n_bare": pl.Int32,
}


class Record(BaseModel):
    """A part of a record: nothing unknown in it, and nothing changes after it was read."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class MappingRecord(Record):
    """How a split's mapping was read.

    file: its name, None when it was drawn from the seed. meaning: what its lists hold. entries: how many of
    them exist in the data, by meaning, and how many there are (`listed`). absent: studies that it names and
    the data lack.
    """

    file: str | None
    meaning: str
    entries: dict[str, int] = Field(default_factory=dict)
    absent: list[str] = Field(default_factory=list)


class RowCounts(Record):
    """`read` = `train` + `validation` + `eval` + the sum of `dropped`, which is by reason."""

    read: int
    train: int
    validation: int
    eval: int
    dropped: dict[str, int]


class FileRecord(Record):
    """A file that a step wrote."""

    sha256: str
    bytes: int
    rows: int


class SourceFile(Record):
    """A file that a data set was made from."""

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
    """manifest.json, the record of a data set."""

    schema_version: Literal[2] = Field(2, alias="schema")
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


class Hardware(Record):
    """The machine of a run."""

    machine: str
    cores: int | None
    device: str


class RunRecord(Record):
    """run.json, the record of a finished training run: everything to repeat it and to judge it.

    arguments: what LLaMA-Factory got. notes: what of the recipe was set aside or read differently.
    losses: the trainer's own log. select, selection: how the checkpoint
    was chosen, and what each one scored, when it was chosen at all.
    """

    schema_version: Literal[2] = Field(2, alias="schema")
    inputs: str
    files: dict[str, dict[str, Any]] = Field(default_factory=dict)
    layout: dict[str, Any]
    arguments: dict[str, Any]
    notes: list[str] = []
    tokens_per_epoch: int
    select: dict[str, Any] | None = None
    selection: dict[str, Any] | None = None
    command: list[str]
    data_manifest: str | None
    git_commit: str | None
    hardware: Hardware
    losses: list[dict[str, Any]]
    sessions: list[dict[str, Any]]
    peak_memory_bytes: int
    tokens: dict[str, Any]
    versions: dict[str, str]


class PredictionCounts(Record):
    """What a reader must know before trusting predictions. Replies: of rows that weren't computed exactly.

    mean_off_scale_mass, mean_unread_mass: of the exact rows; None where there are none.
    """

    rows: int
    rows_by_mode: dict[str, int]
    rows_without_prediction: int
    replies_requested: int
    replies_parsed: int
    replies_bare: int
    mean_off_scale_mass: float | None
    mean_unread_mass: float | None


class PredictionsRecord(Record):
    """predictions.json, the record of predictions that were made here.

    depends_on: model files, rows (a SHA-256 of their file or table) and settings. usage: tokens that a
    server counted in the last run, which began with `rows_resumed` rows done.
    """

    schema_version: Literal[2] = Field(2, alias="schema")
    inputs: str
    name: str
    model: str
    mode: str
    backend: str
    depends_on: dict[str, Any]
    counts: PredictionCounts
    seconds: float
    rows_resumed: int
    usage: dict[str, int] | None
    versions: dict[str, str]
    files: dict[str, dict[str, Any]]


AnyRecord = TypeVar("AnyRecord", bound=BaseModel)


def read_record(path: str | Path, model: type[AnyRecord], remedy: str) -> AnyRecord:
    """Read a record that has a `schema` number. Raises `Refusal` if it is missing, broken or of another."""
    content = read_json(path, remedy)
    version = content.get("schema") if isinstance(content, dict) else None
    expected = model.model_fields["schema_version"].default
    if version != expected:
        raise Refusal(f"{path} has schema {version}, this version reads {expected}; {remedy}")
    try:
        return model.model_validate(content)
    except ValidationError as error:
        problem = error.errors()[0]
        where = ".".join(str(part) for part in problem["loc"])
        raise Refusal(f"{path} is not a whole record (`{where}`: {problem['msg']}); {remedy}") from None


def write_record(path: str | Path, record: BaseModel) -> None:
    """Write a record for `read_record`, atomically."""
    write_json(path, record.model_dump(mode="json", by_alias=True))
