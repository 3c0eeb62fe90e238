"""The training process: started, listened to, and why it failed in one line."""

import collections
import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

from common.errors import Refusal
from common.paths import root
from common.processes import started
from scripts.training.extensions import remove_stale_locks

SAY = "[train] "  # begins a line for the person who waits
FAILED = "failed: "  # after it: the cause, found by a training process itself
# glibc: keep freed blocks for the next step instead of giving them back to the system, which zeroes them
# anew (a fifth of a tiny model's time on a CPU).
REUSE_MEMORY = {"MALLOC_MMAP_THRESHOLD_": str(2**32), "MALLOC_TRIM_THRESHOLD_": str(2**32)}


def run(line: list[str], log: Path, processes: int, say: Callable[[str], None]) -> None:
    """Run the training command; hand on its lines for a person, keep all in the log, refuse if it fails."""
    env = {
        "OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // processes)),
        **REUSE_MEMORY,
        **environment(),
        "PYTHONUNBUFFERED": "1",
        "TOKENIZERS_PARALLELISM": "false",
    }
    remove_stale_locks()
    last: collections.deque[str] = collections.deque(maxlen=200)
    failure = None
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    with log.open("a", encoding="utf-8") as file:
        file.write(f"\n$ {' '.join(line)}\n")
        # The run's lock is inherited: it is held as long as any of these processes lives.
        with started(line, **pipes, env=env, cwd=root(), close_fds=False) as process:
            for text in process.stdout or ():
                file.write(text)
                file.flush()
                last.append(text.strip())
                if text.startswith(SAY + FAILED):
                    failure = text.removeprefix(SAY + FAILED).strip()
                elif text.startswith(SAY):
                    say(text.removeprefix(SAY).rstrip("\n"))
            process.wait()
    if process.returncode:
        raise Refusal(f"training failed: {failure or reason(process.returncode, last)}; see {log}")


def environment() -> dict[str, str]:
    """This process's variables, and this code where a child in another folder finds it."""
    code = str(Path(__file__).resolve().parents[2])
    paths = [code, *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}


def reason(code: int, lines: collections.deque[str]) -> str:
    """The cause of a failed training process in one line, from its last words."""
    text = "\n".join(lines)
    if "out of memory" in text.lower():
        return (
            "the GPU's memory is full; halve per_device_train_batch_size, double gradient_accumulation_steps "
            "(make plan shows what fits)"
        )
    if "No space left on device" in text or "PytorchStreamWriter failed" in text:
        return "the disk is full; free some space, and the same command goes on from the last checkpoint"
    if code in (-9, 137) or "Signal 9" in text or "SIGKILL" in text:
        return "the process was killed (was main memory full?); run the same command to go on"
    if code in (-2, -15, 130, 143):
        return "interrupted; the same command goes on"
    lines = collections.deque(line.split("]: ", 1)[-1] for line in lines if "ChildFailedError" not in line)
    errors = [line for line in lines if re.match(r"[\w.]*(Error|Exception): ", line)]
    return errors[-1] if errors else f"exit code {code}"
