import collections
import os
import signal
import subprocess
import sys
import time

import pytest

from common.errors import Refusal
from scripts.training import process


@pytest.mark.parametrize(
    ("code", "lines", "reason"),
    [
        (1, ["x", "torch.OutOfMemoryError: CUDA out of memory. Tried"], "halve per_device_train_batch_size"),
        (-9, [], "run the same command to go on"),
        (-2, [], "interrupted; the same command goes on"),
        (1, ["[rank0]: ValueError: no such layer", "ChildFailedError:"], "ValueError: no such layer"),
        (7, ["nothing"], "exit code 7"),
    ],
)
def test_a_failed_training_says_why_in_one_line(code, lines, reason):
    assert reason in process.reason(code, collections.deque(lines))


def test_lines_for_a_person_are_handed_on_and_all_are_kept(tmp_path):
    code = (
        "print('noise'); print('[train] step 1'); print('[train] failed: loss is nan'); raise SystemExit(3)"
    )
    heard: list[str] = []
    with pytest.raises(Refusal, match="training failed: loss is nan; see"):
        process.run([sys.executable, "-c", code], tmp_path / "train.log", 1, heard.append)
    assert heard == ["step 1"]
    assert "noise" in (tmp_path / "train.log").read_text()


# A training that starts a further process and ignores being asked to end.
STUBBORN = """
import signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(100)"])
print("[train] child", child.pid, flush=True)
time.sleep(100)
"""
PARENT = """
import sys
from pathlib import Path
from scripts.training import process
process.run([sys.executable, "-c", sys.argv[1]], Path(sys.argv[2]), 1, lambda text: print(text, flush=True))
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_whatever_ends_the_launcher_ends_all_that_it_started(number, tmp_path):
    log = tmp_path / "train.log"
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, STUBBORN, str(log)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        text=True,
    )  # fmt: skip
    assert parent.stdout
    child = int(parent.stdout.readline().split()[-1])
    parent.send_signal(number)
    begun = time.monotonic()
    parent.wait(10)
    if number == signal.SIGINT:  # a killed launcher can end only what it started itself
        with pytest.raises(ProcessLookupError):
            while time.monotonic() - begun < 5:
                os.kill(child, 0)
                time.sleep(0.05)
        assert time.monotonic() - begun < 5
    else:
        os.kill(child, signal.SIGKILL)
    parent.stdout.close()
