"""Skill on open scales: nothing for a constant, everything for the truth."""

import numpy as np
import polars as pl
import pytest

from eval.scoring.model import cell_scores, work_on
from eval.scoring.open_scales import signed_log
from eval.settings import ScoreSettings
from tests.helpers.scored_samples import evaluated, exact, population

FEW = ScoreSettings(replicates=100, ceiling_splits=40)


def dollars(people: int = 100, sigma: float = 1.5) -> pl.DataFrame:
    """Rows of two open questions in six studies, answered by whole numbers with log-normal sizes."""
    rows, _ = population(studies=6, arms=1, people=people)
    nothing = pl.lit(None, pl.Int64)
    return rows.with_columns(
        response=pl.Series(drawn(len(rows), sigma, 0)), scale_kind=pl.lit("open"), scale_low=nothing,
        scale_high=nothing,
    )  # fmt: skip


def drawn(count: int, sigma: float, seed: int) -> np.ndarray:
    return np.rint(np.exp(np.random.default_rng(seed).normal(4, sigma, count))).astype(int)


def scored(rows: pl.DataFrame, answers: np.ndarray):
    given = rows.select("study_id", "sample_id").with_columns(prediction=pl.Series(answers))
    work = work_on(evaluated(rows, given), None, FEW, 0)
    return work, cell_scores(work)


@pytest.mark.parametrize("constant", [0, 55, 150, 10_000_000])  # the median and the mean are 55 and 168
def test_a_constant_has_no_skill_on_open_scales(constant: int):
    """On the range itself the skill of 0, median and mean would be 0.8 and more."""
    rows = dollars()
    work, scores = scored(rows, np.full(len(rows), constant))
    assert scores["skill"]["wasserstein_observed"].corrected.value < 0
    if constant < 1000:
        uniform = work.ceiling.uniform[:, 0]
        plain = (uniform - work.cells.values["wasserstein_observed"]).mean() / uniform.mean()
        assert plain > 0.6


@pytest.mark.parametrize("people", [100, 300])
def test_the_truth_has_skill_one_on_open_scales(people: int):
    rows = dollars(people)
    corrected = scored(rows, drawn(len(rows), 1.5, 9))[1]["skill"]["wasserstein_observed"].corrected
    low, high = corrected.over_studies
    assert low <= 1 <= high
    assert corrected.value == pytest.approx(1, abs=0.15)


def test_each_kind_of_scale_has_its_own_skill_and_open_ones_say_that_it_is_of_logarithms():
    rows, true = population(studies=6, people=60)
    some = (pl.col("task_num") == 0) & (pl.col("condition_num") == 0)
    rows = rows.with_columns(scale_kind=pl.when(some).then(pl.lit("open")).otherwise(pl.lit("ordinal")))
    scores = cell_scores(work_on(evaluated(rows, exact(rows, true)), None, FEW, 0))["scale_kinds"]
    assert {kind: (one.cells, one.logarithm) for kind, one in scores.items()} == {
        "open": (6, True), "ordinal": (30, False),
    }  # fmt: skip
    assert scores["ordinal"].skill.value == pytest.approx(1, abs=0.3)
    assert 0 < scores["open"].wasserstein.value < 0.2
    # answers from 1 to 7 are nearly uniform as logarithms: nothing to be skilled at, and that is said
    assert scores["open"].skill.value is None and "not clearly worse" in scores["open"].skill.reason


def test_logarithms_keep_the_order_and_the_sign_of_answers():
    answers = np.array([-60_000_000, -5, -1, 0, 1, 2, 60_000_000])
    assert (np.diff(signed_log(answers)) > 0).all()
    assert signed_log(answers)[3] == 0 and signed_log(answers)[0] == -signed_log(answers)[-1]
