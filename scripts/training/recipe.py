"""Recipes: reading them, moving them to a data set and model, dividing their batch.

A recipe is plain LLaMA-Factory YAML, written for ONE process: `per_device_train_batch_size` times
`gradient_accumulation_steps` is the global batch. `rules.py` says what is wrong with one.
"""

import re
import shutil
from pathlib import Path
from typing import Any

import polars as pl

from common.errors import Refusal
from common.files import atomic_path
from common.paths import configs, root, safe_name
from common.readers import parse_yaml, read_json, read_yaml
from common.runs import recipe_path

Recipe = dict[str, Any]
STAGES = ("sft", "dpo", "kto", "pt")
DATASET = re.compile(
    r"[A-Za-z0-9._-]+?_(?:study|task|condition|participant)_(sft|sft_reasoning|sft_validation|dpo|kto)"
)
RUN = re.compile(r"^outputs/[^/]+/[^/]+/([^/]+)/([^/]+)/?$")
# Keys that name models and files
PATHS = ("model_name_or_path", "adapter_name_or_path", "ref_model", "ref_model_adapters", "deepspeed")


def load_recipe(path: Path | str) -> Recipe:
    """Read a recipe's keys and values. Raises `Refusal` if it is missing or no flat YAML mapping."""
    recipe, _ = read_yaml(path, "configs/README.md lists the recipes", yes_is_true=True)
    if not isinstance(recipe, dict):
        raise Refusal(f"{path} is no recipe; write `key: value` lines as in configs/tiny/sft.yaml")
    return recipe


def parse_override(text: str) -> tuple[str, Any]:
    """`key=value` from a command line, the value read as in a recipe."""
    key, sign, value = text.partition("=")
    if not sign or not key:
        raise Refusal(f"{text!r} is no setting; write key=value, for example learning_rate=2e-5")
    try:
        return key, parse_yaml(value, key, yes_is_true=True)[0]
    except Refusal:
        return key, value


def find_recipe(model: str, stage: str, recipe: str | Path | None) -> Path:
    """The recipe's path: the given one, or `configs/<model>/<stage>.yaml`."""
    return Path(recipe) if recipe else recipe_path(model, stage)


def global_batch(recipe: Recipe) -> int:
    """Sequences in one optimizer step (TRL's and LLaMA-Factory's defaults: 8 a device, no accumulation)."""
    return recipe.get("per_device_train_batch_size", 8) * recipe.get("gradient_accumulation_steps", 1)


def divide_batch(recipe: Recipe, processes: int) -> tuple[int, int]:
    """(per-device batch, accumulation steps) of one of `processes` that keep the recipe's global batch.

    The per-device batch stays as it is where that is possible, and shrinks where there are more
    processes than accumulation steps. Raises `Refusal` if the global batch can't be divided.
    """
    total, per_device = global_batch(recipe), recipe.get("per_device_train_batch_size", 8)
    if total % processes:
        fits = [count for count in range(1, total + 1) if total % count == 0]
        near = sorted(fits, key=lambda count: abs(count - processes))[:3]
        raise Refusal(
            f"the recipe's global batch of {total} can't be divided by {processes} processes; use "
            f"GPUS x NNODES = {', '.join(map(str, sorted(near)))}, or change gradient_accumulation_steps"
        )
    share = total // processes
    per_device = max(size for size in range(1, per_device + 1) if share % size == 0)
    return per_device, share // per_device


def resolve(recipe: Recipe, dataset: str, split: str, model: str, stage: str) -> Recipe:
    """The recipe as it runs on one data set and split.

    Dataset names, `outputs/...` folders (of the run, and of the SFT run that DPO starts from) are
    moved to the chosen data set, split and model; everything else stays as the recipe says.
    """
    resolved = dict(recipe)
    for key in ("dataset", "eval_dataset"):
        if isinstance(recipe.get(key), str):
            names = [name.strip() for name in recipe[key].split(",")]
            resolved[key] = ",".join(DATASET.sub(rf"{dataset}_{split}_\1", name) for name in names)

    for key in PATHS:
        if isinstance(recipe.get(key), str):
            paths = [
                RUN.sub(rf"outputs/{dataset}/{split}/{model}/\2", path) for path in names_of(recipe[key])
            ]
            resolved[key] = ",".join(map(located, paths))
    folder = root() / "outputs" / dataset / split / model / run_name(recipe, stage)
    return resolved | {"output_dir": str(folder), "dataset_dir": str(root() / "data")}


def located(path: str) -> str:
    """A path of a recipe: in the project's folder if it lies there, absolute if in the working folder.

    What lies nowhere (a hub model's name) is given back as it is.
    """
    if path.startswith("configs/"):
        return str(configs() / path.removeprefix("configs/"))
    if path.startswith("outputs/") or (root() / path).exists():
        return str(root() / path)
    return str(Path(path).absolute()) if Path(path).exists() else path


def run_name(recipe: Recipe, stage: str) -> str:
    """The last part of the recipe's `output_dir` if it lies in outputs/ or is one word, else the stage."""
    folder = recipe.get("output_dir", stage)
    if not isinstance(folder, str):
        raise Refusal(f"output_dir is {folder!r}; write one text, such as outputs/sample/study/tiny/{stage}")
    if folder.startswith("outputs/"):
        match = re.fullmatch(r"outputs/[^/]+/[^/]+/[^/]+/([^/]+)/?", folder)
        if not match:
            raise Refusal(f"output_dir {folder} names no run; write outputs/<dataset>/<split>/<model>/<run>")
        folder = match[1]
    return safe_name(folder, "the run of output_dir") if "/" not in folder else stage


def names_of(value: Any) -> list[str]:
    """Names with commas between, as a list."""
    return [name.strip() for name in str(value or "").split(",") if name.strip()]


def zero_config(recipe: Recipe) -> dict[str, Any]:
    """The DeepSpeed configuration that the recipe names, {} if none."""
    given = recipe.get("deepspeed")
    if not given:
        return {}
    remedy = "configs/deepspeed/ holds the ready ones"
    config = read_json(given, remedy) if isinstance(given, str) else given
    if not isinstance(config, dict) or not isinstance(config.get("zero_optimization", {}), dict):
        raise Refusal(f"deepspeed: {given} is no DeepSpeed configuration; {remedy}")
    return config


def all_recipes() -> list[Path]:
    """Every recipe in `configs/<model>/`; other folders hold data, evaluation or DeepSpeed settings."""
    folders = sorted(path.parent for path in configs().glob("*/sft.yaml"))
    return [recipe for folder in folders for recipe in sorted(folder.glob("*.yaml"))]


def list_recipes() -> pl.DataFrame:
    """One row a recipe of configs/: model, name, path, stage, method, global batch, what it starts from."""
    return pl.DataFrame(
        [
            {
                "model": path.parent.name, "recipe": path.stem, "path": str(path),
                "stage": recipe.get("stage", "sft"), "method": recipe.get("finetuning_type", "lora"),
                "global_batch": global_batch(recipe), "learning_rate": recipe.get("learning_rate"),
                "starts_from": recipe.get("model_name_or_path"),
            }
            for path in all_recipes()
            for recipe in [load_recipe(path)]
        ],
        infer_schema_length=None,
    )  # fmt: skip


def copy_recipe(model: str, name: str, to: Path | str) -> Path:
    """Copy `configs/<model>/<name>.yaml` to a new file to edit; an existing file is never overwritten."""
    source, target = find_recipe(model, name, None), Path(to)
    load_recipe(source)
    if target.is_dir():
        target = target / source.name
    if target.exists():
        raise Refusal(f"{target} exists and is never overwritten; give another name")
    with atomic_path(target) as partial:
        shutil.copyfile(source, partial)
    return target
