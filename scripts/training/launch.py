"""Train a model: everything that can be known is checked first, then LLaMA-Factory runs.

    python -m scripts.training.launch --stage sft --model tiny --data sample --split study
    python -m scripts.training.launch --stage dpo --model llama3-8b --data socsci210 --split study --gpus 8
    python -m scripts.training.launch --stage sft --recipe my.yaml learning_rate=2e-5      # an edited recipe

The recipe is written for one process; the launcher keeps its global batch for any GPUS x NNODES. A
killed run goes on from its last whole checkpoint when the same command is given again; a finished one
is recorded in `outputs/<dataset>/<split>/<model>/<stage>/run.json` and not run twice.
"""

import argparse
import collections
import contextlib
import fcntl
import importlib.metadata
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from common.errors import Refusal, run_cli
from common.files import file_stamp, fingerprint, up_to_date, write_json
from common.paths import SPLITS, dataset_name, safe_name, split_dir
from common.readers import read_json
from scripts.training import checkpoints
from scripts.training import choose as best_checkpoint
from scripts.training import recipe as recipes
from scripts.training import tokens as tokenise

# Settings that don't change what is learned: changing one doesn't start a run again.
INDIFFERENT = (
    "report_to", "run_name", "logging_steps", "save_total_limit", "dataloader_num_workers",
    "preprocessing_num_workers", "ddp_timeout", "plot_loss", "deepspeed", "output_dir",
)  # fmt: skip
PACKAGES = ("llamafactory", "torch", "transformers", "peft", "trl", "datasets", "accelerate", "deepspeed")
SAY = "[train] "


def make_parser(doc: str) -> argparse.ArgumentParser:
    """The options that training, tokenising, planning and benchmarking share."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stage", choices=("sft", "dpo"), default="sft")
    parser.add_argument("--model", default="tiny", help="a folder of configs/")
    parser.add_argument("--data", default="sample", help="sample, socsci210 or a folder in the hub's layout")
    parser.add_argument("--split", choices=SPLITS, default="study")
    parser.add_argument("--recipe", help="a recipe other than configs/<model>/<stage>.yaml")
    env = os.environ.get
    parser.add_argument("--gpus", type=int, default=int(env("GPUS") or 0), help="processes on this machine")
    parser.add_argument("--nnodes", type=int, default=int(env("NNODES") or 1))
    parser.add_argument("--node-rank", type=int, default=int(env("NODE_RANK") or 0))
    parser.add_argument("--master-addr", default=env("MASTER_ADDR") or "127.0.0.1")
    parser.add_argument("--master-port", type=int, default=int(env("MASTER_PORT") or 29500))
    parser.add_argument("--workers", type=int, help="processes that tokenise (default: one a core)")
    parser.add_argument("--restart", action="store_true", help="start again; the old run is moved aside")
    parser.add_argument(
        "--select", choices=("wasserstein",), help="keep the checkpoint nearest to people's answers"
    )
    parser.add_argument("--select-rows", type=int, default=2000, help="held-out rows that each one answers")
    parser.add_argument(
        "--patience",
        type=int,
        default=3,
        help="with --select: end after so many that are no nearer; 0: never",
    )
    parser.add_argument("settings", nargs="*", help="key=value: recipe settings for this run")
    return parser


def resolved_recipe(options: argparse.Namespace) -> recipes.Recipe:
    """The recipe of these options, moved to their data set, split and model."""
    path = recipes.find_recipe(options.model, options.stage, options.recipe)
    recipe = {**recipes.load_recipe(path), **dict(map(recipes.parse_override, options.settings))}
    if recipe.get("stage", options.stage) != options.stage:
        raise Refusal(f"{path} is for stage {recipe['stage']}; use make train-{recipe['stage']}")
    model = safe_name(options.model, "MODEL")
    return recipes.resolve(recipe, dataset_name(options.data), options.split, model, options.stage)


def start_stamp(recipe: recipes.Recipe) -> Any:
    """What identifies the weights that training starts from. Raises `Refusal` if they are not there."""
    stamps = []
    for key in ("model_name_or_path", "adapter_name_or_path", "ref_model"):
        place = Path(str(recipe.get(key, "")))
        if key not in recipe:
            continue
        if recipes.RUN.fullmatch(str(place)):
            stamps.append(
                read_json(place / "run.json", "run `make train-sft` with the same settings first")["inputs"]
            )
        elif place.is_dir():
            stamps.append([file_stamp(file) for file in sorted(place.glob("*.safetensors"))])
        elif place.parts[:1] == ("outputs",):
            raise Refusal(f"{place} is missing; run `make tiny-models` first")
        else:
            stamps.append([str(place), recipe.get("model_revision")])
    return stamps


def run_inputs(recipe: recipes.Recipe) -> str:
    """Fingerprint of everything that a trained model depends on, but for the machine it ran on."""
    return fingerprint(
        {
            "recipe": {key: value for key, value in recipe.items() if key not in INDIFFERENT},
            "tokens": tokenise.cache_path(recipe).name,
            "start": start_stamp(recipe),
        }
    )


@contextlib.contextmanager
def only_run_in(folder: Path) -> Iterator[None]:
    """Hold the run folder; a second launch, or an earlier one's processes that still live, is refused.

    The lock is inherited by the training processes and ends with the last of them.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "run.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise Refusal(f"another run is training in {folder}; wait for it or stop it") from None
        os.set_inheritable(lock.fileno(), True)
        yield


def prepare_folder(
    folder: Path, inputs: str, layout: dict[str, Any], options: argparse.Namespace
) -> Path | None:
    """Make the run folder ready and give the checkpoint to go on from, None to start.

    A run with other inputs (an edited recipe, other data) is moved aside, never deleted.
    """
    launched = folder / "launch.json"
    before = read_json(launched, "delete it to start again") if launched.is_file() else None
    if options.restart or not before or before["inputs"] != inputs:
        _clear(folder)
        before = None
    checkpoint, torn = checkpoints.last_whole(folder)
    for name in torn:
        print(f"skipped {name}: it was torn by a kill; renamed to torn-{name}")
    if (
        checkpoint
        and before
        and before["layout"] != layout
        and (layout["deepspeed"] or before["layout"]["deepspeed"])
    ):
        old = before["layout"]
        raise Refusal(
            f"{checkpoint} is split over {old['processes']} processes by {old['deepspeed'] or 'DDP'}; "
            "go on with the same GPUS, NNODES and deepspeed, or give --restart to start again"
        )
    return checkpoint


def _clear(folder: Path) -> None:
    """Move what another recipe or other data have trained aside; drop what holds no trained weights."""
    if not any(file.name != "run.lock" for file in folder.iterdir()):
        return
    aside = folder.with_name(f"{folder.name}.old-{time.strftime('%Y%m%d-%H%M%S')}")
    aside.mkdir()
    for file in folder.iterdir():
        if file.name != "run.lock":
            file.rename(aside / file.name)
    if list(aside.rglob("*.safetensors")):
        print(f"another run was here (other settings or data); it was moved to {aside}")
    else:
        shutil.rmtree(aside)


def run_arguments(
    recipe: recipes.Recipe, processes: int, tokenised: Path, checkpoint: Path | None, cuda: bool
) -> dict[str, Any]:
    """What LLaMA-Factory gets: the recipe, this machine's share of the batch, and where to go on."""
    per_device, accumulation = recipes.divide_batch(recipe, processes)
    arguments = {
        **recipe,
        "per_device_train_batch_size": per_device,
        "gradient_accumulation_steps": accumulation,
        "tokenized_path": str(tokenised),
        "logging_nan_inf_filter": False,  # else a NaN loss is logged as the mean of the others
        "disable_tqdm": True,
        "overwrite_output_dir": checkpoint is None,
    }
    if checkpoint:
        arguments["resume_from_checkpoint"] = str(checkpoint)
    if not cuda and not recipe.get(
        "deepspeed"
    ):  # DeepSpeed finds the CPU, and must start the processes itself
        arguments["use_cpu"] = True
    return arguments


def command(options: argparse.Namespace, processes: int, distributed: bool, launch: Path) -> list[str]:
    """The training command of this machine: one Python process, or torchrun for several."""
    worker = ["-m", "scripts.training.worker", str(launch)]
    if not distributed:
        return [sys.executable, *worker]
    return [
        sys.executable, "-m", "torch.distributed.run",
        "--nnodes", str(options.nnodes), "--node_rank", str(options.node_rank),
        "--nproc_per_node", str(processes),
        "--master_addr", options.master_addr, "--master_port", str(options.master_port),
        *worker,
    ]  # fmt: skip


# glibc: keep freed blocks for the next step instead of giving them back to the system, which zeroes them
# anew (a fifth of a tiny model's time on a CPU).
REUSE_MEMORY = {"MALLOC_MMAP_THRESHOLD_": str(2**32), "MALLOC_TRIM_THRESHOLD_": str(2**32)}


def run_worker(line: list[str], log: Path, processes: int) -> None:
    """Run the training command; show its `[train]` lines, keep all in the log, refuse if it fails."""
    threads = max(1, (os.cpu_count() or 1) // processes)
    env = {
        "OMP_NUM_THREADS": str(threads),
        **REUSE_MEMORY,
        **os.environ,
        "PYTHONUNBUFFERED": "1",
        "TOKENIZERS_PARALLELISM": "false",
    }
    last: collections.deque[str] = collections.deque(maxlen=200)
    failure = None
    with log.open("a", encoding="utf-8") as file:
        file.write(f"\n$ {' '.join(line)}\n")
        process = subprocess.Popen(
            line,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=env,
            close_fds=False,
            text=True,
            errors="replace",
        )
        try:
            for text in process.stdout or ():
                file.write(text)
                file.flush()
                last.append(text.strip())
                if text.startswith(SAY + "failed: "):
                    failure = text.removeprefix(SAY + "failed: ").strip()
                elif text.startswith(SAY):
                    print(text.removeprefix(SAY), end="", flush=True)
            process.wait()
        except BaseException:
            process.terminate()
            process.wait()
            raise
    if process.returncode:
        raise Refusal(f"training failed: {failure or _reason(process.returncode, last)}; see {log}")


def _reason(code: int, lines: collections.deque[str]) -> str:
    """The cause of a failed training process in one line, from its last words."""
    text = "\n".join(lines)
    if "out of memory" in text.lower():
        return (
            "the GPU's memory is full; halve per_device_train_batch_size, double gradient_accumulation_steps "
            "(make plan shows what fits)"
        )
    if code in (-9, 137) or "Signal 9" in text or "SIGKILL" in text:
        return "the process was killed (was main memory full?); run the same command to go on"
    lines = collections.deque(line.split("]: ", 1)[-1] for line in lines if "ChildFailedError" not in line)
    errors = [line for line in lines if re.match(r"[\w.]*(Error|Exception): ", line)]
    return errors[-1] if errors else f"exit code {code}"


def launch(options: argparse.Namespace, recipe: recipes.Recipe, learned: str, inputs: str) -> None:
    """Check, tokenise, train (or go on) and record one run.

    With several machines the first does all this; the others only start their processes, which
    torchrun holds back until the first machine's are there, and so has written launch.json.
    `learned` names what the checkpoints depend on, `inputs` what the chosen one does.
    """
    folder = Path(recipe["output_dir"])
    local, cuda = preflight(options, recipe)
    processes = local * options.nnodes
    layout = {"processes": processes, "deepspeed": recipe.get("deepspeed")}
    line = command(options, local, processes > 1 or bool(recipe.get("deepspeed")), folder / "launch.json")
    if options.node_rank:
        folder.mkdir(parents=True, exist_ok=True)
        run_worker(line, folder / f"train-{options.node_rank}.log", local)
        return
    with only_run_in(folder):
        if options.nnodes > 1 and not (tokenise.cache_path(recipe) / "tokens.json").is_file():
            raise Refusal(
                "with several machines tokenise first, once: python -m scripts.training.tokens, same options"
            )
        tokenised = tokenise.tokenise(recipe, options.workers)
        tokens = read_json(tokenised / "tokens.json", f"delete {tokenised}")
        checkpoint = prepare_folder(folder, learned, layout, options)
        record = {
            "inputs": learned,
            "layout": layout,
            "arguments": run_arguments(recipe, processes, tokenised, checkpoint, cuda),
            "tokens_per_epoch": tokens["train"]["tokens"],
        }
        rows = split_dir(options.data, options.split) / "validation.parquet"
        if options.select:
            record["select"] = {
                "rows": str(rows),
                "most": options.select_rows,
                "patience": options.patience,
            }
        write_json(folder / "launch.json", record)
        print(f"training in {folder}" + (f", going on from {checkpoint.name}" if checkpoint else ""))
        run_worker(line, folder / "train.log", local)
        if options.select:
            record["selection"] = best_checkpoint.choose(folder, rows, options.select_rows)
        write_json(folder / "run.json", {**run_record(options, record, tokens), "inputs": inputs})


def preflight(options: argparse.Namespace, recipe: recipes.Recipe) -> tuple[int, bool]:
    """(processes on this machine, whether there are GPUs); refuse what would fail after the start."""
    path = recipes.find_recipe(options.model, options.stage, options.recipe)
    recipes.check(recipe, path)
    import torch

    cuda = torch.cuda.is_available()
    local = options.gpus or torch.cuda.device_count() or 1
    if cuda and local > torch.cuda.device_count():
        raise Refusal(f"GPUS={local}, but this machine has {torch.cuda.device_count()}")
    if options.select and recipe.get("create_new_adapter"):
        raise Refusal(
            "SELECT can't score an adapter on a merged one; leave SELECT out, export, and score that"
        )
    if not cuda and (recipe.get("bf16") or recipe.get("quantization_bit")):
        raise Refusal("the recipe needs a GPU (bf16 or quantised), and this machine has none; try MODEL=tiny")
    recipes.divide_batch(recipe, local * options.nnodes)
    check_disk(options, recipe)
    return local, cuda


def check_disk(options: argparse.Namespace, recipe: recipes.Recipe) -> None:
    """Refuse a run whose checkpoints don't fit on the disk: the kept ones, one being written, the model."""
    from scripts.training import memory

    if recipe.get("save_strategy", "steps") == "no":
        return
    lora = recipe.get("finetuning_type", "lora") == "lora"
    try:
        place = memory.find_architecture(recipe, options.model)
    except Refusal:  # a hub model whose figures aren't here: its size isn't known
        return
    arch = memory.architecture(place, int(recipe.get("lora_rank", 8)) if lora else 0)
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


def run_record(options: argparse.Namespace, record: dict[str, Any], tokens: dict[str, Any]) -> dict[str, Any]:
    """Everything to repeat a run and to judge it. Losses are the trainer's own log."""
    folder = Path(record["arguments"]["output_dir"])
    state = read_json(folder / "trainer_state.json", "run the same command again")
    manifest = split_dir(options.data, options.split) / "manifest.json"
    sessions = [json.loads(line) for line in (folder / "sessions.jsonl").read_text().splitlines()]
    git = shutil.which("git") and subprocess.run(
        ["git", "rev-parse", "HEAD"], capture_output=True, text=True, cwd=Path(__file__).parent
    )
    return {
        **record,
        "command": sys.argv,
        "data_manifest": read_json(manifest, "run `make data`").get("inputs") if manifest.is_file() else None,
        "git_commit": git.stdout.strip() or None if git else None,
        "hardware": {
            "machine": platform.machine(),
            "cores": os.cpu_count(),
            "device": sessions[-1]["device"],
        },
        "losses": state["log_history"],
        "sessions": sessions,
        "peak_memory_bytes": max(session["peak_memory_bytes"] for session in sessions),
        "tokens": tokens,
        "versions": {name: importlib.metadata.version(name) for name in PACKAGES}
        | {"python": platform.python_version()},
    }


def main() -> None:
    options = make_parser(__doc__ or "").parse_args()
    recipe = resolved_recipe(options)
    learned = run_inputs(recipe)
    selected = [learned, options.select, options.select_rows, options.patience]
    inputs = fingerprint(selected) if options.select else learned
    folder = Path(recipe["output_dir"])
    if up_to_date(folder / "run.json", inputs) and not options.restart:
        print(f"nothing to do: {folder} holds this run")
        return
    begun = time.monotonic()
    launch(options, recipe, learned, inputs)
    losses = [entry["loss"] for entry in read_json(folder / "run.json", "")["losses"] if "loss" in entry]
    if losses:
        print(
            f"done in {time.monotonic() - begun:.0f} s: loss {losses[0]:.3f} -> {losses[-1]:.3f}; "
            f"{folder}/run.json"
        )


if __name__ == "__main__":
    run_cli(main)
