"""Train a model: everything that can be known is checked first, then LLaMA-Factory runs.

    socrates train sft --model tiny --data sample --split study
    socrates train dpo --model llama3-8b --data socsci210 --gpus 8
    socrates train sft --recipe my.yaml learning_rate=2e-5      # an edited recipe

The recipe is written for one process; the launcher keeps its global batch for any GPUS x NNODES. A
killed run goes on from its last whole checkpoint when the same command is given again; a finished one
is recorded in `outputs/<dataset>/<split>/<model>/<run>/run.json` and not run twice.
"""

import socket
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from common.errors import Refusal
from common.files import file_stamp, fingerprint, write_json
from common.paths import root, split_dir
from common.readers import read_json
from common.runs import how_to_get
from common.step import Step
from scripts.training import choose, folders, process, record, universal
from scripts.training.mixture import refuse_leaks, shares_text
from scripts.training.packages import refuse_missing
from scripts.training.preflight import Preflight, preflight
from scripts.training.recipe import Recipe, divide_batch
from scripts.training.request import INDIFFERENT, Machines, RunRequest, Selection
from scripts.training.rules import refuse_problems
from scripts.training.tokens import COUNTS, cache_path, tokenise


def train(
    stage: str = "sft",
    model: str = "tiny",
    data: str = "sample",
    split: str = "study",
    recipe: str | Path | None = None,
    gpus: int | None = None,
    select: Selection | str | None = None,
    **settings: Any,
) -> record.Run:
    """Train (or go on, or find it done) and give the run.

    stage: sft, dpo, kto or pt. model: a folder of configs/. data: sample, socsci210 or a folder in the
    hub's layout. recipe: a file other than configs/<model>/<stage>.yaml. gpus: processes on this
    machine, None for all its GPUs. select: "wasserstein" or a `Selection` keeps the checkpoint whose
    answers are nearest to people's. settings: recipe keys for this run, which gets a name of its own.

    Raises `Refusal` with cause and remedy before anything is moved or started.
    """
    if isinstance(select, str) and select != "wasserstein":
        raise Refusal(f"unknown select={select!r}; use 'wasserstein' or a Selection")
    chosen = Selection() if isinstance(select, str) else select
    machines = Machines.from_environment(gpus=gpus)
    return launch(RunRequest(stage, model, data, split, recipe, settings, machines, chosen))


def launch(request: RunRequest) -> record.Run:
    """As `train`, for a whole request (with several machines, a restart, without lines of progress)."""

    def say(text: str) -> None:
        if not request.quiet:
            print(text, file=sys.stderr, flush=True)

    recipe, folder = request.resolved, request.folder
    refuse_problems(recipe, request.path)
    refuse_missing(recipe, request.path)
    learned = run_inputs(recipe)
    inputs = fingerprint([learned, asdict(request.select)]) if request.select else learned
    step = Step(folder / record.NAME, inputs)
    if step.done and not request.restart:
        say(f"nothing to do: {folder} holds this run")
        return record.read(folder)
    for note in request.notes:
        say(note)
    ready = preflight(request)
    for note in ready.notes:
        say(note)
    begun = time.monotonic()
    if request.machines.node_rank:
        _follow(request, ready)
        return record.read(folder)
    with step:
        run = _train(request, ready, learned, step, say)
    say(f"done in {time.monotonic() - begun:.0f} s")
    return run


def start_stamp(recipe: Recipe) -> list[Any]:
    """What identifies the weights that training starts from. Raises `Refusal` if they are not there."""
    stamps: list[Any] = []
    for key in ("model_name_or_path", "adapter_name_or_path", "ref_model"):
        for name in str(recipe.get(key) or "").split(",") if recipe.get(key) else ():
            path = Path(name)
            if folders.is_run(path):
                earlier = read_json(path / record.NAME, "run `make train-sft` with the same settings first")
                stamps.append(earlier.get("inputs"))
            elif path.is_dir():
                stamps.append([file_stamp(file) for file in sorted(path.glob("*.safetensors"))])
            elif path.is_relative_to(root() / "outputs"):
                raise Refusal(f"{path} is missing; run {how_to_get(path)} first")
            else:
                stamps.append([name, recipe.get("model_revision")])
    return stamps


def run_inputs(recipe: Recipe) -> str:
    """Fingerprint of everything that a trained model depends on, but for the machine it ran on."""
    home = f"{root()}/" if root() != Path() else ""
    return fingerprint(
        {
            "recipe": {
                key: value.removeprefix(home) if isinstance(value, str) else value
                for key, value in recipe.items()
                if key not in INDIFFERENT
            },
            "tokens": cache_path(recipe).name,
            "start": start_stamp(recipe),
        }
    )


def run_arguments(
    ready: Preflight, processes: int, tokenised: Path, checkpoint: Path | None
) -> dict[str, Any]:
    """What LLaMA-Factory gets: the recipe, this machine's share of the batch, and where to go on."""
    per_device, accumulation = divide_batch(ready.recipe, processes)
    arguments = {
        **ready.recipe,
        "per_device_train_batch_size": per_device,
        "gradient_accumulation_steps": accumulation,
        "tokenized_path": str(tokenised),
        "logging_nan_inf_filter": False,  # else a NaN loss is logged as the mean of the others
        "disable_tqdm": True,
        "overwrite_output_dir": checkpoint is None,
    }
    if checkpoint:
        arguments["resume_from_checkpoint"] = str(checkpoint)
        if universal.is_split_otherwise(checkpoint, processes):
            arguments["deepspeed"] = universal.loads_universal(ready.recipe)
    if not ready.cuda and not ready.recipe.get("deepspeed"):  # DeepSpeed finds the CPU by itself
        arguments["use_cpu"] = True
    return arguments


def command(machines: Machines, processes: int, distributed: bool, launched: Path) -> list[str]:
    """The training command of this machine: one Python process, or torchrun for several."""
    from scripts.training import worker  # imports torch

    line = ["-m", worker.__name__, str(launched)]
    port = machines.master_port if machines.nnodes > 1 else _free_port()  # other trainings may run here
    if not distributed:
        return [sys.executable, *line]
    return [
        sys.executable, "-m", "torch.distributed.run",
        "--nnodes", str(machines.nnodes), "--node_rank", str(machines.node_rank),
        "--nproc_per_node", str(processes),
        "--master_addr", machines.master_addr, "--master_port", str(port),
        *line,
    ]  # fmt: skip


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def _command(request: RunRequest, ready: Preflight) -> list[str]:
    machines = request.machines
    distributed = ready.local * machines.nnodes > 1 or bool(ready.recipe.get("deepspeed"))
    return command(machines, ready.local, distributed, request.folder / folders.LAUNCHED)


def _follow(request: RunRequest, ready: Preflight) -> None:
    """A machine that isn't the first starts its processes only: torchrun holds them back until the first
    machine's are there, and so has written launch.json."""
    request.folder.mkdir(parents=True, exist_ok=True)
    log = request.folder / f"train-{request.machines.node_rank}.log"
    process.run(_command(request, ready), log, ready.local, lambda _: None)


def _train(request: RunRequest, ready: Preflight, learned: str, step: Step, say: Any) -> record.Run:
    """Tokenise, train from the last whole checkpoint, choose one, and write the record last.

    learned: fingerprint of what the checkpoints depend on; the step's inputs: of what the chosen one does.
    """
    recipe, folder = ready.recipe, request.folder
    processes = ready.local * request.machines.nnodes
    if request.machines.nnodes > 1 and not (cache_path(recipe) / COUNTS).is_file():
        raise Refusal("with several machines tokenise first, once: socrates tokenise, same options")
    directory = split_dir(request.data, request.split)
    refuse_leaks(recipe, directory / "eval.parquet")
    tokenised = tokenise(recipe, request.workers, request.quiet)
    layout = {"processes": processes, "deepspeed": recipe.get("deepspeed")}
    checkpoint = folders.prepare(folder, learned, layout, request.restart, say)
    tokens = read_json(tokenised / COUNTS, f"delete {tokenised}")
    if shares := shares_text(tokens["train"]["datasets"]):
        say(shares)
    launched: dict[str, Any] = {
        "inputs": learned,
        "layout": layout,
        "arguments": run_arguments(ready, processes, tokenised, checkpoint),
        "notes": [*request.notes, *ready.notes],
        "tokens": tokens,
    }
    if request.select:
        launched["select"] = {"path": str(directory / "validation.parquet"), **asdict(request.select)}
    step.begin()
    write_json(folder / folders.LAUNCHED, launched)
    if checkpoint and folders.is_last(checkpoint):
        say(f"{checkpoint.name} in {folder} is the last step: finishing the run")
        folders.finish(folder, checkpoint)
    else:
        say(f"training in {folder}" + (f", going on from {checkpoint.name}" if checkpoint else ""))
        if checkpoint and universal.is_split_otherwise(checkpoint, processes):
            universal.make_universal(checkpoint, recipe, folder / "train.log")
        process.run(_command(request, ready), folder / "train.log", ready.local, say)
    if request.select:
        rows = directory / "validation.parquet"
        launched["selection"] = choose.choose(folder, rows, request.select.rows, say)
    return record.write(folder, launched, step.inputs, directory / "manifest.json", _device(ready))


def _device(ready: Preflight) -> str:
    import torch

    return torch.cuda.get_device_name() if ready.cuda else "cpu"
