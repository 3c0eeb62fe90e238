"""LLaMA-Factory's index `data/dataset_info.json`: gains a data set's entries, keeps everybody else's."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from filelock import FileLock

from common.errors import Refusal
from common.files import write_json
from common.paths import dataset_name, root
from common.readers import read_json
from scripts.data.settings import DataSettings

STAGES = ("sft", "sft_reasoning", "sft_validation", "dpo", "kto")  # the training files that there can be


def index_path() -> Path:
    """`data/dataset_info.json`."""
    return root() / "data" / "dataset_info.json"


def register(data: str, split: str, settings: DataSettings, files: Iterable[str]) -> None:
    """Put the training files among `files` into the index, under a lock; stale entries of the split go."""
    dataset = dataset_name(data)
    prefix = f"{dataset}_{split}_"
    path = index_path()
    stems = {Path(file).stem for file in files}
    names = [name for name in STAGES if name in stems]
    entries = {f"{prefix}{name}": entry(f"{dataset}/{split}", name, settings) for name in names}
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_name(".dataset_info.lock")):
        index: Any = {}
        if path.exists():
            index = read_json(path, "fix it or delete it; `make data` writes its entries again")
        if not isinstance(index, dict):
            raise Refusal(f"{path} must hold an object; delete it, `make data` writes its entries again")
        others = {k: v for k, v in index.items() if k not in {f"{prefix}{name}" for name in STAGES}}
        if index != others | entries:
            write_json(path, others | entries)


def entry(folder: str, name: str, settings: DataSettings) -> dict[str, Any]:
    """One entry. The `columns` are explicit: without them LLaMA-Factory drops the system prompt."""
    columns = {"system": "system"}
    if settings.form == "alpaca":
        columns["prompt"] = "instruction"
        if settings.format == "parquet":
            columns["query"] = "input"
        if name != "dpo":
            columns["response"] = "output"
    else:
        columns["messages"] = "conversations"
    if name == "dpo":
        columns |= {"chosen": "chosen", "rejected": "rejected"}
    if name == "kto":
        columns |= {"kto_tag": "kto_tag"}
    described: dict[str, Any] = {"file_name": f"{folder}/{name}.{settings.format}", "columns": columns}
    if settings.form == "sharegpt":
        described["formatting"] = "sharegpt"
    if name == "dpo":
        described["ranking"] = True
    return described
