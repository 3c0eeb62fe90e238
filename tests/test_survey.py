"""A survey of one's own the whole way: import, train, evaluate, report and simulate from one description."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.qualtrics import EXPERIMENT, write_export

ROOT = Path(__file__).parents[1]


def socrates(*arguments: str) -> str:
    """Run a command in this folder; its output."""
    environment = os.environ | {"SOCRATES_HOME": ".", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-m", "socrates", *arguments], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.whole
def test_one_description_serves_import_training_evaluation_report_and_simulation(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("configs").symlink_to(ROOT / "configs")
    Path("tram.yaml").write_text(EXPERIMENT)
    survey = str(write_export(Path("export.sav"), 200))
    where = ("--data", "tram", "--split", "participant")
    socrates("data", "tiny")
    assert "answers of 197 people" in socrates("data", "import", survey, "--experiment", "tram.yaml")
    assert "100% have the published form" in socrates("data", "make", *where)
    socrates("train", "sft", "--model", "tiny", *where)
    socrates("eval", "--model", "tiny", *where)
    socrates("report", *where)
    assert Path("outputs/tram/participant/report.html").stat().st_size > 50_000
    real = ("--pilot", survey, "--observed", survey)
    assert "loss" in socrates("simulate", "run", "tram.yaml", "--model", "tiny", *where, *real)
