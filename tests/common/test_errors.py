"""Errors that a person can act on."""

import errno

import pytest

from common.errors import Refusal, run_cli


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (Refusal("no data; run: make data"), 2, "error: no data; run: make data"),
        (KeyboardInterrupt(), 130, "run the same command to go on"),
        (OSError(errno.ENOSPC, "No space left on device", "/x/y"), 1, "the disk is full (/x/y)"),
        (PermissionError(errno.EACCES, "Permission denied", "/x/y"), 1, "no permission (/x/y)"),
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


def test_a_fault_of_ours_keeps_its_traceback():
    with pytest.raises(ZeroDivisionError):
        run_cli(lambda: 1 // 0)
