"""All that one report is made of: scores, cells, the comparison, and the records of data and training."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from common.errors import Refusal
from common.files import file_stamp, fingerprint
from common.page.render import count
from common.paths import dataset_name, output_dir, safe_name, split_dir
from common.readers import read_json

MAIN = "wasserstein_observed"  # the published distance: models are ranked by it
KINDS = ("model", "ceiling", "control")  # their order in the leader table
Json = dict[str, Any]


@dataclass(frozen=True)
class Results:
    """What `make eval` and the steps before it left behind for one data set and split.

    scores: {model name: scores.json}, the closest model first. predictions: {model name:
    predictions.json, {} for predictions made elsewhere}. comparison: comparison.json, None where there
    is none. manifest: of the data set, {} where there is none. runs: {(model, folder): run.json},
    folder being sft, dpo or a variant's. inputs: fingerprint of all of it.
    """

    dataset: str
    split: str
    folder: Path
    scores: dict[str, Json]
    predictions: dict[str, Json]
    comparison: Json | None
    manifest: Json
    runs: dict[tuple[str, str], Json]
    inputs: str

    @property
    def best(self) -> Json:
        """Scores of the model whose distributions come closest."""
        return next(iter(self.scores.values()))

    def cells(self, name: str) -> pl.DataFrame:
        """cells.parquet of one model."""
        return pl.read_parquet(self.folder / "eval" / name / "cells.parquet")


def load(data: str, split: str) -> Results:
    """Read everything; a missing or torn file is a `Refusal` that names the `make` command to run."""
    remedy = f"run `make eval DATA={data} SPLIT={split}` first"
    folder, source = output_dir(data, split), split_dir(data, split)
    files = sorted((folder / "eval").glob("*/scores.json"))
    if not files:
        raise Refusal(f"no scores in {folder / 'eval'}; {remedy}")
    scores = {safe_name(file.parent.name, "model"): read_json(file, remedy) for file in files}
    for name, made in scores.items():
        if made.get("schema") != 2:
            raise Refusal(f"{folder}/eval/{name}/scores.json has another schema than this report; {remedy}")
        if not (folder / "eval" / name / "cells.parquet").is_file():
            raise Refusal(f"{folder}/eval/{name}/cells.parquet is missing; {remedy}")
    found = [file for file in folder.glob("*/*/run.json") if ".old-" not in file.parent.name]
    found.sort(key=lambda file: (file.parent.parent.name, not file.parent.name.startswith("sft"), file))
    runs = {
        (file.parent.parent.name, file.parent.name): read_json(file, "run that training again")
        for file in found
    }
    beside = folder / "eval" / "comparison.json"
    comparison = read_json(beside, remedy) if beside.is_file() else None
    predictions = {name: folder / "eval" / name / "predictions.json" for name in scores}
    read = [*files, beside, *predictions.values(), source / "manifest.json"]
    stamps = [[str(file), *file_stamp(file)] for file in read if file.is_file()]
    return Results(
        dataset=dataset_name(data),
        split=split,
        folder=folder,
        scores={name: scores[name] for name in _order(scores, comparison)},
        predictions={
            name: read_json(file, remedy) if file.is_file() else {} for name, file in predictions.items()
        },
        comparison=comparison,
        manifest=read_json(source / "manifest.json", "run `make data`")
        if (source / "manifest.json").is_file()
        else {},
        runs=runs,
        inputs=fingerprint([stamps, list(runs.values())]),
    )


def _order(scores: dict[str, Json], comparison: Json | None) -> list[str]:
    """Model names, the closest to people first: those of the comparison, then the others."""
    compared = [row for row in comparison["table"] if row["name"] in scores] if comparison else []
    names = [row["name"] for row in sorted(compared, key=_rank)]
    return names + sorted(set(scores) - set(names), key=lambda name: _rank(scores[name]))


def _rank(scores: Json) -> tuple[float, str]:
    value = scores["metrics"].get(MAIN, {}).get("value")
    return (float("inf") if value is None else value, scores["name"])


def leaders(results: Results) -> tuple[list[Json], str]:
    """The rows of the leader table (as `comparison.json` has them), and what they stand on.

    A model that isn't in the comparison (predictions made elsewhere are scored alone) stands there with
    its own scores; without any comparison controls and ceilings are those of the closest model.
    """
    made = results.comparison
    rows = list(made["table"]) if made else []
    compared = {row["name"] for row in rows}
    alone = [name for name in results.scores if name not in compared]
    rows += [dict(results.scores[name], kind="model") for name in alone]
    if not made:
        ceilings = {key: found for key, found in results.best["ceiling"].items() if MAIN in found}
        for kind, found in (("ceiling", ceilings), ("control", results.best["controls"])):
            rows += [
                {"name": name, "kind": kind, "mode": None, "metrics": metrics, "skill": {}}
                for name, metrics in found.items()
            ]
    rows.sort(key=lambda row: (KINDS.index(row["kind"]), *_rank(row)))
    if not made:
        return rows, "the answers that each model predicts"
    basis = f"{count(made['rows'])} answers that every compared model predicts"
    return rows, basis + (f"; {', '.join(alone)}: on the answers that it predicts itself" if alone else "")
