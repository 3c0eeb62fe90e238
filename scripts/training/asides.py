"""What recipes carry and the launcher decides itself: read as it is meant, or set aside with one line each.

Nothing here refuses a recipe; `rules.py` does. Every entry is one that public recipes really have.
"""

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from common.paths import root

Recipe = dict[str, Any]

# Keys of older versions, and the name under which LLaMA-Factory 0.9.5 reads them
RENAMED = {
    "evaluation_strategy": "eval_strategy", "warmup_ratio": "warmup_steps", "no_cuda": "use_cpu",
    "per_gpu_train_batch_size": "per_device_train_batch_size",
    "per_gpu_eval_batch_size": "per_device_eval_batch_size", "dpo_beta": "pref_beta",
    "dpo_ftx": "pref_ftx", "dpo_loss": "pref_loss", "orpo_beta": "pref_beta",
    "num_layer_trainable": "freeze_trainable_layers", "quantization_device": "quantization_device_map",
}  # fmt: skip
# Keys that take names with commas between; a YAML list of them is the same
LISTS = (
    "dataset", "eval_dataset", "lora_target", "additional_target", "freeze_trainable_modules",
    "freeze_extra_modules", "adapter_name_or_path", "interleave_probs", "galore_target", "apollo_target",
)  # fmt: skip
# Keys whose `~` and `$VARIABLES` are filled in
PATHS = (
    "model_name_or_path", "adapter_name_or_path", "ref_model", "ref_model_adapters", "deepspeed", "cache_dir",
    "media_dir",
)  # fmt: skip
# Keys that hold secrets: they go to the environment of the training and into no file
SECRETS = {
    "hf_hub_token": "HF_TOKEN", "hub_token": "HF_TOKEN", "push_to_hub_token": "HF_TOKEN",
    "ms_hub_token": "MODELSCOPE_API_TOKEN", "om_hub_token": "OPENMIND_TOKEN",
    "swanlab_api_key": "SWANLAB_API_KEY", "swanlab_lark_secret": "SWANLAB_LARK_SECRET",
}  # fmt: skip
_SECRET_WORD = re.compile(rf"(-*(?:{'|'.join(SECRETS)})=).*", re.DOTALL)
_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?")
# Keys that hold text which may look like a number
_TEXTS = (
    *LISTS, *PATHS, *SECRETS, "run_name", "output_dir", "template", "default_system", "model_revision",
    "hub_model_id", "hub_revision", "project", "master_port", "master_addr",
)  # fmt: skip


def without_secrets(words: list[str]) -> list[str]:
    """The words of a command, as they may be recorded."""
    return [_SECRET_WORD.sub(r"\1[secret]", word) for word in words]


class Aside(NamedTuple):
    """A key that is set aside where `applies(its value)`, with what the line says."""

    key: str
    says: str
    applies: Callable[[Any], bool] = bool


_ONE_NAME = "the launcher keeps a cache of tokens, named by what it depends on"
ASIDES = (
    Aside("save_only_model", "checkpoints keep the optimizer, so that a killed run can go on"),
    Aside("tokenized_path", _ONE_NAME),
    Aside("overwrite_cache", _ONE_NAME),
    Aside("streaming", "the data set is tokenised once, before the start"),
    Aside("buffer_size", "it is for streaming", lambda _: True),
    Aside("overwrite_output_dir", "an earlier run is moved aside, never deleted", lambda _: True),
    Aside("resume_from_checkpoint", "the same command goes on by itself", lambda _: True),
    Aside("ignore_data_skip", "a run that goes on sees each row once"),
    Aside("do_predict", "make eval predicts and scores"),
    Aside("predict_with_generate", "make eval predicts and scores"),
    Aside("compute_accuracy", "make eval scores"),
    Aside("logging_dir", "TensorBoard files lie in the run's folder", lambda _: True),
    Aside("save_safetensors", "weights are always safetensors", lambda _: True),
    Aside("use_fast_tokenizer", "the fast tokenizer is used", lambda value: value is False),
    Aside("export_dir", "make export writes the model", lambda _: True),
    Aside("dataset_dir", "data sets are those of data/dataset_info.json", lambda value: value != "data"),
    *(Aside(key, "the launcher starts the processes: GPUS and NNODES", lambda _: True) for key in (
        "ray_run_name", "ray_storage_path", "ray_storage_filesystem", "ray_num_workers", "ray_init_kwargs",
        "resources_per_worker", "placement_strategy", "master_addr", "master_port",
    )),
    Aside("include_num_input_tokens_seen", "run.json holds the tokens"),
    Aside("include_tokens_per_second", "run.json holds the tokens a second"),
)  # fmt: skip


def set_aside(recipe: Recipe) -> tuple[Recipe, list[str]]:
    """(the recipe as it is meant, a line for each thing that was read differently or set aside)."""
    recipe, notes = dict(recipe), []
    for step in (_empty, _renamed, _lists, _secrets, _paths, _plain, _values, _deepspeed, _launchers_keys):
        notes += step(recipe)
    return recipe, notes


def _empty(recipe: Recipe) -> list[str]:
    empty = [key for key, value in recipe.items() if value is None or value == "None"]
    for key in empty:
        del recipe[key]
    return [f"{key}: empty, left out" for key in empty]


def _renamed(recipe: Recipe) -> list[str]:
    notes = []
    for old, new in RENAMED.items():
        if old in recipe:
            value = recipe.pop(old)
            recipe[new] = recipe.get(new) or value
            notes.append(f"{old}: read as {new}, its present name")
    if "group_by_length" in recipe:
        if recipe.pop("group_by_length"):
            recipe.setdefault("train_sampling_strategy", "group_by_length")
        notes.append("group_by_length: read as train_sampling_strategy, its present name")
    return notes


def _lists(recipe: Recipe) -> list[str]:
    for key in LISTS:
        if isinstance(recipe.get(key), list):
            recipe[key] = ",".join(str(part).strip() for part in recipe[key])
    return []


def _secrets(recipe: Recipe) -> list[str]:
    notes = []
    for key, variable in SECRETS.items():
        if key in recipe:
            os.environ.setdefault(variable, str(recipe.pop(key)))
            notes.append(f"{key}: used as {variable}, and written to no record; keep it in the environment")
    return notes


def _paths(recipe: Recipe) -> list[str]:
    for key in PATHS:
        if isinstance(recipe.get(key), str):
            recipe[key] = os.path.expandvars(os.path.expanduser(recipe[key]))  # noqa: PTH111
    return []


def _plain(recipe: Recipe) -> list[str]:
    """Numbers, true and false that stand in quotes."""
    notes = []
    for key, value in recipe.items():
        if not isinstance(value, str) or key in _TEXTS:
            continue
        text = value.strip()
        if _NUMBER.fullmatch(text):
            recipe[key] = int(text) if text.lstrip("+-").isdigit() else float(text)
            notes.append(f"{key}: the text {value!r} is read as a number; write it without quotes")
        elif text.lower() in ("true", "false"):
            recipe[key] = text.lower() == "true"
            notes.append(f"{key}: the text {value!r} is read as {recipe[key]}; write it without quotes")
    return notes


def _values(recipe: Recipe) -> list[str]:
    if str(recipe.get("quantization_method", "")).lower() in ("bitsandbytes", "bnb"):
        recipe["quantization_method"] = "bnb"
    if isinstance(recipe.get("flash_attn"), bool):
        recipe["flash_attn"] = "auto" if recipe["flash_attn"] else "disabled"
    for key, value in recipe.items():  # YAML reads a bare `no` or `off` as False
        if value is False and (key.endswith("_strategy") or key == "report_to"):
            recipe[key] = "none" if key == "report_to" else "no"
    return []


def _deepspeed(recipe: Recipe) -> list[str]:
    """The examples' DeepSpeed files (ds_z3_config.json), where they aren't here, are the ready ones."""
    given = str(recipe.get("deepspeed", ""))
    match = re.search(r"(?:^|[^a-z])z(?:ero)?_?([0-3])(.*offload)?", given)
    if not match or given.startswith(("configs/", "{")) or Path(given).exists() or (root() / given).exists():
        return []
    if match[1] == "0":
        del recipe["deepspeed"]
        return [f"deepspeed: {given} isn't here and splits nothing; left out"]
    name = "zero3-offload" if match[2] else "zero3" if match[1] == "3" else "zero2"
    recipe["deepspeed"] = f"configs/deepspeed/{name}.json"
    return [f"deepspeed: {given} isn't here; {recipe['deepspeed']} is used"]


def _launchers_keys(recipe: Recipe) -> list[str]:
    notes = []
    if not {"do_train", "do_eval", "do_predict"} & recipe.keys():
        recipe["do_train"] = True
    for aside in ASIDES:
        if aside.key in recipe and aside.applies(recipe[aside.key]):
            del recipe[aside.key]
            notes.append(f"{aside.key}: set aside, {aside.says}")
    if (recipe.get("use_galore") or recipe.get("use_apollo")) and "optim" not in recipe:
        recipe["optim"] = "adamw_torch"
        notes.append("optim: adamw_torch, as GaLore and APOLLO don't take the trainer's default")
    if recipe.get("trust_remote_code") and os.environ.get("TRUST") != "1":
        del recipe["trust_remote_code"]
        notes.append("trust_remote_code: set aside, few models need it; TRUST=1 keeps it")
    return notes
