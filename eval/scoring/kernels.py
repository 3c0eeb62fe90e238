"""Compiled kernels are kept on disk. Those that older sources gave are removed before they can be used.

numba looks for changes in a kernel's own file only; but kernels call those of other files, and would go on
with what stood there.
"""

from pathlib import Path

FOLDERS = (Path(__file__).parent, Path(__file__).parents[2] / "common")


def remove_stale(folders: tuple[Path, ...] = FOLDERS) -> None:
    """Remove indices of numba's cache that are older than any source of the folders; what can't be, stays."""
    newest = max(file.stat().st_mtime for folder in folders for file in folder.glob("*.py"))
    for folder in folders:
        for index in folder.glob("__pycache__/*.nbi"):
            try:
                if index.stat().st_mtime < newest:
                    index.unlink()
            except OSError:  # another process removed it, or the folder is read-only
                continue
