"""Kernels that were compiled from older sources aren't used."""

import os

from eval.scoring.kernels import remove_stale


def test_kernels_go_when_any_source_is_newer_and_stay_when_none_is(tmp_path):
    kernels, called = tmp_path / "kernels", tmp_path / "called"
    for folder in (kernels, called):
        (folder / "__pycache__").mkdir(parents=True)
        (folder / "source.py").touch()
    index = kernels / "__pycache__" / "source.kernel-1.py311.nbi"
    index.touch()
    for file, time in ((kernels / "source.py", 100), (called / "source.py", 100), (index, 200)):
        os.utime(file, (time, time))
    remove_stale((kernels, called))
    assert index.exists()
    os.utime(called / "source.py", (300, 300))
    remove_stale((kernels, called))
    assert not index.exists()
