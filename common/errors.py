"""Errors that a person can act on: one line with the cause and the remedy, no traceback."""

import errno
import os
import signal
import sys
import threading
from collections.abc import Callable
from typing import Any

from common.text import printable

# A path vanishes or changes its kind while it is used, is too long, goes in circles, or can't be read
BAD_PATH = {
    errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG, errno.ELOOP, errno.EIO, errno.EPERM,
}  # fmt: skip


class Refusal(Exception):
    """A mistake that the user can fix. The message names the cause and the remedy in one line."""


class Terminated(BaseException):
    """SIGTERM, as Ctrl-C is a KeyboardInterrupt: whatever runs ends what it has started."""


def _terminate(number: int, frame: Any) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # one is enough; a second must not stop the cleaning up
    raise Terminated


def run_cli(main: Callable[[], Any]) -> None:
    """Run a command line's `main` and turn what a user can fix into one line and an exit code.

    Exit codes: 0 done, 1 the machine failed (full disk, no permission), 2 refused, 130 interrupted,
    143 terminated.
    """
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, _terminate)
    try:
        main()
    except Refusal as refusal:
        line, code = f"error: {refusal}", 2
    except (KeyboardInterrupt, Terminated) as stop:
        print("stopped: nothing half-written was left; run the same command to go on", file=sys.stderr)
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(130 if isinstance(stop, KeyboardInterrupt) else 143)  # torch takes seconds to tidy up
    except BrokenPipeError:
        sys.exit(141)
    except OSError as error:
        path = error.filename or "while writing"
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            line, code = f"error: the disk is full ({path}); free some space and run again", 1
        elif error.errno in (errno.EACCES, errno.EROFS):
            line, code = f"error: no permission ({path}); change its owner or choose another folder", 1
        elif error.errno in BAD_PATH and error.filename:
            line, code = (
                f"error: {error.strerror} ({path}); check the path, and that nothing else changes it",
                1,
            )
        else:
            raise
    else:
        return
    print(printable(" ".join(line.split())), file=sys.stderr)
    sys.exit(code)
