"""One mechanism for every step that writes files: lock it, see if it is done, do it, write its record last.

A step has a *record*, a JSON file with `inputs` (a fingerprint of all that the step depends on) and `files`
(size and SHA-256 of what it wrote, see `describe`). A step that replaces its folder as a whole:

    with Step(folder / "manifest.json", inputs, whole=True) as step:
        if step.done and not force:
            return ...
        with atomic_path(folder) as partial:
            ...                                     # write into partial, the record last
            write_json(partial / "manifest.json", {"inputs": inputs, "files": describe(partial, names)})

A step that replaces or adds files in a folder that others write to, too (or that continues after a kill):

    with Step(folder / "scores.json", inputs) as step:
        if step.done:
            return ...
        step.begin()                                # removes the old record: it never vouches for new files
        ...                                         # write each file by atomic_path
        write_json(step.record, {"inputs": inputs, "files": describe(folder, names)})

Whoever reads what a step writes, and must not see half of it, does so in `with reading(record): ...`.
"""

import contextlib
import fcntl
import json
import os
import socket
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from common.errors import Refusal
from common.files import remove_partial, sha256_file


class Step:
    """A step that holds its lock inside `with`. Raises `Refusal` on entry if another process holds it.

    record: the file that is written last. inputs: fingerprint of all that the step depends on (set it later
    where it is only known under the lock). whole: the record's folder is replaced as a whole. wait: for
    another process that holds the lock, instead of refusing. What killed runs left half-written there is
    removed on entry.
    """

    def __init__(self, record: Path, inputs: str = "", whole: bool = False, wait: bool = False) -> None:
        self.record, self.inputs, self.wait = record, inputs, wait
        self.target = record.parent if whole else record
        self._lock: int | None = None

    def __enter__(self) -> "Step":
        self.target.parent.mkdir(parents=True, exist_ok=True)
        announced = False
        while (lock := _hold(lock_path(self.target), fcntl.LOCK_EX, create=True)) is None:
            if not self.wait:
                raise _refusal(self.target)
            if not announced:
                print(f"waiting: {_refusal(self.target)}".rpartition(";")[0], file=sys.stderr, flush=True)
            announced = True
            time.sleep(0.2)
        self._lock = lock
        os.ftruncate(self._lock, 0)
        os.write(self._lock, f"process {os.getpid()} on {socket.gethostname()}".encode())
        # Processes that are started with close_fds=False keep the lock until the last of them ends.
        os.set_inheritable(self._lock, True)
        remove_partial(self.target.parent)
        return self

    def __exit__(self, *error: object) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    @property
    def done(self) -> bool:
        """True if the record has these inputs and the files that it lists have the recorded sums."""
        try:
            content = json.loads(self.record.read_text(encoding="utf-8"))
            if content["inputs"] != self.inputs:
                return False
            listed = content.get("files") or {}
            return all(unchanged(self.record.parent / name, file) for name, file in listed.items())
        except (OSError, ValueError, RecursionError, KeyError, TypeError, AttributeError):
            return False  # no record, or none that this version wrote: the step is done again

    def begin(self) -> None:
        """Remove the old record, before the first file that it vouches for is replaced."""
        self.record.unlink(missing_ok=True)


def describe(folder: Path, names: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Size and SHA-256 of files in `folder`, by name: what a record lists under `files`.

    A record may leave the sum out where files are too large to be read each time.
    """
    return {
        name: {"bytes": (folder / name).stat().st_size, "sha256": sha256_file(folder / name)}
        for name in names
    }


def unchanged(path: Path, recorded: dict[str, Any]) -> bool:
    """True if a file has the size, and the SHA-256 if there is one, that `describe` recorded."""
    if path.stat().st_size != recorded["bytes"]:
        return False
    return "sha256" not in recorded or sha256_file(path) == recorded["sha256"]


def lock_path(target: Path) -> Path:
    """The lock of the step that writes `target` (a folder that is replaced as a whole, or a record)."""
    return target.parent / f".{target.name}.lock"


@contextlib.contextmanager
def reading(*targets: Path) -> Iterator[None]:
    """Keep the steps that write `targets` from starting meanwhile. Raises `Refusal` while one is running.

    Several readers don't disturb one another, and a folder without write permission can be read.
    """
    locks = []
    try:
        for target in targets:
            lock = _hold(lock_path(target), fcntl.LOCK_SH, create=False)
            if lock is None:
                raise _refusal(target)
            locks.append(lock)
        yield
    finally:
        for lock in locks:
            if lock >= 0:
                os.close(lock)


def running(folder: Path) -> list[str]:
    """The steps that are writing anything below `folder`, or `folder` itself: what each one writes."""
    candidates = [lock_path(folder), *folder.rglob(".*.lock")]
    held = [path for path in candidates if _hold_briefly(path) is None]
    return [f"{path.parent / path.name[1:].removesuffix('.lock')}{_words(path)}" for path in held]


def _hold_briefly(path: Path) -> int | None:
    lock = _hold(path, fcntl.LOCK_SH, create=False)
    if lock is not None and lock >= 0:
        os.close(lock)
    return lock


def _hold(path: Path, kind: int, create: bool) -> int | None:
    """An open, locked file descriptor of `path`; None if another process holds it.

    Without `create` a lock that nobody has made yet is -1: there is nothing to wait for.
    """
    while True:
        try:
            lock = os.open(path, os.O_RDWR | os.O_CREAT if create else os.O_RDONLY, 0o666)
        except FileNotFoundError:
            return -1
        try:
            fcntl.flock(lock, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            return None
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(lock), path.stat()):
                return lock
        os.close(lock)  # `make clean` has removed the file meanwhile: lock its successor


def _refusal(target: Path) -> Refusal:
    """Why a step can't start: it is running already, or what it writes is being read."""
    if _hold_briefly(lock_path(target)) is not None:
        return Refusal(f"another run is reading {target}; wait for it or stop it")
    return Refusal(f"another run is writing {target}{_words(lock_path(target))}; wait for it or stop it")


def _words(lock: Path) -> str:
    with contextlib.suppress(OSError, UnicodeDecodeError):
        if words := lock.read_text(encoding="utf-8")[:80]:
            return f" ({words})"
    return ""
