"""Check recipes before anything is spent on them.

    python -m scripts.training.recipe configs/llama3-8b/sft.yaml      # check one or more recipes
    python -m scripts.training.recipe --check-all                     # every recipe in configs/

A recipe is plain LLaMA-Factory YAML, written for ONE process: `per_device_train_batch_size` times
`gradient_accumulation_steps` is the global batch. Its keys are bound to LLaMA-Factory's own parser
without loading a model; settings that conflict are refused with the remedy.
"""

import argparse
import dataclasses
import difflib
import os
import re
import tempfile
import typing
from pathlib import Path
from typing import Any

import yaml

from common.errors import Refusal, run_cli
from common.readers import read_json

Recipe = dict[str, Any]
CONFIGS = Path("configs")
DATASET = re.compile(
    r"[A-Za-z0-9._-]+?_(?:study|task|condition|participant)_(sft|sft_reasoning|sft_validation|dpo)"
)
RUN = re.compile(r"outputs/[^/]+/[^/]+/([^/]+)/([^/]+)/?")
GPU_ONLY_STATES = ("8bit", "4bit", "paged")  # optimizers whose states live on the GPU only


class _UniqueKeys(yaml.SafeLoader):
    """YAML's safe loader, but a key given twice is an error instead of silently the last one's value."""


def _unique_mapping(loader: _UniqueKeys, node: yaml.MappingNode) -> dict[Any, Any]:
    keys = [loader.construct_object(key) for key, _ in node.value]
    twice = {key for key in keys if keys.count(key) > 1}
    if twice:
        raise yaml.YAMLError(f"the key {sorted(twice)[0]!r} is given twice")
    return loader.construct_mapping(node)


_UniqueKeys.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _unique_mapping)
# YAML 1.1 reads 1e-5 as text; LLaMA-Factory's reader (omegaconf) reads it as a number, and so do we.
_UniqueKeys.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"), list("-+.0123456789")
)


def load_recipe(path: Path | str) -> Recipe:
    """Read a recipe's keys and values. Raises `Refusal` if it is missing or no flat YAML mapping."""
    try:
        recipe = yaml.load(Path(path).read_text(encoding="utf-8"), _UniqueKeys)  # a SafeLoader
    except FileNotFoundError:
        raise Refusal(f"the recipe {path} is missing; configs/README.md lists the recipes") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise Refusal(f"{path} is not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(recipe, dict) or not all(isinstance(key, str) for key in recipe):
        raise Refusal(f"{path} is no recipe; write `key: value` lines as in configs/tiny/sft.yaml")
    return recipe


def parse_override(text: str) -> tuple[str, Any]:
    """`key=value` from a command line, the value read as in a recipe."""
    key, sign, value = text.partition("=")
    if not sign or not key:
        raise Refusal(f"{text!r} is no setting; write key=value, for example learning_rate=2e-5")
    try:
        return key, yaml.load(value, _UniqueKeys)
    except yaml.YAMLError:
        return key, value


def find_recipe(model: str, stage: str, recipe: str | None) -> Path:
    """The recipe's path: the given one, or `configs/<model>/<stage>.yaml`."""
    if recipe:
        return Path(recipe)
    models = sorted(path.parent.name for path in CONFIGS.glob("*/sft.yaml"))
    if model not in models:
        near = difflib.get_close_matches(model, models, 1)
        hint = f"did you mean {near[0]}?" if near else f"choose one of {', '.join(models)}"
        raise Refusal(f"unknown MODEL={model}; {hint}")
    return CONFIGS / model / f"{stage}.yaml"


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

    def moved(path: str) -> str:
        return RUN.sub(lambda match: f"outputs/{dataset}/{split}/{model}/{match[2]}", path)

    for key in ("model_name_or_path", "adapter_name_or_path", "ref_model"):
        if isinstance(recipe.get(key), str) and RUN.fullmatch(recipe[key]):
            resolved[key] = moved(recipe[key])
    named = RUN.fullmatch(str(recipe.get("output_dir", "")))
    resolved["output_dir"] = f"outputs/{dataset}/{split}/{model}/{named[2] if named else stage}"
    resolved["dataset_dir"] = "data"
    return resolved


def check(recipe: Recipe, path: Path | str) -> None:
    """Refuse unknown keys, values of a wrong type, and conflicts; nothing is loaded or written."""
    _check_keys(recipe, path)
    _check_conflicts(recipe, path)
    _bind(recipe, path)


def _check_keys(recipe: Recipe, path: Path | str) -> None:
    """Keys and types as LLaMA-Factory's argument classes declare them; its parser checks no types."""
    import pydantic

    os.environ.setdefault("LLAMAFACTORY_VERBOSITY", "ERROR")  # read once, when it is imported
    from llamafactory.hparams import parser

    types: dict[str, Any] = {}
    for group in parser._TRAIN_ARGS:
        hints = typing.get_type_hints(group)
        types |= {field.name: hints[field.name] for field in dataclasses.fields(group) if field.init}
    for key, value in recipe.items():
        if key not in types:
            near = difflib.get_close_matches(key, types, 1, 0.5)
            hint = f"did you mean {near[0]!r}?" if near else "LLaMA-Factory knows no key like it"
            raise Refusal(f"{path}: unknown key {key!r}; {hint}")
        try:
            pydantic.TypeAdapter(types[key]).validate_python(value)
        except pydantic.ValidationError as error:
            reason = error.errors()[0]["msg"].lower()
            raise Refusal(f"{path}: {key}: {value!r} won't do, {reason}") from None
        except pydantic.PydanticUserError:  # a type that only its own class understands
            continue


def _check_conflicts(recipe: Recipe, path: Path | str) -> None:
    """Settings that LLaMA-Factory would accept and that fail, or mislead, hours later."""
    for problem in conflicts(recipe):
        raise Refusal(f"{path}: {problem}")


def conflicts(recipe: Recipe) -> list[str]:
    """Every conflict in the recipe, each with its remedy, worst first."""
    get = recipe.get
    zero = zero_config(recipe).get("zero_optimization", {})
    optimizer = str(get("optim", "adamw_torch"))
    wrong_data = {"sft": ("dpo",), "dpo": ("sft", "sft_reasoning", "sft_validation")}
    named = [DATASET.fullmatch(name.strip()) for name in str(get("dataset", "")).split(",")]
    evaluates = get("eval_strategy", "no") not in ("no", False)
    rules = [
        (get("stage") not in ("sft", "dpo"), f"stage is {get('stage')!r}; set it to sft or dpo"),
        (not get("do_train"), "do_train is not true, so nothing would be trained; set do_train: true"),
        (not get("template"), "template is missing; set the model family's, for example llama3 or qwen"),
        (
            any(match and match[1] in wrong_data.get(str(get("stage")), ()) for match in named),
            f"the data set {get('dataset')} is not for stage {get('stage')}; "
            "use *_sft for sft, *_dpo for dpo",
        ),
        (
            get("save_only_model") and get("save_strategy", "steps") != "no",
            "save_only_model keeps no optimizer state, so a killed run can't go on; set it to false",
        ),
        (
            evaluates and not get("eval_dataset") and not get("val_size"),
            "eval_strategy is set but there is no evaluation set; set eval_dataset: ..._sft_validation, or "
            "eval_strategy: 'no'",
        ),
        (
            evaluates and get("stage") == "dpo" and "_sft" in str(get("eval_dataset", "")) + "_",
            "an SFT data set can't evaluate DPO; set val_size, or eval_strategy: 'no'",
        ),
        (
            get("load_best_model_at_end") and get("save_strategy", "steps") != get("eval_strategy", "no"),
            "load_best_model_at_end needs checkpoints when it evaluates; set save_strategy and "
            "eval_strategy to the same value",
        ),
        (
            get("load_best_model_at_end") and get("eval_steps", 0) != get("save_steps", 0) and evaluates,
            "load_best_model_at_end needs a checkpoint at every evaluation; "
            "set save_steps equal to eval_steps",
        ),
        (
            get("early_stopping_steps") and not get("load_best_model_at_end"),
            "early_stopping_steps stops at a worse model than the best; set load_best_model_at_end: true",
        ),
        (get("streaming"), "streaming can't be tokenised beforehand nor resumed exactly; remove it"),
        (
            get("tokenized_path"),
            "tokenized_path silently wins over the data, also when it is stale; remove it (the launcher "
            "keeps a cache of its own, named by what it depends on)",
        ),
        (get("trust_remote_code"), "trust_remote_code runs a stranger's code; use a model that needs none"),
        (
            get("quantization_bit") and get("finetuning_type", "lora") == "full",
            "a quantised model can't be fully fine-tuned; set finetuning_type: lora",
        ),
        (
            get("quantization_bit") and zero.get("stage") == 3,
            "ZeRO-3 splits weights that quantisation has packed; use configs/deepspeed/zero2.json",
        ),
        (
            zero.get("offload_optimizer", {}).get("device") == "cpu"
            and any(mark in optimizer for mark in GPU_ONLY_STATES),
            f"ZeRO offload keeps optimizer states in main memory, which {optimizer} can't; "
            "set optim: adamw_torch",
        ),
        (
            bool(zero) and optimizer.startswith(("galore", "apollo", "lomo", "adalomo")),
            f"DeepSpeed can't split {optimizer}; set optim: adamw_torch or remove deepspeed",
        ),
        (
            get("pure_bf16") and zero.get("stage") == 3,
            "pure_bf16 doesn't work with ZeRO-3; set bf16: true instead",
        ),
    ]
    return [message for wrong, message in rules if wrong] + _template_conflict(recipe)


def _template_conflict(recipe: Recipe) -> list[str]:
    """A hub model that LLaMA-Factory knows by name must have the template that it lists for it."""
    model, template = str(recipe.get("model_name_or_path", "")), recipe.get("template")
    if not template or "/" not in model or Path(model).exists():
        return []
    from llamafactory.extras.constants import DEFAULT_TEMPLATE, SUPPORTED_MODELS

    for name, places in SUPPORTED_MODELS.items():
        if model in places.values() and DEFAULT_TEMPLATE.get(name, template) != template:
            right = DEFAULT_TEMPLATE[name]
            return [f"template {template} isn't that of {model}, which answers as it was taught; set {right}"]
    return []


def zero_config(recipe: Recipe) -> dict[str, Any]:
    """The DeepSpeed configuration that the recipe names, {} if none."""
    place = recipe.get("deepspeed")
    if not place:
        return {}
    if isinstance(place, dict):
        return place
    return read_json(place, "configs/deepspeed/ holds the ready ones")


def _bind(recipe: Recipe, path: Path | str) -> None:
    """Give the recipe to LLaMA-Factory's parser, without what needs a launched process or a GPU."""
    from llamafactory.hparams import get_train_args

    with tempfile.TemporaryDirectory() as empty:  # an output folder with checkpoints would start a resume
        bound = {**recipe, "output_dir": empty, "deepspeed": None, "report_to": "none"}
        for key in ("bf16", "fp16", "tf32", "pure_bf16"):
            bound.pop(key, None)  # refused by transformers where there is no GPU
        if bound.pop("enable_liger_kernel", False) and not isinstance(recipe["enable_liger_kernel"], bool):
            raise Refusal(f"{path}: enable_liger_kernel is neither true nor false")
        try:
            get_train_args(bound)
        except Exception as error:  # every reason why LLaMA-Factory's parser refuses
            raise Refusal(f"{path}: LLaMA-Factory refuses it: {' '.join(str(error).split())}") from None


def all_recipes() -> list[Path]:
    """Every recipe in `configs/<model>/`; other folders hold data, evaluation or DeepSpeed settings."""
    folders = sorted(path.parent for path in CONFIGS.glob("*/sft.yaml"))
    return [recipe for folder in folders for recipe in sorted(folder.glob("*.yaml"))]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("recipes", nargs="*", type=Path, help="recipe files")
    parser.add_argument("--check-all", action="store_true", help="check every recipe in configs/")
    options = parser.parse_args()
    paths = options.recipes + (all_recipes() if options.check_all else [])
    if not paths:
        raise Refusal("name a recipe, or use --check-all")
    refused = []
    for path in paths:
        try:
            check(load_recipe(path), path)
            print(f"ok       {path}")
        except Refusal as refusal:
            refused.append(path)
            print(f"refused  {refusal}")
    if refused:
        raise Refusal(f"{len(refused)} of {len(paths)} recipes refused")


if __name__ == "__main__":
    run_cli(main)
