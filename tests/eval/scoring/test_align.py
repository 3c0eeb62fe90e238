"""What is wrong with predictions is named and refused, or counted."""

import json

import numpy as np
import polars as pl
import pytest

from common.errors import Refusal
from eval.scoring.align import align, read_scored
from eval.scoring.predictions import load_predictions
from tests.helpers.scored_samples import exact, population, sampled


@pytest.fixture
def rows(tmp_path):
    population(studies=2, people=30)[0].write_parquet(tmp_path / "eval.parquet")
    return read_scored(tmp_path / "eval.parquet")


@pytest.fixture
def good(rows):
    return exact(rows, np.full((len(rows), 7), 1 / 7))


def load(tmp_path, frame):
    frame.write_parquet(tmp_path / "p.parquet")
    return load_predictions(tmp_path / "p.parquet", "remedy")


def change(frame, at, **values):
    records = frame.to_dicts()
    records[at] |= values
    return pl.DataFrame(
        records, schema_overrides={"answers": pl.List(pl.Int64), "probs": pl.List(pl.Float64)}
    )


def test_a_prediction_that_names_no_evaluation_row_is_refused_with_its_key(tmp_path, rows, good):
    foreign = load(tmp_path, change(good, 3, sample_id=99999))
    with pytest.raises(Refusal, match=r"1 predictions name no evaluation row.*sample_id 99999"):
        align(rows, foreign, "model")


def test_a_key_twice_is_refused_with_the_key(tmp_path, rows, good):
    with pytest.raises(Refusal, match="study_id study0 sample_id 0 appears more than once"):
        load(tmp_path, pl.concat([good, good.head(1)]))


def test_rows_without_a_prediction_are_counted_and_left_out(tmp_path, rows, good):
    some = change(good.tail(-5), 0, answers=[], probs=[])
    aligned = align(rows, load(tmp_path, some), "model")
    assert aligned.counts == {"evaluation": 120, "predicted": 115, "missing": 5, "failed": 1, "scored": 114}
    assert len(aligned.rows) == 114


def test_no_usable_prediction_at_all_is_refused(tmp_path, rows, good):
    nothing = good.with_columns(answers=pl.lit([], pl.List(pl.Int64)), probs=pl.lit([], pl.List(pl.Float64)))
    with pytest.raises(Refusal, match="not one evaluation row"):
        align(rows, load(tmp_path, nothing), "model")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"probs": [0.1] * 7}, "add up to 0.7, not 1"),
        ({"probs": [-0.2, 0.2, 0.2, 0.2, 0.2, 0.2, 0.2]}, "probability -0.2"),
        ({"probs": [float("nan")] + [1 / 6] * 6}, "probability nan"),
        ({"probs": [0.5, 0.5]}, "not as many probs as answers"),
        ({"answers": [1, 1, 2, 3, 4, 5, 6]}, "lists answer 1 twice"),
        ({"answers": [None, 1, 2, 3, 4, 5, 6]}, "empty value in answers"),
    ],
)
def test_broken_probabilities_are_refused_with_the_key(tmp_path, good, values, message):
    with pytest.raises(Refusal, match=message) as refusal:
        load(tmp_path, change(good, 7, **values))
    key = good.row(7, named=True)
    assert f"study_id {key['study_id']} sample_id {key['sample_id']}" in str(refusal.value)


def test_small_rounding_errors_of_probabilities_are_normalised(tmp_path, good):
    predictions = load(tmp_path, change(good, 0, probs=[0.1429] * 7))
    assert predictions.predicted.weights[:7].sum() == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize(
    ("column", "message"),
    [
        (pl.lit("3"), "holds String, not numbers"),
        (pl.lit(float("inf")), "prediction inf, not a number"),
        (pl.lit(1e300), "too large a number"),
        (pl.lit([3]), "holds List"),
    ],
)
def test_a_prediction_that_is_no_number_is_refused(tmp_path, rows, column, message):
    with pytest.raises(Refusal, match=message):
        load(tmp_path, rows.select("study_id", "sample_id", prediction=column))


def test_whole_floats_and_missing_predictions_are_understood(tmp_path, rows):
    frame = rows.select("study_id", "sample_id").with_row_index("i")
    frame = frame.with_columns(prediction=pl.when(pl.col("i") > 0).then(4.0)).drop("i")
    counts = align(rows, load(tmp_path, frame), "model").counts
    assert (counts["failed"], counts["scored"]) == (1, 119)


def test_json_lines_give_what_parquet_gives(tmp_path, rows):
    frame = sampled(rows, np.full((len(rows), 7), 1 / 7))
    frame.write_ndjson(tmp_path / "p.jsonl")
    by_line, by_table = load_predictions(tmp_path / "p.jsonl", ""), load(tmp_path, frame)
    assert by_line.predicted.answers.tolist() == by_table.predicted.answers.tolist()
    assert by_line.rows.equals(by_table.rows)


def test_several_draws_become_shares(tmp_path, rows):
    frame = rows.head(2).select("study_id", "sample_id").with_columns(draws=pl.Series([[3, 1, 3, 3], [7]]))
    predictions = load(tmp_path, frame)
    assert predictions.predicted.answers.tolist() == [1, 3, 7]
    assert predictions.predicted.weights.tolist() == [0.25, 0.75, 1.0]
    assert predictions.rows["n_draws"].to_list() == [4, 1]


def test_a_torn_line_is_refused_with_its_number(tmp_path):
    lines = [json.dumps({"study_id": "s", "sample_id": k, "prediction": 1}) for k in range(3)]
    (tmp_path / "p.jsonl").write_text("\n".join(lines)[:-9])
    with pytest.raises(Refusal, match="line 3"):
        load_predictions(tmp_path / "p.jsonl", "")


@pytest.mark.parametrize("name", ["p.parquet", "p.jsonl"])
def test_a_file_that_is_no_table_is_refused(tmp_path, name):
    (tmp_path / name).write_text("not a table")
    with pytest.raises(Refusal, match=r"can't be read|no parquet file"):
        load_predictions(tmp_path / name, "")


def test_a_table_without_the_needed_columns_says_which_are_needed(tmp_path, rows):
    with pytest.raises(
        Refusal, match=r"needs study_id, sample_id \(or study_id, condition_num, task_num\) and prediction"
    ):
        load(tmp_path, rows.select("study_id", "sample_id"))


def test_an_unknown_mode_is_refused(tmp_path, good):
    with pytest.raises(Refusal, match="mode guessed; known: exact, sampled, verbalised"):
        load(tmp_path, good.with_columns(mode=pl.lit("guessed")))


def test_the_observed_range_is_that_of_all_rows_of_the_cell_whatever_was_predicted(tmp_path, rows, good):
    whole = align(rows, load(tmp_path, good), "model").cells
    part = align(rows, load(tmp_path, good.gather_every(5)), "model").cells
    assert part["observed_low"].to_list() == whole["observed_low"].to_list()
    assert part["observed_high"].to_list() == whole["observed_high"].to_list()
