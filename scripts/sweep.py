"""A grid over recipe keys and data settings: one ordinary run a point, each resumable by itself.

A sweep file names what stays (`model`, `stage`, `data`, `split`) and what varies (`vary.data` for keys of
configs/data/default.yaml, `vary.recipe` for recipe keys). A point is a list of commands; running them
again goes on where a kill stopped them. Points with data settings of their own get a data set of their
own: a folder of links to the same answers under another name.
"""

import itertools
import re
import shlex
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import yaml
from pydantic import Field

from common.errors import Refusal
from common.files import atomic_path
from common.paths import dataset_name, output_dir, root, safe_name, source_dir
from common.processes import run_commands
from common.settings import Section, read_settings
from scripts.data.settings import DataSettings, load_settings
from scripts.training.request import RunRequest

Value = int | float | str | bool
EXAMPLE = Path("configs/sweeps/participants.yaml")
LONGEST = 40


class Vary(Section):
    """Keys and the values they take; every combination is a point."""

    data: dict[str, Annotated[list[Value], Field(min_length=1)]] = Field(default_factory=dict)
    recipe: dict[str, Annotated[list[Value], Field(min_length=1)]] = Field(default_factory=dict)


class Sweep(Section):
    """A sweep file. along: the key of the curves' horizontal axis; seeds are averaged over."""

    title: str
    along: str
    vary: Vary
    model: str = "tiny"
    stage: str = "sft"
    data: str = "sample"
    split: str = "study"
    config: str | None = None
    recipe: dict[str, Value] = Field(default_factory=dict)
    metrics: tuple[str, ...] = ("wasserstein_observed", "accuracy_observed")


@dataclass(frozen=True)
class Point:
    """One run: what varies in it, its data set (as DATA takes it), its name, and its commands."""

    values: dict[str, Value]
    data: str
    split: str
    name: str
    commands: list[list[str]]

    @property
    def scores(self) -> Path:
        """Where its scores lie."""
        return output_dir(self.data, self.split) / "eval" / self.name


def read_sweep(path: Path) -> Sweep:
    """Read and check a sweep file; a key that is neither a data setting nor varied is refused by name."""
    sweep = read_settings(path, Sweep, EXAMPLE)
    if sweep.along not in {**sweep.vary.data, **sweep.vary.recipe}:
        raise Refusal(f"{path}: along: {sweep.along} is not among the keys that vary")
    for key in sweep.vary.data:
        if key not in DataSettings.model_fields:
            raise Refusal(f"{path}: vary.data.{key} is no data setting; see configs/data/default.yaml")
    return sweep


def points_of(sweep: Sweep, folder: Path) -> list[Point]:
    """Every point of the grid, in the file's order; writes each data set's settings below `folder`."""
    keys = [("data", key) for key in sweep.vary.data] + [("recipe", key) for key in sweep.vary.recipe]
    grid = itertools.product(*(getattr(sweep.vary, kind)[key] for kind, key in keys))
    return [_point(sweep, folder, dict(zip(keys, values, strict=True))) for values in grid]


def _point(sweep: Sweep, folder: Path, chosen: dict[tuple[str, str], Value]) -> Point:
    changed = {key: value for (kind, key), value in chosen.items() if kind == "data"}
    recipe = {**sweep.recipe, **{key: value for (kind, key), value in chosen.items() if kind == "recipe"}}
    data, config = _data_set(sweep, folder, changed)
    where = ["--data", data, "--split", sweep.split]
    run = RunRequest(sweep.stage, sweep.model, data, sweep.split, settings=recipe)
    settings = [f"{key}={yaml.safe_dump(value).split()[0]}" for key, value in recipe.items()]
    name = safe_name(f"{sweep.model}-{run.folder.name}"[:64], "the run")
    return Point(
        {key: value for (_, key), value in chosen.items()}, data, sweep.split, name,
        [
            ["data", "make", *where, *(["--config", str(config)] if config else [])],
            ["train", sweep.stage, *settings, "--model", sweep.model, *where],
            ["predict", "--model", str(run.folder), "--name", name, *where],
            ["score", "--models", name, *where],
        ],
    )  # fmt: skip


def _data_set(sweep: Sweep, folder: Path, changed: Mapping[str, Value]) -> tuple[str, Path | None]:
    """DATA of a point and its settings file: the sweep's own, or links to it under another name."""
    if not changed:
        return sweep.data, Path(sweep.config) if sweep.config else None
    settings = load_settings(sweep.config).model_dump(mode="json") | dict(changed)
    DataSettings.model_validate(settings)
    words = "-".join(f"{key}-{value}" for key, value in changed.items())
    alias = f"{dataset_name(sweep.data)}-{re.sub(r'[^A-Za-z0-9._-]+', '-', words)}"[: LONGEST + 24]
    home = folder / "data" / safe_name(alias, "the data set")
    for part in ("data", "metadata"):
        link = home / part
        if not link.is_symlink():
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to((source_dir(sweep.data) / part).resolve())
    config = home / "settings.yaml"
    with atomic_path(config) as partial:
        partial.write_text(yaml.safe_dump(settings, sort_keys=False), encoding="utf-8")
    return str(home), config


def run_points(points: list[Point]) -> None:
    """Run every command of every point, each as its own process; stops at the first that fails."""
    for number, point in enumerate(points, 1):
        words = ", ".join(f"{key} {value}" for key, value in point.values.items())
        print(f"point {number} of {len(points)}: {words}", file=sys.stderr, flush=True)
        run_commands(point.commands)


def write_slurm(points: list[Point], path: Path) -> Path:
    """A Slurm array with one task a point: `sbatch <path>`, then the same sweep without --slurm."""
    lines = [
        "#!/bin/bash",
        f"#SBATCH --array=0-{len(points) - 1}",
        "#SBATCH --job-name=socrates-sweep",
        "#SBATCH --gpus=1",
        "#SBATCH --requeue",
        "set -euo pipefail",
        f"cd {shlex.quote(str(root().resolve()))}",
        'case "$SLURM_ARRAY_TASK_ID" in',
    ]
    for number, point in enumerate(points):
        calls = [f".venv/bin/python -m socrates {shlex.join(command)}" for command in point.commands]
        steps = " && ".join(calls)
        lines.append(f"  {number}) {steps} ;;")
    with atomic_path(path) as partial:
        partial.write_text("\n".join([*lines, "esac"]) + "\n", encoding="utf-8")
    return path
