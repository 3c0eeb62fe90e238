"""The check against published figures and the known truth passes where it should, and can fail."""

from pathlib import Path

import numpy as np
import pytest

from common.errors import Refusal
from eval.scoring.reproduce import reproduce
from eval.settings import load_settings
from tests.helpers.scored_samples import exact, population, write_split

SETTINGS = "score: {replicates: 100, ceiling_splits: 20}\n"


@pytest.fixture
def workplace(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows, true = population(studies=4, people=240, seed=6)
    write_split(rows, tmp_path)
    Path("data/sample/source").mkdir()
    Path("quick.yaml").write_text(SETTINGS)
    return rows, true


def run(**arguments):
    return reproduce(**arguments, settings=load_settings(Path("quick.yaml")))


def test_the_sample_passes_with_its_truth(workplace):
    rows, true = workplace
    exact(rows, true).write_parquet("data/sample/source/truth_rows.parquet")
    result = run()
    assert [check.passed for check in result.checks] == [True] * 4
    result.enforce()


def test_a_wrong_truth_fails(workplace):
    rows, true = workplace
    exact(rows, true[:, ::-1]).write_parquet("data/sample/source/truth_rows.parquet")
    result = run()
    assert "FAIL perfect model" in str(result)
    with pytest.raises(Refusal, match="of 4 figures don't come out"):
        result.enforce()


def test_published_figures_are_compared_within_a_stated_tolerance(workplace):
    rows, true = workplace
    Path("data/socsci210/study").mkdir(parents=True)
    rows.write_parquet("data/socsci210/study/eval.parquet")
    exact(rows, np.full_like(true, 1 / 7)).write_parquet("p.parquet")
    printed = str(run(predictions=Path("p.parquet"), published=0.9))
    assert "expected 0.2030 within 0.005" in printed
    assert "FAIL p.parquet (1,920 rows)" in printed


def test_a_published_figure_needs_predictions(workplace):
    with pytest.raises(Refusal, match="together"):
        run(published=0.151)
