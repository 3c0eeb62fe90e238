"""The record of a finished run, and the `Run` that a notebook gets."""

import html
import importlib.metadata
import json
import os
import platform
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from common.contract import Hardware, RunRecord, read_record, write_record
from common.readers import read_json
from scripts.training import folders
from scripts.training.asides import without_secrets
from scripts.training.mixture import shares_text

NAME = "run.json"

PACKAGES = ("llamafactory", "torch", "transformers", "peft", "trl", "datasets", "accelerate", "deepspeed")
SESSIONS = "sessions.jsonl"


@dataclass(frozen=True)
class Run:
    """A trained model: its folder, and the record of how it came about."""

    folder: Path
    record: RunRecord

    @property
    def losses(self) -> pl.DataFrame:
        """One row a logged step: step, epoch, loss, learning_rate, eval_loss, ..."""
        entries = [entry for entry in self.record.losses if "train_runtime" not in entry]
        return pl.DataFrame(entries or {"step": []}, infer_schema_length=None)

    @property
    def steps(self) -> int:
        """Optimizer steps that were taken."""
        return max((int(entry["step"]) for entry in self.record.losses if "step" in entry), default=0)

    def __str__(self) -> str:
        losses = [entry["loss"] for entry in self.record.losses if "loss" in entry]
        trend = f", loss {losses[0]:.3f} -> {losses[-1]:.3f}" if losses else ""
        shares = shares_text(self.record.tokens.get("train", {}).get("datasets", []))
        mixed = f"\n{shares}" if shares else ""
        return f"{self.steps} steps{trend}; {self.folder}/{NAME}{mixed}"

    def _repr_html_(self) -> str:
        return f"<p>{html.escape(str(self))}</p>{self.losses._repr_html_()}"


def read(folder: Path) -> Run:
    """The finished run in a folder."""
    remedy = "train it first: make train-sft, make train-dpo"
    return Run(folder, read_record(folder / NAME, RunRecord, remedy))


def sessions(folder: Path) -> list[dict[str, Any]]:
    """What each start of the run measured. It writes its line anew at each checkpoint; the last counts."""
    path = folder / SESSIONS
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    by_start: dict[int, dict[str, Any]] = {}
    for line in lines:
        try:
            session = json.loads(line)
        except ValueError:  # torn by a kill
            continue
        by_start[session["from_step"]] = session
    return list(by_start.values())


def write(folder: Path, launched: dict[str, Any], inputs: str, manifest: Path, device: str) -> Run:
    """Write run.json, the last file of a run, from what was launched and what the trainer has logged.

    launched: the content of launch.json; inputs: fingerprint of all that the model depends on.
    """
    state = read_json(folder / "trainer_state.json", "run the same command again")
    measured = sessions(folder)
    git = shutil.which("git") and subprocess.run(
        ["git", "rev-parse", "HEAD"], capture_output=True, text=True, cwd=Path(__file__).parent
    )
    model = [path for pattern in folders.MODEL_FILES for path in folder.glob(pattern)]
    record = RunRecord(
        inputs=inputs,
        files={path.name: {"bytes": path.stat().st_size} for path in model if path.is_file()},
        layout=launched["layout"],
        arguments=launched["arguments"],
        notes=launched["notes"],
        tokens_per_epoch=launched["tokens"]["train"]["tokens"],
        select=launched.get("select"),
        command=without_secrets(sys.argv),
        data_manifest=read_json(manifest, "run `make data`").get("inputs") if manifest.is_file() else None,
        git_commit=git.stdout.strip() or None if git else None,
        hardware=Hardware(machine=platform.machine(), cores=os.cpu_count(), device=device),
        losses=state["log_history"],
        sessions=measured,
        peak_memory_bytes=max((session["peak_memory_bytes"] for session in measured), default=0),
        tokens=launched["tokens"],
        versions={name: importlib.metadata.version(name) for name in PACKAGES}
        | {"python": platform.python_version()},
        selection=launched.get("selection"),
    )
    write_record(folder / NAME, record)
    return Run(folder, record)
