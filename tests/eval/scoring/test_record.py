"""Records are read as they were written; a broken or an old one is refused with its remedy."""

import json

import pytest

from common.errors import Refusal
from eval.scoring.record import Estimate, read_comparison, read_scores
from eval.scoring.run import score_models
from eval.settings import load_settings
from tests.helpers.scored_samples import exact, population, write_split

MODEL = "outputs/sample/study/eval/truth"


@pytest.fixture(scope="module")
def scored(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scored")
    rows, true = population(studies=3, people=60)
    write_split(rows, folder)
    (folder / MODEL).mkdir(parents=True)
    exact(rows, true).write_parquet(folder / MODEL / "predictions.parquet")
    (folder / "quick.yaml").write_text("score: {replicates: 100, ceiling_splits: 10, permutations: 500}\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        score_models("sample", "study", settings=load_settings("quick.yaml"))
    return folder


def test_scores_come_back_typed_with_their_tables(scored):
    scores = read_scores(scored / MODEL)
    assert scores.metrics["wasserstein_observed"].value < 0.1
    assert scores.cell_counts.all == len(scores.cells) == 18
    assert len(scores.items) == 18
    assert scores.effects.contrasts == len(scores.contrasts)
    assert scores.skill["wasserstein_observed"].corrected.over == "people"  # of three studies


def test_the_record_holds_exactly_what_the_file_says(scored):
    written = json.loads((scored / MODEL / "scores.json").read_text())
    assert read_scores(scored / MODEL).model_dump(mode="json", by_alias=True) == written


def test_a_comparison_lists_models_before_controls_before_ceilings(scored):
    comparison = read_comparison(scored / MODEL / "..")
    kinds = [row.kind for row in comparison.table]
    assert [row.name for row in comparison.of_kind("model")] == ["truth"]
    assert kinds == sorted(kinds, key=["model", "control", "ceiling"].index)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema": 1}, "has schema 1, this version reads 2; run `make eval` again"),
        ({"metrics": "none"}, r"not a whole record \(`metrics`: .*run `make eval` again"),
        ({"unheard_of": 1}, "`unheard_of`: Extra inputs are not permitted"),
    ],
)
def test_a_record_of_another_version_or_a_broken_one_is_refused(scored, tmp_path, change, message):
    written = json.loads((scored / MODEL / "scores.json").read_text())
    (tmp_path / "scores.json").write_text(json.dumps(written | change))
    with pytest.raises(Refusal, match=message):
        read_scores(tmp_path)


def test_a_missing_or_torn_file_is_refused(scored, tmp_path):
    with pytest.raises(Refusal, match=r"scores.json is missing; run `make eval` again"):
        read_scores(tmp_path)
    (tmp_path / "scores.json").write_text((scored / MODEL / "scores.json").read_text())
    with pytest.raises(Refusal, match=r"cells.parquet is missing"):
        _ = read_scores(tmp_path).cells
    (tmp_path / "cells.parquet").write_text("torn")
    with pytest.raises(Refusal, match=r"cells.parquet can't be read"):
        _ = read_scores(tmp_path).cells


def test_an_estimate_shows_the_interval_over_studies_before_that_over_people():
    both = Estimate(value=0.5, low=0.4, high=0.6, low_people=0.45, high_people=0.55)
    people = Estimate(value=0.5, low_people=0.45, high_people=0.55)
    assert (both.interval, both.over, str(both)) == ((0.4, 0.6), "studies", "0.500 [0.400, 0.600]")
    assert (people.interval, people.over) == ((0.45, 0.55), "people")
    assert str(Estimate(value=None, reason="no cell")) == "-"
