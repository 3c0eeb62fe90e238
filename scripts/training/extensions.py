"""Kernels that DeepSpeed compiles on first use: a compilation that was killed must not block later runs.

torch guards each with an empty file `lock`, and whoever finds one waits without end. It holds no process id:
it is stale when it isn't new and no build tool works in its folder.
"""

import contextlib
import os
import time
from pathlib import Path

import psutil

BUILD_TOOLS = ("ninja", "nvcc", "c++", "g++", "cc1plus", "cicc", "ptxas")
SECONDS = 30  # between the lock and the first build tool, and between the last one and the lock's end


def build_folder() -> Path:
    """Where torch compiles: TORCH_EXTENSIONS_DIR, else a folder of the user's cache."""
    if named := os.environ.get("TORCH_EXTENSIONS_DIR"):
        return Path(named)
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "torch_extensions"


def remove_stale_locks() -> list[Path]:
    """Remove the locks of compilations that were killed; gives the folders they were in."""
    stale = [
        lock for pattern in ("*/lock", "*/*/lock") for lock in build_folder().glob(pattern) if _old(lock)
    ]
    if not stale:
        return []
    busy = set(map(_builds_in, psutil.process_iter(["name"])))
    removed = [lock for lock in stale if lock.parent.resolve() not in busy]
    for lock in removed:
        with contextlib.suppress(OSError):
            lock.unlink()
    return [lock.parent for lock in removed]


def _old(lock: Path) -> bool:
    with contextlib.suppress(OSError):
        return time.time() - lock.stat().st_mtime > SECONDS
    return False


def _builds_in(process: psutil.Process) -> Path | None:
    if process.info["name"] in BUILD_TOOLS:
        with contextlib.suppress(psutil.Error, OSError):
            return Path(process.cwd()).resolve()
    return None
