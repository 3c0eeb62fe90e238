"""Gaps between groups: found where they are, and not invented where groups are merely small."""

import numpy as np
import polars as pl
import pytest

from eval.scoring.gaps import Compared, parity
from eval.scoring.model import work_on
from eval.scoring.subgroups import People, group_labels, subgroup_scores
from eval.settings import ScoreSettings
from tests.helpers.scored_samples import evaluated, exact, population

FEW = ScoreSettings(replicates=100, ceiling_splits=20)


def subgroups(rows, probs):
    work = work_on(evaluated(rows, exact(rows, probs)), None, FEW, 0)
    return subgroup_scores(People(work.evaluated, work.cells, work.paired, work.studies, FEW, 0))


def women(rows):
    return (rows["participant"].to_numpy() % 2 == 1)[:, None]


def test_a_model_that_is_wrong_about_one_group_shows_the_gap():
    rows, true = population(studies=5, people=300, seed=1)
    wrong = np.where(women(rows), true[:, ::-1], true)
    shown = subgroups(rows, wrong)
    gap = shown.largest_gap
    assert (gap.field, gap.highest, gap.lowest) == ("gender", "Male", "Female")
    assert 0 < gap.low <= gap.value <= gap.high
    groups = {block.group: block for block in shown.fields["gender"].groups}
    assert groups["Female"].excess_observed.value > 0.05
    assert abs(groups["Male"].excess_observed.value) < 0.02
    assert shown.effects["gender"]["Male"].correlation.value > 0.8


def test_a_perfect_model_has_no_excess_in_a_small_group_though_its_distance_is_larger():
    rows, true = population(studies=5, people=400, seed=2)
    rare = pl.when(pl.col("participant") % 5 == 0).then(pl.lit("rare")).otherwise(pl.lit("common"))
    rows = rows.with_columns(demographic=pl.struct(gender=rare))
    groups = {block.group: block for block in subgroups(rows, true).fields["gender"].groups}
    distance = {name: block.wasserstein_stated.value for name, block in groups.items()}
    assert distance["rare"] > 1.4 * distance["common"]
    for block in groups.values():
        assert abs(block.excess_observed.value) < 0.01


def test_stereotypes_show_as_a_predicted_gap_that_people_do_not_have():
    rows, true = population(studies=5, people=300, seed=3)
    tilt = np.where(women(rows), 0.3, -0.3) * np.arange(-3, 4)
    probs = true * np.exp(tilt)
    shown = subgroups(rows, probs / probs.sum(1, keepdims=True)).fields["gender"]
    assert shown.parity_prediction.highest == "Female"
    assert shown.parity_prediction.value > 0.2
    assert abs(shown.parity_prediction_human.value) < 0.05


def test_one_study_has_intervals_over_people_for_its_groups_effects_and_differences():
    """Women react to an arm, men don't: the model knows it."""
    rows, true = population(studies=1, arms=3, tasks=3, people=600, seed=3)
    reacts = np.where(women(rows)[:, 0] & (rows["condition_num"].to_numpy() == 1), 0.5, 0.0)
    probs = true.mean(0) * np.exp(reacts[:, None] * np.arange(-3, 4))
    probs /= probs.sum(1, keepdims=True)
    drawn = np.random.default_rng(0).random((len(rows), 1))
    rows = rows.with_columns(response=pl.Series(1 + (probs.cumsum(1) < drawn).sum(1).clip(0, 6)))
    shown = subgroups(rows, probs)
    effect = shown.effects["gender"]["Female"].magnitude_ratio
    assert effect.over == "people" and effect.low_people <= 1 <= effect.high_people
    assert "only one study" in effect.reason
    slope = shown.interactions["gender"].slope
    assert slope.over == "people" and slope.low_people <= 1 <= slope.high_people
    assert slope.high_people - slope.low_people < 1.5
    for block in shown.fields["gender"].groups:
        for name in ("wasserstein_observed", "wasserstein_stated", "accuracy_observed", "excess_observed"):
            assert getattr(block, name).over == "people", name


def test_options_of_a_choice_have_no_place_so_their_predicted_gap_is_not_computed():
    rows, true = population(studies=2, people=100)
    choice = rows.with_columns(scale_kind=pl.lit("choice"))
    shown = subgroups(choice, true).fields["gender"]
    assert shown.parity_prediction.value is None and shown.parity_prediction_human.value is None
    assert shown.parity_accuracy.value is not None


def test_a_field_without_two_groups_says_so():
    rows, true = population(studies=2, people=100)
    shown = subgroups(rows, true).fields["party_id"]
    assert shown.groups == []
    assert "0 groups" in shown.reason
    assert shown.parity_accuracy.reason


@pytest.mark.parametrize(
    ("age", "band"), [(18, "18-29"), (30, "30-44"), (99, "75-120"), (7, None), (None, None)]
)
def test_ages_form_bands(age, band):
    assert group_labels(pl.Series("age", [age], pl.Int64)).to_list() == [band]


def test_a_resample_without_one_of_two_groups_says_nothing_of_chance():
    people = np.array([[0.1, -0.1], [np.nan, np.nan], [0.3, -0.3]])
    field = Compared([("a", "b"), ("b", "a")], np.array([0.2, -0.2]), np.array([5, 5]), people, people)
    judged = parity({"age": field})
    assert judged.by_chance == pytest.approx(0.1) and judged.p == pytest.approx(1 / 3)
