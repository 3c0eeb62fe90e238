"""Two at once, through make: what one run writes no other one removes, under whatever name it is given."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from common.files import sha256_file
from common.step import Step, running
from tests.helpers.small_home import make_home, run, start
from tests.helpers.training_data import REPOSITORY


def make(home: Path, *words: str) -> tuple[int, str]:
    """(exit code, the line of the error) of `make` in `home`."""
    env = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST", "MAKE"))}
    env |= {"SOCRATES_HOME": ".", "PYTHONPATH": str(REPOSITORY)}
    line = ["make", "--no-print-directory", "--assume-old=.venv/.ready", f"PY={sys.executable}", *words]
    done = subprocess.run(line, cwd=home, env=env, capture_output=True, text=True, timeout=300)
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == bool(done.returncode) and "Traceback" not in done.stderr, done.stderr
    return done.returncode, "".join(errors)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    home = make_home(tmp_path / "home")
    for name in ("Makefile", "requirements.txt", "requirements-cpu.txt"):
        shutil.copyfile(REPOSITORY / name, home / name)
    assert run(home, ["data", "make", "--data", "small"])[0] == 0
    return home


@pytest.mark.whole
def test_a_held_lock_stops_make_under_every_name_of_the_data_set(home: Path):
    (home / "linked").mkdir()
    (home / "linked/small").symlink_to(home / "small")
    files = sorted(path for path in (home / "data/small/study").iterdir())
    before = [sha256_file(file) for file in files]
    with Step(home / "data/small/study/manifest.json", whole=True):
        for data in ("small", "./small/", "linked/small", str(home / "small")):
            code, error = make(home, "clean", f"DATA={data}")
            assert code and "a run is writing data/small/study (process " in error, error
            code, _, errors = run(home, ["data", "make", "--data", data])
            assert code == 2 and "another run is writing data/small/study (process " in errors[-1], errors
        shutil.move(home / "small", home.parent / "moved")  # the answers lie elsewhere now: the name stays
        code, error = make(home, "clean", "DATA=small")
        assert code and "a run is writing data/small/study (process " in error, error
        assert [sha256_file(file) for file in files] == before
    assert make(home, "clean", "DATA=small") == (0, "") and not files[0].exists()


@pytest.mark.whole
def test_make_clean_leaves_a_training_and_its_data_alone(home: Path):
    process = start(home, ["train", "sft", "--data", "small", "max_steps=5000", "eval_strategy=no"])
    try:
        while process.poll() is None and not running(home / "outputs/small/study"):
            time.sleep(0.1)
        files = sorted(path for path in (home / "data/small/study").iterdir())
        code, error = make(home, "clean", "DATA=small")
        assert code and "a run is writing outputs/small/study/tiny/sft" in error, error
        assert process.poll() is None and all(file.exists() for file in files)
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate()
    code, error = make(home, "clean", "DATA=small")
    assert code == 0 and not (home / "outputs/small/study").exists(), error
