"""Score predictions: how near the predicted answer distributions come to people's, and how sure that is.

    python -m eval.scoring.run --data sample --split study
    python -m eval.scoring.run --data sample --split study --models tiny-base,tiny-sft,tiny-dpo
    python -m eval.scoring.run --data sample --split study --predictions answers.jsonl --name my-model

Writes scores.json, cells.parquet and items.parquet beside each model's predictions in
outputs/<data>/<split>/eval/<name>/, and comparison.json one folder above. What is up to date isn't
computed again. eval/scoring/README.md explains every figure and the columns of --predictions.
"""

import argparse
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from tqdm import tqdm

from common.errors import Refusal, run_cli
from common.files import atomic_path, file_stamp, fingerprint, up_to_date, write_json
from common.paths import dataset_name, output_dir, safe_name, split_dir
from common.readers import read_json
from eval.scoring.align import (
    CELL,
    ITEM,
    KEY,
    Aligned,
    Predictions,
    align,
    load_predictions,
    load_rows,
    load_stimuli,
    restrict,
)
from eval.scoring.comparison import comparison_table, differences, printed_table
from eval.scoring.model import ModelScores, score_model
from eval.scoring.record import COMPARISON, SCHEMA, SCORES, ComparisonRecord, Record, Scores
from eval.settings import DEFAULT, Settings, load_settings

FORMAT = 2  # raised when the same inputs would give other scores than before
PREDICTIONS = "predictions.parquet"
STEPS = 4
STAGES = ("base", "sft", "dpo")


def main(arguments: list[str] | None = None) -> None:
    """Read the command line, score what changed, compare all, print the table."""
    args = _parser().parse_args(arguments)
    settings = load_settings(args.config)
    rows_path = Path(args.rows) if args.rows else split_dir(args.data, args.split) / "eval.parquet"
    folder = output_dir(args.data, args.split) / "eval"
    remedy = f"run `make data DATA={args.data} SPLIT={args.split}` first"
    if not rows_path.is_file():
        raise Refusal(f"{rows_path} is missing; {remedy}")
    if args.predictions:
        names = [import_predictions(Path(args.predictions), args.name, folder)]
    else:
        names = _chosen(args.models, folder, args)
    where = {"dataset": dataset_name(args.data), "split": args.split}
    described = {name: _described(folder / name / PREDICTIONS, rows_path, settings) for name in names}
    compared = fingerprint(described)
    if up_to_date(folder / COMPARISON, compared) and all(
        up_to_date(folder / name / SCORES, fingerprint(described[name])) for name in names
    ):
        print(f"nothing to do: the scores of {', '.join(names)} are up to date")
        print(printed_table(read_json(folder / COMPARISON, "run the same command again")["table"]))
        return
    rows = load_rows(rows_path, remedy)
    aligned = {
        name: align(rows, load_predictions(folder / name / PREDICTIONS, "run `make eval` first"), name)
        for name in names
    }
    counts = rows_path.parent / "train_counts.parquet"
    scored = {
        name: _score(
            name, rows, aligned[name], counts, settings, rows_path, folder / name, where, described[name]
        )
        for name in names
    }
    result = _compare(rows, aligned, scored, counts, settings) | where | {"inputs": compared}
    _write(folder / COMPARISON, ComparisonRecord.model_validate(result))
    print(printed_table(result["table"]))
    size = ", ".join(f"{result[what]} {what}" for what in ("rows", "cells", "studies"))
    print(f"\n{folder / COMPARISON}: {size}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", default="sample", help="sample, socsci210, or a folder in the hub's layout")
    parser.add_argument("--split", default="study")
    parser.add_argument("--models", help="names, comma-separated; default: all that have predictions")
    parser.add_argument("--predictions", help="score this parquet or .jsonl file, made elsewhere, alone")
    parser.add_argument("--name", help="its name in the outputs; default: the file's name")
    parser.add_argument("--rows", help="evaluation rows other than data/<data>/<split>/eval.parquet")
    parser.add_argument("--config", default=str(DEFAULT), help="evaluation settings")
    return parser


def import_predictions(path: Path, name: str | None, folder: Path) -> str:
    """Check a foreign file and keep it as `<folder>/<name>/predictions.parquet`; return the name."""
    name = safe_name(name or path.stem, "the name")
    found = load_predictions(path, "give an existing file as PREDICTIONS")
    target = folder / name
    inputs = fingerprint(["foreign", file_stamp(path)])
    record = {
        "inputs": inputs,
        "name": name,
        "foreign": True,
        "source": path.name,
    }
    if up_to_date(target / "predictions.json", inputs) and (target / PREDICTIONS).is_file():
        return name
    own = target / "predictions.json"
    if own.is_file() and not read_json(own, f"remove {target} or give another --name").get("foreign"):
        raise Refusal(f"{target} holds predictions made here; give the file another NAME")
    with atomic_path(target / PREDICTIONS) as partial:
        _contract(found).write_parquet(partial)
    write_json(own, record)
    return name


def _contract(found: Predictions) -> pl.DataFrame:
    """Predictions as the columns of predictions.parquet (see eval/scoring/README.md)."""
    lists = pl.DataFrame({"answers": found.answers, "probs": found.probs}).with_columns(
        row=pl.Series(np.repeat(np.arange(len(found.rows)), np.diff(found.offsets)), dtype=pl.UInt32)
    )
    grouped = lists.group_by("row", maintain_order=True).agg(
        pl.col("answers"), pl.col("probs").cast(pl.Float32)
    )
    table = (
        found.rows.with_row_index("row")
        .join(grouped, on="row", how="left", maintain_order="left")
        .drop("row")
    )
    empty = [pl.lit([], pl.List(pl.Int64)), pl.lit([], pl.List(pl.Float32))]
    table = table.with_columns(pl.col("answers").fill_null(empty[0]), pl.col("probs").fill_null(empty[1]))
    unknown: dict[str, Any] = {
        "draws": pl.List(pl.Int64),
        "off_scale_mass": pl.Float32,
        "n_requested": pl.Int32,
        "n_parsed": pl.Int32,
        "n_bare": pl.Int32,
    }
    return table.with_columns(
        pl.lit(None, dtype).alias(name) for name, dtype in unknown.items() if name not in table.columns
    )


def _chosen(models: str | None, folder: Path, args: argparse.Namespace) -> list[str]:
    """Model names to score: as given, or all with predictions; a base before what was trained from it."""
    present = sorted(
        path.parent.name for path in folder.glob(f"*/{PREDICTIONS}") if not path.parent.name.startswith(".")
    )
    where = f"DATA={args.data} SPLIT={args.split}"
    if models is None:
        if not present:
            raise Refusal(f"no predictions in {folder}; run `make eval {where}` or give --predictions FILE")
        return sorted(present, key=_stage)
    names = list(dict.fromkeys(safe_name(name.strip(), "the model") for name in models.split(",")))
    if absent := [name for name in names if name not in present]:
        known = ", ".join(present) or "none"
        raise Refusal(
            f"no predictions of {absent[0]} in {folder}; there are: {known}; run `make eval {where}`"
        )
    return names


def _stage(name: str) -> tuple[str, int, str]:
    family, _, stage = name.rpartition("-")
    return (family, STAGES.index(stage), name) if stage in STAGES else (name, len(STAGES), name)


def _described(predictions: Path, rows: Path, settings: Settings) -> dict[str, Any]:
    """Everything that one model's scores depend on."""
    counts = rows.parent / "train_counts.parquet"
    return {
        "format": FORMAT,
        "predictions": file_stamp(predictions),
        "rows": file_stamp(rows),
        "train_counts": file_stamp(counts) if counts.is_file() else None,
        "settings": settings.score.model_dump(),
        "seed": settings.seed,
        "versions": _versions(),
    }


def _versions() -> dict[str, str]:
    packages = {name: version(name) for name in ("numpy", "scipy", "numba", "polars", "statsmodels")}
    return {"python": platform.python_version()} | packages


def _score(
    name: str,
    rows: pl.DataFrame,
    aligned: Aligned,
    counts: Path,
    settings: Settings,
    rows_path: Path,
    target: Path,
    where: dict[str, str],
    described: dict[str, Any],
) -> ModelScores:
    """Score one model and write its files, scores.json last."""
    with tqdm(total=STEPS, desc=name, unit="step") as progress:

        def say(what: str) -> None:
            progress.set_postfix_str(what)
            progress.update()

        scores = score_model(rows, aligned, counts, settings.score, settings.seed, say=say)
    for frame, level, file in ((scores.cells.frame, CELL, "cells"), (scores.items, ITEM, "items")):
        with_text = frame.join(load_stimuli(rows_path, level), on=level, how="left", maintain_order="left")
        with atomic_path(target / f"{file}.parquet") as partial:
            with_text.write_parquet(partial)
    with atomic_path(target / "contrasts.parquet") as partial:
        scores.contrasts.write_parquet(partial)
    record = {
        "schema": SCHEMA,
        "inputs": fingerprint(described),
        "name": name,
        "foreign": _foreign(target),
        "settings": described["settings"] | {"seed": settings.seed},
        "versions": described["versions"],
        "parsing": _parsing(target / PREDICTIONS),
    }
    _write(target / SCORES, Scores.model_validate(scores.report | record | where))
    return scores


def _write(path: Path, record: Record) -> None:
    write_json(path, record.model_dump(mode="json", by_alias=True))


def _foreign(target: Path) -> bool:
    record = target / "predictions.json"
    return not record.is_file() or bool(
        read_json(record, f"remove {record} and predict again").get("foreign")
    )


def _parsing(path: Path) -> dict[str, float | None]:
    """Sums of replies asked for, parsed and bare, and the mean mass off the scale; null where unknown."""
    table = pl.scan_parquet(path)
    names = table.collect_schema().names()
    wanted = {"requested": "n_requested", "parsed": "n_parsed", "bare": "n_bare"}
    sums = {
        key: pl.when(pl.col(column).is_not_null().any()).then(pl.col(column).cast(pl.Int64).sum()).alias(key)
        for key, column in wanted.items()
        if column in names
    }
    found: dict[str, Any] = dict.fromkeys([*wanted, "off_scale_mass"])
    if sums:
        found |= table.select(*sums.values()).collect().row(0, named=True)
    if "off_scale_mass" in names:
        found["off_scale_mass"] = (
            table.select(pl.col("off_scale_mass").cast(pl.Float64).mean()).collect().item()
        )
    return found


def _compare(
    rows: pl.DataFrame,
    aligned: dict[str, Aligned],
    scored: dict[str, ModelScores],
    counts: Path,
    settings: Settings,
) -> dict[str, Any]:
    """All models on their common rows; scored again only if some lack rows that others have."""
    keys = [part.rows.select(KEY) for part in aligned.values()]
    common = keys[0]
    for other in keys[1:]:
        common = common.join(other, on=KEY, how="semi")
    if common.is_empty():
        raise Refusal(
            f"{', '.join(aligned)} have no evaluation row in common; score them apart, with --models"
        )
    for name, part in aligned.items():
        if len(part.rows) > len(common):
            shared = restrict(part, rows, common)
            scored[name] = score_model(rows, shared, counts, settings.score, settings.seed, whole=False)
    one = next(iter(scored.values()))
    return {
        "schema": SCHEMA,
        "settings": settings.score.model_dump() | {"seed": settings.seed},
        "rows": len(common),
        "studies": len(one.studies.names),
        "cells": len(one.cells.frame),
        "table": comparison_table(scored),
        "differences": differences(scored, settings.score.permutations, settings.seed),
    }


if __name__ == "__main__":
    run_cli(main)
