"""ZeRO's checkpoints for another number of processes: DeepSpeed's universal form, written beside its own.

Each process of a ZeRO run saves its part of the optimizer's state. The universal form holds each
parameter's state whole, and any number of processes loads its part from it.
"""

import re
import shutil
import sys
from pathlib import Path
from typing import Any

from common.errors import Refusal
from scripts.training import process
from scripts.training.recipe import Recipe, zero_config

MARK = "latest_universal"  # the converter writes it last; with it DeepSpeed finds the form
ROUNDING = 0.01  # between 32 bits and 16, as a share of a weight's norm


def processes_of(checkpoint: Path) -> int:
    """The number of processes that ZeRO has split a checkpoint's state over, 0 where it isn't split."""
    return len(_states(checkpoint))


def _states(checkpoint: Path) -> list[Path]:
    """The files that ZeRO has split a checkpoint's state into."""
    return list(checkpoint.glob("global_step*/*_optim_states.pt"))


def is_split_otherwise(checkpoint: Path, processes: int) -> bool:
    """True if `processes` processes can't load a checkpoint's state as it was split."""
    return processes_of(checkpoint) not in (0, processes)


def make_universal(checkpoint: Path, recipe: Recipe, log: Path) -> None:
    """Write the universal form into a checkpoint that ZeRO-1 or 2 has split; as large as the state again.

    Raises `Refusal` where the run wouldn't be the same: DeepSpeed converts Adam's states only; it loads an
    earlier best checkpoint, at the end of training, in the form of the last; and under ZeRO-3 it gives all
    parameters one step counter, which then counts once for each (seen with 0.18.4).
    """
    remedy = f"go on with {processes_of(checkpoint)} processes, or give --restart to start again"
    if zero_config(recipe).get("zero_optimization", {}).get("stage") == 3:
        raise Refusal(f"{checkpoint}: ZeRO-3 can't go on with another number of processes; {remedy}")
    if recipe.get("load_best_model_at_end"):
        raise Refusal(
            f"{checkpoint}: load_best_model_at_end can't load a best checkpoint of another number of "
            f"processes; {remedy}"
        )
    if not (checkpoint / MARK).is_file():
        _convert(checkpoint, log, remedy)
    if name := _misnamed(checkpoint):
        raise Refusal(
            f"{checkpoint}: DeepSpeed has mixed up which state is that of {name}, as it does with "
            f"round_robin_gradients; {remedy}, round_robin_gradients: false in the DeepSpeed file"
        )


def _convert(checkpoint: Path, log: Path, remedy: str) -> None:
    (source,) = {file.parent for file in _states(checkpoint)}
    target = source.with_name(f"{source.name}_universal")
    shutil.rmtree(target, ignore_errors=True)  # of a conversion that was killed
    line = [sys.executable, "-m", "deepspeed.checkpoint.ds_to_universal", "--inject_missing_state"]
    try:
        process.run([*line, "--input_folder", str(source), "--output_folder", str(target)], log, 1, print)
    except Refusal as refusal:
        reason = str(refusal).removeprefix("training failed: ")
        raise Refusal(f"{checkpoint} can't be split over another number ({reason}); {remedy}") from None


def _misnamed(checkpoint: Path) -> str | None:
    """The first weight of the checkpoint's model whose state in the universal form is another's."""
    import torch
    from safetensors import safe_open

    states = checkpoint / (checkpoint / MARK).read_text().strip() / "zero"
    for file in sorted(checkpoint.glob("*.safetensors")):
        with safe_open(file, framework="pt") as weights:
            for key in weights.keys():  # noqa: SIM118
                name = re.sub(r"(lora_\w+)\.weight$", r"\1.default.weight", key)  # an adapter's, in PEFT
                state = states / name / "fp32.pt"
                if not state.is_file():
                    continue
                held = torch.load(state, map_location="cpu", weights_only=True)
                copy = (held["param"] if isinstance(held, dict) else held).detach().flatten()
                weight = weights.get_tensor(key).float().flatten()
                if copy.shape != weight.shape or (copy - weight).norm() > ROUNDING * weight.norm():
                    return str(name)
    return None


def loads_universal(recipe: Recipe) -> dict[str, Any]:
    """The recipe's DeepSpeed configuration, changed so that it loads the universal form."""
    config = zero_config(recipe)
    return {**config, "checkpoint": {**config.get("checkpoint", {}), "load_universal": True}}
