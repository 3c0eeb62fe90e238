"""Controls say what they claim to have seen, and no more."""

import polars as pl
import pytest

from common.contract import CELL
from common.errors import Refusal
from eval.scoring.align import group_frame
from eval.scoring.controls import CONTROLS, controls, read_train
from tests.helpers.scored_samples import LABELS


@pytest.fixture
def rows():
    """Two arms of outcome 0 (1, 2, 2 and 5, 5, 4), one of outcome 1 (3, 3), another study (7, 9)."""
    keys = [("s", 0, 0)] * 3 + [("s", 1, 0)] * 3 + [("s", 0, 1)] * 2 + [("t", 0, 0)] * 2
    frame = pl.DataFrame(keys, schema=["study_id", "condition_num", "task_num"], orient="row")
    return frame.with_columns(
        response=pl.Series([1, 2, 2, 5, 5, 4, 3, 3, 7, 9]),
        participant=pl.int_range(pl.len()),
        item_num=pl.lit(0, pl.Int64),
        mode=pl.lit("exact"),
        weight=pl.lit(1.0),
        scale_kind=pl.lit("ordinal"),
        scale_low=pl.lit(1, pl.Int64),
        scale_high=pl.when(pl.col("study_id") == "s").then(5).otherwise(9).cast(pl.Int64),
        scale_step=pl.lit(1, pl.Int64),
        scale_labels=pl.lit([], LABELS),
    )


def training(studies, conditions, responses, counts):
    """Training counts of outcome 0; answers above 5 are of the scale 1 to 9."""
    frame = pl.DataFrame(
        {"study_id": studies, "condition_num": conditions, "response": responses, "count": counts}
    )
    high = pl.when(pl.col("response") > 5).then(9).otherwise(5).cast(pl.Int64)
    one = {"task_num": pl.lit(0, pl.Int64), "scale_low": pl.lit(1, pl.Int64), "scale_high": high}
    return frame.with_columns(**one)


def seen(rows, name, train=None):
    cells = group_frame(rows, rows, CELL)
    control = controls(rows, cells, train and read_train(train))[name]
    return {
        key: dict(zip(control.answers[a:b].tolist(), control.weights[a:b].tolist(), strict=True))
        for key, a, b in zip(
            cells.select(CELL).iter_rows(), control.offsets[:-1], control.offsets[1:], strict=True
        )
    }


def test_pooled_others_leaves_the_cell_itself_out_and_the_oracle_does_not(rows):
    assert seen(rows, "pooled_others")["s", 0, 0] == {4: 1, 5: 2}
    assert seen(rows, "pooled_oracle")["s", 0, 0] == {1: 1, 2: 2, 4: 1, 5: 2}
    assert seen(rows, "pooled_others")["t", 0, 0] == {}


def test_a_condition_held_out_alone_is_pooled_with_the_training_conditions(rows, tmp_path):
    alone = rows.filter(pl.col("study_id") == "t")
    assert seen(alone, "pooled_others")["t", 0, 0] == seen(alone, "pooled_oracle")["t", 0, 0] == {}
    training(["t", "t", "s"], [1, 0, 1], [8, 9, 5], [30, 4, 50]).write_parquet(tmp_path / "t.parquet")
    assert seen(alone, "pooled_others", tmp_path / "t.parquet")["t", 0, 0] == {8: 30}
    assert seen(alone, "pooled_oracle", tmp_path / "t.parquet")["t", 0, 0] == {7: 1, 8: 30, 9: 5}


def test_other_outcomes_are_of_the_same_study_and_scale(rows):
    assert seen(rows, "other_outcomes")["s", 0, 1] == {1: 1, 2: 2, 4: 1, 5: 2}
    assert seen(rows, "other_outcomes")["s", 1, 0] == {3: 2}


def test_most_frequent_answers_and_the_lowest_of_equals(rows):
    assert list(seen(rows, "most_frequent_oracle")["s", 0, 0]) == [2]
    assert list(seen(rows, "most_frequent_oracle")["t", 0, 0]) == [7]
    assert list(seen(rows, "most_frequent_others")["s", 0, 0]) == [5]


def test_uniform_over_the_observed_and_over_the_stated_range(rows):
    assert list(seen(rows, "uniform_observed")["t", 0, 0]) == [7, 8, 9]
    assert list(seen(rows, "uniform_stated")["t", 0, 0]) == list(range(1, 10))


def test_a_choices_uniform_is_over_its_labels(rows):
    labels = [{"value": 1, "label": "a"}, {"value": 3, "label": "b"}, {"value": 9, "label": "none"}]
    choice = rows.with_columns(scale_kind=pl.lit("choice"), scale_labels=pl.lit(labels, LABELS))
    assert list(seen(choice, "uniform_stated")["t", 0, 0]) == [1, 3, 9]


def test_a_very_wide_range_is_spread_over_at_most_some_thousand_points(rows):
    wide = rows.with_columns(
        response=pl.when(pl.col("study_id") == "t").then(pl.col("response") * 10**7).otherwise("response")
    )
    assert 900 < len(seen(wide, "uniform_observed")["t", 0, 0]) < 1100


def test_the_training_marginal_is_the_studys_or_that_of_the_same_scale_elsewhere(rows, tmp_path):
    training(["s", "x", "x"], [9, 9, 9], [4, 1, 8], [10, 20, 30]).write_parquet(tmp_path / "t.parquet")
    marginal = seen(rows, "training_marginal", tmp_path / "t.parquet")
    assert marginal["s", 0, 0] == {4: 10}
    assert marginal["t", 0, 0] == {8: 30}


def test_training_counts_without_the_columns_are_refused(rows, tmp_path):
    pl.DataFrame({"study_id": ["s"]}).write_parquet(tmp_path / "t.parquet")
    with pytest.raises(Refusal, match="has no column condition_num"):
        seen(rows, "training_marginal", tmp_path / "t.parquet")


def test_every_control_is_there(rows):
    assert tuple(controls(rows, group_frame(rows, rows, CELL), None)) == CONTROLS
