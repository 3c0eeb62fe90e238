"""The cells that a reader can browse: observed and predicted distributions by arm, small enough for a page.

A page must open on a phone, so it carries at most `LIMIT` characters of cells: long texts are cut first,
then cells with the fewest answers are left out, and the page says so.
"""

import json
import math
from typing import Any

import numpy as np
import polars as pl

from eval.results import MAIN, Json, Results

LIMIT = 12_000_000  # characters of JSON, texts included
BARS = 20  # bars of a scale with more answers than this
TEXT_LENGTHS = (5000, 1500, 600, 240)
KEYS = ("study_id", "task_num", "condition_num")


def payload(results: Results, limit: int = LIMIT) -> tuple[Json, list[str]]:
    """What `cells.js` draws from, and one sentence for each thing that was cut.

    {models: names, texts: stimuli, cells: [{s, t, c: the key, n: people's answers, k: kind of scale,
    x: a label for each bar, h: people's counts on the bars, i: place in texts, m: the people's mean,
    p: [for each model null or {d: distance, m: mean, q: predicted shares on the bars, per mille}]}]}
    """
    names = list(results.scores)
    cells: dict[tuple[Any, ...], Json] = {}
    texts: dict[str, int] = {}
    for place, name in enumerate(names):
        for row in results.cells(name).iter_rows(named=True):
            key = tuple(row[column] for column in KEYS)
            cell = cells.get(key) or _cell(row, texts, len(names))
            cells[key] = cell
            cell["p"][place] = _prediction(row, cell["edges"])
    for cell in cells.values():
        del cell["edges"]
    chosen, cut, notes = _fit(list(cells.values()), list(texts), limit)
    return {"models": names, "texts": cut, "cells": chosen}, notes


def _cell(row: Json, texts: dict[str, int], models: int) -> Json:
    edges, labels = bars(row)
    return {
        "s": row["study_id"], "t": row["task_num"], "c": row["condition_num"], "n": row["rows"],
        "k": row["scale_kind"] or "not stated", "x": labels, "edges": edges,
        "h": [int(count) for count in _binned(row["answers"], row["human_counts"], edges)],
        "i": texts.setdefault(row["stimuli"] or "", len(texts)), "m": _round(row["human_mean"]),
        "p": [None] * models,
    }  # fmt: skip


def bars(row: Json) -> tuple[np.ndarray, list[str]]:
    """Lower edges of a cell's bars (integers, ascending) and what to write under each.

    The bars cover the stated scale, or else the observed range: one for each answer, or at most `BARS`
    of a round width. Answers outside are counted in the outermost bars, as scores clip them.
    """
    low, high = row["scale_low"], row["scale_high"]
    if low is None or high is None:
        low, high = row["observed_low"], row["observed_high"]
    inside = [answer for answer in row["answers"] if low <= answer <= high]
    step = math.gcd(high - low, *(answer - low for answer in inside)) or 1
    width = step if (high - low) // step < BARS else _nice(math.ceil((high - low) / BARS / step)) * step
    if width == step:
        edges = np.arange(low, high + 1, step)
        return edges, [str(edge) for edge in edges]
    edges = np.arange(low, high, width)  # the last bar holds the highest answer too
    ends = [*(edges[1:] - step), high]
    return edges, [f"{edge} to {end}" for edge, end in zip(edges, ends, strict=True)]


def _nice(width: int) -> int:
    """The smallest of 1, 2, 5, 10, 20, 50, ... that is not below `width`."""
    power = 10 ** (len(str(width)) - 1)
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= width)


def _binned(answers: list[int], weights: list[float], edges: np.ndarray) -> np.ndarray:
    places = np.clip(np.searchsorted(edges, np.asarray(answers, np.int64), side="right") - 1, 0, None)
    return np.bincount(places, np.asarray(weights, float), minlength=len(edges))


def _prediction(row: Json, edges: np.ndarray) -> Json:
    shares = np.rint(1000 * _binned(row["answers"], row["predicted_probs"], edges)).astype(int)
    return {"d": _round(row[MAIN]), "m": _round(row["predicted_mean"]), "q": shares.tolist()}


def _round(value: float | None) -> float | None:
    return None if value is None or not np.isfinite(value) else float(f"{value:.4g}")


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
            f"{shortened:,} of {len(texts):,} question texts are cut after {length:,} characters, so that "
            "this page stays small; cells.parquet holds them whole."
        )
    order = sorted(range(len(cells)), key=lambda place: -cells[place]["n"])
    total, kept, seen = 0, set(), set()
    for place in order:
        text = cells[place]["i"]
        total += sizes[place] + (0 if text in seen else len(cut[text]) + 3)
        if total > limit:
            break
        kept.add(place)
        seen.add(text)
    if len(kept) < len(cells):
        notes.append(
            f"{len(kept):,} of {len(cells):,} cells are on this page, those with the most answers, so that "
            "it opens on a phone; cells.csv holds the scores of all."
        )
    chosen = [cell for place, cell in enumerate(cells) if place in kept]
    return chosen, [text if place in seen else "" for place, text in enumerate(cut)], notes


def worst(cells: pl.DataFrame, number: int = 20) -> pl.DataFrame:
    """The cells whose predicted distribution lies farthest from the people's."""
    return cells.drop_nulls(MAIN).sort(MAIN, *KEYS, descending=[True, False, False, False]).head(number)
