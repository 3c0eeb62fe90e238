"""Choose the checkpoint whose answer distributions come nearest to people's on the held-out slice.

    make train-sft RECIPE=configs/llama3-8b/sft-thrifty.yaml SELECT=wasserstein

Each checkpoint, when it is saved, answers the rows of `validation.parquet` in a process of its own, and
training ends when `patience` checkpoints in a row are no nearer than one before them. Afterwards the
kept checkpoint with the smallest Wasserstein distance becomes the run's model. The slice is of training
studies: the evaluation rows are never looked at. The distance is the one that the report shows.
"""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from common.contract import CELL, KEY
from common.distances import FEWEST_PEOPLE, distances, histograms
from common.errors import Refusal
from common.files import write_json
from common.paths import root
from common.processes import started
from scripts.training import checkpoints, folders, process

WEIGHTS = ("*.safetensors", "*.safetensors.index.json", "adapter_config.json")
LAUNCHER = ("RANK", "LOCAL_", "WORLD_SIZE", "GROUP_", "ROLE_", "MASTER_", "TORCHELASTIC_")
# The evaluator is another wing: it is asked by its command, not imported.
PREDICT = ("-m", "socrates", "predict")


def distance(predictions: Path, rows: Path) -> float:
    """Mean Wasserstein-1 distance of predicted from human answers, over cells, then over studies.

    It is the report's `wasserstein_observed` of the rows that were predicted: a cell's range is that of all
    its human answers in `rows`, whether they were predicted or not; predictions are clipped to it; survey
    weights count; a cell with one predicted person, or whose people all agree, is left out.
    `predictions` holds one list of `answers` with their `probs` a row. Raises `Refusal` if no cell can
    be compared.
    """
    human = _human_rows(rows)
    ranges = human.group_by(CELL).agg(low=pl.col("response").min(), high=pl.col("response").max())
    predicted = pl.read_parquet(predictions, columns=[*KEY, "answers", "probs"])
    both = human.join(predicted.filter(pl.col("answers").list.len() > 0), on=KEY).sort(*CELL, "sample_id")
    cells = both.group_by(CELL, maintain_order=True).agg(
        rows=pl.len(), people=pl.col("participant").n_unique(), answers=pl.col("answers").list.len().sum()
    )
    cells = cells.join(ranges, on=CELL, maintain_order="left")
    flat = both.select("answers", "probs", "weight").explode("answers", "probs")
    table = histograms(
        both["response"].to_numpy(),
        _offsets(cells["rows"]),
        flat["answers"].to_numpy(),
        _offsets(cells["answers"]),
        both["weight"].to_numpy(),
        (flat["probs"].cast(pl.Float64) * flat["weight"]).to_numpy(),
    )
    observed = cells.select("low", "high").to_numpy().astype(float)
    limits = np.column_stack([observed, np.full_like(observed, np.nan)])
    of_cells = distances(table.offsets, table.support, table.human, table.predicted, limits)[:, 0]
    compared = cells.with_columns(distance=pl.Series(of_cells).fill_nan(None)).filter(
        pl.col("people") >= FEWEST_PEOPLE
    )
    mean = compared.group_by("study_id").agg(pl.col("distance").mean())["distance"].mean()
    if mean is None:
        raise Refusal(
            f"{rows} has no cell with differing answers; raise validation_fraction in the data settings"
        )
    return float(mean)  # type: ignore[arg-type]


def _human_rows(rows: Path) -> pl.DataFrame:
    """People's answers by key, person and cell, with their survey weight (1 where there are none)."""
    weight = ["weight"] if "weight" in pl.read_parquet_schema(rows) else []
    human = pl.read_parquet(rows, columns=[*KEY, "participant", *CELL[1:], "response", *weight])
    return human if weight else human.with_columns(weight=pl.lit(1.0))


def _offsets(sizes: pl.Series) -> np.ndarray:
    """Where each group starts, and the end: int64."""
    return np.concatenate([[0], np.cumsum(sizes.to_numpy(), dtype=np.int64)])


def predict(checkpoint: Path, rows: Path, most: int, out: Path) -> Path:
    """Let one checkpoint answer the rows, in its own process; gives its predictions' file."""
    line = [
        sys.executable, *PREDICT, "--model", str(checkpoint), "--name", checkpoint.name,
        "--rows", str(rows), "--mode", "exact", "--max-rows", str(most), "--out", str(out),
    ]  # fmt: skip
    # The predictor is no part of the training's process group.
    env = {key: value for key, value in process.environment().items() if not key.startswith(LAUNCHER)}
    pipes = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
    with started(line, **pipes, env=env, cwd=root()) as predictor:
        _, messages = predictor.communicate()
    if predictor.returncode:
        last = (messages.strip().splitlines() or ["no message"])[-1]
        raise Refusal(f"{checkpoint} could not answer the held-out rows: {last.removeprefix('error: ')}")
    return out / "predictions.parquet"


def score(checkpoint: Path, rows: Path, most: int) -> float:
    """A checkpoint's distance on the held-out rows. Predictions that are there are not made again."""
    out = checkpoint.parent / "selection" / checkpoint.name
    return distance(predict(checkpoint, rows, most, out), rows)


def out_of_patience(by_step: dict[int, float], patience: int) -> bool:
    """True if the last `patience` (above 0) of the distances by step are no better than one before them."""
    ordered = [by_step[step] for step in sorted(by_step)]
    return 0 < patience < len(ordered) and min(ordered[-patience:]) >= min(ordered[:-patience])


def choose(run: Path, rows: Path, most: int, say: Callable[[str], None]) -> dict[str, Any]:
    """Score every whole checkpoint and make the nearest one the run's model.

    Gives, and writes to `selection.json`, the distance of each and the chosen step. Repeating it is
    quick: predictions that are there are not made again.
    """
    if not rows.is_file():
        raise Refusal(f"{rows} is missing; run `make data` with validation_fraction above 0")
    by_step: dict[int, float] = {}
    for checkpoint in filter(checkpoints.is_whole, checkpoints.numbered(run)):
        value = by_step[checkpoints.step(checkpoint)] = score(checkpoint, rows, most)
        say(f"{checkpoint.name}: Wasserstein distance {value:.4f}")
    if not by_step:
        raise Refusal(f"{run} has kept no whole checkpoint to choose from; set save_strategy: steps")
    best = min(by_step, key=lambda step: (by_step[step], step))
    for pattern in WEIGHTS:
        for file in (run / f"checkpoint-{best}").glob(pattern):
            folders.copy(file, run / file.name)
    chosen = {
        "step": best,
        "rows": most,
        "wasserstein": {str(step): value for step, value in by_step.items()},
    }
    write_json(run / "selection.json", chosen)
    say(f"chosen: checkpoint-{best}")
    return chosen
