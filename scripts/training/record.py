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

from common.files import read_json, write_json
from common.run_record import NAME, Hardware, Layout, RunRecord, Session, read_run

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
        return self.record.loss_frame

    @property
    def steps(self) -> int:
        """Optimizer steps that were taken."""
        return self.record.steps

    def __str__(self) -> str:
        losses = [entry["loss"] for entry in self.record.losses if "loss" in entry]
        trend = f", loss {losses[0]:.3f} -> {losses[-1]:.3f}" if losses else ""
        return f"{self.steps} steps{trend}; {self.folder}/{NAME}"

    def _repr_html_(self) -> str:
        return f"<p>{html.escape(str(self))}</p>{self.losses._repr_html_()}"


def read(folder: Path) -> Run:
    """The finished run in a folder."""
    return Run(folder, read_run(folder))


def sessions(folder: Path) -> list[Session]:
    """What each start of the run measured. It writes its line anew at each checkpoint; the last counts."""
    path = folder / SESSIONS
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    by_start: dict[int, Session] = {}
    for line in lines:
        try:
            session = Session.model_validate(json.loads(line))
        except ValueError:  # torn by a kill
            continue
        by_start[session.from_step] = session
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
    record = RunRecord(
        inputs=inputs,
        layout=Layout(**launched["layout"]),
        arguments=launched["arguments"],
        notes=launched["notes"],
        command=sys.argv,
        data_manifest=read_json(manifest, "run `make data`").get("inputs") if manifest.is_file() else None,
        git_commit=git.stdout.strip() or None if git else None,
        hardware=Hardware(machine=platform.machine(), cores=os.cpu_count(), device=device),
        losses=state["log_history"],
        sessions=measured,
        peak_memory_bytes=max((session.peak_memory_bytes for session in measured), default=None),
        tokens=launched["tokens"],
        versions={name: importlib.metadata.version(name) for name in PACKAGES}
        | {"python": platform.python_version()},
        selection=launched.get("selection"),
    )
    write_json(folder / NAME, record.model_dump(mode="json"))
    return Run(folder, record)
