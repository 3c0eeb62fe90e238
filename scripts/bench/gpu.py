"""What no CPU can show: full-size training and prediction on one GPU, in below 25 minutes, no download.

    make bench-gpu                      # random weights in the shape of configs/llama3-8b
    socrates bench gpu --small          # a tiny shape, to see that it runs; also on a CPU

A model with random weights is made in place. Each training case runs a few steps through this project's
own worker: tokens/s, the share of the GPU's peak that they are, and peak memory beside `make plan`'s figure.
As many layers are taken as the plan says fit (full fine-tuning of all 32 needs more than one GPU); figures
of fewer layers say so. Then exact prediction in rows/s, in process and, where .venv-vllm is there, through
a vLLM server.
"""

import importlib.util
import json
import math
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import polars as pl
import torch

from common.contract import EVALUATION
from common.errors import Refusal
from common.files import write_json
from common.paths import configs
from common.prompts import SYSTEM_PROMPT, user_prompt
from common.readers import read_yaml
from common.scale import Scale, to_columns
from common.tables import text_table
from scripts.bench.train import REPOSITORY, base_recipe, train, write_rows
from scripts.sample.models import FAMILIES, make_model
from scripts.training import memory
from scripts.training.recipe import Recipe

SMALL = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 2,
         "num_key_value_heads": 1, "vocab_size": 2304, "max_position_embeddings": 2048}  # fmt: skip
LONGEST = 1024  # tokens of the longest row
ROOM = 0.9  # of the GPU's memory that the plan may fill
PREDICTED = 512  # rows that are predicted


@dataclass(frozen=True)
class Case:
    """One way to train: recipe keys beside the shared ones, and the package that it needs."""

    name: str
    changes: dict[str, Any]
    package: str | None = None


LORA = {"finetuning_type": "lora", "lora_rank": 64, "lora_target": "all"}
DPO = {"stage": "dpo", "pref_beta": 0.1, "dataset": "pairs"}
CASES = (
    Case("SFT, all parameters", {"pure_bf16": True}),
    Case("SFT, all parameters, packed", {"pure_bf16": True, "packing": True, "neat_packing": True}),
    Case("SFT, LoRA", LORA),
    Case("SFT, LoRA, packed", {**LORA, "packing": True, "neat_packing": True}),
    Case("SFT, LoRA, flash attention", {**LORA, "flash_attn": "fa2"}, "flash_attn"),
    Case("SFT, LoRA, Liger", {**LORA, "enable_liger_kernel": True}, "liger_kernel"),
    Case("SFT, QLoRA", {**LORA, "quantization_bit": 4}, "bitsandbytes"),
    Case("DPO, LoRA, reference", {**LORA, **DPO}),
    Case("DPO, LoRA, no reference (SimPO)", {**LORA, **DPO, "pref_loss": "simpo"}),
)


def write_model(figures: dict[str, Any], layers: int, folder: Path, device: str) -> Path:
    """A model with random weights and the tiny family's tokenizer in a folder of its own."""
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    tokenizer_folder = folder / "tokenizer"
    make_model(FAMILIES["llama"], tokenizer_folder)
    model_folder = folder / f"layers-{layers}"
    if (model_folder / "config.json").is_file():
        return model_folder
    config = AutoConfig.for_model(**figures | {"num_hidden_layers": layers})
    tokenizer = AutoTokenizer.from_pretrained(tokenizer_folder)
    config.eos_token_id, config.bos_token_id = tokenizer.eos_token_id, tokenizer.bos_token_id
    torch.manual_seed(0)
    with torch.device(device):
        model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    model.save_pretrained(model_folder)
    tokenizer.save_pretrained(model_folder)
    del model
    torch.cuda.empty_cache()
    return model_folder


def write_pairs(folder: Path) -> None:
    """The SFT rows as pairs: another answer is rejected."""
    lines = (folder / "bench.jsonl").read_text().splitlines()
    with (folder / "pairs.jsonl").open("w") as file:
        for row in map(json.loads, lines):
            answer = row.pop("output")
            file.write(json.dumps(row | {"chosen": answer, "rejected": str(int(answer) % 7 + 1)}) + "\n")
    info = json.loads((folder / "dataset_info.json").read_text())
    columns = {"prompt": "instruction", "chosen": "chosen", "rejected": "rejected", "system": "system"}
    info["pairs"] = {"file_name": "pairs.jsonl", "ranking": True, "columns": columns}
    write_json(folder / "dataset_info.json", info)


def fitting_layers(figures: Path, case: Case, recipe: Recipe, room: float) -> tuple[int, float]:
    """(layers that the plan says fit into `room` bytes, its figure for them)."""
    wanted = int(json.loads(figures.read_text())["num_hidden_layers"])
    lora = recipe.get("finetuning_type") == "lora"
    arch = memory.architecture(figures, int(recipe.get("lora_rank", 8)) if lora else 0)
    rows = int(recipe["per_device_train_batch_size"])
    for layers in range(wanted, 0, -1):
        per_layer = (arch.parameters - arch.embeddings) / wanted
        part = replace(
            arch, layers=layers, parameters=round(arch.embeddings + layers * per_layer),
            adapters=round(arch.adapters * layers / wanted),
        )  # fmt: skip
        figure = sum(memory.memory(part, recipe, "no ZeRO", 1, rows, LONGEST).values())
        if figure <= room:
            return layers, figure
    raise Refusal(f"{case.name}: not even one layer fits into {room / 1e9:.0f} GB")


def bench_case(case: Case, home: Path, gpu: dict[str, Any] | None, small: bool) -> list[Any]:
    """One row of the table: layers, tokens/s, share of the peak, memory measured and planned."""
    if case.package and importlib.util.find_spec(case.package) is None:
        return [case.name, "–", "–", "–", "–", "–", f"{case.package} isn't installed"]
    figures = json.loads((home / "architecture.json").read_text())
    recipe = {**base_recipe("", "llama3"), "bf16": not small, **case.changes, "cutoff_len": LONGEST}
    if recipe.get("pure_bf16"):
        recipe.pop("bf16")
    if small:
        recipe.pop("pure_bf16", None)
    recipe["per_device_train_batch_size"] = 1 if recipe.get("packing") else 2 if small else 8
    room = ROOM * gpu["memory_gb"] * 1e9 if gpu else math.inf
    layers, planned = fitting_layers(home / "architecture.json", case, recipe, room)
    device = "cuda" if gpu else "cpu"
    recipe["model_name_or_path"] = str(write_model(figures, layers, home / "models", device))
    begun = time.monotonic()
    result = train(recipe)
    tokens, session = result["tokens"], result["session"]
    rate = tokens / result["seconds"]
    share = "–"
    if gpu:
        arch = memory.architecture(Path(recipe["model_name_or_path"]) / "config.json", 0)
        used = memory.flops(arch, recipe, rate, tokens / result["rows"])
        share = f"{used / (gpu['bf16_tflops'] * 1e12):.0%}"
    peak = session["peak_memory_bytes"] / 2**30
    print(f"  {case.name}: {time.monotonic() - begun:.0f} s", file=sys.stderr, flush=True)
    return [case.name, layers, f"{rate:,.0f}", share, f"{peak:.1f}", f"{planned / 2**30:.1f}", ""]


def write_evaluation(path: Path, rows: int) -> None:
    """Evaluation rows of one study with a 1 to 7 and a 0 to 100 scale, many people a question."""
    scales = [Scale("ordinal", 1, 7), Scale("bounded", 0, 100)]
    texts = [f"A mayor wants to raise a tax. {'It is debated. ' * 40}\n\n{s.sentence()}" for s in scales]
    task = [row % 2 for row in range(rows)]
    people = [{"age": 20 + row % 60, "gender": ("Female", "Male")[row % 2]} for row in range(rows)]
    table = pl.DataFrame(
        {
            "study_id": ["bench"] * rows, "sample_id": range(rows), "participant": range(rows),
            "condition_num": [0] * rows, "task_num": task, "item_num": [0] * rows,
            "system": [SYSTEM_PROMPT] * rows, "stimuli": [texts[t] for t in task],
            "prompt": [user_prompt(p, texts[t]) for p, t in zip(people, task, strict=True)],
            "response": [1] * rows, "off_scale": [False] * rows, "demographic": people,
        }
    ).hstack(to_columns([scales[t] for t in task]))  # fmt: skip
    table.select(list(EVALUATION)).write_parquet(path)


def bench_prediction(model: Path, home: Path, small: bool) -> list[list[Any]]:
    """Rows/s of exact mode, in process and through vLLM: loading is left out by a first run of few rows."""
    rows = 16 if small else PREDICTED
    write_evaluation(home / "rows.parquet", rows)
    rates = [["exact, in process", rows, f"{_rows_per_second(['--model', str(model)], home, rows):.1f}"]]
    python = Path(REPOSITORY) / ".venv-vllm/bin/python"
    if not python.exists():
        return [*rates, ["exact, vLLM server", "–", ".venv-vllm isn't there; see requirements-vllm.txt"]]
    with served(python, model, home / "vllm.log") as url:
        rate = _rows_per_second(["--model", "bench", "--url", url], home, rows)
    return [*rates, ["exact, vLLM server", rows, f"{rate:.1f}"]]


def _rows_per_second(words: list[str], home: Path, rows: int) -> float:
    seconds = {}
    for number in (2, rows):
        line = [sys.executable, "-m", "socrates", "predict", *words, "--rows", str(home / "rows.parquet")]
        line += ["--max-rows", str(number), "--out", str(home / f"predictions-{time.monotonic_ns()}")]
        begun = time.monotonic()
        environment = os.environ | {"SOCRATES_HOME": REPOSITORY, "PYTHONPATH": REPOSITORY}
        done = subprocess.run(line, cwd=home, env=environment, capture_output=True)
        if done.returncode:
            raise Refusal(f"predicting failed: {done.stderr.decode().strip().splitlines()[-1]}")
        seconds[number] = time.monotonic() - begun
    return (rows - 2) / max(seconds[rows] - seconds[2], 1e-9)


@contextmanager
def served(python: Path, model: Path, log: Path) -> Iterator[str]:
    """A vLLM server of the model, as long as the block runs; its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    line = [str(python), "-m", "vllm.entrypoints.openai.api_server", "--model", str(model)]
    line += ["--served-model-name", "bench", "--port", str(port), "--max-logprobs", "1100"]
    url = f"http://127.0.0.1:{port}/v1"
    with log.open("wb") as out, subprocess.Popen(line, stdout=out, stderr=out) as server:
        try:
            for _ in range(600):
                if server.poll() is not None:
                    raise Refusal(f"vLLM doesn't start: {log.read_text()[-300:]}")
                try:
                    urllib.request.urlopen(f"{url}/models", timeout=1)
                    break
                except OSError:
                    time.sleep(1)
            yield url
        finally:
            server.terminate()


def this_gpu() -> dict[str, Any] | None:
    """Name, memory and peak of the first GPU (configs/gpus.yaml), None without one."""
    if not torch.cuda.is_available():
        return None
    name = torch.cuda.get_device_name(0)
    described = read_yaml(configs() / "gpus.yaml", "it comes with the project")[0]["gpus"]
    for key, figures in described.items():
        if key.split("-")[0] in name.lower().replace(" ", ""):
            return {"name": name, **figures}
    total = torch.cuda.get_device_properties(0).total_memory / 1e9
    raise Refusal(f"{name} ({total:.0f} GB) isn't in configs/gpus.yaml; add its memory and bf16 peak there")


def measure_gpu(small: bool = False, answers: int | None = None) -> Iterator[str]:
    """Run every case; yield what it ran on and two tables, of training and of prediction.

    small: a tiny shape, also without a GPU. answers: of each training case, default 256 (small: 16). Works
    in a temporary folder, which is the project's folder for the rest of the process.
    """
    gpu = this_gpu()
    if gpu is None and not small:
        raise Refusal("no GPU is here; --small runs the same on a CPU, with a tiny model")
    answers = answers or (16 if small else 256)
    shape = json.loads((configs() / "llama3-8b/architecture.json").read_text())
    with tempfile.TemporaryDirectory(prefix="bench-gpu-") as folder:
        home = Path(folder)
        os.chdir(home)
        os.environ["SOCRATES_HOME"] = str(home)
        (home / "data").mkdir()
        write_json(home / "architecture.json", {**shape, **(SMALL if small else {})})
        write_rows(home / "data", answers, "bench")
        write_pairs(home / "data")
        where = gpu["name"] if gpu else "a CPU"
        yield f"{where}, torch {torch.__version__}, {answers} answers a case, at most {LONGEST} tokens each"
        rows = [bench_case(case, home, gpu, small) for case in CASES]
        heads = ("training", "layers", "tokens/s", "of peak", "peak GiB", "planned GiB", "")
        yield text_table(heads, rows)
        figures = json.loads((home / "architecture.json").read_text())
        model = write_model(figures, figures["num_hidden_layers"], home / "models", "cuda" if gpu else "cpu")
        yield text_table(("prediction", "rows", "rows/s"), bench_prediction(model, home, small))
