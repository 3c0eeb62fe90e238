"""A project's folder with a small data set, a tiny model and a way to run its commands as a user does."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from tests.helpers.small_source import small_rows, write_source
from tests.helpers.training_data import REPOSITORY, write_model

TRAIN = ["train", "sft", "--data", "small", "max_steps=4", "save_steps=2", "eval_steps=2", "output_dir=sft"]
QUICK = "score: {replicates: 100, ceiling_splits: 10, permutations: 100}\n"
EXPERIMENT = ["simulate", "run", "configs/experiments/two-arm.yaml", "--data", "small", "--model", "tiny"]
SWEEP = """\
title: Steps
model: tiny
data: small
split: study
along: max_steps
vary: {recipe: {max_steps: [2, 4]}}
recipe: {save_steps: 2, eval_steps: 2}
"""
# A run from the data to the report and a simulation
WAY = (
    ["data", "make", "--data", "small"],
    TRAIN,
    ["eval", "--data", "small", "--model", "tiny", "--config", "quick.yaml"],
    ["report", "--data", "small"],
    EXPERIMENT,
)


def make_home(folder: Path) -> Path:
    """Write the folder: small/ (a source of six studies), outputs/models/tiny, configs, settings."""
    write_source(folder / "small", small_rows(studies=6, people=40))
    write_model(folder)
    shutil.copytree(REPOSITORY / "configs", folder / "configs")
    (folder / "metadata").mkdir()
    (folder / "quick.yaml").write_text(QUICK, encoding="utf-8")
    (folder / "steps.yaml").write_text(SWEEP, encoding="utf-8")
    return folder


def finish(home: Path) -> Path:
    """Run the whole way in `home`, each step to its end."""
    for words in WAY:
        code, _, err = run(home, words)
        assert code == 0, err
    return home


def start(home: Path, words: list[str], *, before: list[str] | None = None, **variables: str):
    """Start `socrates` with these words in `home`, at the head of a group; `before` comes before Python."""
    env = {
        **os.environ, "SOCRATES_HOME": ".", "PYTHONPATH": str(REPOSITORY), "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE", **variables,
    }  # fmt: skip
    line = [*(before or []), sys.executable, "-m", "socrates", *words]
    pipe = subprocess.PIPE
    return subprocess.Popen(
        line, cwd=home, env=env, stdout=pipe, stderr=pipe, text=True, errors="replace", start_new_session=True
    )


def run(home: Path, words: list[str], **options) -> tuple[int, str, list[str]]:
    """(exit code, what it printed, the lines of errors without progress bars) of a command."""
    process = start(home, words, **options)
    out, err = process.communicate(timeout=300)
    return process.returncode, out, lines_of(err)


def results(home: Path, folder: str = ".") -> dict[str, bytes]:
    """Files of results; records and pages state times and durations, and the tables are what they show."""
    kinds = (".parquet", ".csv", ".jsonl", ".svg", ".arrow", ".npy")
    files = {path for path in (home / folder).rglob("*") if path.is_file() and path.suffix in kinds}
    return {str(path.relative_to(home)): path.read_bytes() for path in sorted(files)}


def lines_of(err: str) -> list[str]:
    """The lines for a person: no bars, nothing of DeepSpeed's about its accelerator."""
    return [
        line for line in err.splitlines() if line.strip() and "%|" not in line and "[WARNING]" not in line
    ]
