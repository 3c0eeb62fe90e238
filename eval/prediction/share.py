"""Several processes share one prediction, each with a GPU of its own: `make eval GPUS=8`.

Each process takes every n-th block of rows and saves its parts beside the others'. The blocks are the same
whatever the number, so the predictions are, too, and a run that was stopped goes on with another number.

    python -m eval.prediction.share FOLDER NUMBER OF      (started by `share_out`, not by people)
"""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO

import polars as pl

from common.errors import Refusal, run_cli
from common.files import atomic_path, write_json
from common.paths import root
from eval.prediction.blocks import predict_into
from eval.prediction.predictor import Predictor
from eval.prediction.store import Store
from eval.settings import Settings

ROWS, JOB = "rows.parquet", "job.json"


def share_out(
    rows: pl.DataFrame,
    model: str,
    settings: Settings,
    store: Store,
    processes: int,
    count: Callable[[int], object],
) -> None:
    """Let `processes` processes predict the rows that `store` doesn't hold; `count` is told of them.

    Raises `Refusal` with the first failing process's own words; what the others have saved stays.
    """
    folder = (store.parts / "job").absolute()
    with atomic_path(folder / ROWS) as partial:
        rows.write_parquet(partial)
    path = str(Path(model).resolve()) if Path(model).is_dir() else model
    write_json(folder / JOB, {"model": path, "settings": settings.model_dump(mode="json")})
    children = [_start(folder, number, processes) for number in range(processes)]
    words: list[list[str]] = [[] for _ in children]
    readers = [
        threading.Thread(target=_read, args=(stream, into), daemon=True)
        for child, last in zip(children, words, strict=True)
        for stream, into in ((child.stdout, lambda line: count(int(line))), (child.stderr, last.append))
    ]
    try:
        for reader in readers:
            reader.start()
        while any(child.poll() is None for child in children):
            if any(child.poll() for child in children):
                break
            time.sleep(0.1)
    finally:
        for child in children:
            child.terminate()
        for child in children:
            child.wait()
        for reader in readers:
            reader.join(timeout=5)
    for number, child in enumerate(children):
        if child.returncode and child.returncode > 0:
            message = (words[number] or ["no message"])[-1].strip().removeprefix("error: ")
            raise Refusal(f"process {number + 1} of {processes} failed: {message}")


def _start(folder: Path, number: int, processes: int) -> subprocess.Popen[str]:
    """One process, which sees one GPU, or its part of the processor's cores."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    gpus = visible.split(",") if visible else [str(gpu) for gpu in range(processes)]
    threads = str(max(1, (os.cpu_count() or 1) // processes))
    environment = {
        **os.environ,
        "CUDA_VISIBLE_DEVICES": gpus[number % len(gpus)],
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", threads),
        "SOCRATES_HOME": str(root().absolute()),
    }
    command = [sys.executable, "-m", __spec__.name, str(folder), str(number), str(processes)]
    return subprocess.Popen(
        command,
        cwd=Path(__file__).parents[2],
        env=environment,
        text=True,
        errors="replace",
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def _read(stream: IO[str], into: Callable[[str], object]) -> None:
    for line in stream:
        if line.strip():
            into(line)


def predict_share(folder: Path, number: int, processes: int) -> None:
    """Predict one process's blocks and save them; prints how many rows were done since the last line."""
    job = json.loads((folder / JOB).read_text(encoding="utf-8"))
    store = Store(folder.parent.parent.parent, folder.parent.name)
    predictor = Predictor(job["model"], Settings.model_validate(job["settings"]))
    rows, last_told = 0, time.monotonic()

    def count() -> None:
        nonlocal rows, last_told
        rows += 1
        if time.monotonic() - last_told > 0.5:
            print(rows, flush=True)
            rows, last_told = 0, time.monotonic()

    predict_into(store, pl.read_parquet(folder / ROWS), predictor, count, (number, processes))
    print(rows, flush=True)


def main() -> None:
    """Read what `share_out` gave; end when the parent does, even if it was killed."""
    threading.Thread(target=lambda: (sys.stdin.read(), os._exit(1)), daemon=True).start()
    predict_share(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))


if __name__ == "__main__":
    run_cli(main)
