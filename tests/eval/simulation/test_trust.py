"""Calibration: slope, discrepancy, and the coverage of intervals."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from eval.scoring.record import read_scores
from eval.simulation.trust import Pairs, fit, measure_coverage, pairs_of
from tests.helpers import evaluation
from tests.helpers.evaluation import CELLS


def simulated(rng, studies=20, pairs=6, slope=0.5, discrepancy=0.2, **other) -> Pairs:
    """Pairs whose slope and discrepancy (in sds) are known; effects in answer units.

    se: of observed effects; noise: of predicted ones; shared: correlation of these errors, because people are
    shared; spread: people's standard deviation over the model's.
    """
    se, noise, shared, spread = (other.get(name, default) for name, default in OTHER.items())
    size, sd = studies * pairs, 2.0
    true = rng.normal(0, 0.6, size)
    both = shared * se * noise
    errors = rng.multivariate_normal([0, 0], [[se**2, both], [both, noise**2]], size)
    observed = slope * true + rng.normal(0, discrepancy, size) + errors[:, 0]
    difference = np.sqrt(se**2 + noise**2 - 2 * both)
    constants = (np.full(size, one) for one in (sd * se, sd * noise, sd * difference, sd, spread))
    names = np.repeat([f"s{i:02d}" for i in range(studies)], pairs)
    return Pairs(names, sd * observed, sd * (true + errors[:, 1]), *constants)


OTHER = {"se": 0.1, "noise": 0.0, "shared": 0.0, "spread": 1.0}


def averages(**truth) -> tuple[float, float]:
    """Mean slope and discrepancy of 60 fits."""
    fits = [fit(simulated(np.random.default_rng(seed), **truth)) for seed in range(60)]
    return np.mean([one.slope for one in fits]), np.mean([one.discrepancy for one in fits])


def test_slope_and_discrepancy_are_recovered():
    fits = [fit(simulated(np.random.default_rng(seed))) for seed in range(40)]
    assert np.mean([one.slope for one in fits]) == pytest.approx(0.5, abs=0.02)
    assert np.mean([one.discrepancy for one in fits]) == pytest.approx(0.2, abs=0.02)


@pytest.mark.parametrize("slope", [0.7, 1.0])
@pytest.mark.parametrize("noise", [0.08, 0.15, 0.26])  # of 100, 30 and 10 people an arm who are sampled once
def test_noise_of_the_predictions_does_not_look_like_over_reaction(slope, noise):
    """Uncorrected, the slope would be 0.36 / (0.36 + noise^2) times the true one: 0.84 at the largest."""
    learned, discrepancy = averages(slope=slope, noise=noise, se=noise, discrepancy=0.1)
    assert learned == pytest.approx(slope, abs=0.03)  # three standard errors of 60 fits
    assert discrepancy == pytest.approx(0.1, abs=0.04)


def test_people_who_are_in_both_sides_errors_hide_no_discrepancy():
    learned, discrepancy = averages(slope=1.0, noise=0.12, se=0.15, shared=0.8, discrepancy=0.1)
    assert learned == pytest.approx(1.0, abs=0.02)
    assert discrepancy == pytest.approx(0.1, abs=0.015)


@pytest.mark.parametrize("spread", [0.5, 1.0, 1.6])
@pytest.mark.parametrize("noise", [0.0, 0.15])
def test_intervals_cover_with_the_errors_that_a_simulation_states(spread, noise):
    """A simulation knows the model's spread only: without the ratio, half of it covers 75% instead of 95%."""
    covered, stated = [], []
    for seed in range(60):
        rng = np.random.default_rng(seed)
        truth = {"se": 0.3, "noise": noise, "spread": spread, "discrepancy": 0.1, "slope": 0.7}
        evaluated, new = simulated(rng, **truth), simulated(rng, 4, **truth)
        learned = fit(evaluated)
        assert learned.spread_ratio == pytest.approx(spread)
        error = learned.error(new.observed_se[0] / spread, new.predicted_se[0])
        _, low, high = learned.interval(new.predicted, new.sd, error)
        covered.append(np.mean((new.observed >= low) & (new.observed <= high)))
        stated.append(measure_coverage(evaluated).calibrated)
    assert np.mean(covered) == pytest.approx(0.95, abs=0.02)  # three standard errors of 1,440 pairs
    assert np.mean(stated) == pytest.approx(np.mean(covered), abs=0.02)


def test_thousands_of_pairs_all_count_and_none_is_chosen():
    """The 5,000 clearest of these would give a slope of 0.9 and a discrepancy of 0.25."""
    learned = fit(simulated(np.random.default_rng(0), 40, 330, se=0.5, discrepancy=0.1))
    assert learned.slope == pytest.approx(0.5, abs=0.03)
    assert learned.discrepancy == pytest.approx(0.1, abs=0.05)


def test_predictions_that_are_only_noise_are_shrunken_to_nothing():
    rng = np.random.default_rng(0)
    pairs = simulated(rng, noise=0.2)
    nothing = replace(pairs, predicted=rng.normal(0, 0.4, len(pairs)))
    assert fit(nothing).slope == 0


def test_studies_whose_predictions_hardly_vary_do_not_blow_up_the_ratio_of_spreads():
    pairs = simulated(np.random.default_rng(0))
    collapsed = np.where(pairs.study == "s00", 1e6, 1.0)
    assert fit(replace(pairs, spread=collapsed)).spread_ratio == pytest.approx(1.05, abs=0.01)


def test_the_slopes_stated_error_is_its_real_one():
    fits = [fit(simulated(np.random.default_rng(seed))) for seed in range(60)]
    assert np.mean([one.slope_se for one in fits]) == pytest.approx(
        np.std([one.slope for one in fits]), rel=0.3
    )


def test_calibrated_intervals_cover_held_out_studies_and_sampling_error_alone_does_not():
    coverages = [measure_coverage(simulated(np.random.default_rng(seed))) for seed in range(15)]
    assert 0.92 <= np.mean([one.calibrated for one in coverages]) <= 0.99
    assert np.mean([one.sampling for one in coverages]) < 0.6


def dependent(rng, studies, pairs) -> Pairs:
    """A study's pairs all share one discrepancy."""
    without = simulated(rng, studies, pairs, discrepancy=0.0)
    shared = np.repeat(rng.normal(0, 0.2, studies), pairs) * without.sd
    return replace(without, observed=without.observed + shared)


@pytest.mark.parametrize("kind", [simulated, dependent])
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
    learned = fit(simulated(np.random.default_rng(0), studies=40, slope=1.0, discrepancy=0.0))
    assert learned.slope == pytest.approx(1, abs=0.05)
    assert learned.discrepancy < 0.05


def test_a_model_that_is_wrong_about_signs_is_shrunken_to_nothing():
    learned = fit(simulated(np.random.default_rng(0), slope=-0.5))
    assert learned.slope == 0
    assert learned.interval(1.0, 1.0, 0.1)[0] == 0


def test_which_arm_comes_first_changes_nothing():
    pairs = simulated(np.random.default_rng(0))
    sign = np.where(np.arange(len(pairs)) % 2, 1, -1)
    turned = replace(pairs, observed=sign * pairs.observed, predicted=sign * pairs.predicted)
    assert fit(turned).slope == pytest.approx(fit(pairs).slope)
    assert fit(turned).discrepancy == pytest.approx(fit(pairs).discrepancy)


def test_a_study_with_many_pairs_counts_no_more_than_another():
    one = simulated(np.random.default_rng(0), studies=6)
    again = np.concatenate([np.arange(len(one))] + [np.flatnonzero(one.study == "s00")] * 9)
    assert fit(one.where(again)).slope == pytest.approx(fit(one).slope)


def test_too_few_studies_give_no_calibration_and_no_coverage():
    assert fit(simulated(np.random.default_rng(0), studies=2)) is None
    three = simulated(np.random.default_rng(0), studies=3)
    assert fit(three) is not None
    assert measure_coverage(three) is None  # without each study only two are left


PAIR = {"study_id": "tax", "task_num": 0, "condition_a": 0, "condition_b": 1, "observed": 1.0,
        "predicted": 2.0, "observed_se": 0.1, "predicted_se": 0.0, "difference_se": 0.1}  # fmt: skip


def pairs_in(folder, *pairs) -> Pairs:
    return pairs_of(read_scores(evaluation.write(folder, CELLS, pl.DataFrame(pairs))))


def test_pairs_come_from_the_scores_in_units_of_the_predicted_spread(tmp_path):
    pairs = pairs_in(tmp_path, PAIR, PAIR | {"observed_se": None}, PAIR | {"observed_se": 0.0})
    assert len(pairs) == 1
    assert pairs.sd[0] == pytest.approx(np.sqrt(5))  # root mean square of 1 and 3
    assert pairs.spread[0] == pytest.approx(2)


def test_the_codes_of_a_choice_teach_nothing(tmp_path):
    assert len(pairs_in(tmp_path, PAIR | {"study_id": "war", "condition_b": 0})) == 0


def test_an_evaluation_without_arms_teaches_nothing(tmp_path):
    assert len(pairs_of(read_scores(evaluation.write(tmp_path, CELLS, pl.DataFrame())))) == 0
