"""Choose the checkpoint whose answer distributions come nearest to people's on the held-out slice.

    python -m scripts.training.launch --recipe configs/llama3-8b/sft-thrifty.yaml ... --select wasserstein

Each checkpoint, when it is saved, answers the rows of `validation.parquet` in a process of its own
(`python -m eval.prediction.run`); training ends when `--patience` checkpoints in a row are no nearer than one
before them. Afterwards the kept checkpoint with the smallest Wasserstein distance becomes the run's
model. The slice is of training studies: the evaluation rows are never looked at.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import polars as pl
from scipy.stats import wasserstein_distance

from common.errors import Refusal
from common.files import atomic_path, write_json
from scripts.training import checkpoints

CELL = ["study_id", "condition_num", "task_num"]
WEIGHTS = ("*.safetensors", "*.safetensors.index.json", "adapter_config.json")
LAUNCHER = ("RANK", "LOCAL_", "WORLD_SIZE", "GROUP_", "ROLE_", "MASTER_", "TORCHELASTIC_")


def distance(predictions: Path, rows: Path) -> float:
    """Mean Wasserstein-1 distance of predicted from human answers, over cells, then over studies.

    A cell's answers are scaled by the range of its human answers, and predictions are clipped to it;
    a cell whose people all agree has no range and is left out. `predictions` holds one list of
    `answers` with their `probs` a row. Raises `Refusal` if no cell can be compared.
    """
    keys = ["study_id", "sample_id"]
    human = pl.read_parquet(rows, columns=[*keys, "condition_num", "task_num", "response"])
    predicted = pl.read_parquet(predictions, columns=[*keys, "answers", "probs"])
    both = human.join(predicted.filter(pl.col("answers").list.len() > 0), on=keys)
    found = []
    for (study, *_), cell in both.group_by(CELL, maintain_order=True):
        people = cell["response"].to_numpy()
        low, high = people.min(), people.max()
        if low == high:
            continue
        weights = cell.select(pl.col("answers", "probs")).explode("answers", "probs")
        answers = weights["answers"].to_numpy().clip(low, high)
        far = wasserstein_distance(people, answers, v_weights=weights["probs"].to_numpy().astype(float))
        found.append((str(study), far / (high - low)))
    if not found:
        raise Refusal(
            f"{rows} has no cell with differing answers; raise validation_fraction in the data settings"
        )
    by_study = pl.DataFrame(found, schema=["study", "far"], orient="row").group_by("study").mean()
    return float(by_study["far"].mean())  # type: ignore[arg-type]


def predict(checkpoint: Path, rows: Path, most: int, out: Path) -> Path:
    """Let one checkpoint answer the rows, in its own process; gives its predictions' file."""
    line = [
        sys.executable, "-m", "eval.prediction.run", "--model", str(checkpoint), "--name", checkpoint.name,
        "--rows", str(rows), "--mode", "exact", "--max-rows", str(most), "--out", str(out),
    ]  # fmt: skip
    # The predictor is no part of the training's process group.
    env = {key: value for key, value in os.environ.items() if not key.startswith(LAUNCHER)}
    done = subprocess.run(line, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=env)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise Refusal(f"{checkpoint} could not answer the held-out rows: {last.removeprefix('error: ')}")
    return out / "predictions.parquet"


def score(checkpoint: Path, rows: Path, most: int) -> float:
    """A checkpoint's distance on the held-out rows. Predictions that are there are not made again."""
    out = checkpoint.parent / "selection" / checkpoint.name
    return distance(predict(checkpoint, rows, most, out), rows)


def out_of_patience(found: dict[int, float], patience: int) -> bool:
    """True if the last `patience` (above 0) of the distances by step are no better than one before them."""
    far = [found[step] for step in sorted(found)]
    return 0 < patience < len(far) and min(far[-patience:]) >= min(far[:-patience])


def choose(run: Path, rows: Path, most: int) -> dict[str, Any]:
    """Score every whole checkpoint and make the nearest one the run's model.

    Gives, and writes to `selection.json`, the distance of each and the chosen step. Repeating it is
    quick: predictions that are there are not made again.
    """
    if not rows.is_file():
        raise Refusal(f"{rows} is missing; run `make data` with validation_fraction above 0")
    found = {}
    for checkpoint in filter(checkpoints.is_whole, checkpoints.numbered(run)):
        far = found[checkpoints.step(checkpoint)] = score(checkpoint, rows, most)
        print(f"{checkpoint.name}: Wasserstein distance {far:.4f}", flush=True)
    if not found:
        raise Refusal(f"{run} has kept no whole checkpoint to choose from; set save_strategy: steps")
    best = min(found, key=lambda step: (found[step], step))
    for pattern in WEIGHTS:
        for file in (run / f"checkpoint-{best}").glob(pattern):
            with atomic_path(run / file.name) as partial:
                shutil.copyfile(file, partial)
    chosen = {"step": best, "rows": most, "wasserstein": {str(step): far for step, far in found.items()}}
    write_json(run / "selection.json", chosen)
    print(f"chosen: checkpoint-{best}")
    return chosen
