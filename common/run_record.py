"""run.json: what a training run was, as a typed record that training writes and the evaluator reads."""

from pathlib import Path
from typing import Any, Literal

import polars as pl
from pydantic import BaseModel, ConfigDict, ValidationError

from common.errors import Refusal
from common.files import read_json

NAME = "run.json"


class _Part(BaseModel):
    """A part of the record: nothing unknown in it, nothing changes after it was read."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Layout(_Part):
    """How the run was spread; a checkpoint that DeepSpeed has split goes on with the same only."""

    processes: int
    deepspeed: str | dict[str, Any] | None = None


class Session(_Part):
    """One start of the run until its end or its kill, as measured by the training itself."""

    seconds: float
    steps: int
    from_step: int
    tokens_per_second: float
    peak_memory_bytes: int
    """Of the process that used most: GPU memory, or main memory on a CPU."""
    device: str


class Hardware(_Part):
    machine: str
    cores: int | None
    device: str | None


class RunRecord(_Part):
    """Everything to repeat a training run and to judge it.

    inputs: fingerprint of all that the run's model depends on. arguments: what LLaMA-Factory was given.
    losses: the trainer's own log, one entry a logged step. tokens: counts of the tokenised data, by part.
    selection: distance of each checkpoint and the chosen step, null where none was chosen.
    """

    schema_version: Literal[2] = 2
    inputs: str
    layout: Layout
    arguments: dict[str, Any]
    notes: list[str] = []
    """What of the recipe was set aside or read differently."""
    command: list[str]
    data_manifest: str | None
    git_commit: str | None
    hardware: Hardware
    losses: list[dict[str, Any]]
    sessions: list[Session]
    peak_memory_bytes: int | None
    tokens: dict[str, Any]
    versions: dict[str, str]
    selection: dict[str, Any] | None = None

    @property
    def loss_frame(self) -> pl.DataFrame:
        """One row a logged step: step, epoch, loss, learning_rate, eval_loss, ... (null where not logged)."""
        rows = [entry for entry in self.losses if "train_runtime" not in entry]
        return (
            pl.DataFrame(rows, infer_schema_length=None) if rows else pl.DataFrame(schema={"step": pl.Int64})
        )

    @property
    def steps(self) -> int:
        """Optimizer steps that were taken."""
        return max((int(entry["step"]) for entry in self.losses if "step" in entry), default=0)


def read_run(folder: Path | str) -> RunRecord:
    """The record of a finished run. Raises `Refusal` if there is none, or one of another version."""
    path = Path(folder) / NAME
    value = read_json(path, "train it first: make train-sft, make train-dpo")
    try:
        return RunRecord.model_validate(value)
    except ValidationError as error:
        place = ".".join(str(part) for part in error.errors()[0]["loc"])
        raise Refusal(
            f"{path} is no run record of this version ({place}); run the same training command again"
        ) from None
