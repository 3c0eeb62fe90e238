"""Calibration: slope, discrepancy, coverage, and what an experiment is like."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from common.errors import Refusal
from common.files import write_json
from eval.simulation.trust import Pairs, compare, fit, load_pairs, measure_coverage


def made(rng, studies=20, pairs=6, slope=0.5, discrepancy=0.2, se=0.1, sd=2.0) -> Pairs:
    """Pairs whose slope and discrepancy (in sds) are known; effects in answer units."""
    size = studies * pairs
    predicted = rng.normal(0, 0.6, size)
    true = slope * predicted + rng.normal(0, discrepancy, size)
    return Pairs(
        np.repeat([f"s{i:02d}" for i in range(studies)], pairs),
        sd * (true + rng.normal(0, se, size)),
        np.full(size, sd * se),
        sd * predicted,
        np.full(size, sd),
    )


def test_slope_and_discrepancy_are_found_again():
    fits = [fit(made(np.random.default_rng(seed))) for seed in range(40)]
    assert np.mean([one.slope for one in fits]) == pytest.approx(0.5, abs=0.02)
    assert np.mean([one.discrepancy for one in fits]) == pytest.approx(0.2, abs=0.02)


def test_the_slopes_stated_error_is_its_real_one():
    fits = [fit(made(np.random.default_rng(seed))) for seed in range(60)]
    assert np.mean([one.slope_se for one in fits]) == pytest.approx(
        np.std([one.slope for one in fits]), rel=0.3
    )


def test_calibrated_intervals_cover_held_out_studies_and_sampling_error_alone_does_not():
    found = [measure_coverage(made(np.random.default_rng(seed))) for seed in range(15)]
    assert 0.92 <= np.mean([one.calibrated for one in found]) <= 0.99
    assert np.mean([one.sampling for one in found]) < 0.6


def dependent(rng, studies, pairs) -> Pairs:
    """A study's pairs all share one discrepancy."""
    without = made(rng, studies, pairs, discrepancy=0.0)
    shared = np.repeat(rng.normal(0, 0.2, studies), pairs) * without.sd
    return replace(without, observed=without.observed + shared)


@pytest.mark.parametrize("kind", [made, dependent])
@pytest.mark.parametrize(("studies", "pairs"), [(4, 6), (5, 20), (20, 6)])
def test_intervals_cover_new_experiments(kind, studies, pairs):
    covered = []
    for seed in range(80):
        rng = np.random.default_rng(seed)
        learned, new = fit(kind(rng, studies, pairs)), kind(rng, 4, pairs)
        _, low, high = learned.interval(new.predicted, new.sd, new.observed_se)
        covered.append(np.mean((new.observed >= low) & (new.observed <= high)))
    assert 0.9 <= np.mean(covered) <= 0.985


def test_a_perfect_model_has_slope_one_and_hardly_any_discrepancy():
    learned = fit(made(np.random.default_rng(0), studies=40, slope=1.0, discrepancy=0.0))
    assert learned.slope == pytest.approx(1, abs=0.05)
    assert learned.discrepancy < 0.05


def test_a_model_that_is_wrong_about_signs_is_shrunken_to_nothing():
    learned = fit(made(np.random.default_rng(0), slope=-0.5))
    assert learned.slope == 0
    assert learned.interval(1.0, 1.0, 0.1)[0] == 0


def test_which_arm_comes_first_changes_nothing():
    pairs = made(np.random.default_rng(0))
    sign = np.where(np.arange(len(pairs)) % 2, 1, -1)
    turned = Pairs(pairs.study, sign * pairs.observed, pairs.observed_se, sign * pairs.predicted, pairs.sd)
    assert fit(turned).slope == pytest.approx(fit(pairs).slope)
    assert fit(turned).discrepancy == pytest.approx(fit(pairs).discrepancy)


def test_a_study_with_many_pairs_counts_no_more_than_another():
    one = made(np.random.default_rng(0), studies=6)
    again = np.concatenate([np.arange(len(one))] + [np.flatnonzero(one.study == "s00")] * 9)
    assert fit(one.where(again)).slope == pytest.approx(fit(one).slope)


def test_too_few_studies_give_no_calibration_and_no_coverage():
    assert fit(made(np.random.default_rng(0), studies=2)) is None
    three = made(np.random.default_rng(0), studies=3)
    assert fit(three) is not None
    assert measure_coverage(three) is None  # without each study only two are left


CELLS = pl.DataFrame(
    {
        "study_id": ["tax", "tax", "gun", "war"],
        "condition_num": [0, 1, 0, 0],
        "task_num": [0, 0, 0, 0],
        "predicted_sd": [1.0, 3.0, 1.0, 1.0],
        "scale_kind": ["ordinal", "ordinal", "binary", "choice"],
        "stimuli": [
            "a carbon tax on gasoline prices",
            "a carbon tax",
            "background checks on guns",
            "troops abroad",
        ],
    }
)


def written(folder, pairs):
    write_json(folder / "scores.json", {"name": "m", "effects": {"pairs": pairs}})
    CELLS.write_parquet(folder / "cells.parquet")
    return folder


def test_pairs_come_from_the_scores_in_units_of_the_predicted_spread(tmp_path):
    pair = {
        "study_id": "tax",
        "task_num": 0,
        "condition_a": 0,
        "condition_b": 1,
        "observed": 1.0,
        "predicted": 2.0,
    }
    pairs, _, _ = load_pairs(written(tmp_path, [pair | {"observed_se": 0.1}, pair | {"observed_se": None}]))
    assert len(pairs) == 1
    assert pairs.sd[0] == pytest.approx(np.sqrt(5))  # root mean square of 1 and 3


def test_the_codes_of_a_choice_teach_nothing(tmp_path):
    pair = {
        "study_id": "war",
        "task_num": 0,
        "condition_a": 0,
        "condition_b": 0,
        "observed": 1.0,
        "predicted": 2.0,
    }
    assert len(load_pairs(written(tmp_path, [pair | {"observed_se": 0.1}]))[0]) == 0


def test_missing_scores_are_refused_with_the_command_that_makes_them(tmp_path):
    with pytest.raises(Refusal, match="make eval"):
        load_pairs(tmp_path)


NONE = Pairs(np.array([], dtype=str), *(np.empty(0) for _ in range(4)))


def test_the_nearest_study_is_the_one_about_the_same_thing():
    found = compare(["Would you pay a carbon tax?"], ["ordinal"], True, NONE, CELLS)
    assert found.nearest[0].study == "tax"
    assert found.nearest[0].similarity > found.nearest[1].similarity


def test_an_experiment_unlike_all_that_was_evaluated_is_warned_of():
    found = compare(["Zebra " * 40], ["bounded"], False, NONE, CELLS)
    text = " ".join(found.warnings)
    assert "characters" in text and "kind bounded" in text and "no demographic profile" in text
    assert not compare(["a carbon tax today"], ["ordinal"], True, NONE, CELLS).warnings
