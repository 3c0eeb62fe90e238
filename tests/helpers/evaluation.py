"""The least that an evaluation of a model consists of: scores without figures, cells and contrasts."""

from pathlib import Path

import numpy as np
import polars as pl

from common.files import write_json
from eval.scoring.record import Scores

ZERO = {"evaluation": 0, "predicted": 0, "missing": 0, "failed": 0, "scored": 0, "clipped_observed": 0,
        "clipped_stated": 0, "human_off_scale": 0, "no_stated_scale": 0}  # fmt: skip
CEILINGS = ("split_half_raw", "split_half_corrected", "bootstrap_raw", "bootstrap_corrected", "paired",
            "another_person")  # fmt: skip
NOTHING = {
    "schema": 2, "mode": "exact", "modes": {}, "samples": None, "settings": {}, "versions": {}, "parsing": {},
    "rows": ZERO, "cells": {"all": 0, "scored": 0, "left_out": {}}, "metrics": {}, "controls": {},
    "ceiling": {name: {} for name in CEILINGS}, "skill": {}, "studies": {},
    "calibration": {"ece": {"value": None}, "bins": [], "reason": "nothing scored"},
}  # fmt: skip

# Cells of three studies, one with two arms.
CELLS = pl.DataFrame(
    {
        "study_id": ["tax", "tax", "gun", "war"],
        "condition_num": [0, 1, 0, 0],
        "task_num": [0, 0, 0, 0],
        "predicted_sd": [1.0, 3.0, 1.0, 1.0],
        "human_sd": [2.0, 6.0, 1.0, 1.0],
        "scale_kind": ["ordinal", "ordinal", "binary", "choice"],
        "stimuli": [
            "a carbon tax on gasoline prices",
            "a carbon tax",
            "background checks on guns",
            "troops abroad",
        ],
    }
)


def write(folder: Path, cells: pl.DataFrame, contrasts: pl.DataFrame, name: str = "m") -> Path:
    """An eval/<model name> folder with these tables; the figures of its scores are empty."""
    folder.mkdir(parents=True, exist_ok=True)
    record = Scores.model_validate({**NOTHING, "name": name}).model_dump(mode="json", by_alias=True)
    write_json(folder / "scores.json", record)
    cells.write_parquet(folder / "cells.parquet")
    contrasts.write_parquet(folder / "contrasts.parquet")
    return folder


def overstating(folder: Path, studies: int = 6) -> Path:
    """An evaluation whose model overstates effects twice."""
    rng = np.random.default_rng(0)
    contrasts, cells = [], []
    for study in range(studies):
        for task in range(5):
            cell = {"study_id": f"e{study}", "task_num": task}
            true = rng.normal(0, 0.5)
            effect = {"observed": 0.5 * true + rng.normal(0, 0.2), "predicted": true}
            errors = {"observed_se": 0.1, "predicted_se": 0.0, "difference_se": 0.1}
            contrasts.append(cell | {"condition_a": 0, "condition_b": 1} | effect | errors)
            for arm in (0, 1):
                about = {"condition_num": arm, "predicted_sd": 1.5, "human_sd": 1.5, "scale_kind": "ordinal"}
                cells.append(cell | about | {"stimuli": "A tax question? Only return an integer."})
    return write(folder, pl.DataFrame(cells), pl.DataFrame(contrasts))
