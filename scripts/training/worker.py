"""One training process: LLaMA-Factory's `run_exp` with the callbacks that watch over a run.

    python -m scripts.training.worker launch.json  # started by scripts.training.launch, also by torchrun

Lines that begin with `[train]` are for the person who waits; everything else goes to the log file.
"""

import json
import math
import os
import resource
import sys
import time
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from transformers import TrainerCallback

from common.errors import Refusal
from common.processes import die_with_parent
from scripts.training import checkpoints, choose, llamafactory
from scripts.training.process import FAILED, SAY
from scripts.training.record import SESSIONS


def say(text: str) -> None:
    """Print one line for the person who waits, from the first process only."""
    if os.environ.get("RANK", "0") == "0":
        print(SAY + text, flush=True)


class Watch(TrainerCallback):
    """Stops a run that has gone wrong, shows progress, marks whole checkpoints and measures."""

    def __init__(self, tokens_per_epoch: int, layerwise: bool = False) -> None:
        self.tokens_per_epoch = tokens_per_epoch
        self.watched = ("loss",) if layerwise else ("loss", "grad_norm")  # layer by layer its norm is 0
        self.start = (0.0, 0, 0.0)  # seconds, step and epoch where this session began

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.start = (time.monotonic(), state.global_step, state.epoch or 0.0)
        say(
            f"{state.max_steps - state.global_step} steps to go"
            + (f", from step {state.global_step}" * bool(state.global_step))
        )

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if control.should_save:  # a checkpoint's loss is looked at before it is written
            control.should_log = True

    def on_log(
        self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **_: Any
    ) -> None:
        logs = logs or {}
        for name in self.watched:
            value = logs.get(name)
            if value is not None and (not math.isfinite(float(value)) or float(value) == 0):
                say(
                    f"{FAILED}{name} is {value} at step {state.global_step}; lower the learning rate, or on "
                    "a CPU use ZeRO-2 instead of ZeRO-3; the last checkpoint before it is whole"
                )
                sys.exit(3)
        if "loss" in logs or "eval_loss" in logs:
            say(self._line(state, logs))

    def _line(self, state: Any, logs: dict[str, Any]) -> str:
        begun, first, _ = self.start
        done = state.global_step - first
        left = (state.max_steps - state.global_step) * (time.monotonic() - begun) / max(done, 1)
        names = {"loss": "loss", "eval_loss": "evaluation loss", "learning_rate": "learning rate"}
        parts = [f"{title} {float(logs[name]):.4g}" for name, title in names.items() if name in logs]
        if "rewards/accuracies" in logs:
            parts.append(f"chosen preferred {float(logs['rewards/accuracies']):.0%}")
        minutes, seconds = divmod(round(left), 60)
        return f"step {state.global_step}/{state.max_steps}  {'  '.join(parts)}  {minutes}:{seconds:02} left"

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._measure(args, state)
        barrier()  # every process has written its part
        if state.is_world_process_zero:
            checkpoints.mark_whole(Path(args.output_dir, f"checkpoint-{state.global_step}"))
        barrier()

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._measure(args, state)

    def _measure(self, args: Any, state: Any) -> None:
        """Write what this session has measured so far; its last line counts."""
        begun, first, epoch = self.start
        seconds = time.monotonic() - begun
        memory = _peak_memory()
        if state.is_world_process_zero and state.global_step > first:
            tokens = self.tokens_per_epoch * ((state.epoch or 0.0) - epoch)
            measured = {
                "seconds": round(seconds, 3), "steps": state.global_step - first, "from_step": first,
                "tokens_per_second": round(tokens / seconds, 1), "peak_memory_bytes": memory,
                "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
            }  # fmt: skip
            with Path(args.output_dir, SESSIONS).open("a", encoding="utf-8") as file:
                file.write(json.dumps(measured) + "\n")


class Select(TrainerCallback):
    """Scores each checkpoint when it is saved; ends a training that no longer comes nearer to people."""

    def __init__(self, rows: Path, most: int, patience: int) -> None:
        self.rows, self.most, self.patience = rows, most, patience
        self.by_step: dict[int, float] = {}

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.is_world_process_zero:  # what a killed session had scored is read, not computed again
            for checkpoint in filter(checkpoints.is_whole, checkpoints.numbered(Path(args.output_dir))):
                self._score(checkpoint)

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.is_world_process_zero:
            self._score(Path(args.output_dir, f"checkpoint-{state.global_step}"))
        if agreed(choose.out_of_patience(self.by_step, self.patience)):
            say(f"no nearer to people for {self.patience} checkpoints: training ends here")
            control.should_training_stop = True

    def _score(self, checkpoint: Path) -> None:
        try:
            value = choose.score(checkpoint, self.rows, self.most)
        except Refusal as refusal:  # too little memory beside the training, say: chosen afterwards then
            say(f"{checkpoint.name} isn't scored during training: {refusal}")
            return
        self.by_step[checkpoints.step(checkpoint)] = value
        say(f"{checkpoint.name}: Wasserstein distance {value:.4f} on the held-out rows")


def agreed(verdict: bool) -> bool:
    """The first process's verdict, in every process."""
    if not (dist.is_available() and dist.is_initialized()):
        return verdict
    box = torch.tensor([float(verdict)], device="cuda" if torch.cuda.is_available() else "cpu")
    dist.broadcast(box, 0)
    return bool(box.item())


def barrier() -> None:
    """Wait for all processes, if there are several."""
    if dist.is_available() and dist.is_initialized():
        dist.barrier()


def _peak_memory() -> int:
    """Bytes at the peak of the process that used most: of the GPU, or of main memory on a CPU."""
    gpu = torch.cuda.is_available()
    peak = (
        torch.cuda.max_memory_allocated()
        if gpu
        else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    )
    if dist.is_available() and dist.is_initialized():
        box = torch.tensor([float(peak)], device="cuda" if gpu else "cpu")
        dist.all_reduce(box, dist.ReduceOp.MAX)
        peak = int(box.item())
    return int(peak)


def restore_on_numbered_cpus() -> None:
    """Let torch.load bring a state to `cpu:0`: so the trainer names the device of processes on a CPU."""
    torch.serialization.register_package(
        0, lambda _: None, lambda storage, location: storage if location.startswith("cpu:") else None
    )


def main() -> None:
    die_with_parent()
    restore_on_numbered_cpus()
    launch = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    arguments = launch["arguments"]
    layerwise = bool(arguments.get("galore_layerwise") or arguments.get("apollo_layerwise"))
    callbacks: list[TrainerCallback] = [Watch(launch["tokens"]["train"]["tokens"], layerwise)]
    if "select" in launch:
        asked = launch["select"]  # after Watch, which marks checkpoints as whole
        callbacks.append(Select(Path(asked["path"]), asked["rows"], asked["patience"]))
    llamafactory.run(dict(arguments), callbacks)


if __name__ == "__main__":
    main()
