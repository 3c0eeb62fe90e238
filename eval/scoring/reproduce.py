"""Do our scores come out where published ones, or the known truth, say they must?

    socrates reproduce [--data socsci210] [--predictions FILE --published 0.151]

With SocSci210 converted (split `study`): the uniform guess on the unseen studies must come out at the
published 0.203 by the observed range (arXiv 2509.05830), within 0.005; --predictions checks those of a
released model against its published figure (Qwen2.5-14B SFT 0.151, LLaMA3-8B SFT 0.153) alike.

Without it, or with --data sample: the same code on the synthetic sample, whose truth is known. The uniform
guess must equal a plain loop over scipy, and lie as far from the true distributions as from people's
answers, within 0.02; a perfect model, exact and sampled, must have a corrected skill of 1 within its
interval over people. Refused if a check fails.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl
from scipy.stats import wasserstein_distance

from common.contract import CELL, KEY
from common.errors import Refusal
from common.paths import source_dir, split_dir
from eval.scoring.align import Evaluated, align, read_scored
from eval.scoring.controls import controls
from eval.scoring.model import cell_scores, work_on
from eval.scoring.predictions import Predictions, load_predictions
from eval.scoring.ragged import Ragged
from eval.scoring.record import Estimate
from eval.settings import Settings

PUBLISHED_UNIFORM = 0.203
TOLERANCE = 0.005
TRUTH_TOLERANCE = 0.02  # the sampling noise that a cell of some 50 people adds to a distance
UNIFORM, METRIC = "uniform_observed", "wasserstein_observed"


class Check(NamedTuple):
    """One figure against what it must be."""

    passed: bool
    says: str


@dataclass(frozen=True)
class Reproduction:
    """Every check of one data set; `rows` says what it holds."""

    rows: str
    checks: tuple[Check, ...]

    def __str__(self) -> str:
        return "\n".join([self.rows, *(f"{'ok  ' if c.passed else 'FAIL'} {c.says}" for c in self.checks)])

    def enforce(self) -> None:
        """Raise `Refusal` if a figure doesn't come out."""
        failed = sum(not check.passed for check in self.checks)
        if failed:
            raise Refusal(
                f"{failed} of {len(self.checks)} figures don't come out; compare the data and the settings "
                "with those of data/README.md and configs/eval/default.yaml"
            )


def reproduce(
    data: str | None = None,
    predictions: Path | None = None,
    published: float | None = None,
    settings: Settings | None = None,
) -> Reproduction:
    """Check this evaluator's figures.

    data: a data set's name, default socsci210 if it is converted, else sample. predictions, published: those
    of a released model, and its published distance, 0 to 1. Raises `Refusal` if the data are missing.
    """
    if (predictions is None) != (published is None):
        raise Refusal("give --predictions and --published together")
    settings = settings or Settings()
    converted = (split_dir("socsci210", "study") / "eval.parquet").is_file()
    data = data or ("socsci210" if converted else "sample")
    path = split_dir(data, "study") / "eval.parquet"
    rows = read_scored(path)
    cells, studies = rows.select(CELL).n_unique(), rows["study_id"].n_unique()
    if data == "sample":
        checks = sample_checks(rows, settings)
    else:
        checks = published_checks(rows, predictions, published, settings)
    return Reproduction(f"{path}: {len(rows):,} rows, {cells} cells, {studies} studies", tuple(checks))


def published_checks(
    rows: pl.DataFrame, predictions: Path | None, published: float | None, settings: Settings
) -> Iterator[Check]:
    """The uniform guess, and one released model's predictions, against published figures."""
    some = _score(rows, _answers_as_predictions(rows), settings)
    yield _near(value_of(some["controls"][UNIFORM][METRIC]), PUBLISHED_UNIFORM, TOLERANCE, "uniform guess")
    if predictions is not None and published is not None:
        scores = _score(rows, load_predictions(predictions, "give an existing file"), settings)
        value = value_of(scores["metrics"][METRIC])
        counted = f"{predictions} ({scores['row_counts'].scored:,} rows)"
        yield _near(value, published, TOLERANCE, counted)


def sample_checks(rows: pl.DataFrame, settings: Settings) -> Iterator[Check]:
    """Uniform guess and perfect model on the sample."""
    path = source_dir("sample") / "truth_rows.parquet"
    truth = pl.read_parquet(path) if path.is_file() else None
    if truth is None:
        raise Refusal(f"{path} is missing; run `make data DATA=sample SPLIT=study` first")
    truth = truth.join(rows.select(KEY), on=KEY, how="semi", maintain_order="left")
    exact = _predictions(truth, "exact")
    scores = _score(rows, exact, settings)
    uniform = value_of(scores["controls"][UNIFORM][METRIC])
    people, true = _uniform_by_scipy(rows, align(rows, exact, "truth"))
    yield Check(abs(uniform - people) < 1e-12, f"uniform guess {uniform:.6f}, by a scipy loop {people:.6f}")
    yield _near(
        uniform, true, TRUTH_TOLERANCE, "uniform guess against people, and against the true distributions"
    )
    yield _skill_is_one(scores, "perfect model, exact probabilities")
    yield _skill_is_one(
        _score(rows, _predictions(truth, "sampled"), settings), "perfect model, sampled once a person"
    )


def _near(value: float, wanted: float, tolerance: float, what: str) -> Check:
    says = f"{what}: {METRIC} {value:.4f}, expected {wanted:.4f} within {tolerance}"
    return Check(abs(value - wanted) <= tolerance, says)


def _skill_is_one(scores: dict[str, Any], what: str) -> Check:
    skill: Estimate = scores["skill"][METRIC].corrected
    distance = value_of(scores["metrics"][METRIC])
    if skill.value is None or skill.over_people is None:
        return Check(False, f"{what}: {METRIC} {distance:.4f}, no corrected skill: {skill.reason}")
    low, high = skill.over_people  # the sample's studies are the whole truth: people are what is drawn
    ends = skill.over_studies
    over = "no interval over studies" if ends is None else f"[{ends[0]:.3f}, {ends[1]:.3f}] over studies"
    return Check(
        low <= 1 <= high,
        f"{what}: {METRIC} {distance:.4f}, corrected skill {skill.value:.3f} {over}, "
        f"[{low:.3f}, {high:.3f}] over people; must hold 1",
    )


def value_of(estimate: Estimate) -> float:
    """An estimate's value, NaN where it has none."""
    return math.nan if estimate.value is None else estimate.value


def _score(rows: pl.DataFrame, predictions: Predictions, settings: Settings) -> dict[str, Any]:
    return cell_scores(work_on(align(rows, predictions, "check"), None, settings.score, settings.seed))


def _answers_as_predictions(rows: pl.DataFrame) -> Predictions:
    """Something to score where only the controls are of interest."""
    keys = rows.select(KEY).with_columns(mode=pl.lit("sampled"), n_draws=pl.lit(1, pl.Int64))
    return Predictions(
        keys, Ragged(np.arange(len(rows) + 1), rows["response"].to_numpy(), np.ones(len(rows)))
    )


def _predictions(truth: pl.DataFrame, mode: str) -> Predictions:
    """A perfect model: every row's true distribution, or one answer drawn from it."""
    offsets = np.concatenate([[0], truth["answers"].list.len().cum_sum().to_numpy()]).astype(np.int64)
    answers = truth["answers"].explode().to_numpy()
    probs = truth["probs"].explode().cast(pl.Float64).to_numpy()
    probs = probs / np.repeat(np.add.reduceat(probs, offsets[:-1]), np.diff(offsets))
    keys = truth.select(KEY).with_columns(mode=pl.lit(mode), n_draws=pl.lit(int(mode == "sampled"), pl.Int64))
    if mode == "exact":
        return Predictions(keys, Ragged(offsets, answers, probs))
    before = np.concatenate([[0.0], probs.cumsum()])
    draws = before[offsets[:-1]] + np.random.default_rng(0).random(len(truth))
    at = np.clip(np.searchsorted(before, draws, side="right") - 1, offsets[:-1], offsets[1:] - 1)
    return Predictions(keys, Ragged(np.arange(len(truth) + 1), answers[at], np.ones(len(truth))))


def _uniform_by_scipy(rows: pl.DataFrame, truth: Evaluated) -> tuple[float, float]:
    """The uniform guess's distance from people's answers and from the true distributions, cell by cell."""
    uniform = controls(truth.everyone, truth.cells, None)[UNIFORM]
    cell, response = truth.rows["cell"].to_numpy(), truth.rows["response"].to_numpy()
    starts = np.searchsorted(cell, np.arange(len(truth.cells) + 1))
    by_cell = []
    for c, (low, high) in enumerate(truth.cells.select("observed_low", "observed_high").iter_rows()):
        guess = uniform.answers[uniform.offsets[c] : uniform.offsets[c + 1]]
        of_cell = slice(truth.predicted.offsets[starts[c]], truth.predicted.offsets[starts[c + 1]])
        true, weights = np.clip(truth.predicted.answers[of_cell], low, high), truth.predicted.weights[of_cell]
        if high > low:
            people = wasserstein_distance(response[starts[c] : starts[c + 1]], guess) / (high - low)
            by_cell.append((people, wasserstein_distance(true, guess, u_weights=weights) / (high - low), c))
    table = pl.DataFrame(by_cell, schema=["people", "true", "cell"], orient="row")
    studies = table.with_columns(study=truth.cells["study_id"].gather(table["cell"].cast(pl.UInt32)))
    means = studies.group_by("study").agg(pl.col("people", "true").mean())
    people_mean, true_mean = means.select(pl.col("people", "true").mean()).row(0)
    return float(people_mean), float(true_mean)
