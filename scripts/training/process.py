"""The training process: started, listened to, and ended with all that it started."""

import collections
import contextlib
import ctypes
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from common.errors import Refusal
from common.paths import root

SAY = "[train] "  # begins a line for the person who waits
FAILED = "failed: "  # after it: the cause, found by a training process itself
SECONDS_TO_END = 1
# glibc: keep freed blocks for the next step instead of giving them back to the system, which zeroes them
# anew (a fifth of a tiny model's time on a CPU).
REUSE_MEMORY = {"MALLOC_MMAP_THRESHOLD_": str(2**32), "MALLOC_TRIM_THRESHOLD_": str(2**32)}
_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None


def run(line: list[str], log: Path, processes: int, say: Callable[[str], None]) -> None:
    """Run the training command; hand on its lines for a person, keep all in the log, refuse if it fails.

    The processes form a group of their own. Whatever ends this one (Ctrl-C, SIGTERM, an error) ends the
    group within SECONDS_TO_END; if this one is killed, they die with it (Linux).
    """
    env = {
        "OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // processes)),
        **REUSE_MEMORY,
        **environment(),
        "PYTHONUNBUFFERED": "1",
        "TOKENIZERS_PARALLELISM": "false",
    }
    last: collections.deque[str] = collections.deque(maxlen=200)
    failure = None
    with log.open("a", encoding="utf-8") as file:
        file.write(f"\n$ {' '.join(line)}\n")
        process = subprocess.Popen(
            line, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, env=env,
            cwd=root(), close_fds=False, text=True, errors="replace", start_new_session=True,
            preexec_fn=die_with_parent,
        )  # fmt: skip
        try:
            for text in process.stdout or ():
                file.write(text)
                file.flush()
                last.append(text.strip())
                if text.startswith(SAY + FAILED):
                    failure = text.removeprefix(SAY + FAILED).strip()
                elif text.startswith(SAY):
                    say(text.removeprefix(SAY).rstrip("\n"))
            process.wait()
        finally:
            end_group(process)
    if process.returncode:
        raise Refusal(f"training failed: {failure or reason(process.returncode, last)}; see {log}")


def environment() -> dict[str, str]:
    """This process's variables, and this code where a child in another folder finds it."""
    code = str(Path(__file__).resolve().parents[2])
    paths = [code, *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}


def end_group(process: subprocess.Popen[str]) -> None:
    """End the process and all that it started: asked first, killed after SECONDS_TO_END."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(SECONDS_TO_END)
    if process.stdout:
        process.stdout.close()


def die_with_parent() -> None:
    """Linux: let the kernel kill this process when its parent ends, so that no orphan writes on."""
    set_parent_death_signal = 1
    if _LIBC:
        _LIBC.prctl(set_parent_death_signal, signal.SIGKILL)


def reason(code: int, lines: collections.deque[str]) -> str:
    """The cause of a failed training process in one line, from its last words."""
    text = "\n".join(lines)
    if "out of memory" in text.lower():
        return (
            "the GPU's memory is full; halve per_device_train_batch_size, double gradient_accumulation_steps "
            "(make plan shows what fits)"
        )
    if code in (-9, 137) or "Signal 9" in text or "SIGKILL" in text:
        return "the process was killed (was main memory full?); run the same command to go on"
    if code in (-2, -15, 130, 143):
        return "interrupted; the same command goes on"
    lines = collections.deque(line.split("]: ", 1)[-1] for line in lines if "ChildFailedError" not in line)
    errors = [line for line in lines if re.match(r"[\w.]*(Error|Exception): ", line)]
    return errors[-1] if errors else f"exit code {code}"
