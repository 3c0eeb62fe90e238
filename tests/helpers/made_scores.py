"""Scores as `eval.scoring.run` writes them (schema of eval/README.md), made up: for pages."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

DISTANCES = (
    "wasserstein_observed",
    "wasserstein_stated",
    "total_variation",
    "jensen_shannon",
    "kolmogorov_smirnov",
)
CONTROLS = ("uniform_observed", "uniform_stated", "pooled_others", "training_marginal")
CEILINGS = ("split_half_raw", "split_half_corrected", "bootstrap_raw", "bootstrap_corrected", "paired")
CELL_METRICS = (
    "mean_error_observed", "spread_ratio", "entropy_ratio", "accuracy_observed", "accuracy_stated",
    "exact_match", "log_score", "brier", "correlation",
)  # fmt: skip
STATISTICS = (
    "correlation", "correlation_corrected", "slope", "magnitude_ratio", "sign_agreement",
    "sign_agreement_clear", "rmse_range", "rmse_std", "rmse_std_shrunk", "coverage_90",
    "best_arm_hit", "best_arm_chance", "best_arm_regret",
)  # fmt: skip
MAIN = "wasserstein_observed"
MODELS = {"tiny-base": 0.21, "tiny-sft": 0.12, "tiny-dpo": 0.16}


def estimate(value: float | None, width: float = 0.02, **others: Any) -> dict[str, Any]:
    made = {"value": value, "low": None, "high": None, "low_people": None, "high_people": None, "studies": 4,
            "cells": 12, "reason": None}  # fmt: skip
    if value is None:
        made["reason"] = "fewer than 2 studies"
    else:
        made |= {"low": value - width, "high": value + width}
    return made | others


def skill(distance: float) -> float:
    return (0.25 - distance) / (0.25 - 0.05)


def write(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))


def cells_frame(
    studies: list[str], arms: int, outcomes: int, distance: float, stimulus: str, seed: int
) -> pl.DataFrame:
    """One row a cell. Every third outcome is a 0 to 100 scale, the others are 1 to 7."""
    people = np.random.default_rng(0)  # the same people for every model
    model = np.random.default_rng(seed)
    rows: list[dict[str, Any]] = []
    for study in studies:
        for task in range(outcomes):
            low, high = (0, 100) if task % 3 == 2 else (1, 7)
            for arm in range(arms):
                support = np.arange(low, high + 1)
                shares = people.dirichlet(np.ones(len(support)))
                counts = people.multinomial(60, shares)
                probs = 0.6 * shares + 0.4 * model.dirichlet(np.ones(len(support)))
                rows.append({
                    "study_id": study, "condition_num": arm, "task_num": task, "rows": 60, "people": 60,
                    "scale_kind": "bounded" if high == 100 else "ordinal", "scale_low": low,
                    "scale_high": high, "observed_low": int(support[counts > 0][0]),
                    "observed_high": int(support[counts > 0][-1]),
                    "human_mean": float(counts @ support / 60), "human_sd": 1.0,
                    "predicted_mean": float(probs @ support), "predicted_sd": 1.1,
                    **{name: float(abs(distance + model.normal(0, 0.05))) for name in DISTANCES},
                    **dict.fromkeys(CELL_METRICS, 0.5), "mean_error_stated": None,
                    "wasserstein_observed_low": distance - 0.02, "wasserstein_observed_high": distance + 0.02,
                    "reason": "mean_error_stated: no stated scale", "draws_per_row": None,
                    "answers": support.tolist(), "human_counts": counts.tolist(),
                    "predicted_probs": probs.tolist(),
                    "stimuli": f"{stimulus} (study {study}, arm {arm}, outcome {task})",
                })  # fmt: skip
    return pl.DataFrame(rows)


def scores(name: str, distance: float, cells: pl.DataFrame, group: str) -> dict[str, Any]:
    studies = cells["study_id"].unique(maintain_order=True).to_list()
    rng = np.random.default_rng(1)
    pairs = []
    for index in range(40):
        observed = float(rng.normal(0, 0.3))
        predicted = float(observed * 1.5 + rng.normal(0, 0.1))
        pairs.append({
            "study_id": studies[index % len(studies)], "task_num": 0, "condition_a": 0, "condition_b": 1,
            "observed": observed, "predicted": predicted, "observed_se": 0.1, "predicted_se": 0.02,
            "observed_std": observed, "predicted_std": predicted, "z": observed / 0.1,
            "clear": abs(observed) >= 0.3,
        })  # fmt: skip
    groups = [
        {"group": value, "rows": 200, "studies": 4, "cells": 12, "reason": None,
         **{key: estimate(0.1 + 0.05 * place) for key in ("wasserstein_observed", "wasserstein_stated")},
         **{key: estimate(0.7 - 0.04 * place) for key in ("accuracy_observed", "accuracy_stated")},
         "ceiling_observed": estimate(0.05), "excess_observed": estimate(0.02)}
        for place, value in enumerate((group, "Female"))
    ]  # fmt: skip
    gap = estimate(0.04, 0.03) | {"highest": group, "lowest": "Female"}
    no_gap = estimate(None) | {"highest": None, "lowest": None, "reason": "1 groups with at least 20 rows"}
    return {
        "schema": 2, "inputs": f"made-{name}", "name": name, "dataset": "made", "split": "study",
        "mode": "exact", "modes": {"exact": 720, "sampled": 0, "verbalised": 0}, "samples": None,
        "settings": {"replicates": 1000, "seed": 0}, "versions": {"numpy": np.__version__},
        "rows": {"evaluation": 730, "predicted": 728, "missing": 2, "failed": 8, "scored": 720,
                 "clipped_observed": 31, "clipped_stated": 3, "human_off_scale": 5, "no_stated_scale": 60},
        "parsing": {"requested": 728, "parsed": 720, "bare": None, "off_scale_mass": 0.012},
        "cells": {"all": 13, "scored": 12, "left_out": {"one respondent": 1}},
        "metrics": {key: estimate(distance) for key in DISTANCES}
        | {key: estimate(0.6) for key in CELL_METRICS}
        | {"mean_error_stated": estimate(None)},
        "controls": {
            control: {key: estimate(0.25 if "uniform" in control else 0.11) for key in DISTANCES}
            for control in CONTROLS
        },
        "ceiling": {kind: {key: estimate(0.05) for key in DISTANCES} for kind in CEILINGS}
        | {"another_person": {"accuracy_observed": estimate(0.65)}},
        "skill": {
            key: {kind: estimate(skill(distance), 0.1) for kind in ("raw", "corrected", "corrected_human")}
            for key in DISTANCES[:2]
        },
        "studies": {
            study: {
                "metrics": dict.fromkeys(DISTANCES, distance + 0.01 * place),
                "people": {"wasserstein_observed": [distance - 0.01, distance + 0.03]},
                "skill": dict.fromkeys(DISTANCES[:2], skill(distance + 0.01 * place)),
                "skill_people": {
                    key: [skill(distance + 0.01 * place + 0.02), skill(distance + 0.01 * place - 0.01)]
                    for key in DISTANCES[:2]
                },
                "cells": 3, "rows": 180,
            }
            for place, study in enumerate(studies)
        },
        "calibration": {
            "ece": estimate(0.08), "reason": None,
            "bins": [{"low": b / 10, "high": (b + 1) / 10, "count": 10 * b, "confidence": b / 10 + 0.05,
                      "frequency": b / 12 if b else None} for b in range(10)],
        },
        "effects": {
            "contrasts": 40, "outcomes": 8, "studies": 4, "clear": 12, "left_out": {"one arm": 2},
            "model": {key: estimate(0.7) for key in STATISTICS} | {"magnitude_ratio": estimate(1.5)},
            "half_sample": {key: estimate(0.95) for key in STATISTICS}, "pairs": pairs,
        },
        "subgroups": {
            "fields": {
                "gender": {"groups": groups, "parity_accuracy": gap, "parity_prediction": gap,
                           "parity_prediction_human": gap, "reason": None},
                "income": {"groups": [], "parity_accuracy": no_gap, "parity_prediction": no_gap,
                           "parity_prediction_human": no_gap, "reason": "1 groups with at least 20 rows"},
            },
            "demographic_parity_difference": estimate(0.04),
            "largest_gap": {"field": "gender"} | gap,
            "effects": {"gender": {group: {"contrasts": 20} | {
                key: estimate(0.6) for key in ("correlation", "sign_agreement", "magnitude_ratio")
            }}},
        },
    }  # fmt: skip


def comparison(models: dict[str, dict[str, Any]]) -> dict[str, Any]:
    first = next(iter(models.values()))
    table = [
        {
            "name": name,
            "kind": "model",
            "mode": made["mode"],
            "metrics": made["metrics"],
            "skill": made["skill"],
        }
        for name, made in models.items()
    ]
    table += [
        {"name": name, "kind": "control", "mode": None, "metrics": metrics, "skill": {}}
        for name, metrics in first["controls"].items()
    ]
    people = first["ceiling"]["split_half_corrected"] | first["ceiling"]["another_person"]
    table.append(
        {"name": "split_half (exact)", "kind": "ceiling", "mode": "exact", "metrics": people, "skill": {}}
    )
    differences = [
        estimate(0.02, 0.01) | {"a": a, "b": b, "metric": MAIN, "p": 0.004, "p_holm": 0.012}
        for a in models for b in (*models, "uniform_observed") if a < b
    ]  # fmt: skip
    return {"schema": 2, "inputs": "made", "dataset": "made", "split": "study", "settings": {}, "rows": 720,
            "studies": 4, "cells": 12, "table": table, "differences": differences}  # fmt: skip


def manifest() -> dict[str, Any]:
    return {
        "inputs": "made", "dataset": "made", "split": "study", "seed": 7, "config": {"dpo": {"pairs": 1}},
        "versions": {"polars": "2.1.0"}, "source": [{"name": "train-00000.parquet", "size": 12345}],
        "rows": {"read": 2000, "train": 1200, "validation": 60, "eval": 730, "dropped": {"no answer": 10}},
        "pairs": {"written": 1100, "no_disagreement": 3},
        "firewall": [
            {"name": "studies", "train": 10, "eval": 4, "both": 0, "verdict": "passed", "examples": []}
        ],
        "files": {"sft.jsonl": {"sha256": "0" * 64, "bytes": 1000, "rows": 1200}},
    }  # fmt: skip


def run(model: str, stage: str) -> dict[str, Any]:
    return {
        "inputs": "made", "layout": {"processes": 1, "deepspeed": None},
        "arguments": {"model_name_or_path": "outputs/models/tiny", "stage": stage, "learning_rate": 1e-3,
                      "num_train_epochs": 2, "seed": 42, "output_dir": f"outputs/made/study/{model}/{stage}",
                      "template": "llama3", "per_device_train_batch_size": 16,
                      "gradient_accumulation_steps": 2, "finetuning_type": "full"},
        "command": ["/somewhere/scripts/training/launch.py", "--stage", stage, "--model", model],
        "data_manifest": "made", "git_commit": "f" * 40,
        "hardware": {"machine": "x86_64", "cores": 2, "device": "cpu"},
        "losses": [{"step": step, "loss": 3 / step, "epoch": step / 10} for step in range(1, 20)]
        + [{"step": 19, "eval_loss": 0.4}, {"step": 19, "train_runtime": 12.0}],
        "sessions": [{"device": "cpu", "peak_memory_bytes": 10**9}], "peak_memory_bytes": 10**9,
        "tokens": {"train": {"rows": 1200, "tokens": 360000}}, "tokens_per_epoch": 360000,
        "versions": {"python": "3.11", "llamafactory": "0.9.5"},
    }  # fmt: skip


def make(
    folder: Path,
    *,
    studies: int = 4,
    arms: int = 3,
    outcomes: int = 3,
    stimulus: str = "A question.\nOnly return an integer from 1 to 7, nothing else.",
    study: str = "st",
    group: str = "Male",
    models: dict[str, float] | None = None,
) -> Path:
    """Write `data/made/study` and `outputs/made/study` under `folder`; the folder `made` stands for DATA."""
    (folder / "made").mkdir(parents=True, exist_ok=True)
    write(folder / "data/made/study/manifest.json", manifest())
    outputs = folder / "outputs/made/study"
    names = [f"{study}{number}" for number in range(studies)]
    scored = {}
    for seed, (name, distance) in enumerate((models or MODELS).items()):
        cells = cells_frame(names, arms, outcomes, distance, stimulus, seed + 1)
        place = outputs / "eval" / name
        place.mkdir(parents=True, exist_ok=True)
        cells.write_parquet(place / "cells.parquet")
        scored[name] = scores(name, distance, cells, group)
        write(place / "scores.json", scored[name])
        write(place / "predictions.json", {"inputs": "made", "model": name, "mode": "exact", "seconds": 12.5})
    write(outputs / "eval/comparison.json", comparison(scored))
    for stage in ("sft", "dpo"):
        write(outputs / "tiny" / stage / "run.json", run("tiny", stage))
    return outputs
