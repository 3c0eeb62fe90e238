"""A run's folder: held by one run at a time, gone on with, moved aside, or finished."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from common.errors import Refusal
from common.files import atomic_path
from common.paths import root
from common.readers import read_json
from common.runs import aside
from common.step import lock_path
from scripts.training import checkpoints

LAUNCHED = "launch.json"
LOCK = lock_path(Path("run.json")).name
# What of a checkpoint belongs to the run's model
MODEL_FILES = (
    "*.safetensors", "*.safetensors.index.json", "adapter_config.json", "config.json",
    "generation_config.json", "tokenizer*", "special_tokens_map.json", "added_tokens.json", "vocab.json",
    "merges.txt", "chat_template.jinja", "training_args.bin", "trainer_state.json",
)  # fmt: skip


def is_run(path: Path) -> bool:
    """True for `outputs/<dataset>/<split>/<model>/<run>`, whether it exists or not."""
    outputs = root() / "outputs"
    return path.is_relative_to(outputs) and len(path.relative_to(outputs).parts) == 4


def prepare(
    folder: Path, inputs: str, layout: dict[str, Any], restart: bool, say: Callable[[str], None]
) -> Path | None:
    """Make the run folder ready and give the checkpoint to go on from, None to start.

    A run with other inputs (an edited recipe, other data) is moved aside, never deleted.
    """
    launched = folder / LAUNCHED
    before = read_json(launched, "delete it to start again") if launched.is_file() else None
    if restart or not before or before["inputs"] != inputs:
        _clear(folder, say)
        before = None
    checkpoint, torn = checkpoints.last_whole(folder)
    for name in torn:
        say(f"skipped {name}: it was torn by a kill; renamed to torn-{name}")
    if checkpoint and before and before["layout"]["deepspeed"] != layout["deepspeed"]:
        old = before["layout"]["deepspeed"] or "DDP"
        raise Refusal(
            f"{checkpoint} was written under {old}; go on with the same deepspeed, or give --restart to "
            "start again"
        )
    return checkpoint


def _clear(folder: Path, say: Callable[[str], None]) -> None:
    """Move what another recipe or other data have trained aside; drop what holds no trained weights."""
    if not any(file.name != LOCK for file in folder.iterdir()):
        return
    old = aside(folder)
    old.mkdir()
    for file in folder.iterdir():
        if file.name != LOCK:
            file.rename(old / file.name)
    if list(old.rglob("*.safetensors")):
        say(f"another run was here (other settings or data); it was moved to {old}")
    else:
        shutil.rmtree(old)


def is_last(checkpoint: Path) -> bool:
    """True if the checkpoint was written after the run's last step, so that no step is left to do.

    The trainer itself would do one more, with another learning rate.
    """
    state = read_json(checkpoint / "trainer_state.json", "delete the checkpoint to go on from the one before")
    return bool(state["global_step"] >= state["max_steps"] > 0)


def finish(folder: Path, checkpoint: Path) -> None:
    """Make the model of a run that was killed after its last checkpoint: that one's, or the best one's.

    Which is the best the trainer has decided while it trained (`load_best_model_at_end`).
    """
    arguments = read_json(folder / LAUNCHED, "run the same command again")["arguments"]
    state = read_json(checkpoint / "trainer_state.json", "run the same command again")
    best = state.get("best_model_checkpoint")
    source = folder / Path(best).name if arguments.get("load_best_model_at_end") and best else checkpoint
    for pattern in MODEL_FILES:
        for file in source.glob(pattern):
            copy(file, folder / file.name)
    copy(checkpoint / "trainer_state.json", folder / "trainer_state.json")


def copy(source: Path, target: Path) -> None:
    """Copy a file so that the target is whole or not there."""
    with atomic_path(target) as partial:
        shutil.copyfile(source, partial)
