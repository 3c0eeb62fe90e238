"""All that one report is made of: scores, cells, the comparison, and the records of data and training."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from common.contract import CELL, Manifest, RunRecord, read_record
from common.errors import Refusal
from common.files import fingerprint, sha256_file
from common.names import FILE as NAMES
from common.names import Names, read_names
from common.page.render import count
from common.paths import dataset_name, output_dir, safe_name, split_dir
from common.readers import read_json
from common.runs import RECORD, finished_runs
from eval.scoring.record import (
    COMPARISON,
    SCORES,
    Comparison,
    Estimate,
    Scores,
    TableRow,
    read_comparison,
    read_scores,
)

MAIN = "wasserstein_observed"  # the published distance: models are ranked by it
KINDS = ("model", "ceiling", "control")  # their order in the leader table
Json = dict[str, Any]
Cell = tuple[str, int, int]  # study, arm, outcome


@dataclass(frozen=True)
class Results:
    """What `make eval` and the steps before it left behind for one data set and split.

    scores: {model name: scores}, the closest model first. predictions: {model name: predictions.json, {}
    for predictions made elsewhere}. comparison, manifest (of the data set): None where there is none.
    runs: {(model, folder): run.json}, folder being sft, dpo or a variant's. names: of studies, arms and
    outcomes, where the data set has them. labels: what answers mean, by cell. inputs: fingerprint of all.
    """

    dataset: str
    split: str
    folder: Path
    scores: dict[str, Scores]
    predictions: dict[str, Json]
    comparison: Comparison | None
    manifest: Manifest | None
    runs: dict[tuple[str, str], RunRecord]
    names: Names
    labels: dict[Cell, dict[int, str]]
    inputs: str

    @property
    def best(self) -> Scores:
        """Scores of the model whose distributions come closest."""
        return next(iter(self.scores.values()))

    def arm(self, study: str, number: int) -> str:
        """An arm's name, or its number."""
        return self.names.condition(study, number) or str(number)

    def outcome(self, study: str, number: int) -> str:
        """An outcome's name, or its number."""
        return self.names.task(study, number) or str(number)

    @property
    def models(self) -> list[str]:
        """Names of the models, the closest first."""
        return list(self.scores)


def load(data: str, split: str) -> Results:
    """Read everything; a missing or torn file is a `Refusal` that names the `make` command to run."""
    remedy = f"run `make eval DATA={data} SPLIT={split}` first"
    folder, source = output_dir(data, split), split_dir(data, split)
    files = sorted((folder / "eval").glob(f"*/{SCORES}"))
    if not files:
        raise Refusal(f"no scores in {folder / 'eval'}; {remedy}")
    scores = {safe_name(file.parent.name, "model"): read_scores(file.parent) for file in files}
    for file in files:
        if not (file.parent / "cells.parquet").is_file():
            raise Refusal(f"{file.parent / 'cells.parquet'} is missing; {remedy}")
    compared = folder / "eval" / COMPARISON
    comparison = read_comparison(compared.parent) if compared.is_file() else None
    predictions = {name: folder / "eval" / name / "predictions.json" for name in scores}
    manifest, named = source / "manifest.json", source / NAMES
    runs = _runs(data, split)
    files_read = [*files, compared, *predictions.values(), manifest, named]
    stamps = [[str(file), sha256_file(file)] for file in files_read if file.is_file()]
    return Results(
        dataset=dataset_name(data),
        split=split,
        folder=folder,
        scores={name: scores[name] for name in _order(scores, comparison)},
        predictions={name: _json(file, remedy) for name, file in predictions.items()},
        comparison=comparison,
        manifest=read_record(manifest, Manifest, "run `make data`") if manifest.is_file() else None,
        runs=runs,
        names=read_names(source),
        labels=_labels(source / "eval.parquet"),
        inputs=fingerprint([stamps, [run.model_dump(mode="json") for run in runs.values()]]),
    )


def _labels(rows: Path) -> dict[Cell, dict[int, str]]:
    """The labels of each cell's answer scale, from its first evaluation row; none without such rows."""
    if not rows.is_file():
        return {}
    first = pl.scan_parquet(rows).group_by(CELL).agg(pl.col("scale_labels").first()).collect()
    return {
        (study, condition, task): {label["value"]: label["label"] for label in labels or ()}
        for study, condition, task, labels in first.iter_rows()
    }


def _json(path: Path, remedy: str) -> Json:
    return read_json(path, remedy) if path.is_file() else {}


def _runs(data: str, split: str) -> dict[tuple[str, str], RunRecord]:
    """The records of finished training runs, a model's SFT before its DPO."""
    return {
        (run.parent.name, run.name): read_record(run / RECORD, RunRecord, "run that training again")
        for run in finished_runs(data, split)
    }


def _order(scores: dict[str, Scores], comparison: Comparison | None) -> list[str]:
    """Model names, the closest to people first: those of the comparison, then the others."""
    compared = [row for row in comparison.table if row.name in scores] if comparison else []
    names = [row.name for row in sorted(compared, key=_rank)]
    return names + sorted(set(scores) - set(names), key=lambda name: _rank(scores[name]))


def _rank(scored: Scores | TableRow) -> tuple[float, str]:
    value = scored.metrics.get(MAIN, Estimate(value=None)).value
    return (float("inf") if value is None else value, scored.name)


def leaders(results: Results) -> tuple[list[TableRow], str]:
    """The rows of the leader table (as in the comparison), and what they are based on.

    A model that isn't in the comparison (predictions made elsewhere are scored alone) appears with its
    own scores; without any comparison controls and ceilings are those of the closest model.
    """
    comparison = results.comparison
    rows = list(comparison.table) if comparison else []
    compared = {row.name for row in rows}
    alone = [name for name in results.models if name not in compared]
    for name in alone:
        scores = results.scores[name]
        rows.append(
            TableRow(name=name, kind="model", mode=scores.mode, metrics=scores.metrics, skill=scores.skill)
        )
    if not comparison:
        rows += _references(results.best)
    rows.sort(key=lambda row: (KINDS.index(row.kind), *_rank(row)))
    if not comparison:
        return rows, "the answers that each model predicts"
    basis = f"{count(comparison.rows)} answers that every compared model predicts"
    return rows, basis + (f"; {', '.join(alone)}: on the answers that it predicts itself" if alone else "")


def _references(scores: Scores) -> list[TableRow]:
    """Controls and ceilings of one model's scores as rows of the leader table."""
    ceilings = [(name, metrics) for name, metrics in scores.ceiling if MAIN in metrics]
    rows = [TableRow(name=name, kind="ceiling", mode=None, metrics=m, skill={}) for name, m in ceilings]
    return rows + [
        TableRow(name=name, kind="control", mode=None, metrics=metrics, skill={})
        for name, metrics in scores.controls.items()
    ]
