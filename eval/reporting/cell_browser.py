"""The cells that a reader can browse: observed and predicted distributions by arm, small enough for a page.

A page must open on a phone, so it carries at most `LIMIT` characters of cells: long texts are cut first,
then cells with the fewest answers are left out, and the page says so.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from common.page.render import count
from eval.reporting.results import MAIN, Results
from eval.reporting.words import Json

LIMIT = 12_000_000  # characters of JSON, texts included
MOST_BARS = 20  # a scale with more answers gets bars of several answers each
TEXT_LENGTHS = (5000, 1500, 600, 240)
LONGEST_LABEL = 40  # characters of an answer's label
KEYS = ("study_id", "task_num", "condition_num")


def payload(results: Results, limit: int = LIMIT) -> tuple[Json, list[str]]:
    """What `cells.js` draws from, and one sentence for each thing that was cut.

    {models: names, texts: stimuli, cells: [{s, t, c: the key, tn, cn: names of outcome and arm,
    n: people's answers, k: kind of scale,
    l: labels of the bars if there are any,
    r: lowest and highest answer of its range, b: the first bar's lowest answer, w: answers from bar to
    bar, g: answers from one to the next, h: people's counts on the bars, i: position in texts, m: the
    people's mean, p: [for each model null or {d: distance, m: mean, q: shares on the bars, per mille}]}]}
    """
    names = results.models
    cells: dict[tuple[Any, ...], Json] = {}
    texts: dict[str, int] = {}
    for index, (_, scores) in enumerate(results.scores.items()):
        for row in scores.cells.iter_rows(named=True):
            key = tuple(row[column] for column in KEYS)
            cell = cells.get(key) or _cell(row, texts, results)
            cells[key] = cell
            cell["p"][index] = _prediction(row, cell["bars"])
    for cell in cells.values():
        del cell["bars"]
    chosen, cut, notes = _fit(list(cells.values()), list(texts), limit)
    return {"models": names, "texts": cut, "cells": chosen}, notes


def _cell(row: Json, texts: dict[str, int], results: Results) -> Json:
    bars = bars_of(row)
    labels = results.labels.get((row["study_id"], row["condition_num"], row["task_num"]), {})
    return {
        "s": row["study_id"], "t": row["task_num"], "c": row["condition_num"], "n": row["rows"],
        "k": row["scale_kind"] or "not stated", "r": [bars.low, bars.high],
        "b": bars.first, "w": bars.width, "g": bars.step,
        "h": [int(count) for count in bars.gather(row["answers"], row["human_counts"])],
        "i": texts.setdefault(row["stimuli"] or "", len(texts)), "m": _round(row["human_mean"]),
        "p": [None] * len(results.models),
        "tn": results.outcome(row["study_id"], row["task_num"]),
        "cn": results.arm(row["study_id"], row["condition_num"]),
        "bars": bars,
    } | ({"l": names} if any(names := bars.names(labels)) else {})  # fmt: skip


@dataclass(frozen=True)
class Bars:
    """How a cell's answers are drawn: `number` bars from `first` on, each `width` answers wide.

    low, high: the range that they cover. step: from one possible answer to the next; equal to width
    where each answer has a bar of its own.
    """

    low: int
    high: int
    first: int
    width: int
    step: int
    number: int

    def names(self, labels: Mapping[int, str]) -> list[str]:
        """The label of each bar, "" where it has none; nothing where a bar holds several answers."""
        if self.width != self.step:
            return []
        words = [" ".join(labels.get(self.first + at * self.width, "").split()) for at in range(self.number)]
        return [word if len(word) <= LONGEST_LABEL else f"{word[: LONGEST_LABEL - 1]}…" for word in words]

    def gather(self, answers: list[int], weights: list[float]) -> np.ndarray:
        """Sums of weights on the bars. Answers outside go into the outermost ones, as scores clip them."""
        bars = (np.asarray(answers, np.int64) - self.first) // self.width
        return np.bincount(np.clip(bars, 0, self.number - 1), np.asarray(weights, float), self.number)


def bars_of(row: Json) -> Bars:
    """Bars over the stated scale, or else the observed range: one an answer, or at most `MOST_BARS` + 1."""
    low, high = row["scale_low"], row["scale_high"]
    if low is None or high is None:
        low, high = row["observed_low"], row["observed_high"]
    inside = [answer for answer in row["answers"] if low <= answer <= high]
    step = math.gcd(high - low, *(answer - low for answer in inside)) or 1
    if (high - low) // step < MOST_BARS:
        return Bars(low, high, low, step, step, (high - low) // step + 1)
    width = _nice(math.ceil((high - low) / MOST_BARS / step)) * step
    first = low // width * width  # 0 to 9, 10 to 19: not -1 to 8, 9 to 18
    last = max(high - 1, first) if high % width == 0 else high  # 100 belongs to 95 to 100
    return Bars(low, high, first, width, step, (last - first) // width + 1)


def _nice(width: int) -> int:
    """The smallest of 1, 2, 5, 10, 20, 50, ... that is not below `width`."""
    power = 10 ** (len(str(width)) - 1)
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= width)


def _prediction(row: Json, bars: Bars) -> Json:
    shares = np.rint(1000 * bars.gather(row["answers"], row["predicted_probs"])).astype(int)
    return {"d": _round(row[MAIN]), "m": _round(row["predicted_mean"]), "q": shares.tolist()}


def _round(value: float | None) -> float | None:
    return None if value is None or not np.isfinite(value) else float(f"{value:.6g}")


def _fit(cells: list[Json], texts: list[str], limit: int) -> tuple[list[Json], list[str], list[str]]:
    """Cells and texts within `limit` characters, with sentences on what was cut."""
    notes: list[str] = []
    sizes = [len(json.dumps(cell, separators=(",", ":"))) for cell in cells]
    lengths = np.array([len(json.dumps(text, ensure_ascii=False)) for text in texts])
    room = limit - sum(sizes)
    length = next(
        (most for most in TEXT_LENGTHS if np.minimum(lengths, most).sum() <= room), TEXT_LENGTHS[-1]
    )
    cut = [text if len(text) <= length else f"{text[:length]} …" for text in texts]
    shortened = sum(len(text) > length for text in texts)
    if shortened:
        notes.append(
            f"{count(shortened)} of {count(len(texts))} question texts are cut after {count(length)} "
            "characters, so that this page stays small; cells.parquet holds them whole."
        )
    order = sorted(range(len(cells)), key=lambda index: -cells[index]["n"])
    total, fitting, seen = 0, set(), set()
    for index in order:
        text = cells[index]["i"]
        total += sizes[index] + (0 if text in seen else len(cut[text]) + 3)
        if total > limit:
            break
        fitting.add(index)
        seen.add(text)
    if len(fitting) < len(cells):
        notes.append(
            f"{count(len(fitting))} of {count(len(cells))} cells are on this page, those with the most "
            "answers, so that it opens on a phone; cells.csv holds the scores of all."
        )
    chosen = [cell for index, cell in enumerate(cells) if index in fitting]
    return chosen, [text if index in seen else "" for index, text in enumerate(cut)], notes


def worst(cells: pl.DataFrame, number: int = 20) -> pl.DataFrame:
    """The cells whose predicted distribution lies farthest from the people's."""
    return cells.drop_nulls(MAIN).sort(MAIN, *KEYS, descending=[True, False, False, False]).head(number)
