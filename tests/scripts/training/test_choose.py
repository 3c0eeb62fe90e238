import numpy as np
import polars as pl
import pytest

from common.errors import Refusal
from eval import score
from eval.settings import ScoreSettings, Settings
from scripts.training import checkpoints, choose
from tests.helpers.scored_samples import exact, population

ROWS = {
    "study_id": ["a"] * 4 + ["b"] * 2, "sample_id": [0, 1, 2, 3, 0, 1], "participant": [0, 1, 0, 1, 0, 1],
    "condition_num": [1] * 6, "task_num": [1, 1, 2, 2, 1, 1], "response": [1, 5, 3, 3, 0, 10],
}  # fmt: skip


def write(folder, answers, probs):
    rows, predictions = folder / "validation.parquet", folder / "predictions.parquet"
    pl.DataFrame(ROWS).write_parquet(rows)
    keys = {key: ROWS[key] for key in ("study_id", "sample_id")}
    pl.DataFrame(keys | {"answers": answers, "probs": probs}).write_parquet(predictions)
    return predictions, rows


def test_predictions_like_people_are_at_distance_zero(tmp_path):
    exact = [[answer] for answer in ROWS["response"]]
    assert choose.distance(*write(tmp_path, exact, [[1.0]] * 6)) == pytest.approx(0)


def test_a_cell_is_scaled_by_its_human_range_and_studies_count_alike(tmp_path):
    # Study a: all weight on 1, people at 1 and 5: half the people are one range away. Study b: in the
    # middle, so everybody is half a range away. The cell where all agree has no range.
    answers = [[1]] * 4 + [[0, 10]] + [[5]]
    probs = [[1.0]] * 4 + [[0.5, 0.5]] + [[1.0]]
    assert choose.distance(*write(tmp_path, answers, probs)) == pytest.approx((0.5 + 0.25) / 2)


def test_predictions_outside_the_human_range_are_clipped_to_it(tmp_path):
    answers = [[-900], [70_000]] + [[3]] * 2 + [[-4], [99]]
    assert choose.distance(*write(tmp_path, answers, [[1.0]] * 6)) == pytest.approx(0)


@pytest.mark.parametrize("weighted", [False, True])
def test_it_is_the_reports_distance_on_the_same_2000_rows(tmp_path, weighted):
    # 60 cells a study; by chance some have one predicted person, or miss an end of their people's range.
    rows, true = population(studies=20, arms=30, tasks=2, people=120, seed=3)
    if weighted:
        weight = np.random.default_rng(1).uniform(0.2, 5, len(rows))
        rows = rows.with_columns(weight=pl.Series(weight))
    sample = np.sort(np.random.default_rng(2).choice(len(rows), 2000, replace=False))
    predictions = exact(rows[sample], true[sample, ::-1])
    rows.write_parquet(tmp_path / "validation.parquet")
    predictions.write_parquet(tmp_path / "predictions.parquet")
    chosen_by = choose.distance(tmp_path / "predictions.parquet", tmp_path / "validation.parquet")
    settings = Settings(score=ScoreSettings(replicates=100, ceiling_splits=10, permutations=500))
    reported = score(rows, predictions, settings=settings)
    assert (reported.cells["people"] == 1).any()
    assert chosen_by == pytest.approx(reported.metrics["wasserstein_observed"].value, abs=1e-9)


def test_rows_without_a_prediction_are_left_out_and_none_at_all_is_refused(tmp_path):
    empty = pl.Series([[]] * 6, dtype=pl.List(pl.Int64))
    with pytest.raises(Refusal, match="no cell with differing answers"):
        choose.distance(*write(tmp_path, empty, empty.cast(pl.List(pl.Float32))))


def test_the_nearest_checkpoint_becomes_the_runs_model(tmp_path, monkeypatch):
    (tmp_path / "model.safetensors").write_text("last")
    for step in (10, 20, 30):
        checkpoint = tmp_path / f"checkpoint-{step}"
        checkpoint.mkdir()
        (checkpoint / "model.safetensors").write_text(f"weights of {step}")
        if step != 30:  # torn: never chosen
            checkpoints.mark_whole(checkpoint)
    rows = tmp_path / "validation.parquet"
    rows.touch()
    monkeypatch.setattr(choose, "predict", lambda checkpoint, *_: checkpoint)
    monkeypatch.setattr(
        choose, "distance", lambda checkpoint, _: {10: 0.1, 20: 0.2}[checkpoints.step(checkpoint)]
    )
    chosen = choose.choose(tmp_path, rows, 100, print)
    assert chosen["step"] == 10 and chosen["wasserstein"] == {"10": 0.1, "20": 0.2}
    assert (tmp_path / "model.safetensors").read_text() == "weights of 10"


@pytest.mark.parametrize(
    ("distances", "patience", "out"),
    [([0.3, 0.2, 0.1], 2, False), ([0.1, 0.2, 0.3], 2, True), ([0.3, 0.1, 0.2], 2, False),
     ([0.2, 0.2, 0.2], 2, True), ([0.1, 0.9, 0.9, 0.9], 0, False), ([0.1, 0.2], 2, False)],
)  # fmt: skip
def test_training_ends_when_no_checkpoint_of_the_last_ones_came_nearer(distances, patience, out):
    by_step = {10 * step: value for step, value in enumerate(distances)}
    assert choose.out_of_patience(by_step, patience) is out


def test_a_missing_slice_names_the_setting_that_makes_it(tmp_path):
    with pytest.raises(Refusal, match="validation_fraction"):
        choose.choose(tmp_path, tmp_path / "validation.parquet", 10, print)
