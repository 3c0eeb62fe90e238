"""Where models and runs are: recipes in configs/<model>/, runs in outputs/<dataset>/<split>/<model>/<run>/.

A run is finished when its folder holds `run.json` (`common.contract.RunRecord`). A run that another one
replaces is moved aside, to a folder whose name has `.old-` and the time in it; nobody looks there by itself.
"""

import difflib
import time
from pathlib import Path

from common.contract import RunRecord, read_record
from common.errors import Refusal
from common.paths import configs, output_dir, root
from common.readers import read_yaml

RECORD = "run.json"
_ASIDE = ".old-"


def recipe_models() -> list[str]:
    """The models that have recipes: names of the folders of configs/ with an sft.yaml."""
    return sorted(path.parent.name for path in configs().glob("*/sft.yaml"))


def recipe_path(model: str, stage: str = "sft") -> Path:
    """`configs/<model>/<stage>.yaml`. Raises `Refusal` for an unknown model, with the nearest known one."""
    models = recipe_models()
    if model not in models:
        near = difflib.get_close_matches(model, models, 1)
        hint = f"did you mean {near[0]}?" if near else f"choose one of {', '.join(models)}"
        raise Refusal(f"unknown MODEL={model}; {hint}")
    path = configs() / model / f"{stage}.yaml"
    if not path.is_file():
        names = ", ".join(sorted(file.stem for file in path.parent.glob("*.yaml")))
        raise Refusal(
            f"{path.parent} has no recipe {stage}.yaml; there are {names}. RECIPE=file takes any other"
        )
    return path


def base_model(model: str) -> str:
    """The folder or hub id that a model's SFT starts from."""
    path = recipe_path(model)
    recipe, _ = read_yaml(path, "configs/README.md lists the recipes")
    base = recipe.get("model_name_or_path") if isinstance(recipe, dict) else None
    if not isinstance(base, str):
        raise Refusal(f"{path} names no model_name_or_path; give it a folder or a hub id")
    return str(root() / base) if (root() / base).is_dir() else base


def how_to_get(model: Path) -> str:
    """The command that makes the folder of a model below outputs/, for messages."""
    if model.parent != root() / "outputs" / "models":
        return "`make train-sft` with the same settings"
    return "`make tiny-models`" if model.name.startswith("tiny") else f"`socrates fetch-model {model.name}`"


def earlier_adapters(folder: Path) -> list[Path]:
    """The adapters that were merged into the base before the one in `folder` was trained, in their order.

    A run with `create_new_adapter` learned on top of them: its own adapter alone isn't its model. `folder` is
    a run or a checkpoint in one.
    """
    for run in (folder, folder.parent):
        if (run / RECORD).is_file():
            arguments = read_record(run / RECORD, RunRecord, "train it again").arguments
            names = arguments.get("adapter_name_or_path") if arguments.get("create_new_adapter") else None
            return [root() / name for name in str(names or "").split(",") if name]
    return []


def finished_runs(data: str, split: str, model: str = "*") -> list[Path]:
    """The folders of finished runs, of one model or of all: by model, SFT before DPO, without those aside."""
    folder = output_dir(data, split)
    records = [path for path in folder.glob("*/*/" + RECORD) if model in ("*", path.parent.parent.name)]
    runs = [path.parent for path in records if _ASIDE not in path.parent.name]
    return sorted(runs, key=lambda run: (run.parent.name, not run.name.startswith("sft"), run.name))


def aside(run: Path) -> Path:
    """Where a run that is replaced is moved to."""
    return run.with_name(f"{run.name}{_ASIDE}{time.strftime('%Y%m%d-%H%M%S')}")
