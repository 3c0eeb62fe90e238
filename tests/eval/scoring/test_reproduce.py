"""The check against published figures and the known truth passes where it should, and can fail."""

import sys
from pathlib import Path

import numpy as np
import pytest

from common.errors import Refusal
from eval.bench import score as bench_eval
from eval.scoring import reproduce
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


def run(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["reproduce", "--config", "quick.yaml", *arguments])
    reproduce.main()


def test_the_sample_passes_with_its_truth(workplace, monkeypatch, capsys):
    rows, true = workplace
    exact(rows, true).write_parquet("data/sample/source/truth_rows.parquet")
    run(monkeypatch)
    printed = capsys.readouterr().out
    assert printed.count("ok  ") == 4
    assert "FAIL" not in printed


def test_a_wrong_truth_fails(workplace, monkeypatch, capsys):
    rows, true = workplace
    exact(rows, true[:, ::-1]).write_parquet("data/sample/source/truth_rows.parquet")
    with pytest.raises(SystemExit) as ending:
        run(monkeypatch)
    assert ending.value.code == 1
    assert "FAIL perfect model" in capsys.readouterr().out


def test_published_figures_are_compared_within_a_stated_tolerance(workplace, monkeypatch, capsys):
    rows, true = workplace
    Path("data/socsci210/study").mkdir(parents=True)
    rows.write_parquet("data/socsci210/study/eval.parquet")
    exact(rows, np.full_like(true, 1 / 7)).write_parquet("p.parquet")
    with pytest.raises(SystemExit):
        run(monkeypatch, "--predictions", "p.parquet", "--published", "0.9")
    printed = capsys.readouterr().out
    assert "expected 0.2030 within 0.005" in printed
    assert "FAIL p.parquet (1,920 rows)" in printed


def test_a_published_figure_needs_predictions(workplace, monkeypatch):
    with pytest.raises(Refusal, match="together"):
        run(monkeypatch, "--published", "0.151")


def test_the_benchmark_measures_what_it_says(capsys, monkeypatch):
    monkeypatch.setattr(bench_eval, "_warm_up", lambda: None)
    monkeypatch.setattr(bench_eval, "LOOP_CELLS", 20)
    arguments = ["bench", "--predictions", "24000", "--cells", "1200", "--replicates", "100"]
    monkeypatch.setattr(sys, "argv", arguments)
    bench_eval.main()
    printed = capsys.readouterr().out
    assert "24,000 predictions, 1,200 cells, 100 replicates" in printed
    assert float(printed.rpartition("largest difference ")[2].split()[0]) < 1e-12
