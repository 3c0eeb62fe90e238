"""The rows of results: what they hold, and what they leave empty."""

import numpy as np
import polars as pl
import pytest

from common.experiment import make_experiment
from eval.simulation.effects import Answers, arm_means, effect
from eval.simulation.population import People
from eval.simulation.record import EffectRow, SimulationRecord, Tables, codebook, frame
from eval.simulation.tables import Simulated, analyse

SUPPORT = np.arange(1, 8)
FILE = {
    "arms": {"control": "", "cost": "It costs $300."},
    "outcomes": {"support": {"question": "Do you support it?", "scale": {"low": 1, "high": 7}}},
    "design": {"people_per_arm": 60},
}


def answers(people: int = 200, seed: int = 0) -> Answers:
    """Everybody in both arms with answers of their own; the second arm answers higher."""
    rng = np.random.default_rng(seed)
    person, arm = np.repeat(np.arange(people), 2), np.tile(np.arange(2), people)
    logits = rng.normal(0, 1, (people, 7))[person] + 0.3 * arm[:, None] * (SUPPORT - 4)
    probs = np.exp(logits)
    probs = (probs / probs.sum(axis=1, keepdims=True)).astype(np.float32)
    return Answers(person, arm, 0 * arm, np.zeros(len(arm), bool), SUPPORT, probs)


def tables(**changes) -> Tables:
    parties = ["a"] * 150 + ["b"] * 40 + ["c"] * 10
    people = People(pl.DataFrame({"weight": np.ones(200), "party_id": parties}), 200)
    experiment = make_experiment(FILE | changes, "tax")
    return analyse(Simulated(experiment, people, {"support": answers()}), None)


def test_without_calibration_no_calibrated_number_is_given():
    (row,) = tables().effects
    assert {row.calibrated, row.calibrated_low, row.people_assured, row.assurance} == {None}
    assert row.no_calibration
    assert row.people_needed > 2
    assert row.conf_high - row.conf_low == pytest.approx(2 * 1.96 * row.std_error)


def test_effects_in_groups_are_those_of_the_groups_people_alone():
    results = tables(moderators=["party_id"])
    large, small, tiny = results.subgroups
    assert [large.group, small.group, tiny.group] == ["a", "b", "c"]
    among = answers().where(answers().person < 150)
    means = arm_means(among, SUPPORT.astype(float), np.ones(200), 2)
    alone = effect(means, np.array([-1.0, 1.0]), make_experiment(FILE, "tax").file.design)
    assert large.estimate == pytest.approx(alone.value)
    assert large.std_error > alone.se, "a group has only its share of the planned people"
    assert tiny.estimate is None and "fewer than" in tiny.reason


def test_frames_have_their_columns_without_rows_too():
    rows = tables().effects
    assert frame([], EffectRow).schema == frame(rows, EffectRow).schema
    assert frame([], EffectRow).schema["people_needed"] == pl.Int64


def test_every_column_of_every_table_has_a_meaning():
    meanings = codebook()
    assert meanings["meaning"].null_count() == 0
    columns = meanings.filter(pl.col("table") == "effects")["column"].to_list()
    assert {"estimate", "std.error", "conf.low", "conf.high"} <= set(columns)
    assert set(meanings["table"]) == {*Tables.model_fields, "respondents"}
    assert set(Tables.model_fields) < set(SimulationRecord.model_fields)
