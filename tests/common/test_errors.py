"""Errors that a person can act on."""

import errno
import signal
import subprocess
import sys

import pytest

from common.errors import Refusal, run_cli


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (Refusal("no data; run: make data"), 2, "error: no data; run: make data"),
        (OSError(errno.ENOSPC, "No space left on device", "/x/y"), 1, "the disk is full (/x/y)"),
        (PermissionError(errno.EACCES, "Permission denied", "/x/y"), 1, "no permission (/x/y)"),
        (OSError(errno.ENAMETOOLONG, "File name too long", "/x/y"), 1, "File name too long (/x/y)"),
        (Refusal("study \x1b[2K\rerror: none\nhere"), 2, r"error: study \x1b[2K error: none here"),
    ],
)
def test_what_a_user_can_fix_is_one_line_and_an_exit_code(error, code, words, capsys):
    def fail() -> None:
        raise error

    with pytest.raises(SystemExit) as stop:
        run_cli(fail)
    assert stop.value.code == code
    printed = capsys.readouterr().err
    assert words in printed and printed.count("\n") == 1


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_cleans_up_says_one_line_and_has_its_exit_code(number, code):
    program = """
import time
from common.errors import run_cli
def main():
    try:
        print("running", flush=True)
        time.sleep(60)
    finally:
        print("tidied up", flush=True)
run_cli(main)
"""
    process = subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout and process.stdout.readline() == "running\n"
    process.send_signal(number)
    out, err = process.communicate(timeout=20)
    assert process.returncode == code and out == "tidied up\n"
    assert err == "stopped: nothing half-written was left; run the same command to go on\n"


def test_a_fault_of_ours_keeps_its_traceback():
    with pytest.raises(ZeroDivisionError):
        run_cli(lambda: 1 // 0)
