"""Held-out studies, simulated with their own people and set beside what these answered."""

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from common.errors import Refusal
from eval.simulation.check import simulate_check
from eval.simulation.run import simulate
from tests.helpers import evaluation
from tests.helpers.simulated import SENTENCE

FOLDER = Path("outputs/sample/study/simulations")


def test_a_held_out_study_is_described_simulated_and_set_beside_its_answers(workplace):
    evaluation.overstating(Path("outputs/sample/study/eval/m"))
    check = simulate_check("m", folder=FOLDER)
    record = check.simulations["held1"].record
    text = (FOLDER / "held1/input/held1.yaml").read_text()
    assert "A tax that costs $300. Question 1?" in text
    assert record.stimuli[0].text.endswith(SENTENCE)
    for row in record.effects:
        assert row.contrast == "arm 1 - arm 0"
        assert row.observed == pytest.approx(-1, abs=0.5)
    assert record.people.simulated == 240
    inside = [row.calibrated_low <= row.observed <= row.calibrated_high for row in record.effects]
    assert f"coverage calibrated: {np.mean(inside):.1%}" in str(check)
    assert json.loads((FOLDER / "check.json").read_text())["observed"]["effects"] == 2
    assert "nothing to do" not in str(check)
    assert str(simulate_check("m", folder=FOLDER)).startswith("nothing to do")
    assert check.effects["study"].to_list() == ["held1"] * 2


def test_a_described_study_can_be_simulated_again_from_its_files(workplace):
    check = simulate_check("m", folder=FOLDER)
    inputs = FOLDER / "held1/input"
    answers = inputs / "answers.csv"
    again = simulate(inputs / "held1.yaml", "m", people=inputs / "people.csv", observed=answers)
    assert again.effects.equals(check.simulations["held1"].effects)


def test_effects_are_compared_with_the_truth_where_it_is_known(workplace):
    uniform = {"answers": list(range(1, 8)), "probs": [1 / 7] * 7, "n": 100}
    low = {"answers": list(range(1, 8)), "probs": [1.0, 0, 0, 0, 0, 0, 0], "n": 100}
    truth = pl.DataFrame(
        [
            {"study_id": "held1", "condition_num": arm, "task_num": task} | (low if arm else uniform)
            for arm in (0, 1)
            for task in (0, 1)
        ]
    )
    check = simulate_check("m", truth=truth)
    assert check.effects["true"].to_list() == pytest.approx([-3.0, -3.0])
    assert check.record.true.effects == 2 and "the truth of their population" in str(check)


def test_a_study_that_was_not_evaluated_is_refused(workplace):
    with pytest.raises(Refusal, match="has no study 'other'; it has held1"):
        simulate_check("m", studies=["other"])
