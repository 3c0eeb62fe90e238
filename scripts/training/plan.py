"""Plan a run before a GPU is taken: tokens, steps, memory by part, hours, cost, and what fits first.

    python -m scripts.training.plan --model llama3-8b --data socsci210 --gpus 8 --gpu h100-80gb
    python -m scripts.training.plan --stage dpo --model qwen2.5-14b --gpus 8 --gpu h100-80gb
    python -m scripts.training.plan --recipe my.yaml --architecture config.json     # any other model

Tokens are measured on the tokenised data if it is there, else estimated and marked as such. GPU
figures, prices and the assumptions are those of configs/gpus.yaml.
"""

import argparse
import json
import math
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from common.errors import Refusal, run_cli
from scripts.training import launch as train
from scripts.training import memory
from scripts.training import recipe as recipes
from scripts.training import tokens as tokenise

GIB = 2**30
SAMPLE = 20_000  # rows on which padding and packing are simulated


@dataclass(frozen=True)
class Tokens:
    """rows and tokens of one epoch; longest row; tokens after padding; packed sequences; where from."""

    rows: int
    tokens: int
    longest: int
    padded: int
    packed: int
    source: str


def count_tokens(recipe: recipes.Recipe, per_device: int, assumptions: dict[str, Any]) -> Tokens:
    """Measured on the tokenised data, else from the data file's size, else assumed."""
    cutoff = int(recipe.get("cutoff_len", 2048))
    pairs = 2 if recipe["stage"] == "dpo" else 1
    try:
        folder = tokenise.cache_path(recipe)
        import numpy as np

        lengths = np.load(folder / "train_lengths.npy")
        source = f"measured on {folder}"
    except (Refusal, FileNotFoundError):
        return _estimate(recipe, pairs, cutoff, assumptions)
    sample = np.random.default_rng(0).permutation(lengths)[:SAMPLE]
    whole = sample[: len(sample) // per_device * per_device].reshape(-1, per_device)
    waste = whole.max(1).sum() * per_device / max(whole.sum(), 1) if len(whole) else 1.0
    from llamafactory.data.processor.processor_utils import greedy_knapsack

    packs = sum(
        len(greedy_knapsack(part.tolist(), cutoff))
        for part in np.array_split(sample, -(-len(sample) // 2000))
    )
    tokens = int(lengths.sum()) * pairs
    return Tokens(
        len(lengths),
        tokens,
        int(lengths.max()),
        int(tokens * waste),
        math.ceil(packs * len(lengths) / len(sample)),
        source,
    )


def _estimate(recipe: recipes.Recipe, pairs: int, cutoff: int, assumptions: dict[str, Any]) -> Tokens:
    mean, rows, source = assumptions["prompt_tokens"], assumptions["rows"], "assumed (no data set is there)"
    try:
        _, file = tokenise.dataset_entry(str(recipe["dataset"]))
        manifest = json.loads((file.parent / "manifest.json").read_text())
        rows = manifest["files"][file.name]["rows"]
        source = f"rows of {file}, assumed length: run python -m scripts.training.tokens to measure"
    except (Refusal, OSError, KeyError, ValueError):
        pass
    return Tokens(
        rows, rows * mean * pairs, cutoff, int(rows * mean * pairs * 1.3), -(-rows * mean // cutoff), source
    )


def possible(recipe: recipes.Recipe, gpus: int) -> list[str]:
    """The ZeRO settings that this recipe can run with: splitting needs GPUs, and unquantised weights."""
    if recipe.get("quantization_bit"):
        return ["no ZeRO"]
    return list(memory.SETTINGS) if gpus > 1 else ["no ZeRO", "ZeRO-3 offload"]


def table(arch: memory.Architecture, recipe: recipes.Recipe, gpus: int, size: int, longest: int) -> list[str]:
    """Memory by part, one line a possible ZeRO setting, for `size` rows of `longest` tokens a GPU."""
    titles = "".join(f"{part:>13}" for part in memory.PARTS)
    lines = [f"{'GiB a GPU':<16}{titles}{'sum':>9}{'host RAM':>10}"]
    for setting in possible(recipe, gpus):
        parts = memory.memory(arch, recipe, setting, gpus, size, longest)
        cells = "".join(f"{parts[part] / GIB:>13.1f}" for part in memory.PARTS)
        host = memory.host_memory(arch, setting, gpus) / GIB
        lines.append(f"{setting:<16}{cells}{sum(parts.values()) / GIB:>9.1f}{host:>10.0f}")
    return lines


def first_fit(
    arch: memory.Architecture, recipe: recipes.Recipe, gpus: int, longest: int, room: float
) -> tuple[str, int] | None:
    """The first (setting, rows a GPU) that fits in `room` bytes.

    The recipe's rows a GPU first, then fewer; for each the least splitting first; offload, which is
    many times slower, only when nothing else fits.
    """
    most, _ = recipes.divide_batch(recipe, gpus)
    sizes = [size for size in range(most, 0, -1) if most % size == 0]
    settings = possible(recipe, gpus)
    quick = [setting for setting in settings if "offload" not in setting]
    order = [(setting, size) for size in sizes for setting in quick]
    order += [(setting, size) for size in sizes for setting in settings if setting not in quick]
    for setting, size in order:
        if sum(memory.memory(arch, recipe, setting, gpus, size, longest).values()) <= room:
            return setting, size
    return None


def read_gpu(name: str) -> tuple[dict[str, float], dict[str, float]]:
    """(figures of the GPU, assumptions) from configs/gpus.yaml."""
    figures = yaml.safe_load(Path("configs/gpus.yaml").read_text(encoding="utf-8"))
    if name not in figures["gpus"]:
        known = ", ".join(figures["gpus"])
        raise Refusal(f"unknown GPU={name}; choose one of {known}, or add it to configs/gpus.yaml")
    return figures["gpus"][name], figures["assumptions"]


def main() -> None:
    parser = train.make_parser(__doc__ or "")
    parser.add_argument("--gpu", default="h100-80gb", help="a name in configs/gpus.yaml")
    parser.add_argument("--architecture", type=Path, help="a config.json of a model that isn't here")
    options = parser.parse_args()
    recipe = train.resolved_recipe(options)
    gpu, assumed = read_gpu(options.gpu)
    gpus = (options.gpus or 1) * options.nnodes
    place = options.architecture or memory.find_architecture(recipe, options.model)
    lora = recipe.get("finetuning_type", "lora") == "lora"
    arch = memory.architecture(place, int(recipe.get("lora_rank", 8)) if lora else 0)
    print("\n".join(report(options, recipe, arch, gpus, gpu, assumed)))


def report(
    options: argparse.Namespace,
    recipe: recipes.Recipe,
    arch: memory.Architecture,
    gpus: int,
    gpu: dict[str, float],
    assumed: dict[str, float],
) -> list[str]:
    """The plan as lines of text."""
    batch = recipes.global_batch(recipe)
    size, accumulation = recipes.divide_batch(recipe, gpus)
    tokens = count_tokens(recipe, size, assumed)
    epochs = float(recipe.get("num_train_epochs", 3.0))
    steps = math.ceil(math.ceil(tokens.rows / batch) * epochs)
    work = memory.flops(arch, recipe, tokens.padded * epochs, tokens.padded / max(tokens.rows, 1))
    hours = work / (gpus * gpu["bf16_tflops"] * 1e12 * assumed["flops_utilisation"]) / 3600
    kept = int(recipe.get("save_total_limit") or steps // max(int(recipe.get("save_steps", 500)), 1)) + 1
    disk = memory.checkpoint_bytes(arch, recipe) * kept
    room = gpu["memory_gb"] * 1e9 * assumed["free_share"]
    fit = first_fit(arch, recipe, gpus, tokens.longest, room)
    verdict = (
        f"first that fits: {fit[0]} with per_device_train_batch_size {fit[1]}; the batch stays {batch}"
        if fit
        else "nothing fits: more or larger GPUs, a shorter cutoff_len, or the LoRA or QLoRA recipe"
    )
    return [
        f"{options.model} {options.stage}: {arch.parameters / 1e9:.2f} B parameters, {gpus} x {options.gpu}",
        f"tokens  {tokens.tokens:,} in {tokens.rows:,} rows an epoch ({tokens.source})",
        f"        padded {tokens.padded:,} ({tokens.padded / max(tokens.tokens, 1):.2f} x); "
        f"packed {tokens.packed:,} sequences of {recipe.get('cutoff_len', 2048)}",
        f"steps   {steps:,} of {batch} = {gpus} GPUs x {size} x {accumulation}",
        f"disk    {disk / 1e9:,.1f} GB for {kept} checkpoints; "
        f"{shutil.disk_usage('.').free / 1e9:,.0f} GB are free here",
        f"time    {hours:,.1f} hours, {hours * gpus * gpu['dollars_per_hour']:,.0f} $; assumed: "
        f"{assumed['flops_utilisation']:.0%} of {gpu['bf16_tflops']} TFLOPS, "
        f"{gpu['dollars_per_hour']} $ a GPU and hour",
        "",
        f"one GPU with {size} rows of {tokens.longest} tokens and gradient checkpointing; "
        f"room: {room / GIB:.0f} GiB",
        *table(arch, recipe, gpus, size, tokens.longest),
        "",
        verdict,
    ]


if __name__ == "__main__":
    run_cli(main)
