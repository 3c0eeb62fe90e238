"""A small data set, three models' predictions of it, their scores, and the records of their training.

    folder = scored.write(tmp_path)          # then chdir there: report("sample", "study")

What is written is what the real steps write: predictions are scored by the real scorer.
"""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from common.files import write_json
from eval.scoring import run as scoring
from eval.settings import load_settings
from tests.helpers.scored_samples import exact, population, write_split

MODELS = {"tiny-base": 0.3, "tiny-sft": 0.9, "tiny-dpo": 0.7}  # how much of the true shares each has
OUTPUTS = Path("outputs/sample/study")
QUICK = "score: {replicates: 100, ceiling_splits: 10, permutations: 100}\n"
MANIFEST = {
    "schema": 2, "inputs": "abc", "dataset": "sample", "split": "study", "seed": 7,
    "config": {"dpo": {"pairs": 1}}, "versions": {"polars": "2.1.0"}, "counted": {}, "files": {},
    "mapping": {"file": None, "meaning": "studies held out"},
    "source": [{"name": "train-00000.parquet", "bytes": 12345}],
    "rows": {"read": 2000, "train": 1200, "validation": 60, "eval": 730, "dropped": {"no answer": 10}},
    "pairs": {"written": 1100, "no_disagreement": 3},
    "firewall": [
        {"name": "studies", "train": 10, "eval": 4, "both": 0, "verdict": "passed", "examples": []}
    ],
}  # fmt: skip


def training(model: str, stage: str) -> dict[str, Any]:
    """The record of a training run."""
    return {
        "schema": 2, "inputs": "abc", "layout": {"processes": 1, "deepspeed": None},
        "arguments": {"model_name_or_path": "outputs/models/tiny", "stage": stage, "learning_rate": 1e-3,
                      "num_train_epochs": 2, "seed": 42, "output_dir": f"{OUTPUTS}/{model}/{stage}",
                      "template": "llama3", "per_device_train_batch_size": 16,
                      "gradient_accumulation_steps": 2, "finetuning_type": "full"},
        "command": ["/somewhere/socrates.py", "train", stage, "--model", model],
        "data_manifest": "abc", "git_commit": "f" * 40,
        "hardware": {"machine": "x86_64", "cores": 2, "device": "cpu"},
        "losses": [{"step": step, "loss": 3 / step, "epoch": step / 10} for step in range(1, 20)]
        + [{"step": 19, "eval_loss": 0.4}, {"step": 19, "train_runtime": 12.0}],
        "sessions": [{"device": "cpu", "peak_memory_bytes": 10**9}], "peak_memory_bytes": 10**9,
        "tokens": {"train": {"rows": 1200, "tokens": 360000}}, "tokens_per_epoch": 360000,
        "versions": {"python": "3.11", "llamafactory": "0.9.5"},
    }  # fmt: skip


def write(
    folder: Path,
    models: dict[str, float] | None = None,
    change: Callable[[pl.DataFrame], pl.DataFrame] = lambda rows: rows,
    **sizes: int,
) -> Path:
    """Write data, predictions, scores and training records under `folder` and return it.

    models: {name: share of the truth in its predictions}. change: what to do to the rows first. sizes:
    studies, arms, tasks, people of `population`.
    """
    rows, true = population(**{"studies": 5, "arms": 3, "tasks": 3, "people": 60, **sizes})
    rows = change(rows)
    write_split(rows, folder)
    write_json(folder / "data/sample/study/manifest.json", MANIFEST)
    for name, share in (models or MODELS).items():
        target = folder / OUTPUTS / "eval" / name
        target.mkdir(parents=True)
        predictions = exact(rows, share * true + (1 - share) * np.full(7, 1 / 7))
        predictions.write_parquet(target / "predictions.parquet")
        write_json(target / "predictions.json", {"inputs": "abc", "model": name, "mode": "exact"})
    (folder / "quick.yaml").write_text(QUICK)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        scoring.score_models("sample", "study", settings=load_settings("quick.yaml"))
    for stage in ("sft", "dpo"):
        write_json(folder / OUTPUTS / "tiny" / stage / "run.json", training("tiny", stage))
    return folder


def copy(folder: Path, target: Path) -> Path:
    """A copy of a written folder, to change."""
    shutil.copytree(folder, target, dirs_exist_ok=True)
    return target
