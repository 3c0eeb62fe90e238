"""The GPU benchmark runs to its end on a CPU, in a small shape."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


@pytest.mark.whole
def test_it_runs_to_the_end_on_a_cpu_in_a_small_shape() -> None:
    line = [sys.executable, "-m", "socrates", "bench", "gpu", "--small", "--answers", "4"]
    done = subprocess.run(
        line, cwd=ROOT, env=os.environ | {"SOCRATES_HOME": "."}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]
    for case in ("SFT, all parameters, packed", "SFT, LoRA", "DPO, LoRA, no reference (SimPO)"):
        row = next(line for line in done.stdout.splitlines() if line.startswith(case + "  "))
        assert float(row.removeprefix(case).split()[1].replace(",", "")) > 0
    assert "exact, in process" in done.stdout


@pytest.mark.skipif(Path("/dev/nvidia0").exists(), reason="a GPU is here")
def test_without_a_gpu_it_says_how_to_try_it() -> None:
    line = [sys.executable, "-m", "socrates", "bench", "gpu"]
    done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2 and "--small" in done.stderr
