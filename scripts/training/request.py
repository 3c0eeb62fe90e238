"""What a person asks for: which recipe, on which data, on which machines; and the recipe that comes of it."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from common.errors import Refusal
from common.files import fingerprint
from common.paths import dataset_name, output_dir, safe_name
from scripts.training.asides import SECRETS, set_aside
from scripts.training.recipe import STAGES, Recipe, find_recipe, load_recipe, resolve

# Settings that don't change what is learned: changing one doesn't start a run again.
INDIFFERENT = (
    "report_to", "run_name", "logging_steps", "save_total_limit", "dataloader_num_workers",
    "preprocessing_num_workers", "ddp_timeout", "plot_loss", "deepspeed", "output_dir",
)  # fmt: skip
LONGEST_NAME = 60


def _number(name: str, text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise Refusal(f"{name}={text} is no number") from None


@dataclass(frozen=True)
class Machines:
    """On how many GPUs and machines a run is spread, and which of them this is.

    gpus: processes on this machine, None for all of its GPUs (one process on a CPU).
    """

    gpus: int | None = None
    nnodes: int = 1
    node_rank: int = 0
    master_addr: str = "127.0.0.1"
    master_port: int = 29500

    def __post_init__(self) -> None:
        if self.gpus is not None and self.gpus < 1:
            raise Refusal(f"GPUS={self.gpus}; give at least 1, or leave it out for all GPUs")
        if self.nnodes < 1:
            raise Refusal(f"NNODES={self.nnodes}; give at least 1")
        if not 0 <= self.node_rank < self.nnodes:
            raise Refusal(f"NODE_RANK={self.node_rank}; give 0 to {self.nnodes - 1}, the machine's number")
        if not 0 < self.master_port < 2**16:
            raise Refusal(f"MASTER_PORT={self.master_port}; give 1 to 65535")

    @classmethod
    def from_environment(cls, **given: Any) -> "Machines":
        """As GPUS, NNODES, NODE_RANK, MASTER_ADDR and MASTER_PORT say; what is given (not None) wins."""
        values = {name: value for name, value in given.items() if value is not None}
        for name in ("gpus", "nnodes", "node_rank", "master_addr", "master_port"):
            text = os.environ.get(name.upper())
            if name not in values and text:
                values[name] = text if name == "master_addr" else _number(name.upper(), text)
        return cls(**values)


@dataclass(frozen=True)
class Selection:
    """Keep the checkpoint whose answers are nearest to people's on held-out rows.

    rows: how many each checkpoint answers; patience: training ends after so many checkpoints that are
    no nearer than one before them (0: never).
    """

    rows: int = 2000
    patience: int = 3

    def __post_init__(self) -> None:
        if self.rows < 1:
            raise Refusal(f"--select-rows {self.rows}; give at least 1")
        if self.patience < 0:
            raise Refusal(f"PATIENCE={self.patience}; give 0 (never end early) or more")


@dataclass(frozen=True)
class RunRequest:
    """A run: the recipe of `model` and `stage`, changed by `settings`, on one data set and split.

    workers: processes that tokenise, None for one a core; restart: start again, the old run is moved
    aside; quiet: no lines of progress.
    """

    stage: str = "sft"
    model: str = "tiny"
    data: str = "sample"
    split: str = "study"
    recipe: str | Path | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    machines: Machines = field(default_factory=Machines)
    select: Selection | None = None
    workers: int | None = None
    restart: bool = False
    quiet: bool = False

    @cached_property
    def path(self) -> Path:
        """The recipe's file."""
        return find_recipe(self.model, self.stage, self.recipe)

    @cached_property
    def _read(self) -> tuple[Recipe, list[str]]:
        if self.stage in ("rm", "ppo"):
            raise Refusal(
                f"STAGE={self.stage} needs a reward model, which nothing here can evaluate; use dpo or kto"
            )
        if self.stage not in STAGES:
            raise Refusal(f"unknown STAGE={self.stage}; choose one of {', '.join(STAGES)}")
        recipe, notes = set_aside({**load_recipe(self.path), **self.settings})
        if recipe.setdefault("stage", "sft") != self.stage:
            raise Refusal(f"{self.path} is for stage {recipe['stage']}; use STAGE={recipe['stage']}")
        model = safe_name(self.model, "MODEL")
        if "/" in str(recipe.get("output_dir", "")) and not str(recipe["output_dir"]).startswith("outputs/"):
            notes.append(f"output_dir: set aside, runs lie in {output_dir(self.data, self.split) / model}")
        resolved = resolve(recipe, dataset_name(self.data), self.split, model, self.stage)
        if "output_dir" not in self.settings:
            resolved["output_dir"] += _variant(self.settings)
        return resolved, notes

    @property
    def resolved(self) -> Recipe:
        """The recipe as it runs, for one process."""
        return self._read[0]

    @property
    def notes(self) -> list[str]:
        """A line for each key of the recipe that was set aside or read differently."""
        return self._read[1]

    @property
    def folder(self) -> Path:
        """Where the run lies: `outputs/<dataset>/<split>/<model>/<name>`."""
        return Path(self.resolved["output_dir"])


def _variant(settings: Mapping[str, Any]) -> str:
    """What settings for one run add to its name, so that it stands beside the recipe's own run."""
    changes = {key: value for key, value in sorted(settings.items()) if key not in (*INDIFFERENT, *SECRETS)}
    if not changes:
        return ""
    words = "".join(f"-{key}-{value}" for key, value in changes.items())
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", words).replace("..", ".")
    return name if len(name) < LONGEST_NAME - 20 else f"-{fingerprint(changes)[:8]}"
