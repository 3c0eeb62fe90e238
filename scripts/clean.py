"""Remove one split's data sets, checkpoints and scores, or what killed runs left half-written.

The source of a built-in data set stays (fetching it again takes long), and so do the tiny models.
"""

import shutil
import tempfile
from pathlib import Path

from common.errors import Refusal
from common.files import PARTIAL, remove_partial
from common.paths import dataset_name, output_dir, root, split_dir
from common.step import running

STAGES = ("sft", "dpo", "kto")  # what the names of its training files begin with


def clean(data: str, split: str) -> list[str]:
    """Remove what was made of a split; one line a folder. Raises `Refusal` while a step writes there."""
    caches = (root() / "outputs" / "tokenised").glob(f"{dataset_name(data)}_{split}_*")
    tokens = [
        path for path in caches if path.name.removeprefix(f"{dataset_name(data)}_{split}_").startswith(STAGES)
    ]
    folders = [split_dir(data, split), output_dir(data, split), *tokens]
    if busy := [step for folder in folders for step in running(folder)]:
        raise Refusal(f"a run is writing {busy[0]}; wait for it or stop it before you clean")
    return [f"{folder}: {'removed' if _remove(folder) else 'nothing to do'}" for folder in folders]


def _remove(folder: Path) -> bool:
    """Remove a folder: out of sight at once, then file by file, so that a kill leaves no half of it."""
    if folder.is_symlink():  # to another disk, say: what it leads to is somebody's own
        folder.unlink()
        return True
    if not folder.exists():
        return False
    holder = Path(tempfile.mkdtemp(prefix=f".{folder.name}{PARTIAL}", dir=folder.parent))
    folder.rename(holder / folder.name)
    shutil.rmtree(holder)
    return True


def clean_partial() -> list[str]:
    """Remove what killed runs left half-written anywhere; one line each. What a living run writes stays.

    Predictions that a later run would have continued (`.parts`) go, too.
    """
    removed = []
    for name in ("data", "outputs", "metadata"):
        top = root() / name
        for folder in sorted({path.parent for path in top.rglob(f".*{PARTIAL}*")}):
            removed += remove_partial(folder)
        for parts in sorted(top.rglob(".parts")):
            if not running(parts.parent):
                shutil.rmtree(parts)
                removed.append(parts)
    return [f"{path}: removed" for path in removed] or ["nothing to do: no run left anything half-written"]
