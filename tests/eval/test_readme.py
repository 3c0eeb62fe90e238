"""The example of eval/README.md is run, block after block, on a small sample and a tiny model."""

import re
import shutil
import subprocess
from pathlib import Path

import polars as pl
import pytest

from common.files import write_json
from common.prompts import SYSTEM_PROMPT
from eval.scoring.predictions import load_predictions
from eval.scoring.run import import_predictions
from tests.helpers import scored, tiny_models
from tests.helpers.scored_samples import population, write_split

ROOT = Path(__file__).parents[2]


@pytest.mark.skipif(shutil.which("Rscript") is None, reason="R is not installed")
def test_predictions_made_in_r_are_scored_as_the_readme_says(tmp_path, monkeypatch):
    rows, _ = population(studies=3, arms=2, tasks=2, people=24)
    write_split(rows.with_columns(system=pl.lit(""), prompt=pl.lit('a, "b"\nc')), tmp_path)
    monkeypatch.chdir(tmp_path)
    text = (ROOT / "eval/README.md").read_text().split("## From R")[1]
    (line,) = re.findall(r'python -c "(.*?)"\n```', text, re.DOTALL)
    exec(line, {})
    (block,) = re.findall(r"```r\n(.*?)```", text, re.DOTALL)
    done = subprocess.run(["Rscript", "-"], input=block, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for name, mode in (("bell", "cells"), ("regression", "means")):
        predictions = load_predictions(f"{name}.csv")
        assert set(predictions.rows["mode"]) == {mode}
        import_predictions(f"{name}.csv", "sample", "study")
    assert len(load_predictions("regression.csv").rows) == len(rows)


@pytest.mark.whole
def test_the_whole_way_from_rows_to_a_simulation_runs_as_the_readme_says(tmp_path, monkeypatch):
    rows, _ = population(studies=3, arms=2, tasks=2, people=24)
    rows = rows.with_columns(
        system=pl.lit(SYSTEM_PROMPT),
        prompt=pl.concat_str(pl.lit("- Age: 30\n\n"), "stimuli"),
        off_scale=pl.lit(False),
    )
    write_split(rows, tmp_path)
    write_json(tmp_path / "data/sample/study/manifest.json", scored.MANIFEST)
    model = tiny_models.make("llama", tmp_path / "outputs/models/tiny")
    shutil.copytree(model, tmp_path / "outputs/sample/study/tiny/sft")
    shutil.copytree(ROOT / "configs/experiments", tmp_path / "configs/experiments")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SOCRATES_HOME", ".")
    names: dict = {}
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "eval/README.md").read_text(), re.DOTALL)
    assert len(blocks) == 4
    for block in blocks:
        exec(block, names)
    assert set(names["scores"]) == {"tiny-base", "tiny-sft"}
    assert {row.name for row in names["comparison"].of_kind("model")} == {"tiny-base", "tiny-sft"}
    assert names["page"].page.is_file() and Path("two-arm.html").is_file()
    assert names["simulation"].effects["outcome"].to_list() == ["support", "vote", "warmth"]
