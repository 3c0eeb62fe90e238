"""Controls when people are drawn again: made anew of those people, and scored on them."""

import numpy as np
import polars as pl
import pytest

from eval.scoring.control_people import control_people
from eval.scoring.controls import CONTROLS, check_train, controls
from eval.scoring.groups import control_groups
from eval.scoring.metrics import METRICS
from eval.scoring.model import cell_scores, work_on
from eval.scoring.resampling import draw_people
from eval.settings import ScoreSettings
from tests.helpers.scored_samples import evaluated, exact, population

FEW = ScoreSettings(replicates=100, ceiling_splits=10)


def some_rows():
    """Three outcomes, one of them on another scale, and training answers in the first study."""
    rows, true = population(studies=2, arms=3, tasks=3, people=45, seed=2)
    wide = pl.when(pl.col("task_num") == 2).then(9).otherwise(7).cast(pl.Int64)
    rows = rows.with_columns(scale_high=wide)
    keys = ["study_id", "condition_num", "task_num", "scale_low", "scale_high", "response"]
    train = rows.filter(study_id="study0").group_by(keys).agg(pl.len().alias("count"))
    return rows, true, check_train(train.with_columns(condition_num=pl.lit(7, pl.Int64)))


def test_a_drawn_control_is_what_making_it_of_the_drawn_people_gives():
    rows, true, train = some_rows()
    seed = 5
    work = work_on(evaluated(rows, exact(rows, true)), train, FEW, seed)
    for replicate in (0, 40):
        times = []
        for study in range(2):
            drawn = np.empty(45)
            draw_people(drawn, np.uint64(seed), study, replicate)
            times.append(drawn)
        person = rows["participant"].to_numpy()
        weight = np.stack(times)[(rows["study_id"] == "study1").cast(pl.Int64).to_numpy(), person]
        there = weight > 0
        weighted = rows.with_columns(weight=pl.Series(weight)).filter(pl.Series(there))
        again = work_on(evaluated(weighted, exact(weighted, true[there])), train, FEW, seed)
        made = controls(again.evaluated.everyone, again.evaluated.cells, train)
        for name in CONTROLS:
            scored = control_groups(again.cells, made[name])
            for metric in METRICS:
                expected = again.studies.means(scored.values[metric])
                found = work.control_people[name][metric][replicate]
                assert found == pytest.approx(expected, nan_ok=True), (name, metric)


def test_one_study_shows_every_control_with_an_interval_over_people():
    rows, true, train = some_rows()
    one = rows.filter(study_id="study0")
    scores = cell_scores(work_on(evaluated(one, exact(one, true[: len(one)])), train, FEW, 0))
    for name in CONTROLS:
        distance = scores["controls"][name]["wasserstein_observed"]
        assert distance.over == "people", name
        assert distance.low_people < distance.value < distance.high_people, name


def test_equal_seeds_draw_equal_people():
    rows, true, train = some_rows()
    work = work_on(evaluated(rows, exact(rows, true)), train, FEW, 3)
    again = control_people(work.controls, work.cells, work.paired, work.studies, 100, 3)
    for name in CONTROLS:
        assert np.array_equal(again[name]["crps"], work.control_people[name]["crps"], equal_nan=True)
