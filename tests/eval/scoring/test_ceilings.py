"""A perfect model reaches the ceiling, with probabilities and with sampled answers."""

import numpy as np
import pytest

from eval.scoring.align import align, load_predictions, load_rows
from eval.scoring.ceilings import another_person, ceilings
from eval.scoring.controls import controls
from eval.scoring.groups import paired_rows, score_groups
from eval.scoring.model import score_model
from eval.settings import ScoreSettings
from tests.helpers.scored_samples import exact, population, sampled

FEW = ScoreSettings(replicates=200, ceiling_splits=40)


def aligned(tmp_path, rows, predictions):
    rows.write_parquet(tmp_path / "eval.parquet")
    predictions.write_parquet(tmp_path / "predictions.parquet")
    loaded = load_rows(tmp_path / "eval.parquet", "")
    return loaded, align(loaded, load_predictions(tmp_path / "predictions.parquet", ""), "model")


@pytest.mark.parametrize("mode", [exact, sampled])
def test_a_perfect_models_corrected_skill_is_one_within_its_interval(tmp_path, mode):
    rows, true = population(studies=6, people=300, seed=5)
    loaded, found = aligned(tmp_path, rows, mode(rows, true))
    skill = score_model(loaded, found, None, FEW, 0, whole=False).report["skill"]["wasserstein_observed"]
    for kind in ("corrected", "corrected_human"):
        assert skill[kind]["low"] <= 1 <= skill[kind]["high"]
        assert abs(skill[kind]["value"] - 1) < 0.06
    assert skill["raw"]["value"] > 1.1  # naive split halves flatter: that is why they are corrected


def test_a_uniform_guess_has_skill_zero_in_both_modes(tmp_path):
    rows, true = population(studies=3, people=200)
    for mode in (exact, sampled):
        loaded, found = aligned(tmp_path, rows, mode(rows, np.full_like(true, 1 / 7)))
        report = score_model(loaded, found, None, FEW, 0, whole=False).report
        assert abs(report["skill"]["wasserstein_stated"]["corrected"]["value"]) < 0.03


def test_one_and_a_root_of_two_and_two(tmp_path):
    """With n people a cell: exact probabilities 1, one sampled answer each 1.41, naive split halves 2."""
    rows, true = population(studies=60, arms=3, tasks=3, people=150, seed=2)
    distance, halves, corrected = {}, {}, {}
    for mode in (exact, sampled):
        loaded, found = aligned(tmp_path, rows, mode(rows, true))
        of_controls = controls(loaded, found.cells, None)
        uniforms = of_controls["uniform_observed"], of_controls["uniform_stated"]
        scores = score_groups(found, "cell", uniforms)
        ceiling = ceilings(paired_rows(found, scores, uniforms), found.rows["n_draws"].to_numpy(), 60, 0)
        distance[mode] = scores.values["wasserstein_stated"].mean()
        halves[mode] = ceiling.split_half_raw[:, 1].mean()
        kinds = ceiling.split_half_corrected, ceiling.bootstrap_corrected, ceiling.paired
        corrected[mode] = [part[:, 1].mean() for part in kinds]
    assert distance[sampled] / distance[exact] == pytest.approx(2**0.5, rel=0.08)
    assert halves[exact] / distance[exact] == pytest.approx(2, rel=0.08)
    for mode in (exact, sampled):
        assert corrected[mode] == pytest.approx([distance[mode]] * 3, rel=0.1)


def test_a_model_that_knows_each_person_is_held_to_its_own_smaller_noise(tmp_path):
    """Half the people answer low, half high; who knows them has less noise than two samples of strangers."""
    rows, _ = population(studies=8, people=200, seed=4)
    low, high = np.array([0.5, 0.3, 0.2, 0, 0, 0, 0]), np.array([0, 0, 0, 0, 0.2, 0.3, 0.5])
    personal = np.where((rows["participant"].to_numpy() % 4 < 2)[:, None], low, high)
    draws = np.random.default_rng(9).random((len(rows), 1))
    rows = rows.with_columns(response=1 + (personal.cumsum(1) < draws).sum(1).clip(0, 6))
    loaded, found = aligned(tmp_path, rows, exact(rows, personal))
    report = score_model(loaded, found, None, FEW, 0, whole=False).report
    skill = report["skill"]["wasserstein_stated"]
    own, human = (
        report["ceiling"][kind]["wasserstein_stated"] for kind in ("paired", "split_half_corrected")
    )
    assert own["value"] < 0.8 * human["value"]
    assert skill["corrected"]["low"] <= 1 <= skill["corrected"]["high"]
    assert skill["corrected_human"]["value"] > skill["corrected"]["value"]


def test_another_persons_answer_is_as_accurate_as_counting_pairs_says():
    answers = np.array([1, 1, 2, 5, 7])
    support, counts = np.unique(answers, return_counts=True)
    ranges = np.array([[1.0, 7, 1, 7]])
    found = another_person(np.array([0, len(support)]), support, counts.astype(float), ranges)[0]
    pairs = [(a, b) for i, a in enumerate(answers) for j, b in enumerate(answers) if i != j]
    assert found[0] == pytest.approx(np.mean([1 - abs(a - b) / 6 for a, b in pairs]))
    assert found[2] == pytest.approx(np.mean([a == b for a, b in pairs]))
