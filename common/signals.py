"""SIGINT (Ctrl-C) and SIGTERM end a command with one line, an exit code, and all that it has started."""

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator
from typing import Any, NoReturn

EXIT_CODES = {signal.SIGINT: 130, signal.SIGTERM: 143}
STOPPED = b"stopped: nothing half-written was left; run the same command to go on\n"
SECONDS_TO_TIDY_UP = 3
PART_OF_ANOTHER = (
    "SOCRATES_PART_OF_ANOTHER"  # set for commands that a command runs, which says the line itself
)


class Terminated(BaseException):
    """SIGTERM, as Ctrl-C is a KeyboardInterrupt: whatever runs ends what it has started."""


def leave_on_signals() -> None:
    """Until `run_cli` begins (its command is still being imported) a signal ends the process at once."""
    for number in EXIT_CODES:
        signal.signal(number, lambda number, _: leave(number))


@contextlib.contextmanager
def tidying_up() -> Iterator[None]:
    """The first signal raises an exception, and what runs has SECONDS_TO_TIDY_UP to end.

    A library in a long computation, or one that swallows the exception, doesn't end by itself: a thread that
    the signal wakes ends the process then.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    before = {number: signal.signal(number, _stop) for number in EXIT_CODES}
    waker = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    os.register_at_fork(after_in_child=lambda: signal.set_wakeup_fd(-1))
    threading.Thread(target=_leave_late, args=(reader,), daemon=True).start()
    try:
        yield
    finally:
        if signal.getsignal(signal.SIGINT) is _stop:  # else a signal came, and its time runs
            signal.set_wakeup_fd(waker)
            os.close(writer)
            for number, handler in before.items():
                signal.signal(number, handler)


def _stop(number: int, frame: Any) -> NoReturn:
    for each in EXIT_CODES:  # one is enough; a second must not stop the tidying up
        signal.signal(each, signal.SIG_IGN)
    raise KeyboardInterrupt if number == signal.SIGINT else Terminated


def _leave_late(reader: int) -> None:
    while number := os.read(reader, 1):
        if number[0] in EXIT_CODES:
            import psutil  # noqa: F401  # now: beside a thread that never rests it takes long

            time.sleep(SECONDS_TO_TIDY_UP)
            leave(number[0])
    os.close(reader)


def leave(number: int) -> NoReturn:
    """End this process and all below it, with one line. (Python's own end would wait for torch.)"""
    kill(below(os.getpid()))
    if PART_OF_ANOTHER not in os.environ:
        with contextlib.suppress(OSError):  # not by sys.stderr: a thread that hangs may hold it
            os.write(2, STOPPED)
    os._exit(EXIT_CODES[signal.Signals(number)])


def below(process: int) -> list[Any]:
    """All processes that this one, and those it started, have started (as of `psutil`)."""
    with contextlib.suppress(Exception):  # it may just have ended
        import psutil

        return psutil.Process(process).children(recursive=True)
    return []


def kill(processes: list[Any]) -> None:
    """Kill those that are alive. A process that has another's former number isn't touched."""
    for process in processes:
        with contextlib.suppress(Exception):
            process.kill()
