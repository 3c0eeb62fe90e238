"""Small populations with known answer distributions, as evaluation rows and predictions."""

from pathlib import Path

import numpy as np
import polars as pl

from eval.scoring.align import Evaluated, align, item_texts
from eval.scoring.predictions import check_predictions

LABELS = pl.List(pl.Struct({"value": pl.Int64, "label": pl.String}))
SHAPES = np.array(
    [
        [0.05, 0.10, 0.20, 0.30, 0.15, 0.10, 0.10],
        [0.30, 0.25, 0.20, 0.10, 0.08, 0.05, 0.02],
        [0.02, 0.03, 0.05, 0.10, 0.20, 0.25, 0.35],
    ]
)


def population(
    studies: int = 4, arms: int = 3, tasks: int = 2, people: int = 120, seed: int = 0, draw: int = 0
) -> tuple[pl.DataFrame, np.ndarray]:
    """Rows of answers from 1 to 7, everybody in one arm and answering all tasks; (N, 7) true shares.

    seed: of the true shares; draw: of the answers that people give by them.
    """
    rng = np.random.default_rng(seed)
    study, person, task = (
        axis.ravel() for axis in np.meshgrid(range(studies), range(people), range(tasks), indexing="ij")
    )
    arm = person % arms
    tilt = rng.normal(0, 0.25, (studies, arms, tasks))[study, arm, task][:, None] * np.arange(-3, 4)
    true = SHAPES[(study + task) % 3] * np.exp(tilt)
    true /= true.sum(1, keepdims=True)
    draws = np.random.default_rng([77, seed, draw]).random((len(study), 1))
    response = 1 + (true.cumsum(1) < draws).sum(1).clip(0, 6)
    rows = pl.DataFrame(
        {
            "study_id": [f"study{s}" for s in study],
            "sample_id": person * tasks + task,
            "participant": person,
            "condition_num": arm,
            "task_num": task,
            "item_num": np.zeros(len(study), np.int64),
            "stimuli": [f"<b>question</b> {t} in arm {a}" for t, a in zip(task, arm, strict=True)],
            "response": response,
            "scale_kind": ["ordinal"] * len(study),
            "scale_low": np.ones(len(study), np.int64),
            "scale_high": np.full(len(study), 7),
            "scale_step": np.ones(len(study), np.int64),
            "scale_labels": pl.Series([[]] * len(study), dtype=LABELS),
            "demographic": [
                {"age": 20 + int(p) % 60, "gender": "Female" if p % 2 else "Male", "party_id": None}
                for p in person
            ],
        }
    )
    return rows, true


def exact(rows: pl.DataFrame, probs: np.ndarray) -> pl.DataFrame:
    """Predictions with a probability for each of 1 to 7."""
    answers = pl.Series([list(range(1, 8))] * len(rows), dtype=pl.List(pl.Int64))
    return rows.select("study_id", "sample_id").with_columns(answers=answers, probs=pl.Series(probs.tolist()))


def sampled(rows: pl.DataFrame, probs: np.ndarray, seed: int = 1) -> pl.DataFrame:
    """Predictions with one answer drawn for each row."""
    draws = np.random.default_rng(seed).random((len(rows), 1))
    answer = 1 + (probs.cumsum(1) < draws).sum(1).clip(0, 6)
    return rows.select("study_id", "sample_id").with_columns(prediction=pl.Series(answer))


def evaluated(rows: pl.DataFrame, predictions: pl.DataFrame) -> Evaluated:
    """Predictions joined to their rows, the texts of the rows among them."""
    return align(rows, check_predictions(predictions, "predictions"), "model", item_texts(rows))


def write_split(rows: pl.DataFrame, folder: Path) -> None:
    """eval.parquet and train_counts.parquet under data/sample/study/ of `folder`."""
    split = folder / "data" / "sample" / "study"
    split.mkdir(parents=True)
    rows.write_parquet(split / "eval.parquet")
    keys = [
        "study_id",
        "condition_num",
        "task_num",
        "item_num",
        "scale_kind",
        "scale_low",
        "scale_high",
        "response",
    ]
    rows.group_by(keys).len("count").with_columns(study_id=pl.lit("other")).write_parquet(
        split / "train_counts.parquet"
    )
