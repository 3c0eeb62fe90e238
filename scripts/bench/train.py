"""Measure what training's settings cost, as ratios within one run on this machine.

    socrates bench train                          # tiny model, on a CPU or a GPU

Prints: tokenising by LLaMA-Factory's own path against ours; batches padded, packed (`neat_packing`)
and grouped by length; one process against two; and whether packing leaves the loss of every answer
unchanged. Each figure is the best of `--repeat` runs of the same work. The texts are made up, but as
varied in length as those of SocSci210.
"""

import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from common.errors import Refusal
from common.files import write_json
from common.paths import root
from common.prompts import SYSTEM_PROMPT, user_prompt
from scripts.training import llamafactory, worker
from scripts.training.recipe import Recipe
from scripts.training.record import SESSIONS
from scripts.training.tokeniser import Tokeniser
from scripts.training.tokens import cache_dir, tokenise

REPOSITORY = str(Path(__file__).parents[2])


def write_rows(folder: Path, count: int, name: str) -> None:
    """SFT rows whose stimuli have 100 to 4,700 characters, most of them short; register them as `name`."""
    draw = random.Random(0)
    file = folder / f"{name}.jsonl"
    with file.open("w", encoding="utf-8") as lines:
        for number in range(count):
            text = "A mayor wants to raise a local tax to build a school. " * min(
                85, int(draw.lognormvariate(2.2, 0.8)) + 2
            )
            question = (
                f"{text}How fair is proposal {number}?\nOnly return an integer from 1 to 7, nothing else."
            )
            prompt = user_prompt(
                {"age": draw.randint(18, 90), "gender": "female", "income": "$50,000"}, question
            )
            row = {"system": SYSTEM_PROMPT, "instruction": prompt, "output": str(draw.randint(1, 7))}
            lines.write(json.dumps(row) + "\n")
    info = folder / "dataset_info.json"
    entries = json.loads(info.read_text()) if info.exists() else {}
    entries[name] = {
        "file_name": file.name,
        "columns": {"prompt": "instruction", "response": "output", "system": "system"},
    }
    write_json(info, entries)


def base_recipe(model: str, template: str) -> Recipe:
    """What all runs share: a batch of 8 answers, no checkpoints, no log but the total."""
    return {
        "stage": "sft", "do_train": True, "finetuning_type": "full", "model_name_or_path": model,
        "template": template, "dataset": "bench", "dataset_dir": "data", "cutoff_len": 1024,
        "per_device_train_batch_size": 8, "gradient_accumulation_steps": 1, "num_train_epochs": 1,
        "learning_rate": 1e-5, "save_strategy": "no", "report_to": "none", "disable_tqdm": True,
        "output_dir": "out", "overwrite_output_dir": True, "seed": 0,
    }  # fmt: skip


def train(recipe: Recipe, processes: int = 1) -> dict[str, Any]:
    """One training run in its own processes.

    Gives LLaMA-Factory's own measure of its seconds and its loss, and rows, tokens and peak memory.
    """
    shutil.rmtree("out", ignore_errors=True)
    tokens = tokenise(recipe, 1)
    counts = json.loads((tokens / "tokens.json").read_text())["train"]
    arguments = {**recipe, "tokenized_path": str(tokens)}
    write_json("launch.json", {"arguments": arguments, "tokens": {"train": counts}})
    start = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)]
    line = [sys.executable, *(start if processes > 1 else []), "-m", worker.__name__, "launch.json"]
    done = subprocess.run(line, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": REPOSITORY})
    if done.returncode:
        raise Refusal(f"a benchmark run failed: {(done.stderr.strip().splitlines() or ['?'])[-1]}")
    results = json.loads(Path("out/train_results.json").read_text())
    sessions = Path("out", SESSIONS).read_text().splitlines()
    return {
        "seconds": results["train_runtime"], "loss": results["train_loss"],
        "rows": counts["rows"], "tokens": counts["tokens"], "session": json.loads(sessions[-1]),
    }  # fmt: skip


def best(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """The quickest of several runs of the same work."""
    return min(runs, key=lambda run: run["seconds"])


def tokenising_rates(recipe: Recipe, count: int, repeat: int) -> dict[str, float]:
    """Rows a second of LLaMA-Factory's own loading and of ours; the ways take turns."""
    write_rows(Path("data"), count, "tokens")
    workers = len(os.sched_getaffinity(0))
    ways = {
        "LLaMA-Factory's default": ("time_llamafactory", None),
        f"LLaMA-Factory's, {workers} processes": ("time_llamafactory", workers),
        "ours, 1 process": ("time_ours", 1),
        f"ours, {workers} processes": ("time_ours", workers),
    }
    rates = dict.fromkeys(ways, 0.0)
    for _ in range(repeat):
        for name, (function, used) in ways.items():
            shutil.rmtree(cache_dir(), ignore_errors=True)
            settings = {
                **recipe,
                "dataset": "tokens",
                "preprocessing_num_workers": used,
                "overwrite_cache": True,
            }
            code = (
                f"import sys, json; from {__spec__.name} import {function}; {function}(json.load(sys.stdin))"
            )
            cache = tempfile.mkdtemp(dir=".")
            env = {**os.environ, "PYTHONPATH": REPOSITORY, "HF_DATASETS_CACHE": cache}
            line, text = [sys.executable, "-c", code], json.dumps(settings)
            done = subprocess.run(line, input=text, capture_output=True, text=True, env=env, check=True)
            rates[name] = max(rates[name], count / float(done.stdout.splitlines()[-1]))
    return rates


def time_llamafactory(recipe: Recipe) -> None:
    """Print the seconds in which LLaMA-Factory's own loader makes the tokens, without imports."""
    llamafactory.bind(recipe)  # imports
    begun = time.perf_counter()
    llamafactory.load_dataset(recipe)
    print("\n", time.perf_counter() - begun)


def time_ours(recipe: Recipe) -> None:
    """Print the seconds in which ours makes the same tokens, without this process's imports.

    Further processes import for themselves, which is counted.
    """
    Tokeniser(recipe)
    begun = time.perf_counter()
    tokenise(recipe, recipe["preprocessing_num_workers"])
    print("\n", time.perf_counter() - begun)


def losses_packed_and_alone(recipe: Recipe) -> tuple[float, float]:
    """(loss of the answers when packed, loss when alone) of one batch: equal if packs are kept apart."""
    import torch
    from datasets import load_from_disk
    from transformers import AutoModelForCausalLM

    packed = load_from_disk(str(tokenise({**recipe, "packing": True, "neat_packing": True}, 1)))["train"]
    model = AutoModelForCausalLM.from_pretrained(recipe["model_name_or_path"], dtype=torch.float32).eval()
    row = next(row for row in packed if max(row["attention_mask"]) > 1)
    ids, marks, labels = (torch.tensor(row[key]) for key in ("input_ids", "attention_mask", "labels"))
    positions = torch.tensor(row["position_ids"])

    def loss(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.cross_entropy(logits[:-1], target[1:], ignore_index=-100, reduction="none")

    with torch.no_grad():
        mask = llamafactory.packed_attention_mask(marks[None], torch.float32)
        whole = model(input_ids=ids[None], attention_mask=mask, position_ids=positions[None]).logits[0]
        together = loss(whole, labels).sum()
        parts = [(marks == number).nonzero().squeeze(1) for number in range(1, int(marks.max()) + 1)]
        alone = sum(loss(model(input_ids=ids[part][None]).logits[0], labels[part]).sum() for part in parts)
    return float(together), float(alone)


def training_runs(recipe: Recipe, repeat: int) -> dict[str, dict[str, Any]]:
    """Seconds and loss of the same answers, batched in several ways; the runs take turns."""
    ways: dict[str, tuple[dict[str, Any], int]] = {
        "padded, batches at random": ({}, 1),
        "padded, grouped by length": ({"train_sampling_strategy": "group_by_length"}, 1),
        "packed (neat_packing)": (
            {"packing": True, "neat_packing": True, "per_device_train_batch_size": 2},
            1,
        ),
        "padded, 2 processes": ({"per_device_train_batch_size": 4}, 2),
    }
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in ways}
    for _ in range(repeat):
        for name, (changes, processes) in ways.items():
            runs[name].append(train({**recipe, **changes}, processes))
    return {name: best(repeats) for name, repeats in runs.items()}


def measure_training(
    model: Path | None = None, template: str = "llama3", rows: int = 8000, answers: int = 512, repeat: int = 2
) -> Iterator[str]:
    """Yield the lines of what tokenising and training cost, as they are measured.

    model: its folder, default the tiny model. rows: that are tokenised. answers: of each training run. Works
    in a temporary folder, which is the project's folder for the rest of the process. Raises `Refusal` if
    packing changes an answer's loss.
    """
    model = (model or root() / "outputs/models/tiny").resolve()
    if not (model / "config.json").is_file():
        raise Refusal(f"{model} holds no model; run `make tiny-models` first")
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        os.environ["SOCRATES_HOME"] = folder
        Path("data").mkdir()
        write_rows(Path("data"), answers, "bench")
        recipe = base_recipe(str(model), template)
        rates = tokenising_rates(recipe, rows, repeat)
        yield f"tokenising {rows:,} rows, rows/s (x LLaMA-Factory's default)"
        first = next(iter(rates.values()))
        for name, rate in rates.items():
            yield f"  {name:<40}{rate:>9,.0f}{rate / first:>8.2f}"
        results = training_runs(recipe, repeat)
        yield f"training on {answers} answers, answers/s (x padded)"
        slow = results["padded, batches at random"]["seconds"]
        for name, run in results.items():
            rate = answers / run["seconds"]
            yield f"  {name:<40}{rate:>9,.1f}{slow / run['seconds']:>8.2f}   mean loss {run['loss']:.4f}"
        together, alone = losses_packed_and_alone(recipe)
        yield f"loss of one pack's answers: packed {together:.6f}, alone {alone:.6f}"
        if abs(together - alone) > 1e-3 * alone:
            raise Refusal("packing changes the losses: packed answers see one another; use packing: false")
