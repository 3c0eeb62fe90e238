"""Who sees what, what they are asked, and how answers come back."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from common.errors import Refusal
from common.experiment import Experiment, load_experiment
from common.files import write_json
from common.prompts import SYSTEM_PROMPT, user_prompt
from eval.simulation.population import People
from eval.simulation.survey import (
    Style,
    assign,
    collect,
    evaluation_rows,
    prompt_style,
    respondents,
)
from tests.helpers.scored import MANIFEST

EXAMPLES = Path(__file__).parents[3] / "configs/experiments"
STYLE = Style(SYSTEM_PROMPT, "persona-first")


def example(name: str = "two-by-two") -> Experiment:
    return load_experiment(EXAMPLES / f"{name}.yaml")


def people(count: int) -> People:
    ages = pl.Series(range(18, 18 + count))
    frame = pl.DataFrame({"person": [f"s/{i}" for i in range(count)], "age": ages, "party_id": ["D"] * count})
    return People(frame.with_columns(weight=pl.lit(1.0)), count)


def predicted(rows: pl.DataFrame, shares: dict[int, float]) -> pl.DataFrame:
    table = [{"answers": list(shares), "probs": list(shares.values())}] * len(rows)
    return pl.DataFrame(table, schema={"answers": pl.List(pl.Int64), "probs": pl.List(pl.Float32)})


def test_arms_and_label_orders_are_balanced():
    asked = assign(example(), 103)
    assigned = asked.filter("assigned")
    counts = assigned.group_by("arm").len()["len"]
    assert len(assigned) == 103 and counts.max() - counts.min() <= 1
    orders = assigned.group_by("arm", "reversed").len()["len"]
    assert orders.max() - orders.min() <= 2
    assert len(asked) == 4 * 103  # everybody is simulated in every arm
    assert asked.group_by("person").agg(pl.col("reversed").n_unique())["reversed"].max() == 1


def test_within_subjects_each_person_sees_different_arms_at_random():
    asked = assign(example("rated-profiles"), 300)
    assert asked.group_by("person").len()["len"].to_list() == [5] * 300
    assert asked.group_by("person").agg(pl.col("arm").n_unique())["arm"].min() == 5
    counts = np.bincount(asked["arm"], minlength=72)
    assert counts.min() > 5 and counts.max() < 45  # 1500 / 72 = 21 on average


def test_people_answer_one_of_several_wordings_or_all_of_them(tmp_path):
    text = (EXAMPLES / "two-arm.yaml").read_text()
    text = text.replace("question: Would you vote for it?", "question: [Now, Later, Never]")
    (tmp_path / "one.yaml").write_text(text)
    one = assign(load_experiment(tmp_path / "one.yaml"), 300).filter(pl.col("outcome") == "vote")
    assert one.group_by("person", "arm").len()["len"].max() == 1
    assert one.group_by("person").agg(pl.col("wording").n_unique())["wording"].max() == 1
    assert one["wording"].value_counts()["count"].min() > 120
    (tmp_path / "all.yaml").write_text(
        text.replace("[Now, Later, Never]", "[Now, Later, Never]\n    wordings: all")
    )
    experiment = load_experiment(tmp_path / "all.yaml")
    every = assign(experiment, 20)
    votes = every.filter(pl.col("outcome") == "vote").group_by("person", "arm").agg("wording")
    assert votes["wording"].list.sort().to_list() == [[0, 1, 2]] * 40
    table = respondents(experiment, every, collect(experiment, every, predicted(every, {1: 1.0})), people(20))
    assert table.group_by("outcome").len().sort("outcome")["len"].to_list() == [20, 60, 20]


def test_the_same_seed_assigns_the_same():
    assert assign(example(), 50).equals(assign(example(), 50))


def test_prompts_are_those_of_training():
    experiment, who = example("two-arm"), people(12)
    asked = assign(experiment, 12)
    rows = evaluation_rows(experiment, asked, who.frame, STYLE)
    row = int(((asked["person"] == 3) & (asked["arm"] == 1) & (asked["outcome"] == "vote")).arg_true()[0])
    text = (
        "Here is a proposal: a tax on carbon. It would cost each household $300 a year. "
        "Would you vote for it? Only return an integer: 0 = no, 1 = yes, nothing else."
    )
    assert rows["prompt"][row] == user_prompt({"age": 21, "party_id": "D"}, text)
    assert rows.row(row, named=True)["scale_labels"] == [
        {"value": 0, "label": "no"},
        {"value": 1, "label": "yes"},
    ]
    assert rows["sample_id"].to_list() == list(range(len(asked)))


def test_the_prompt_order_is_that_of_the_data_set(tmp_path):
    assert prompt_style(tmp_path) == STYLE
    write_json(tmp_path / "manifest.json", MANIFEST | {"config": {"order": "stimulus-first"}})
    pl.DataFrame({"system": ["Be brief."]}).write_parquet(tmp_path / "eval.parquet")
    assert prompt_style(tmp_path) == Style("Be brief.", "stimulus-first")


def test_answers_to_reversed_labels_are_recoded():
    experiment = example()
    asked = assign(experiment, 40)
    answers = collect(experiment, asked, predicted(asked, {1: 0.9, 2: 0.1}))["support"]
    mean, _ = answers.moments(answers.support.astype(float))
    assert np.allclose(mean[~answers.reversed], 1.1)
    assert np.allclose(mean[answers.reversed], 6 - 1.1)


def test_failed_predictions_are_left_out_and_only_failures_refused():
    experiment = example("two-arm")
    asked = assign(experiment, 20)
    table = predicted(asked, {1: 1.0})
    failed = [[] if row % 2 else [1] for row in range(len(table))]
    some = table.with_columns(answers=pl.Series(failed, dtype=pl.List(pl.Int64)))
    some = some.with_columns(
        pl.when(pl.col("answers").list.len() > 0).then("probs").otherwise([]).alias("probs")
    )
    assert sum(len(one.arm) for one in collect(experiment, asked, some).values()) == len(asked) / 2
    with pytest.raises(Refusal, match="no usable answer to 'support'"):
        collect(experiment, asked, predicted(asked, {}))


def test_the_tidy_table_has_one_row_a_respondent_and_outcome_in_their_own_arm():
    experiment, who = example("two-arm"), people(50)
    asked = assign(experiment, 50)
    answers = collect(experiment, asked, predicted(asked, {0: 0.25, 1: 0.75}))
    table = respondents(experiment, asked, answers, who)
    assert len(table) == 150
    assert table.select("respondent", "outcome").n_unique() == 150
    assert table.group_by("respondent").agg(pl.col("arm").n_unique())["arm"].max() == 1
    assert set(table["answer"]) == {0, 1}
    assert table["expected"].to_list() == pytest.approx([0.75] * 150)
    assert 0.6 < table["answer"].mean() < 0.9
    assert table.equals(respondents(experiment, asked, answers, who))
    assert {"age", "party_id", "weight"} <= set(table.columns)
