"""Errors that a person can act on: one line with the cause and the remedy, no traceback."""

import errno
import sys
from collections.abc import Callable
from typing import Any


class Refusal(Exception):
    """A mistake that the user can fix. The message names the cause and the remedy in one line."""


def run_cli(main: Callable[[], Any]) -> None:
    """Run a command line's `main` and turn what a user can fix into one line and an exit code.

    Exit codes: 0 done, 1 the machine failed (full disk, no permission), 2 refused, 130 interrupted.
    """
    try:
        main()
    except Refusal as refusal:
        line, code = f"error: {refusal}", 2
    except KeyboardInterrupt:
        line, code = "stopped: nothing half-written was left; run the same command to go on", 130
    except BrokenPipeError:
        sys.exit(141)
    except OSError as error:
        path = error.filename or "while writing"
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            line, code = f"error: the disk is full ({path}); free some space and run again", 1
        elif error.errno in (errno.EACCES, errno.EROFS):
            line, code = f"error: no permission ({path}); change its owner or choose another folder", 1
        else:
            raise
    else:
        return
    print(line, file=sys.stderr)
    sys.exit(code)
