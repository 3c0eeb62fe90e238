"""Predictions, our own or made elsewhere: read from any usual table, and checked row by row.

Whatever is wrong is refused with the first bad row and the remedy; nothing wrong passes silently.
"""

import math
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from common.contract import CELL, KEY
from common.errors import Refusal
from eval.scoring.prediction_files import read_table
from eval.scoring.ragged import Ragged, ragged

SUM_TOLERANCE = 1e-3
MODES = ("exact", "sampled", "verbalised", "cells", "means", "cell means")
FORMS = (
    "prediction (one answer), mean (a real number), answers and probs (lists), draws (a list), answer and "
    "prob (a row each), or p_1, p_2, ... (a column each)"
)
OPTIONAL: dict[str, Any] = {
    "draws": pl.List(pl.Int64), "off_scale_mass": pl.Float32, "n_requested": pl.Int32, "n_parsed": pl.Int32,
    "n_bare": pl.Int32,
}  # fmt: skip
LARGEST = 2**53  # whole numbers beyond it aren't exact as floating-point numbers
COUNTED = 2**31 - 1  # replies of a row
MOST_DRAWS = 50  # probabilities that are multiples of 1/k, k no larger, were counted from k draws
ENOUGH = 20  # probabilities, to tell that they were
SHARE_COLUMN = re.compile(r"p_(-?\d{1,15})")


@dataclass(frozen=True)
class Predictions:
    """Checked predictions of N rows (or cells).

    rows: the columns of `key`, `mode`, `n_draws` (answers sampled; 0 for probabilities) and those of OPTIONAL
    that are known. predicted: N distributions that add up to 1; a failed row's is empty. key: KEY, or CELL if
    one distribution stands for everybody of a cell. A real-valued mean is stored as the two whole numbers
    around it, in the shares that have this mean: no accuracy and no mean changes by that.
    """

    rows: pl.DataFrame
    predicted: Ragged
    key: list[str] = field(default_factory=lambda: list(KEY))


def load_predictions(path: str | Path, remedy: str = "give an existing file as PREDICTIONS") -> Predictions:
    """Read a table of predictions (.parquet, .csv, .tsv, .json, .jsonl) and check every row.

    Raises `Refusal` naming the file, the key and the remedy; see eval/scoring/README.md for the forms.
    """
    path = Path(path)
    return check_predictions(read_table(path, remedy), str(path))


def check_predictions(frame: pl.DataFrame, where: str) -> Predictions:
    """Check a table of predictions in any of the forms of eval/scoring/README.md; `where` names it."""
    columns = frame.columns
    key = KEY if "sample_id" in columns or not set(CELL) <= set(columns) else CELL
    shares = [name for name in columns if SHARE_COLUMN.fullmatch(name)]
    lists, long = {"answers", "probs"} & set(columns), {"answer", "prob"} <= set(columns)
    if [name for name in key if name not in columns] or not (
        lists or long or shares or {"prediction", "mean", "draws"} & set(columns)
    ):
        raise Refusal(
            f"{where} has columns {', '.join(columns)[:300]}; it needs study_id, sample_id (or study_id, "
            f"condition_num, task_num) and {FORMS}"
        )
    frame = _with_key(frame, key, where)
    default = "exact"
    if lists:
        frame, predicted = _from_lists(frame, key, where)
    elif long:
        frame, predicted = _from_long(frame, key, where)
    elif shares:
        frame, predicted = _from_columns(frame, shares, key, where)
    elif "draws" in columns:
        frame, predicted, default = *_from_draws(frame, key, where), "sampled"
    else:
        frame, predicted, default = _from_numbers(frame, key, where)
    if default == "exact" and key == CELL:
        default = "cells"
    frame = _with_mode(frame, predicted, default, where, key)
    frame = frame.with_columns(
        _number(frame[name], where, "numbers")
        if name == "off_scale_mass"
        else _whole(frame[name], where, COUNTED)
        for name in OPTIONAL
        if name in frame.columns and name != "draws"
    )
    selected = [*key, "mode", "n_draws", *(name for name in OPTIONAL if name in frame.columns)]
    return Predictions(frame.select(selected), predicted, key)


def key_text(frame: pl.DataFrame, at: int, key: list[str] = KEY) -> str:
    """`study_id s sample_id 7`: a row's key for messages."""
    row = frame.row(int(at), named=True)
    return " ".join(f"{name} {row[name]}" for name in key)


def _with_key(frame: pl.DataFrame, key: list[str], where: str) -> pl.DataFrame:
    """Key columns as text and whole numbers, without gaps."""
    study = frame["study_id"]
    if study.dtype != pl.String and not study.dtype.is_integer():
        raise Refusal(f"{where}: column study_id holds {study.dtype}, not text; write the studies' names")
    numbers = [_whole(frame[name], where, LARGEST if name != "sample_id" else 2**63 - 1) for name in key[1:]]
    frame = frame.with_columns(study.cast(pl.String), *numbers)
    for name in key:
        if frame[name].null_count():
            raise Refusal(f"{where} has rows without {name}; give every row its key")
    return frame


def _refuse_duplicates(frame: pl.DataFrame, key: list[str], where: str) -> None:
    twice = frame.select(pl.struct(key).is_duplicated()).to_series()
    if twice.any():
        first = key_text(frame, twice.arg_true()[0], key)
        raise Refusal(f"{where}: {first} appears more than once; keep one row for each key")


def _number(series: pl.Series, where: str, what: str) -> pl.Series:
    """A numeric column as float64 without infinities; nulls stay."""
    if series.dtype == pl.Null:
        return series.cast(pl.Float64)
    if not series.dtype.is_numeric():
        raise Refusal(f"{where}: column {series.name} holds {series.dtype}, not {what}")
    values = series.cast(pl.Float64)
    wrong = (values.is_not_null() & ~values.is_finite()).fill_null(False)
    if wrong.any():
        at = wrong.arg_true()[0]
        raise Refusal(f"{where}: row {at + 1} has {series.name} {values[at]}, not a number; write {what}")
    return values


def _whole(series: pl.Series, where: str, largest: int = LARGEST) -> pl.Series:
    """A column of whole numbers as int64; 3.0 passes, 3.5 and "3" don't.

    largest: of a column of integers; numbers of other types aren't exact beyond LARGEST.
    """
    values = _number(series, where, "whole numbers; write integers")
    integers = series.dtype.is_integer()
    exact = series.cast(pl.Int128) if integers else values
    limit = largest if integers else LARGEST
    fractional = (values.round() != values) & values.is_not_null()
    for wrong, what in ((fractional, "not a whole number"), (exact.abs() > limit, "too large a number")):
        if wrong.fill_null(False).any():
            at = wrong.fill_null(False).arg_true()[0]
            raise Refusal(f"{where}: row {at + 1} has {series.name} {series[at]}, {what}; write integers")
    return exact.cast(pl.Int64)


def _flatten(frame: pl.DataFrame, name: str, key: list[str], where: str) -> tuple[np.ndarray, pl.Series]:
    """A list column as (row of each element, elements); null lists are empty."""
    series = frame[name]
    if series.dtype == pl.Null:
        return np.empty(0, np.int64), pl.Series(name, [], pl.Int64)
    if not isinstance(series.dtype, pl.List):
        raise Refusal(f"{where}: column {name} holds {series.dtype}, not lists; see eval/scoring/README.md")
    lengths = series.list.len().fill_null(0).to_numpy().astype(np.int64)
    values = series.filter(lengths > 0).explode()
    row = np.repeat(np.arange(len(series)), lengths)
    if values.null_count():
        at = row[values.is_null().arg_true()[0]]
        raise Refusal(f"{where}: {key_text(frame, at, key)} has an empty value in {name}; fill or drop it")
    return row, values


def _from_lists(frame: pl.DataFrame, key: list[str], where: str) -> tuple[pl.DataFrame, Ragged]:
    for name, other in (("probs", "answers"), ("answers", "probs")):
        if name not in frame.columns:
            raise Refusal(f"{where} has {other} but no {name}; say which answer each probability belongs to")
    _refuse_duplicates(frame, key, where)
    row, answers = _flatten(frame, "answers", key, where)
    row_p, probs = _flatten(frame, "probs", key, where)
    uneven = np.bincount(row, minlength=len(frame)) != np.bincount(row_p, minlength=len(frame))
    if uneven.any():
        at = int(np.flatnonzero(uneven)[0])
        raise Refusal(
            f"{where}: {key_text(frame, at, key)} has not as many probs as answers; give one for each"
        )
    return frame, _distributions(frame, row, answers, probs, key, where)


def _from_long(frame: pl.DataFrame, key: list[str], where: str) -> tuple[pl.DataFrame, Ragged]:
    """One row an answer; a key with an empty answer and probability has no prediction."""
    keys = frame.select(key).unique(maintain_order=True).with_row_index("row")
    row = frame.join(keys, on=key, how="left", maintain_order="left")["row"].cast(pl.Int64).to_numpy()
    given = (frame["answer"].is_not_null() | frame["prob"].is_not_null()).to_numpy()
    entries = frame.filter(given)
    for name in ("answer", "prob"):
        if entries[name].null_count():
            at = entries[name].is_null().arg_true()[0]
            raise Refusal(
                f"{where}: {key_text(entries, at, key)} has an empty value in {name}; fill or drop it"
            )
    first = frame.unique(key, keep="first", maintain_order=True).drop("answer", "prob")
    return first, _distributions(first, row[given], entries["answer"], entries["prob"], key, where)


def _from_columns(
    frame: pl.DataFrame, shares: list[str], key: list[str], where: str
) -> tuple[pl.DataFrame, Ragged]:
    """One column an answer; an empty value means that the row's question hasn't that answer."""
    _refuse_duplicates(frame, key, where)
    table = [_number(frame[name], where, "probabilities").to_numpy() for name in shares]
    probs = np.stack(table, 1)
    row, column = np.nonzero(~np.isnan(probs))
    answers = np.array([int(name[2:]) for name in shares], np.int64)[column]
    series = pl.Series("answer", answers), pl.Series("prob", probs[row, column])
    return frame, _distributions(frame, row, *series, key, where)


def _distributions(
    frame: pl.DataFrame, row: np.ndarray, answers: pl.Series, probs: pl.Series, key: list[str], where: str
) -> Ragged:
    """Entries to distributions that add up to 1: whole answers, each once, with probabilities from 0."""
    whole = _whole(answers, where).to_numpy()
    if len(probs) and not probs.dtype.is_numeric():
        raise Refusal(f"{where}: column {probs.name} holds {probs.dtype}, not numbers; write probabilities")
    weights = probs.cast(pl.Float64).to_numpy()
    wrong = ~np.isfinite(weights) | (weights < 0)
    if wrong.any():
        at = int(np.flatnonzero(wrong)[0])
        raise Refusal(
            f"{where}: {key_text(frame, row[at], key)} has probability {weights[at]}; "
            "give numbers from 0 to 1"
        )
    total = np.bincount(row, weights, minlength=len(frame))
    off = (np.bincount(row, minlength=len(frame)) > 0) & ~(np.abs(total - 1) <= SUM_TOLERANCE)
    if off.any():
        at = int(np.flatnonzero(off)[0])
        raise Refusal(
            f"{where}: the probabilities of {key_text(frame, at, key)} add up to {total[at]:.4g}, not 1; "
            "normalise them"
        )
    out = ragged(row, whole, weights / total[row], len(frame))
    same = np.flatnonzero((np.diff(out.owner) == 0) & (np.diff(out.answers) == 0))
    if len(same):
        first = key_text(frame, out.owner[same[0]], key)
        raise Refusal(f"{where}: {first} lists answer {out.answers[same[0]]} twice; list it once")
    return out


def _from_draws(frame: pl.DataFrame, key: list[str], where: str) -> tuple[pl.DataFrame, Ragged]:
    """Lists of sampled answers to their shares."""
    _refuse_duplicates(frame, key, where)
    row, values = _flatten(frame, "draws", key, where)
    return frame, _shares(row, _whole(values, where), len(frame))


def _from_numbers(frame: pl.DataFrame, key: list[str], where: str) -> tuple[pl.DataFrame, Ragged, str]:
    """One number a row: an answer, or (a `mean`, or where some aren't whole) a real-valued mean."""
    _refuse_duplicates(frame, key, where)
    name = "mean" if "mean" in frame.columns else "prediction"
    numbers = _number(frame[name], where, "numbers")
    given = numbers.is_not_null().to_numpy()
    row, values = np.flatnonzero(given), numbers.drop_nulls().to_numpy()
    if name == "prediction" and (np.round(values) == values).all():
        single = _whole(frame[name], where)
        listed = pl.when(single.is_null()).then(pl.lit([], pl.List(pl.Int64))).otherwise(
            single.reshape((-1, 1)).arr.to_list()
        )  # fmt: skip
        mode = "cells" if key == CELL else "sampled"
        return frame.with_columns(listed.alias("draws")), _shares(row, single.drop_nulls(), len(frame)), mode
    if (np.abs(values) > LARGEST).any():
        at = int(row[np.abs(values) > LARGEST][0])
        raise Refusal(f"{where}: row {at + 1} has {name} {frame[name][at]}, too large a number; check it")
    lower = np.floor(values)
    answers, weights = (
        np.concatenate([lower, lower + 1]),
        np.concatenate([lower + 1 - values, values - lower]),
    )
    held = weights > 0
    mode = "cell means" if key == CELL else "means"
    return frame, ragged(np.tile(row, 2)[held], answers[held], weights[held], len(frame)), mode


def _shares(row: np.ndarray, answers: pl.Series, count: int) -> Ragged:
    counted = (
        pl.DataFrame({"row": row, "answer": answers})
        .group_by("row", "answer")
        .len()
        .with_columns(share=pl.col("len") / pl.col("len").sum().over("row"))
    )
    return ragged(counted["row"].to_numpy(), counted["answer"].to_numpy(), counted["share"].to_numpy(), count)


def _with_mode(
    frame: pl.DataFrame, predicted: Ragged, default: str, where: str, key: list[str]
) -> pl.DataFrame:
    """`mode` (as given, else from the columns) and `n_draws`.

    Probabilities that are all multiples of 1/k were counted from k draws, unless the file names a mode.
    """
    counted = _draws_behind(predicted) if default == "exact" and "mode" not in frame.columns else 0
    if "mode" not in frame.columns:
        frame = frame.with_columns(mode=pl.lit("sampled" if counted else default))
    if frame["mode"].dtype.is_nested():
        raise Refusal(
            f"{where}: column mode holds {frame['mode'].dtype}, not text; known: {', '.join(MODES)}"
        )
    unknown = frame.filter(~pl.col("mode").cast(pl.String).is_in(MODES).fill_null(False))
    if len(unknown):
        first = key_text(unknown, 0, key)
        raise Refusal(f"{where}: {first} has mode {unknown['mode'][0]}; known: {', '.join(MODES)}")
    drawn = pl.lit(0)
    if "draws" in frame.columns:
        _flatten(frame, "draws", key, where)
        drawn = pl.col("draws").list.len().fill_null(0) if frame["draws"].dtype != pl.Null else drawn
    n_draws = (
        pl.when(pl.col("mode") == "sampled").then(pl.max_horizontal(drawn, max(counted, 1))).otherwise(0)
    )
    return frame.with_columns(n_draws=n_draws.cast(pl.Int64))


def _draws_behind(predicted: Ragged) -> int:
    """The k whose multiples of 1/k all probabilities are, so that they come from k draws; 0 if none.

    Draws differ from row to row: where fewer distributions occur than draws would give (a twentieth of the
    rows, or a third of all that k draws can give), the probabilities were stated.
    """
    if len(predicted.weights) < ENOUGH:
        return 0
    for k in range(1, MOST_DRAWS + 1):
        times = predicted.weights * k
        if (np.abs(times - np.round(times)) < 1e-3).all():
            counts = pl.DataFrame(
                {"row": predicted.owner, "answer": predicted.answers, "times": np.rint(times)}
            )
            given = counts.filter(pl.col("times") > 0)
            listed = given.group_by("row").agg(pl.struct("answer", "times")).select("answer")
            possible = math.comb(k + given["answer"].n_unique() - 1, k)
            fewest = max(2, min(len(listed) / 20, possible / 3))
            return k if listed.n_unique() >= fewest or k == 1 else 0
    return 0


def contract_table(predictions: Predictions) -> pl.DataFrame:
    """Predictions as the columns of predictions.parquet (see eval/prediction/README.md)."""
    predicted, count = predictions.predicted, len(predictions.rows)
    entries = pl.DataFrame({"row": predicted.owner, "answers": predicted.answers, "probs": predicted.weights})
    grouped = entries.group_by("row", maintain_order=True).agg(
        pl.col("answers"), pl.col("probs").cast(pl.Float32)
    )
    table = predictions.rows.with_columns(row=pl.int_range(count, dtype=pl.Int64)).join(
        grouped, on="row", how="left", maintain_order="left"
    )
    empty = [pl.lit([], pl.List(pl.Int64)), pl.lit([], pl.List(pl.Float32))]
    table = table.with_columns(pl.col("answers").fill_null(empty[0]), pl.col("probs").fill_null(empty[1]))
    times = np.rint(predicted.weights * predictions.rows["n_draws"].to_numpy()[predicted.owner]).astype(int)
    repeated = pl.DataFrame(
        {"row": np.repeat(predicted.owner, times), "draws": np.repeat(predicted.answers, times)}
    )
    draws = repeated.group_by("row").agg("draws")
    if "draws" not in table.columns:
        table = table.join(draws, on="row", how="left", maintain_order="left")
    absent = [
        pl.lit(None, dtype).alias(name) for name, dtype in OPTIONAL.items() if name not in table.columns
    ]
    return table.drop("row", "n_draws").with_columns(absent)
