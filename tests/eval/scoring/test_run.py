"""The command line from predictions to files: complete, repeatable, and free of unexplained gaps."""

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from common.distances import DISTANCES
from common.errors import Refusal
from eval.scoring.controls import CONTROLS
from eval.scoring.metrics import METRICS
from eval.scoring.run import import_predictions, score_models
from eval.settings import load_settings
from tests.helpers.scored_samples import exact, population, sampled, write_split

FOLDER = Path("outputs/sample/study/eval")
SETTINGS = "score: {replicates: 100, ceiling_splits: 10, permutations: 500}\n"


@pytest.fixture
def workplace(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows, true = population(studies=3, people=60)
    write_split(rows, tmp_path)
    Path("quick.yaml").write_text(SETTINGS)
    return rows, true


def run(models=None, predictions=None, name=None, split="study", rows=None):
    """What `socrates score` and `socrates eval --predictions` do."""
    if predictions:
        import_predictions(predictions, "sample", split, name=name, rows=rows)
    return score_models("sample", split, models, rows=rows, settings=load_settings("quick.yaml"))


def put(name: str, frame: pl.DataFrame) -> None:
    (FOLDER / name).mkdir(parents=True)
    frame.write_parquet(FOLDER / name / "predictions.parquet")


def scores(name: str) -> dict:
    return json.loads((FOLDER / name / "scores.json").read_text())


def gaps(value, path=""):
    """Estimates without a value or an interval that give no reason."""
    if isinstance(value, dict):
        empty = "value" in value and (value["value"] is None or value.get("low") is None)
        if empty and "reason" in value and not value["reason"]:
            yield path
        for key, inner in value.items():
            yield from gaps(inner, f"{path}/{key}")
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from gaps(inner, f"{path}/{index}")


def test_foreign_json_lines_are_scored_with_everything_documented(workplace):
    rows, true = workplace
    sampled(rows, true).write_ndjson("answers.jsonl")
    table = run(predictions="answers.jsonl", name="mine")
    record = scores("mine")
    assert set(record["metrics"]) == set(METRICS)
    assert set(record["controls"]) == set(CONTROLS)
    assert record["item_metrics"]["brier"]["reason"] == record["metrics"]["brier"]["reason"]
    one_item_a_cell = record["item_metrics"]["wasserstein_stated"]["value"]
    assert one_item_a_cell == record["metrics"]["wasserstein_stated"]["value"]
    assert (record["mode"], record["samples"], record["foreign"]) == ("sampled", 1, True)
    assert list(gaps(record)) == []
    printed = str(table)
    assert all(name in printed for name in ("mine", "uniform_observed", "pooled_others", "split_half"))
    cells = pl.read_parquet(FOLDER / "mine" / "cells.parquet")
    assert len(cells) == record["cells"]["all"] == 18
    assert (cells["human_counts"].list.sum() == cells["rows"]).all()
    assert cells["predicted_probs"].list.sum().to_list() == pytest.approx([1] * 18)
    assert cells["wasserstein_observed"].mean() == pytest.approx(
        record["metrics"]["wasserstein_observed"]["value"]
    )
    assert pl.read_parquet(FOLDER / "mine" / "items.parquet").columns[:4] == [
        "study_id", "condition_num", "task_num", "item_num",
    ]  # fmt: skip


def test_models_are_compared_on_the_rows_that_all_predict(workplace):
    rows, true = workplace
    put("tiny-sft", exact(rows, true))
    put("tiny-base", exact(rows, np.full_like(true, 1 / 7)).head(300))
    run()
    comparison = json.loads((FOLDER / "comparison.json").read_text())
    assert [row["name"] for row in comparison["table"][:2]] == ["tiny-base", "tiny-sft"]
    assert comparison["rows"] == 300
    assert scores("tiny-sft")["rows"]["scored"] == 360
    assert list(gaps(comparison)) == []
    first = comparison["differences"][0]
    assert (first["a"], first["b"], first["metric"]) == ("tiny-base", "tiny-sft", "wasserstein_observed")
    assert first["value"] > 0
    assert first["low_people"] <= first["value"] <= first["high_people"]
    assert all(row["p_holm"] >= row["p"] for row in comparison["differences"] if row["p"] is not None)


def test_a_perfect_model_beats_every_control_that_has_not_seen_the_answers(workplace):
    rows, true = workplace
    put("truth", exact(rows, true))
    run()
    record = scores("truth")
    model = record["metrics"]["wasserstein_observed"]["value"]
    for control in set(CONTROLS) - {"pooled_oracle"}:
        assert model < record["controls"][control]["wasserstein_observed"]["value"]


def test_nothing_is_done_twice_and_a_changed_file_is_scored_again(workplace):
    rows, true = workplace
    put("m", exact(rows, true))
    assert "nothing to do" not in str(run())
    before = (FOLDER / "m" / "scores.json").stat().st_mtime_ns
    assert "nothing to do" in str(run())
    assert (FOLDER / "m" / "scores.json").stat().st_mtime_ns == before
    exact(rows, np.full_like(true, 1 / 7)).write_parquet(FOLDER / "m" / "predictions.parquet")
    assert "nothing to do" not in str(run())
    assert scores("m")["metrics"]["wasserstein_observed"]["value"] > 0.05


def test_equal_inputs_give_equal_scores(workplace):
    rows, true = workplace
    put("one", exact(rows, true))
    put("two", exact(rows, true))
    run()
    one, two = scores("one"), scores("two")
    for key in ("metrics", "skill", "effects", "subgroups", "studies"):
        assert one[key] == two[key]


def test_cells_that_cannot_be_scored_are_counted_by_reason(workplace):
    rows, _ = workplace
    lonely = rows.head(1).with_columns(study_id=pl.lit("study9"), scale_low=None, scale_high=None)
    one = {name: pl.lit(0, pl.Int64) for name in ("condition_num", "task_num")}
    agreed = rows.head(5).with_columns(study_id=pl.lit("study8"), response=pl.lit(4, pl.Int64), **one)
    every = pl.concat([rows, lonely.cast(rows.schema), agreed])
    every.write_parquet("rows.parquet")
    put("m", every.select("study_id", "sample_id", prediction=pl.lit(9)))
    run(rows="rows.parquet")
    record = scores("m")
    assert record["cells"]["left_out"]["one respondent"] == 1
    assert record["cells"]["left_out"]["all people agree: the observed range has no width"] == 1
    assert record["rows"]["clipped_stated"] == 365
    assert record["rows"]["no_stated_scale"] == 1
    assert list(gaps(record)) == []
    cells = pl.read_parquet(FOLDER / "m" / "cells.parquet")
    for name in DISTANCES:
        empty = cells.filter(pl.col(name).is_null() | pl.col(name).is_nan())
        assert empty["reason"].null_count() == 0
        assert not cells[name].is_nan().any()


def test_a_sample_of_one_study_has_no_interval_over_studies_but_says_so(workplace):
    rows, true = workplace
    rows.filter(study_id="study0").write_parquet("rows.parquet")
    put("m", exact(rows, true).filter(study_id="study0"))
    run(rows="rows.parquet")
    record = scores("m")["metrics"]["wasserstein_observed"]
    assert record["low"] is None
    assert "only one study" in record["reason"]
    assert record["low_people"] < record["value"] < record["high_people"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "no predictions in .*run `make eval DATA=sample SPLIT=study`"),
        ({"models": ["ghost"]}, "no predictions of ghost"),
        ({"models": ["../etc"]}, "can't name a file"),
        ({"predictions": "ghost.parquet"}, "ghost.parquet is missing"),
        ({"split": "task"}, "run `make data DATA=sample SPLIT=task` first"),
        ({"rows": "nowhere.parquet"}, "nowhere.parquet is missing"),
    ],
)
def test_a_users_mistake_is_refused_with_its_remedy(workplace, arguments, message):
    with pytest.raises(Refusal, match=message):
        run(**arguments)


def test_a_foreign_file_never_replaces_predictions_made_here(workplace):
    rows, true = workplace
    put("tiny-sft", exact(rows, true))
    (FOLDER / "tiny-sft" / "predictions.json").write_text('{"inputs": "x", "name": "tiny-sft"}')
    sampled(rows, true).write_ndjson("answers.jsonl")
    with pytest.raises(Refusal, match="give the file another NAME"):
        run(predictions="answers.jsonl", name="tiny-sft")
