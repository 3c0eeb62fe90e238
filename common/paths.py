"""Where everything lies: stable names that people can script against (see data/README.md).

Every folder of the project (`configs`, `data`, `outputs`, `metadata`) is `root() / its name`, looked up when
it is needed and never at import. So commands and notebooks work from any folder.
"""

import os
import re
from pathlib import Path

from common.errors import Refusal

DIVIDED = ("study", "task", "condition", "participant")
UNDIVIDED = ("none", "all")  # all rows train, all rows evaluate
SPLITS = (*DIVIDED, *UNDIVIDED)
BUILT_IN = ("sample", "socsci210")
_PROJECT = Path(__file__).resolve().parent.parent
_SAFE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def root() -> Path:
    """The project's folder: `SOCRATES_HOME`, else the folder that holds pyproject.toml.

    It is relative (`Path()`) where it is the working folder, so that messages and records stay short.
    Raises `Refusal` if `SOCRATES_HOME` isn't a folder.
    """
    home = os.environ.get("SOCRATES_HOME")
    folder = Path(home) if home else _PROJECT
    if not folder.is_dir():
        raise Refusal(f"SOCRATES_HOME={home} is not a folder; unset it, or give the project's folder")
    return Path() if folder.resolve() == Path.cwd() else folder.absolute()


def configs() -> Path:
    """The folder of recipes and settings: the home's, or the project's where the home has none.

    So `SOCRATES_HOME` may name an empty folder on a large disk.
    """
    return folder if (folder := root() / "configs").is_dir() else _PROJECT / "configs"


def dataset_name(data: str) -> str:
    """The data set's name: `sample`, `socsci210`, an imported survey, or the name of a folder.

    The folder is in the hub's layout; once `make data` has made its data sets, its name stands for it in all
    that reads them. Raises `Refusal` for a folder that doesn't exist or can't name outputs.
    """
    if data in BUILT_IN or _is_imported(data) or _is_converted(data):
        return data
    folder = Path(data)
    if not folder.is_dir():
        raise Refusal(
            f"DATA={data} is neither {' nor '.join(BUILT_IN)} nor an imported survey nor a folder; "
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
    if data in BUILT_IN or _is_imported(data):
        return root() / "data" / data / "source"
    if _is_converted(data):
        raise Refusal(
            f"DATA={data} is the name of a folder's data sets; to read its answers, give the folder"
        )
    return Path(data)


def _is_imported(data: str) -> bool:
    """Whether `socrates data import` wrote a data set of this name."""
    return _is_plain(data) and (root() / "data" / data / "source" / "data").is_dir()


def _is_converted(data: str) -> bool:
    """Whether `make data` made data sets of this name, from a folder that lies elsewhere."""
    return _is_plain(data) and any(
        (root() / "data" / data / split / "manifest.json").is_file() for split in SPLITS
    )


def _is_plain(data: str) -> bool:
    return bool(_SAFE.fullmatch(data)) and not Path(data).is_dir()


def split_dir(data: str, split: str) -> Path:
    """`data/<dataset>/<split>/`: the data sets of one split, and its manifest."""
    if split not in SPLITS:
        raise Refusal(f"unknown SPLIT={split}; choose one of {', '.join(SPLITS)}")
    return root() / "data" / dataset_name(data) / split


def output_dir(data: str, split: str) -> Path:
    """`outputs/<dataset>/<split>/`: checkpoints under `<model>/`, scores under `eval/`, `report.html`."""
    return root() / "outputs" / split_dir(data, split).relative_to(root() / "data")


def safe_name(name: str, what: str) -> str:
    """`name` if it can name a file without leaving its folder, else a `Refusal`."""
    if not _SAFE.fullmatch(name) or ".." in name:
        raise Refusal(f"{what} {name!r} can't name a file; use letters, digits, . _ - only")
    return name
