"""Errors that a person can act on: one line with the cause and the remedy, no traceback."""

import contextlib
import errno
import signal
import sys
from collections.abc import Callable
from typing import Any

from common.signals import Terminated, leave, tidying_up
from common.text import printable

# A path vanishes or changes its kind while it is used, is too long, goes in circles, or can't be read
BAD_PATH = {
    errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG, errno.ELOOP, errno.EIO, errno.EPERM,
}  # fmt: skip
NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


class Refusal(Exception):
    """A mistake that the user can fix. The message names the cause and the remedy in one line."""


def run_cli(main: Callable[[], Any]) -> None:
    """Run a command line's `main` and turn what a user can fix into one line and an exit code.

    Exit codes: 0 done, 1 the machine failed (full disk, no permission), 2 refused, 130 interrupted,
    143 terminated. After a signal nothing that the command has started is alive.
    """
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError):  # a terminal that can't show a letter shows its number
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    try:
        with tidying_up():
            main()
    except Refusal as refusal:
        line, code = str(refusal), 2
    except (KeyboardInterrupt, Terminated) as stop:
        with contextlib.suppress(OSError, ValueError):
            sys.stdout.flush()
        leave(signal.SIGINT if isinstance(stop, KeyboardInterrupt) else signal.SIGTERM)
    except BrokenPipeError:
        sys.exit(141)
    except OSError as error:
        line, code = _failure(error), 1
        if not line:
            raise
    else:
        return
    print(printable(" ".join(f"error: {line}".split())), file=sys.stderr)
    sys.exit(code)


def _failure(error: OSError) -> str:
    """What the machine couldn't do and what helps; empty for what no user can fix."""
    path = error.filename or "while writing"
    if error.errno in NO_ROOM:
        return f"the disk is full ({path}); free some space and run again"
    if error.errno in (errno.EACCES, errno.EROFS):
        return f"no permission ({path}); change its owner or choose another folder"
    if error.errno in BAD_PATH and error.filename:
        return f"{error.strerror} ({path}); check the path, and that nothing else changes it"
    return ""
