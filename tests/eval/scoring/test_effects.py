"""Treatment effects, against plain formulas and models whose effects are known."""

import numpy as np
import polars as pl
import pytest

from eval.scoring.contrasts import contrasts, design
from eval.scoring.effects import SUMS, agreement, effect_scores, half_samples
from eval.scoring.estimates import Studies
from eval.settings import ScoreSettings
from tests.helpers.scored_samples import evaluated, exact, population, sampled

SETTINGS = ScoreSettings(replicates=200)


def pairs_of(rows, probs):
    return contrasts(design(evaluated(rows, exact(rows, probs))))


def scored(rows, probs, mode=exact):
    return effect_scores(evaluated(rows, mode(rows, probs)), None, SETTINGS, 0)[0]


def test_a_difference_in_means_and_its_standard_error_are_the_textbooks():
    rows, true = population(studies=1, tasks=1, arms=2, people=80)
    pair = pairs_of(rows, true).row(0, named=True)
    a, b = (rows.filter(condition_num=arm)["response"] for arm in (0, 1))
    assert pair["observed"] == pytest.approx(b.mean() - a.mean())
    assert pair["observed_se"] == pytest.approx(np.sqrt(a.var() / 40 + b.var() / 40))
    assert pair["sd"] == pytest.approx(np.sqrt((a.var() + b.var()) / 2))


def test_people_who_are_in_both_arms_are_compared_with_themselves():
    rows, true = population(studies=1, tasks=2, arms=1, people=60)
    both = rows.with_columns(condition_num="task_num", task_num=pl.lit(0, pl.Int64))
    pair = pairs_of(both, true).row(0, named=True)
    wide = both.pivot(on="condition_num", index="participant", values="response")
    difference = wide["1"] - wide["0"]
    assert pair["observed_se"] == pytest.approx(difference.std() / np.sqrt(60))


def test_a_perfect_model_gets_effects_right():
    rows, true = population(studies=8, people=300, seed=3)
    model = scored(rows, true).model
    assert model["correlation_corrected"].value == pytest.approx(1, abs=0.05)
    assert model["sign_agreement_clear"].value == 1
    assert model["slope"].value == pytest.approx(1, abs=0.1)
    assert model["magnitude_ratio"].value == pytest.approx(1, abs=0.1)
    assert 0.8 <= model["coverage_90"].value <= 1
    assert model["best_arm_hit"].value > 2 * model["best_arm_chance"].value
    assert model["best_arm_regret"].value < 0.05


def test_a_model_that_over_reacts_is_found_out_and_shrinkage_repairs_it():
    rows, true = population(studies=8, people=300, seed=3)
    means = true @ np.arange(1, 8)
    key = rows.select(group=pl.struct("study_id", "task_num").rank("dense"))["group"].to_numpy()
    centre = (np.bincount(key, means) / np.maximum(np.bincount(key), 1))[key]
    target = np.clip(centre + 1.6 * (means - centre), 1.01, 6.99)
    probs = np.zeros((len(rows), 7))
    lower = np.floor(target).astype(int)
    probs[np.arange(len(rows)), lower - 1] = lower + 1 - target
    probs[np.arange(len(rows)), lower] = target - lower
    model = scored(rows, probs).model
    assert model["magnitude_ratio"].value == pytest.approx(1.6, rel=0.1)
    assert model["slope"].value == pytest.approx(1 / 1.6, rel=0.1)
    assert model["rmse_std_shrunk"].value < model["rmse_std"].value
    assert model["sign_agreement_clear"].value == 1


def test_a_model_blind_to_conditions_has_no_correlation_and_says_why():
    rows, true = population(studies=3)
    model = scored(rows, np.full_like(true, 1 / 7)).model
    assert model["correlation"].value is None
    assert "zero" in model["correlation"].reason
    assert model["sign_agreement"].value == 0.5
    assert model["best_arm_hit"].value == pytest.approx(model["best_arm_chance"].value)
    assert model["slope"].value is None and "no effect predicted" in model["slope"].reason


def test_predicted_effects_that_are_only_noise_have_no_slope():
    rows, true = population(studies=6, people=60, seed=3)
    slope = scored(rows, np.full_like(true, 1 / 7), sampled).model["slope"]
    assert slope.value is None and "no larger than their noise" in slope.reason


def test_a_corrected_correlation_is_limited_to_one_and_says_so():
    """Noise of 0.3 taken off a spread of 1.1 gives 1.07."""
    ones = {"op": 1.0, "oo": 1.1, "pp": 1.1, "noise_o": 0.3}
    sums = {name: np.full(6, ones.get(name, 0.0)) for name in SUMS}
    found = agreement(sums, 12, Studies.of([f"s{k}" for k in range(6)], 50, 0))
    for name in ("correlation_corrected", "correlation_disattenuated"):
        assert found[name].value == 1 and "limited to 1" in found[name].reason
        assert found[name].high <= 1
    assert found["correlation"].value < 1 and found["correlation"].reason is None


@pytest.mark.parametrize(("people", "draws", "tolerance"), [(10, 12, 0.12), (30, 6, 0.06), (100, 3, 0.06)])
def test_a_perfect_model_sampled_once_does_not_over_react_however_few_people_there_are(
    people, draws, tolerance
):
    """Tolerances: two standard errors of so many draws. Uncorrected, ten people give 0.5, thirty 0.75."""
    slopes = []
    for draw in range(draws):
        rows, true = population(studies=20, arms=3, people=3 * people, seed=3, draw=draw)
        few = ScoreSettings(replicates=100)
        record = effect_scores(evaluated(rows, sampled(rows, true, draw)), None, few, 0)[0]
        slopes.append(record.model["slope"].value)
    assert np.mean(slopes) == pytest.approx(1, abs=tolerance)


def test_one_half_predicts_lucky_contrasts_by_chance_only():
    """Effects of 0.03 sd, 30 people an arm: contrasts that look clear are lucky. A half that was chosen
    together with the half that it predicts would get 99.9% of them right; alone it gets a half."""
    agree, clear = 0.0, 0.0
    for draw in range(5):
        rows, true = population(studies=5, arms=3, tasks=40, people=90, seed=3)
        base = true.mean(0)
        rng = np.random.default_rng(draw)
        shift = rng.normal(0, 0.02, (5, 40, 3))[study_of(rows), rows["task_num"], rows["condition_num"]]
        shares = base * np.exp(shift[:, None] * np.arange(-3, 4))
        shares /= shares.sum(1, keepdims=True)
        rows = rows.with_columns(
            response=pl.Series(1 + (shares.cumsum(1) < rng.random((len(rows), 1))).sum(1).clip(0, 6))
        )
        arms = design(evaluated(rows, exact(rows, shares)))
        sums = half_samples(arms, Studies.of(contrasts(arms)["study_id"].to_list(), 10, 0), draw)
        agree, clear = agree + sums["agree_clear"].sum(), clear + sums["clear"].sum()
    assert clear > 0
    assert agree / clear == pytest.approx(0.5, abs=0.15)


def study_of(rows):
    return rows["study_id"].str.tail(1).cast(pl.Int64).to_numpy()


def test_half_of_the_people_are_a_lower_bound_of_a_perfect_model():
    rows, true = population(studies=20, people=90, seed=3)
    record = effect_scores(evaluated(rows, exact(rows, true)), None, SETTINGS, 0)[0]
    for name in ("correlation", "sign_agreement", "sign_agreement_clear"):
        assert record.half_sample[name].value <= record.model[name].value, name


def test_half_of_the_people_predict_the_other_half_well_but_not_perfectly():
    rows, true = population(studies=8, people=300, seed=3)
    half = scored(rows, true).half_sample
    assert 0.5 < half["correlation"].value < 1
    assert half["sign_agreement_clear"].value > 0.9
    assert 0.75 <= half["coverage_90"].value <= 1


def test_arms_with_different_scales_are_left_out_and_counted():
    rows, true = population(studies=1, tasks=1, arms=3)
    high = pl.when(pl.col("condition_num") == 2).then(9).otherwise(7).cast(pl.Int64)
    changed = rows.with_columns(scale_high=high)
    effects = design(evaluated(changed, exact(changed, true)))
    assert len(effects.pairs) == 1
    assert effects.left_out == {"the arms state different scales": 2}


def test_one_arm_gives_no_contrast_and_a_reason():
    rows, true = population(studies=2, arms=1)
    scores = scored(rows, true)
    assert scores.contrasts == 0
    assert "two arms" in scores.model["correlation"].reason
    assert "two arms" in scores.model["best_arm_hit"].reason
