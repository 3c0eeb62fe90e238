"""Predictions as people bring them: every form gives the same scores, and what it can't tell is said."""

import numpy as np
import polars as pl
import pytest

from common.contract import CELL, KEY
from common.errors import Refusal
from eval.scoring.contrasts import contrasts, design
from eval.scoring.groups import model_groups
from eval.scoring.model import off_scale
from eval.scoring.predictions import check_predictions, load_predictions
from tests.helpers.scored_samples import evaluated, exact, population


@pytest.fixture(scope="module")
def sample():
    return population(studies=2, people=24)


def long_form(rows, true, key):
    keys = rows.select(key)
    parts = [keys.with_columns(answer=pl.lit(k + 1), prob=pl.Series(true[:, k])) for k in range(7)]
    return pl.concat(parts)


def wide_form(rows, true):
    return rows.select(KEY).with_columns(pl.Series(f"p_{k + 1}", true[:, k]) for k in range(7))


@pytest.mark.parametrize("form", ["long", "wide"])
@pytest.mark.parametrize("suffix", ["csv", "json", "parquet", "jsonl"])
def test_long_and_wide_tables_of_any_kind_give_what_lists_give(sample, tmp_path, form, suffix):
    rows, true = sample
    frame = long_form(rows, true, KEY) if form == "long" else wide_form(rows, true)
    path = tmp_path / f"p.{suffix}"
    writers = {"csv": "write_csv", "json": "write_json", "parquet": "write_parquet", "jsonl": "write_ndjson"}
    getattr(frame, writers[suffix])(path)
    read, lists = load_predictions(path), check_predictions(exact(rows, true), "lists")
    assert read.rows.select(*KEY, "mode").equals(lists.rows.select(*KEY, "mode"))
    assert read.predicted.weights == pytest.approx(lists.predicted.weights)


def test_a_table_as_r_writes_it_is_read(tmp_path):
    """`write.csv` with row names, quoted texts, NA, and 1e+05 for a round number that isn't an integer."""
    path = tmp_path / "r.csv"
    path.write_text('"","study_id","sample_id","mean"\n"1","s",1e+05,4.25\n"2","s",100001,NA\n')
    read = load_predictions(path)
    assert read.rows["sample_id"].to_list() == [100_000, 100_001]
    assert read.predicted.lengths.tolist() == [2, 0]


def test_a_distribution_of_a_cell_is_scored_on_distributions_only(sample):
    rows, true = sample
    cells = rows.select(CELL).with_columns(pl.Series(f"p_{k + 1}", true[:, k]) for k in range(7)).unique(CELL)
    cells_scored = model_groups(evaluated(rows, cells), "cell")
    assert cells_scored.values["wasserstein_stated"] == pytest.approx(
        model_groups(evaluated(rows, exact(rows, true)), "cell").values["wasserstein_stated"]
    )
    assert np.isnan(cells_scored.values["accuracy_stated"]).all()
    assert "single people" in cells_scored.reason("accuracy_stated")


def test_a_mean_is_scored_on_accuracy_and_means_only(sample):
    rows, _ = sample
    means = np.random.default_rng(0).uniform(2, 6, len(rows))
    cells_scored = model_groups(
        evaluated(rows, rows.select(KEY).with_columns(prediction=pl.Series(means))), "cell"
    )
    gap = pl.Series("gap", 1 - np.abs(means - rows["response"].to_numpy()) / 6)
    by_hand = rows.with_columns(gap).group_by(CELL).agg(pl.col("gap").mean()).sort(CELL)["gap"]
    assert cells_scored.values["accuracy_stated"] == pytest.approx(by_hand.to_numpy())
    assert np.isnan(cells_scored.values["wasserstein_stated"]).all()
    assert "no distribution" in cells_scored.reason("wasserstein_stated")


def test_probabilities_counted_from_draws_are_not_exact_unless_the_file_says_so(sample):
    rows, true = sample
    drawn = np.random.default_rng(0).multinomial(5, true / true.sum(1, keepdims=True)) / 5
    counted = check_predictions(exact(rows, drawn), "p")
    assert set(counted.rows["mode"]) == {"sampled"} and set(counted.rows["n_draws"]) == {5}
    stated = check_predictions(exact(rows, drawn).with_columns(mode=pl.lit("exact")), "p")
    assert set(stated.rows["mode"]) == {"exact"}
    assert set(check_predictions(exact(rows, true), "p").rows["mode"]) == {"exact"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('[{"study_id": "s", "sample_id": 99999999999999999999999999, "prediction": 1}]', "p.json"),
        ('[{"study_id": "s", "sample_id": [1], "prediction": 1}]', "holds List"),
        ('[{"study_id": ["s"], "sample_id": 1, "prediction": 1}]', "not text"),
        ('[{"study_id": "s", "sample_id": 1, "prediction": 1e300}]', "too large"),
        ('[{"study_id": "s", "sample_id": 1.5, "prediction": 1}]', "not a whole number"),
        ('[{"study_id": "s", "sample_id": 1, "answer": 1.5, "prob": 1}]', "not a whole number"),
        ('[{"study_id": "s", "sample_id": 1, "answer": 1, "prob": 0.5}]', "add up to 0.5"),
        ('{"study_id": "s"}', "isn't a list of objects"),
        ("[", "not valid JSON"),
    ],
)
def test_a_malformed_file_is_one_line(tmp_path, content, message):
    (tmp_path / "p.json").write_text(content)
    with pytest.raises(Refusal, match=message) as refusal:
        load_predictions(tmp_path / "p.json")
    assert "\n" not in str(refusal.value)


def test_an_answer_between_the_options_of_a_choice_is_off_the_scale(sample):
    rows, _ = sample
    labels = [{"value": value, "label": "x"} for value in (1, 2, 7)]
    choice = rows.with_columns(
        scale_kind=pl.lit("choice"), off_scale=pl.lit(None, pl.Boolean),
        scale_labels=pl.lit(labels, rows.schema["scale_labels"]),
    )  # fmt: skip
    assert off_scale(choice).tolist() == (~rows["response"].is_in([1, 2, 7])).to_list()


def test_effects_of_a_choice_are_differences_of_shares(sample):
    rows, true = sample
    choice = rows.with_columns(scale_kind=pl.lit("choice"))
    pairs = contrasts(design(evaluated(choice, exact(choice, true))))
    one = pairs.filter(pl.col("option") == 4).row(0, named=True)
    of_outcome = choice.filter(study_id=one["study_id"], task_num=one["task_num"])
    a, b = (
        (of_outcome.filter(condition_num=one[arm])["response"] == 4).mean()
        for arm in ("condition_a", "condition_b")
    )
    assert one["observed"] == pytest.approx(b - a)
    assert one["width"] == 1


def test_arms_that_show_the_same_text_are_left_out_and_counted(sample):
    rows, true = sample
    same = rows.with_columns(stimuli=pl.lit("the same"))
    effects = design(evaluated(same, exact(same, true)))
    assert effects.pairs.is_empty()
    assert effects.left_out == {"the arms show the same text": 12}
