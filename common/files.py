"""Files that are never half-written: every output is written beside its place and renamed when whole."""

import contextlib
import ctypes
import fcntl
import glob
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from common.errors import NO_ROOM

# From SAMPLED bytes on a file is known by BLOCKS blocks of BLOCK bytes
SAMPLED, BLOCKS, BLOCK = 64_000_000, 256, 16_384
PARTIAL = ".partial."  # in the names of folders that hold what is half-written


@contextlib.contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path beside `path`; rename it there when the block ends without an error.

    Works for a file and for a folder (a folder replaces an older one, in one step on Linux). The
    bytes are flushed to disk before the rename, so a kill or a power cut leaves the old content or
    the new, never a mix. What a killed run left behind is removed by the next one. A full disk is an
    OSError that names `path`, whichever library wrote.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    remove_partial(target.parent, target.name)
    holder, lock = _new_holder(target)
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
    except Exception as error:
        if reason := _no_room(error):
            raise OSError(reason, os.strerror(reason), str(target)) from error
        raise
    finally:
        shutil.rmtree(holder, ignore_errors=True)
        os.close(lock)


def _no_room(error: BaseException) -> int | None:
    """The error number if a disk is full: an OSError's, or that in the words of a library's own error."""
    if isinstance(error, OSError) and error.errno in NO_ROOM:
        return error.errno
    words = {f"(os error {number})": number for number in NO_ROOM}  # Rust's: polars, safetensors, tokenizers
    words |= {os.strerror(number): number for number in NO_ROOM}
    return next((number for text, number in words.items() if text in str(error)), None)


def _new_holder(target: Path) -> tuple[Path, int]:
    """A new folder beside `target` for what is half-written, and its lock, which ends with the process."""
    while True:
        holder = Path(tempfile.mkdtemp(prefix=f".{target.name}{PARTIAL}", dir=target.parent))
        lock = _lock_holder(holder)
        if lock is not None:
            return holder, lock


def _lock_holder(holder: Path) -> int | None:
    """The locked descriptor of `holder`'s lock file; None if another process has it or removed it."""
    try:
        lock = os.open(holder / "lock", os.O_RDWR | os.O_CREAT, 0o666)
    except FileNotFoundError:
        return None
    with contextlib.suppress(OSError):
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if (holder / "lock").exists():
            return lock
    os.close(lock)
    return None


def remove_partial(folder: Path, name: str = "*") -> list[Path]:
    """Remove what killed processes left half-written directly in `folder` (of the target `name`)."""
    pattern = f".{name if name == '*' else glob.escape(name)}{PARTIAL}*"
    removed = []
    for holder in folder.glob(pattern):
        lock = _lock_holder(holder)
        if lock is not None:
            shutil.rmtree(holder, ignore_errors=True)
            os.close(lock)
            removed.append(holder)
    return removed


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
            json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n",
            encoding="utf-8",
        )


def sha256_file(path: str | os.PathLike[str]) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    with Path(path).open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def fingerprint(value: Any) -> str:
    """SHA-256 of a JSON-like value: equal values give equal fingerprints on every machine."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


def file_stamp(path: str | os.PathLike[str]) -> list[Any]:
    """Name, size and a sum of the content: what tells that a model's file changed, whatever its date says.

    The sum of a file above SAMPLED bytes is that of blocks spread evenly over it, with its modification time:
    training moves every weight, so other weights differ in any sample, and 16 GB aren't read (some 10 s to a
    minute) only to say that nothing is to do. A few weights that somebody changes by hand, and sets the date
    back, aren't seen.
    """
    path, stat = Path(path), Path(path).stat()
    if stat.st_size <= SAMPLED:
        return [path.name, stat.st_size, sha256_file(path)]
    digest = hashlib.sha256()
    with path.open("rb") as handle:
        for number in range(BLOCKS):
            handle.seek(number * (stat.st_size - BLOCK) // (BLOCKS - 1))
            digest.update(handle.read(BLOCK))
    return [path.name, stat.st_size, stat.st_mtime_ns, digest.hexdigest()]
