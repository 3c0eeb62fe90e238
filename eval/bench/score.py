"""Time scoring on a large synthetic data set, and compare with a plain scipy loop.

    socrates bench score [--predictions 3000000] [--cells 6000] [--replicates 1000]

Answers on 1-7, 0-1 and 0-100 scales in 200 studies; each person answers six questions, and a model
predicts each answer with one sampled answer. Measured: the distances alone, and the whole of scoring but
the writing of files: cells, controls, ceilings and the bootstrap of people and of studies. Printed: seconds,
peak memory, and how much longer a loop over scipy takes (timed on a part). The limit,
60 s and 2 GB on 2 cores, stands for the default size; a slower run is refused.
"""

import os
import resource
import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import polars as pl
from scipy.stats import wasserstein_distance

from common.contract import KEY
from common.distances import distances, histograms
from common.errors import Refusal
from eval.scoring.align import Evaluated, align
from eval.scoring.groups import group_ranges
from eval.scoring.model import cell_scores, work_on
from eval.scoring.predictions import Predictions
from eval.scoring.ragged import Ragged
from eval.settings import ScoreSettings

STUDIES = 200
TASKS = 6
LOOP_CELLS = 300  # as many cells are enough to time a loop
LOOP_REPLICATES = 3
FULL_SIZE = 3_000_000  # predictions; for so many the limits hold
LIMIT_SECONDS, LIMIT_GB = 60, 2
SCALES = ((1, 7), (0, 1), (0, 100))


def synthetic(predictions: int, cells: int, seed: int = 0) -> tuple[pl.DataFrame, Predictions]:
    """Evaluation rows and one sampled prediction each. Arms and people are numbered within studies."""
    rng = np.random.default_rng(seed)
    arms = max(1, round(cells / STUDIES / TASKS))
    people = max(2, predictions // (STUDIES * TASKS))
    study = np.repeat(np.arange(STUDIES), people * TASKS)
    person = np.tile(np.repeat(np.arange(people), TASKS), STUDIES)
    task = np.tile(np.arange(TASKS), STUDIES * people)
    low, high = np.array(SCALES)[(study + task) % len(SCALES)].T
    shift = rng.normal(0, 0.15, (STUDIES, arms, TASKS))[study, person % arms, task]

    def answers(bias: float) -> np.ndarray:
        share = np.clip(rng.normal(0.5 + bias + shift, 0.25), 0, 1)
        return np.rint(low + share * (high - low)).astype(np.int64)

    gender = pl.when(pl.col("participant") % 2 == 0).then(pl.lit("a")).otherwise(pl.lit("b"))
    rows = pl.DataFrame(
        {
            "study_id": np.char.add("study", study.astype(str)),
            "sample_id": np.arange(len(study)) % (people * TASKS),
            "participant": person,
            "condition_num": person % arms,
            "task_num": task,
            "item_num": np.zeros(len(study), np.int64),
            "response": answers(0.0),
            "guess": answers(0.05),
            "scale_low": low,
            "scale_high": high,
        }
    ).with_columns(
        pl.lit(False).alias("off_scale"),
        pl.lit("bounded").alias("scale_kind"),
        pl.lit(1, pl.Int64).alias("scale_step"),
        pl.lit([], pl.List(pl.Struct({"value": pl.Int64, "label": pl.String}))).alias("scale_labels"),
        pl.struct(gender=gender).alias("demographic"),
    ).sort("study_id", "condition_num", "task_num", "item_num", "participant", "sample_id")  # fmt: skip
    guess = rows["guess"].to_numpy()
    keys = rows.select(KEY).with_columns(mode=pl.lit("sampled"), n_draws=pl.lit(1, pl.Int64))
    return rows.drop("guess"), Predictions(
        keys, Ragged(np.arange(len(guess) + 1), guess, np.ones(len(guess)))
    )


@dataclass(frozen=True)
class _Time:
    """Seconds on the wall, and of the processor: other work on the machine lengthens the first alone."""

    wall: float
    cpu: float

    def __str__(self) -> str:
        return f"{self.wall:.1f} s ({self.cpu:.1f} CPU s)"


class _Clock:
    """A stopwatch for both kinds of seconds."""

    def __init__(self) -> None:
        self._start = time.perf_counter(), time.process_time()

    def lap(self) -> _Time:
        """The time since the last lap."""
        now = time.perf_counter(), time.process_time()
        lap = _Time(now[0] - self._start[0], now[1] - self._start[1])
        self._start = now
        return lap


def _warm_up() -> None:
    """Compile once, outside the clock."""
    rows, predictions = synthetic(30_000, 420)
    quick = ScoreSettings(replicates=100, ceiling_splits=10)
    cell_scores(work_on(align(rows, predictions, "bench"), None, quick, 0))


def _against_scipy(aligned: Evaluated, scored: _Time, replicates: int) -> Iterator[str]:
    """Wasserstein distances from scipy, cell after cell, in CPU seconds; extrapolated from some cells."""
    ranges = group_ranges(aligned.cells)
    cell, response = aligned.rows["cell"].to_numpy(), aligned.rows["response"].to_numpy()
    starts = np.searchsorted(cell, np.arange(len(aligned.cells) + 1))
    ones = np.ones(len(response))
    clock = _Clock()
    offsets, answers, weights = aligned.predicted
    table = histograms(response, starts, answers, offsets[starts], ones, weights)
    built = clock.lap().cpu
    distance = distances(table.offsets, table.support, table.human, table.predicted, ranges)[:, 0]
    ours = clock.lap().cpu
    chosen = np.linspace(0, len(aligned.cells) - 1, min(LOOP_CELLS, len(aligned.cells))).astype(int)
    share = len(chosen) / len(aligned.cells)
    worst = 0.0
    clock.lap()
    for c in chosen:
        of_cell, (low, high) = slice(starts[c], starts[c + 1]), ranges[c, :2]
        theirs = wasserstein_distance(
            response[of_cell], np.clip(aligned.predicted.answers[of_cell], low, high)
        )
        worst = max(worst, abs(theirs / (high - low) - distance[c]))
    loop = clock.lap().cpu / share
    rng = np.random.default_rng(0)
    for _ in range(LOOP_REPLICATES):
        for c in chosen:
            drawn = rng.integers(starts[c], starts[c + 1], starts[c + 1] - starts[c])
            wasserstein_distance(response[drawn], np.clip(aligned.predicted.answers[drawn], *ranges[c, :2]))
    bootstrap = clock.lap().cpu / LOOP_REPLICATES / share * replicates
    yield f"  against a loop over scipy's Wasserstein distance (timed on {len(chosen)} cells; CPU seconds):"
    yield f"  all five of ours: histograms {built:.2f} s, distances {ours:.4f} s; one of scipy's {loop:.2f} s"
    with_them, without = loop / (built + ours), loop / ours
    yield f"  that is {with_them:.1f} times with and {without:,.0f} times without building the histograms"
    yield (
        f"  all of scoring {scored.cpu:.0f} s; a scipy bootstrap of one figure {bootstrap:,.0f} s: "
        f"{bootstrap / scored.cpu:.0f} times"
    )
    yield f"  largest difference {worst:.1e}"


def measure_scoring(predictions: int = FULL_SIZE, cells: int = 6000, replicates: int = 1000) -> Iterator[str]:
    """Score synthetic predictions; yield what was measured. Raises `Refusal` at the end if over the limit."""
    settings = ScoreSettings(replicates=replicates)
    _warm_up()
    rows, sampled = synthetic(predictions, cells)
    clock = _Clock()
    aligned = align(rows, sampled, "bench")
    del rows, sampled  # as in `scoring.api`, nobody holds them any longer
    joined = clock.lap()
    cell_scores(work_on(aligned, None, settings, seed=0))
    scored = clock.lap()
    cores = len(os.sched_getaffinity(0))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2
    size = f"{len(aligned.rows):,} predictions, {len(aligned.cells):,} cells, {replicates:,} replicates"
    yield f"{size}, {cores} cores"
    yield f"  joining by key {joined}, scoring {scored}, peak memory {peak:.2f} GB"
    yield from _against_scipy(aligned, scored, replicates)
    seconds = joined.wall + scored.wall
    if predictions == FULL_SIZE and (seconds > LIMIT_SECONDS or peak > LIMIT_GB):
        raise Refusal(
            f"over the limit of {LIMIT_SECONDS} s, {LIMIT_GB} GB; on a busy machine compare the CPU seconds"
        )
