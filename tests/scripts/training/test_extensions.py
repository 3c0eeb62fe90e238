"""A killed compilation of a kernel doesn't block the runs after it."""

import os
import shutil
import subprocess
import time

from scripts.training.extensions import remove_stale_locks


def test_a_lock_goes_once_nobody_compiles_behind_it(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(tmp_path))
    kernel = tmp_path / "py311_cpu" / "shm"
    kernel.mkdir(parents=True)
    lock = kernel / "lock"
    lock.touch()
    assert remove_stale_locks() == [] and lock.exists()  # new: somebody has only just begun
    long_ago = time.time() - 600
    os.utime(lock, (long_ago, long_ago))
    shutil.copy(shutil.which("sleep") or "/bin/sleep", tmp_path / "ninja")
    with subprocess.Popen([tmp_path / "ninja", "60"], cwd=kernel) as builder:
        assert remove_stale_locks() == [] and lock.exists()
        builder.kill()
    assert remove_stale_locks() == [kernel] and not lock.exists()
