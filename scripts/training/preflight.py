"""What would fail after the start, refused before: the recipe's keys, packages, GPUs, memory and disk."""

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from common.errors import Refusal
from scripts.training import memory
from scripts.training.checking import check
from scripts.training.packages import refuse_missing
from scripts.training.recipe import Recipe, divide_batch
from scripts.training.request import RunRequest

GPU_KEYS = ("bf16", "fp16", "pure_bf16", "tf32")  # on most CPUs training is in 32 bits


@dataclass(frozen=True)
class Preflight:
    """What the machine decides: the recipe as it runs here, processes on this machine, lines to tell."""

    recipe: Recipe
    local: int
    cuda: bool
    notes: list[str]


def preflight(request: RunRequest) -> Preflight:
    """Check a request against this machine. Raises `Refusal`; nothing is written."""
    recipe = dict(request.resolved)
    notes = check(recipe, request.path)
    refuse_missing(recipe, request.path)
    import torch

    cuda = torch.cuda.is_available()
    local = request.machines.gpus or torch.cuda.device_count() or 1
    if cuda and local > torch.cuda.device_count():
        raise Refusal(f"GPUS={local}, but this machine has {torch.cuda.device_count()}")
    if request.select and recipe.get("create_new_adapter"):
        raise Refusal(
            "SELECT can't score an adapter on a merged one; leave SELECT out, export, and score that"
        )
    if not cuda:
        notes += _without_gpu(recipe, request)
    processes = local * request.machines.nnodes
    for key in ("galore_layerwise", "apollo_layerwise", "use_badam"):
        if processes > 1 and recipe.get(key) and not recipe.get("deepspeed"):
            raise Refusal(f"{where(request.path, key)}: {key} works in one process only; give GPUS=1")
    divide_batch(recipe, processes)
    check_model(recipe, request)
    check_disk(recipe, request.model)
    return Preflight(recipe, local, cuda, notes)


def _without_gpu(recipe: Recipe, request: RunRequest) -> list[str]:
    """Train in 32 bits where the model fits in main memory; refuse what a CPU can't do."""
    for key in ("quantization_bit", "fp8"):
        if recipe.get(key):
            raise Refusal(
                f"{where(request.path, key)}: {key} needs a GPU, and this machine has none; remove it"
            )
    needed = _main_memory(recipe, request.model)
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if needed > total:
        raise Refusal(
            f"{request.path}: training needs about {needed / 1e9:,.0f} GB of memory, and this machine has "
            f"{total / 1e9:,.0f} and no GPU; try MODEL=tiny, or a machine that make plan names"
        )
    keys = [key for key in GPU_KEYS if key != "bf16" or not computes_in_bf16()]
    asked = [key for key in keys if recipe.pop(key, False)]
    return [f"{key}: set aside, this machine has no GPU; training in 32 bits" for key in asked]


def computes_in_bf16() -> bool:
    """True for a processor with units for bf16 matrices (AMX): there bf16 halves a step's time."""
    import torch

    return bool(torch.cpu.get_capabilities().get("amx_bf16"))


def _main_memory(recipe: Recipe, model: str) -> float:
    """Bytes that training on a CPU takes at least: weights, gradients, and Adam's states."""
    arch = local_architecture(recipe, model)
    if arch is None:
        return 0.0
    trained = arch.adapters if recipe.get("finetuning_type", "lora") == "lora" else arch.parameters
    return 4.0 * arch.parameters + 12.0 * trained


def local_architecture(recipe: Recipe, model: str) -> memory.Architecture | None:
    """The model's figures, None for a hub model whose figures aren't here."""
    try:
        figures = memory.find_architecture(recipe, model)
    except Refusal:
        return None
    lora = recipe.get("finetuning_type", "lora") == "lora"
    return memory.architecture(figures, int(recipe.get("lora_rank", 8)) if lora else 0)


def where(path: Path, key: str) -> str:
    """`file:line` of a recipe's key, the file alone if the key isn't in it."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    numbers = [number for number, line in enumerate(lines, 1) if line.split(":")[0].strip() == key]
    return f"{path}:{numbers[0]}" if numbers else str(path)


def check_model(recipe: Recipe, request: RunRequest) -> None:
    """Refuse layers and modules that the model doesn't have, where its figures are here."""
    arch = local_architecture(recipe, request.model)
    if arch is None:
        return
    layers = abs(recipe.get("freeze_trainable_layers", 2))
    if recipe.get("finetuning_type") == "freeze" and layers > arch.layers:
        raise Refusal(
            f"{where(request.path, 'freeze_trainable_layers')}: the model has {arch.layers} layers, "
            f"not {layers}; lower freeze_trainable_layers"
        )
    if recipe.get("use_llama_pro") and arch.layers % max(layers, 1):
        raise Refusal(
            f"{where(request.path, 'use_llama_pro')}: the model's {arch.layers} layers can't be divided by "
            f"freeze_trainable_layers: {layers}, as use_llama_pro asks"
        )
    names = [name.strip() for name in str(recipe.get("lora_target", "all")).split(",")]
    unknown = [name for name in names if name != "all" and name.split(".")[-1] not in arch.modules]
    if recipe.get("finetuning_type", "lora") == "lora" and unknown and arch.modules:
        raise Refusal(
            f"{where(request.path, 'lora_target')}: the model has no linear layer {unknown[0]!r}; choose of "
            f"{', '.join(arch.modules)}, or write all"
        )


def check_disk(recipe: Recipe, model: str) -> None:
    """Refuse a run whose checkpoints don't fit on the disk: the kept ones, one being written, the model."""
    arch = None if recipe.get("save_strategy", "steps") == "no" else local_architecture(recipe, model)
    if arch is None:
        return
    needed = memory.checkpoint_bytes(arch, recipe) * (int(recipe.get("save_total_limit") or 1) + 2)
    parent = Path(recipe["output_dir"])
    while not parent.exists():
        parent = parent.parent
    free = shutil.disk_usage(parent).free
    if needed > free:
        raise Refusal(
            f"the checkpoints need {needed / 1e9:,.0f} GB and {free / 1e9:,.0f} GB are free on the disk of "
            f"{parent}; free some, or lower save_total_limit"
        )
