"""Which checkpoints of a run are whole.

The trainer writes a checkpoint file by file, so a kill leaves a torn one that looks like a checkpoint.
When every process has written its part, rank 0 adds `whole.json` with each file's size; a checkpoint
without it, or whose files differ from it, is torn: it is renamed and never resumed from.
"""

import json
import re
from pathlib import Path

from common.files import write_json

_NUMBERED = re.compile(r"checkpoint-(\d+)")
MARK = "whole.json"


def mark_whole(checkpoint: Path) -> None:
    """Record the size of every file of a checkpoint that all processes have finished writing."""
    files = {
        str(file.relative_to(checkpoint)): file.stat().st_size
        for file in checkpoint.rglob("*")
        if file.is_file()
    }
    files.pop(MARK, None)
    write_json(checkpoint / MARK, files)


def is_whole(checkpoint: Path) -> bool:
    """True if the checkpoint was finished and every file still has the size it had then."""
    try:
        files = json.loads((checkpoint / MARK).read_text(encoding="utf-8"))
        return bool(files) and all((checkpoint / name).stat().st_size == size for name, size in files.items())
    except (OSError, ValueError, AttributeError):
        return False


def numbered(run: Path) -> list[Path]:
    """The checkpoints of a run, whole or not, by step."""
    paths = [path for path in run.glob("checkpoint-*") if _NUMBERED.fullmatch(path.name) and path.is_dir()]
    return sorted(paths, key=step)


def step(checkpoint: Path) -> int:
    """The optimizer step after which the checkpoint was written."""
    match = _NUMBERED.fullmatch(checkpoint.name)
    return int(match[1]) if match else -1


def last_whole(run: Path) -> tuple[Path | None, list[str]]:
    """(the last whole checkpoint or None, names of the torn ones, which are renamed to `torn-...`)."""
    torn = []
    for checkpoint in numbered(run):
        if not is_whole(checkpoint):
            torn.append(checkpoint.name)
            aside = run / f"torn-{checkpoint.name}"
            suffix = 1
            while aside.exists():
                suffix += 1
                aside = run / f"torn-{checkpoint.name}-{suffix}"
            checkpoint.rename(aside)
    whole = numbered(run)
    return (whole[-1] if whole else None), torn
