"""Files that are never half-written: every output is written beside its place and renamed when whole."""

import contextlib
import ctypes
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any


@contextlib.contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path beside `path`; rename it there when the block ends without an error.

    Works for a file and for a folder (a folder replaces an older one, in one step on Linux). The
    bytes are flushed to disk before the rename, so a kill or a power cut leaves the old content or
    the new, never a mix. What a killed run left behind is removed by the next one.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    _remove_leftovers(target)
    holder = Path(tempfile.mkdtemp(prefix=f".{target.name}.{os.getpid()}.", dir=target.parent))
    partial = holder / target.name
    try:
        yield partial
        for file in [partial] if partial.is_file() else partial.rglob("*"):
            if file.is_file():
                with file.open("rb+") as handle:
                    os.fsync(handle.fileno())
        if partial.is_dir() and target.exists():
            _exchange(partial, target)
        else:
            partial.replace(target)
    finally:
        shutil.rmtree(holder, ignore_errors=True)


def _remove_leftovers(target: Path) -> None:
    """Remove the temporary folders of processes that no longer live (killed before their `finally`)."""
    for holder in target.parent.glob(f".{target.name}.*.*"):
        owner = holder.name.split(".")[-2]
        if owner.isdigit() and not _alive(int(owner)):
            shutil.rmtree(holder, ignore_errors=True)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def _exchange(one: Path, other: Path) -> None:
    """Swap two folders. Linux does it in one step (renameat2), elsewhere it takes two renames."""
    at_cwd, exchange = -100, 2
    renameat2 = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if renameat2 and renameat2(at_cwd, os.fsencode(one), at_cwd, os.fsencode(other), exchange) == 0:
        return
    other.replace(one.with_name("old"))
    one.replace(other)


def write_json(path: str | os.PathLike[str], value: Any) -> None:
    """Write `value` as indented, key-sorted JSON, atomically. NaN is refused: it is not JSON."""
    with atomic_path(path) as partial:
        partial.write_text(
            json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n"
        )


def sha256_file(path: str | os.PathLike[str]) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    with Path(path).open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def fingerprint(value: Any) -> str:
    """SHA-256 of a JSON-like value: equal values give equal fingerprints on every machine."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


def file_stamp(path: str | os.PathLike[str]) -> list[Any]:
    """Name, size and modification time: enough to see that an input changed, without reading gigabytes."""
    stat = Path(path).stat()
    return [Path(path).name, stat.st_size, stat.st_mtime_ns]


def up_to_date(record: str | os.PathLike[str], inputs: str) -> bool:
    """True if `record` (JSON written last by a step) holds the fingerprint `inputs` under "inputs".

    A step calls this first, says that nothing was to do, and ends; every step writes its record last,
    so a record's existence means that all its outputs are whole.
    """
    try:
        return bool(json.loads(Path(record).read_text())["inputs"] == inputs)
    except (OSError, ValueError, KeyError, TypeError):
        return False
