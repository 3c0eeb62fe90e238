"""The report's figures as CSV, one tidy table a question: what papers and R read instead of the page."""

from collections.abc import Callable, Iterator
from pathlib import Path

import polars as pl

from eval.reporting.results import MAIN, Json, Results, leaders

ESTIMATE = ("value", "low", "high", "low_people", "high_people", "studies", "cells", "reason")


def write_tables(results: Results, folder: Path) -> None:
    """Write every table into `folder`."""
    for name, make in TABLES.items():
        frame = pl.DataFrame(list(make(results)), infer_schema_length=None)
        harmless(frame).write_csv(folder / f"{name}.csv")
    harmless(_cells(results)).write_csv(folder / "cells.csv")


def harmless(frame: pl.DataFrame) -> pl.DataFrame:
    """Texts that a spreadsheet would run as a formula get an apostrophe in front."""
    starts = pl.col(pl.String).str.contains(r"^[=@\t\r]|^[+-][^0-9.]")
    return frame.with_columns(
        pl.when(starts).then("'" + pl.col(pl.String)).otherwise(pl.col(pl.String)).name.keep()
    )


def _estimate(value: Json | None) -> Json:
    return {key: (value or {}).get(key) for key in ESTIMATE}


def _leaders(results: Results) -> Iterator[Json]:
    for row in leaders(results)[0]:
        about = {"name": row["name"], "kind": row["kind"], "mode": row["mode"]}
        for metric, value in row["metrics"].items():
            yield {**about, "metric": metric, "skill": None} | _estimate(value)
        for metric, kinds in row["skill"].items():
            for kind, value in kinds.items():
                yield {**about, "metric": metric, "skill": kind} | _estimate(value)


def _differences(results: Results) -> Iterator[Json]:
    yield from results.comparison["differences"] if results.comparison else ()


def _studies(results: Results) -> Iterator[Json]:
    for name, scores in results.scores.items():
        for study, made in scores["studies"].items():
            about = {"name": name, "study_id": study, "rows": made["rows"], "cells": made["cells"]}
            for kind in ("metrics", "skill"):
                for metric, value in made[kind].items():
                    low, high = (made["people"].get(metric) if kind == "metrics" else None) or (None, None)
                    yield about | {
                        "metric": metric, "skill": kind == "skill", "value": value, "low_people": low,
                        "high_people": high,
                    }  # fmt: skip


def _effects(results: Results) -> Iterator[Json]:
    for name, scores in results.scores.items():
        for who in ("model", "half_sample"):
            for statistic, value in scores["effects"][who].items():
                yield {"name": name, "predictor": who, "statistic": statistic} | _estimate(value)


def _contrasts(results: Results) -> Iterator[Json]:
    for name, scores in results.scores.items():
        for pair in scores["effects"]["pairs"]:
            yield {"name": name} | pair


def _calibration(results: Results) -> Iterator[Json]:
    for name, scores in results.scores.items():
        for one in scores["calibration"]["bins"]:
            yield {"name": name} | one


def _subgroups(results: Results) -> Iterator[Json]:
    for name, scores in results.scores.items():
        for field, made in scores["subgroups"]["fields"].items():
            for group in made["groups"]:
                about = {"name": name, "field": field, "group": group["group"], "rows": group["rows"]}
                for metric, value in group.items():
                    if isinstance(value, dict):
                        yield about | {"metric": metric} | _estimate(value)


def _parity(results: Results) -> Iterator[Json]:
    for name, scores in results.scores.items():
        for field, made in scores["subgroups"]["fields"].items():
            for kind in ("parity_accuracy", "parity_prediction", "parity_prediction_human"):
                yield {"name": name, "field": field, "parity": kind} | made[kind]


def _problems(results: Results) -> Iterator[Json]:
    for name, scores in results.scores.items():
        for kind in ("rows", "parsing"):
            for what, number in scores[kind].items():
                yield {"name": name, "of": kind, "what": what, "number": number}
        for reason, number in scores["cells"]["left_out"].items():
            yield {"name": name, "of": "cells left out", "what": reason, "number": number}


def _losses(results: Results) -> Iterator[Json]:
    for (model, stage), run in results.runs.items():
        for entry in run["losses"]:
            if "loss" in entry or "eval_loss" in entry:
                yield {"model": model, "stage": stage, "step": entry.get("step"), "loss": entry.get("loss"),
                       "eval_loss": entry.get("eval_loss")}  # fmt: skip


def _cells(results: Results) -> pl.DataFrame:
    """All cells of all models without their texts and distributions (those are in cells.parquet)."""
    frames = []
    for name in results.scores:
        frame = results.cells(name).drop("answers", "human_counts", "predicted_probs", "stimuli")
        frames.append(frame.select(pl.lit(name).alias("name"), pl.all()))
    return pl.concat(frames, how="diagonal_relaxed").sort(
        "name", MAIN, descending=[False, True], nulls_last=True
    )


TABLES: dict[str, Callable[[Results], Iterator[Json]]] = {
    "leaders": _leaders,
    "differences": _differences,
    "studies": _studies,
    "effects": _effects,
    "contrasts": _contrasts,
    "calibration": _calibration,
    "subgroups": _subgroups,
    "parity": _parity,
    "problems": _problems,
    "losses": _losses,
}
