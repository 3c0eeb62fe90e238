"""Intervals and p-values against simulated data with a known truth. Slow, so part of the whole tests."""

import numpy as np
import polars as pl
import pytest

from eval.scoring.estimates import people_interval
from eval.scoring.gaps import compare_groups, largest_gap, parity
from eval.scoring.metrics import SHARE
from eval.scoring.model import work_on
from eval.scoring.subgroups import People, group_labels, group_means
from eval.settings import ScoreSettings
from tests.helpers.scored_samples import evaluated, exact, population

FEW = ScoreSettings(replicates=200, ceiling_splits=10)
pytestmark = pytest.mark.whole


def test_intervals_over_people_cover_though_each_person_answers_six_questions_alike():
    scored = []
    for draw in range(150):
        rows, true = population(studies=1, arms=1, tasks=6, people=40, seed=1)
        rng = np.random.default_rng([5, draw])
        habit = np.repeat(rng.normal(0, 0.5, 40), 6)[:, None] * np.arange(-3, 4)
        shares = true * np.exp(habit)
        shares /= shares.sum(1, keepdims=True)
        response = 1 + (shares.cumsum(1) < rng.random((len(shares), 1))).sum(1).clip(0, 6)
        rows = rows.with_columns(response=pl.Series(response))
        work = work_on(evaluated(rows, exact(rows, true)), None, FEW, draw)
        value = work.cells.values["accuracy_observed"].mean()
        scored.append((value, people_interval(value, work.people.studies["accuracy_observed"][:, 0], SHARE)))
    truth = np.mean([value for value, _ in scored])
    assert 0.9 <= np.mean([low <= truth <= high for _, (low, high) in scored]) <= 0.995


def test_where_no_group_differs_one_largest_gap_in_twenty_excludes_zero_and_parity_is_what_chance_gives():
    outcomes = []
    for draw in range(120):
        rows, true = population(studies=2, arms=1, tasks=4, people=150, seed=1, draw=draw)
        rng = np.random.default_rng(draw)
        person = rows["participant"].to_numpy() + 150 * (rows["study_id"] == "study1").to_numpy()
        fields = {f"f{k}": [f"g{x}" for x in rng.integers(0, 3 + k, 300)[person]] for k in range(3)}
        rows = rows.with_columns(demographic=pl.DataFrame(fields).to_struct("demographic"))
        work = work_on(evaluated(rows, exact(rows, true)), None, FEW, draw)
        people = People(work.evaluated, work.cells, work.paired, work.studies, FEW, draw)
        accuracy = {}
        for field in fields:
            labels = group_labels(work.evaluated.rows["demographic"].struct.field(field))
            names = sorted(labels.unique().to_list())
            of_row = np.array([names.index(label) for label in labels])
            means, resampled = group_means(people, of_row, len(names))
            accuracy[field] = compare_groups(names, means[..., 0], resampled[..., 0], work.studies)
        gap, mean_gap = largest_gap(accuracy), parity(accuracy)
        outcomes.append((gap.low_people > 0, gap.p <= 0.05, mean_gap.value, mean_gap.by_chance))
    excludes, small_p, value, by_chance = np.mean(outcomes, axis=0)
    assert excludes <= 0.12 and small_p <= 0.12
    assert value == pytest.approx(by_chance, rel=0.1)
