"""Processes that this one starts: they end with all that they started, whatever ends this one."""

import contextlib
import ctypes
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator
from typing import Any

from common.errors import Refusal
from common.paths import root
from common.signals import EXIT_CODES, PART_OF_ANOTHER, below, kill

SECONDS_TO_END = 2
_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None


@contextlib.contextmanager
def started(line: list[str], **options: Any) -> Iterator[subprocess.Popen[str]]:
    """A process (`options` as of `subprocess.Popen`) at the head of a group of its own.

    The group is ended with the block: asked first, killed after SECONDS_TO_END. If this process is killed,
    the started one dies with it (Linux).
    """
    process = subprocess.Popen(
        line,
        text=True, errors="replace", stdin=subprocess.DEVNULL, start_new_session=True,
        preexec_fn=die_with_parent, **options,
    )  # fmt: skip
    try:
        yield process
    finally:
        others = below(process.pid) if process.poll() is None else []
        for number in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(SECONDS_TO_END)
        kill(others)
        for stream in filter(None, (process.stdout, process.stderr)):
            stream.close()


def die_with_parent() -> None:
    """Linux: let the kernel kill this process when its parent ends, so that no orphan writes on."""
    set_parent_death_signal = 1
    if _LIBC:
        _LIBC.prctl(set_parent_death_signal, signal.SIGKILL)


def run_commands(commands: Iterable[list[str]]) -> None:
    """Run `socrates` commands (their words); stops at the first that fails, which said why itself."""
    env = {**os.environ, PART_OF_ANOTHER: "1"}
    for command in commands:
        print(f"socrates {shlex.join(command)}", file=sys.stderr, flush=True)
        with started([sys.executable, "-m", "socrates", *command], cwd=root(), env=env) as process:
            code = process.wait()
        if code in EXIT_CODES.values():
            raise KeyboardInterrupt
        if code:
            raise Refusal(f"`socrates {shlex.join(command)}` failed; fix what it says above and run again")
