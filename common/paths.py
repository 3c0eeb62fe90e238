"""Where everything lies: stable names that people can script against (see data/README.md)."""

import re
from pathlib import Path

from common.errors import Refusal

SPLITS = ("study", "task", "condition", "participant")
BUILT_IN = ("sample", "socsci210")
_SAFE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def dataset_name(data: str) -> str:
    """The data set's name: `sample`, `socsci210`, or the name of a folder in the hub's layout.

    Raises `Refusal` for a folder that doesn't exist or whose name can't name outputs.
    """
    if data in BUILT_IN:
        return data
    folder = Path(data)
    if not folder.is_dir():
        raise Refusal(
            f"DATA={data} is neither {' nor '.join(BUILT_IN)} nor a folder; "
            "give one of these names or a folder in the hub's layout"
        )
    name = folder.resolve().name
    if name in BUILT_IN or not _SAFE.fullmatch(name):
        raise Refusal(
            f"the folder name {name!r} can't name a data set; rename the folder "
            f"(letters, digits, . _ - only, not {' or '.join(BUILT_IN)})"
        )
    return name


def source_dir(data: str) -> Path:
    """The folder in the hub's layout (`data/*.parquet`, `metadata/*.json`) that `DATA` stands for."""
    return Path("data", data, "source") if data in BUILT_IN else Path(data)


def split_dir(data: str, split: str) -> Path:
    """`data/<dataset>/<split>/`: the data sets of one split, and its manifest."""
    if split not in SPLITS:
        raise Refusal(f"unknown SPLIT={split}; choose one of {', '.join(SPLITS)}")
    return Path("data", dataset_name(data), split)


def output_dir(data: str, split: str) -> Path:
    """`outputs/<dataset>/<split>/`: checkpoints under `<model>/`, scores under `eval/`, `report.html`."""
    return Path("outputs") / split_dir(data, split).relative_to("data")


def safe_name(name: str, what: str) -> str:
    """`name` if it can name a file without leaving its folder, else a `Refusal`."""
    if not _SAFE.fullmatch(name) or ".." in name:
        raise Refusal(f"{what} {name!r} can't name a file; use letters, digits, . _ - only")
    return name
