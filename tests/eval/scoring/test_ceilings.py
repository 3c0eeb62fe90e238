"""A perfect model reaches the ceiling, with probabilities and with sampled answers."""

import numpy as np
import polars as pl
import pytest

from eval.scoring.ceilings import ceilings
from eval.scoring.model import cell_scores, work_on
from eval.settings import ScoreSettings
from tests.helpers.scored_samples import evaluated, exact, population, sampled

FEW = ScoreSettings(replicates=200, ceiling_splits=40)


def scored(rows, predictions):
    return cell_scores(work_on(evaluated(rows, predictions), None, FEW, 0))


@pytest.mark.parametrize("mode", [exact, sampled])
def test_a_perfect_models_corrected_skill_is_one_within_its_interval(mode):
    rows, true = population(studies=6, people=300, seed=5)
    skill = scored(rows, mode(rows, true))["skill"]["wasserstein_observed"]
    for kind in ("corrected", "corrected_human"):
        low, high = getattr(skill, kind).over_studies
        assert low <= 1 <= high
        assert abs(getattr(skill, kind).value - 1) < 0.06
    assert skill.raw.value > 1.1  # naive split halves flatter: that is why they are corrected


def test_a_uniform_guess_has_skill_zero_in_both_modes():
    rows, true = population(studies=3, people=200)
    for mode in (exact, sampled):
        scores = scored(rows, mode(rows, np.full_like(true, 1 / 7)))
        assert abs(scores["skill"]["wasserstein_stated"].corrected.value) < 0.03


def test_one_and_a_root_of_two_and_two():
    """With n people a cell: exact probabilities 1, one sampled answer each 1.41, naive split halves 2."""
    rows, true = population(studies=60, arms=3, tasks=3, people=150, seed=2)
    distance, halves, corrected = {}, {}, {}
    for mode in (exact, sampled):
        work = work_on(evaluated(rows, mode(rows, true)), None, ScoreSettings(replicates=100), 0)
        ceiling = ceilings(work.paired, work.cells.draws, 60, 0)
        distance[mode] = work.cells.values["wasserstein_stated"].mean()
        halves[mode] = ceiling.split_half_raw[:, 1].mean()
        kinds = ceiling.split_half_corrected, ceiling.bootstrap_corrected, ceiling.paired
        corrected[mode] = [part[:, 1].mean() for part in kinds]
    assert distance[sampled] / distance[exact] == pytest.approx(2**0.5, rel=0.08)
    assert halves[exact] / distance[exact] == pytest.approx(2, rel=0.08)
    for mode in (exact, sampled):
        assert corrected[mode] == pytest.approx([distance[mode]] * 3, rel=0.1)


def test_a_model_that_knows_each_person_is_held_to_its_own_smaller_noise():
    """Half the people answer low, half high; who knows them has less noise than two samples of strangers."""
    rows, _ = population(studies=8, people=200, seed=4)
    low, high = np.array([0.5, 0.3, 0.2, 0, 0, 0, 0]), np.array([0, 0, 0, 0, 0.2, 0.3, 0.5])
    personal = np.where((rows["participant"].to_numpy() % 4 < 2)[:, None], low, high)
    draws = np.random.default_rng(9).random((len(rows), 1))
    rows = rows.with_columns(response=1 + (personal.cumsum(1) < draws).sum(1).clip(0, 6))
    scores = scored(rows, exact(rows, personal))
    skill = scores["skill"]["wasserstein_stated"]
    model, human = (
        getattr(scores["ceiling"], kind)["wasserstein_stated"].value
        for kind in ("paired", "split_half_corrected")
    )
    assert model < 0.8 * human
    low, high = skill.corrected.over_studies
    assert low <= 1 <= high
    assert skill.corrected_human.value > skill.corrected.value


def test_distances_without_order_have_no_ceiling_where_answers_are_as_many_as_people():
    """With 10 people and 7 answers total variation is near its end for any two samples."""
    few, many = (
        scored(rows, exact(rows, true))["ceiling"].split_half_corrected
        for rows, true in (population(studies=2, people=people) for people in (10, 300))
    )
    for name in ("total_variation", "jensen_shannon"):
        assert few[name].value is None and "too few for each answer" in few[name].reason
        assert many[name].value is not None
    assert few["wasserstein_observed"].value is not None


def test_another_persons_answer_is_as_accurate_as_counting_pairs_of_different_people_says():
    rows, true = population(studies=1, arms=1, tasks=2, people=20)
    twice = rows.with_columns(item_num="task_num", task_num=pl.lit(0, pl.Int64))  # everybody answers twice
    work = work_on(evaluated(twice, exact(twice, true)), None, FEW, 0)
    people = twice.select("participant", "response").rows()
    low, high = twice["response"].min(), twice["response"].max()
    pairs = [(a, b) for p, a in people for q, b in people if p != q]
    observed, stated, match = work.ceiling.another_person[0]
    assert observed == pytest.approx(np.mean([1 - abs(a - b) / (high - low) for a, b in pairs]))
    assert stated == pytest.approx(np.mean([1 - abs(a - b) / 6 for a, b in pairs]))
    assert match == pytest.approx(np.mean([a == b for a, b in pairs]))
