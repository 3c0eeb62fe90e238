"""The whole way through `make`, in a copy of the project: what a newcomer runs, shortened by its settings."""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.helpers.project import copy_project

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the tracked files with this environment, and recipes of a few steps."""
    copy = copy_project(tmp_path_factory.mktemp("project"))
    for stage, steps in (("sft", 60), ("dpo", 4)):
        recipe = copy / f"configs/tiny/{stage}.yaml"
        text = re.sub(r"^(max_steps|num_train_epochs):.*$", "", recipe.read_text(), flags=re.MULTILINE)
        recipe.write_text(f"{text}\nmax_steps: {steps}\n")
    return copy


def make(project: Path, *words: str) -> subprocess.CompletedProcess[str]:
    env = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST", "MAKE"))}
    # The environment was made by the real project: only what was asked for is made here.
    command = ["make", "--no-print-directory", "--assume-old=.venv/.ready", *words]
    return subprocess.run(command, cwd=project, env=env, capture_output=True, text=True, timeout=900)


def test_help_lists_every_step_and_the_values_of_the_variables(project: Path):
    listed = make(project, "help", "SPLIT=task").stdout
    for step in (
        "demo",
        "data",
        "train-sft",
        "train-dpo",
        "eval",
        "report",
        "simulate",
        "plan",
        "clean",
        "test",
    ):
        assert f"make {step} " in listed
    assert "SPLIT=task" in listed and "llama3-8b" in listed


@pytest.mark.parametrize(
    ("words", "remedy"),
    [
        (["train-sft", "MODEL=tinny"], "did you mean tiny"),
        (["eval", "MODEL=nothing", "SPLIT=task"], "make data"),
        (
            ["data", "DATA=/nowhere/at/all"],
            "neither sample nor socsci210 nor an imported survey nor a folder",
        ),
        (["train-sft", "SPLIT=task"], "make data"),
        (["report", "SPLIT=task"], "make eval"),
    ],
)
@pytest.mark.whole
def test_a_mistake_or_a_missing_input_is_one_line_with_the_remedy(
    project: Path, words: list[str], remedy: str
):
    done = make(project, *words)
    assert done.returncode != 0 and "Traceback" not in done.stderr
    errors = [line for line in done.stderr.splitlines() if "error:" in line]
    assert len(errors) == 1 and remedy in errors[0], done.stderr


@pytest.mark.whole
def test_the_whole_way_ends_with_a_report_and_a_second_run_has_nothing_to_do(project: Path):
    way = ["data", "train-sft", "train-dpo", "eval", "report", "SPLIT=condition"]
    first = make(project, *way)
    assert first.returncode == 0, first.stdout + first.stderr
    outputs = project / "outputs/sample/condition"
    for name in ("tiny-base", "tiny-sft", "tiny-dpo"):
        for file in ("predictions.parquet", "scores.json", "cells.parquet"):
            assert (outputs / "eval" / name / file).is_file()
    manifest = json.loads((project / "data/sample/condition/manifest.json").read_text())
    rows = manifest["rows"]
    parts = rows["train"] + rows["validation"] + rows["eval"] + sum(rows["dropped"].values())
    assert rows["read"] == parts
    for row in ("tiny-base", "tiny-sft", "tiny-dpo", "uniform", "pooled", "report.html"):
        assert row in first.stdout
    times = {path: path.stat().st_mtime_ns for path in outputs.rglob("*") if path.is_file()}
    second = make(project, *way)
    assert second.returncode == 0 and second.stdout.count("nothing to do") >= 7, second.stdout
    changed = [
        path for path, time in times.items() if path.stat().st_mtime_ns != time and path.suffix != ".lock"
    ]
    assert not changed
    recipe = project / "configs/tiny/sft.yaml"
    recipe.write_text(re.sub(r"^seed:.*$", "seed: 43", recipe.read_text(), flags=re.MULTILINE))
    third = make(project, *way[:2], "SPLIT=condition")
    assert third.returncode == 0 and "training in" in third.stdout + third.stderr
    fourth = make(project, "train-dpo", "SPLIT=condition")
    printed = fourth.stdout + fourth.stderr
    assert fourth.returncode == 0 and "training in" in printed, "DPO must follow a new SFT"


HOSTILE = (
    "$(shell touch x)", "$(touch x)", "`touch x`", '"; touch x; "', "'; touch x; '", "a\ntouch x", "a,b)",
    "# c", "$", "a b;touch x", "${shell touch x}", "&& touch x",
)  # fmt: skip
VARIABLES = (
    "MODEL", "DATA", "SPLIT", "STAGE", "RECIPE", "CONFIG", "EVAL_CONFIG", "TOKENIZER", "PREDICTIONS", "NAME",
    "EXPERIMENT", "GPUS", "SELECT", "PATIENCE", "GPU", "RUN", "OUT", "SET", "ARGS",
)  # fmt: skip
TARGETS = (
    "help", "data", "splits", "audit", "train", "train-sft", "eval", "report", "clean", "plan", "export",
    "simulate", "simulate-check",
)  # fmt: skip


@pytest.fixture
def recorder(tmp_path: Path) -> Path:
    """A folder with the Makefile alone, and a `python` that writes down what it is called with."""
    for name in ("Makefile", "requirements.txt", "requirements-cpu.txt"):
        shutil.copyfile(ROOT / name, tmp_path / name)
    python = tmp_path / "python"
    python.write_text('#!/bin/bash\nfor word in "$@"; do printf \'%s\\0\' "$word"; done >> words\n')
    python.chmod(0o755)
    return tmp_path


def test_the_plan_of_an_evaluation_reads_the_evaluations_settings(recorder: Path):
    make(recorder, "PY=./python", "plan", "ARGS=--eval", "EVAL_CONFIG=mine.yaml")
    assert "--config=mine.yaml" in (recorder / "words").read_text().split("\0")


@pytest.mark.parametrize("value", HOSTILE)
def test_the_text_of_a_variable_is_never_run_and_arrives_as_it_was_typed(recorder: Path, value: str):
    before = {path.name for path in recorder.iterdir()}
    done = make(recorder, "PY=./python", *TARGETS, *(f"{name}={value}" for name in VARIABLES))
    assert done.returncode == 0, done.stderr
    assert {path.name for path in recorder.iterdir()} - before == {"words"}
    words = (recorder / "words").read_text().split("\0")
    for option in ("--model", "--data", "--split", "--recipe", "--out", "--predictions", "--more"):
        assert f"{option}={value}" in words
