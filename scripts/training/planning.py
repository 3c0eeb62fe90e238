"""Plan a run before a GPU is taken: tokens, steps, memory by part, hours, cost, and what fits first.

    socrates plan --model llama3-8b --data socsci210 --gpus 8 --gpu h100-80gb
    socrates plan --stage dpo --model qwen2.5-14b --gpus 8 --gpu h100-80gb
    socrates plan --recipe my.yaml --architecture config.json     # any other model

Tokens are counted on the tokenised data if it is there, else on a sample of the data set's rows, else
assumed; the plan says which. GPU figures, prices and the assumptions are those of configs/gpus.yaml.
"""

import html
import math
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from common.errors import Refusal
from common.gpus import dollars_in_words, hours_in_words, read_gpu
from common.paths import configs, root
from common.runs import base_model
from scripts.training import llamafactory, memory, rows
from scripts.training.recipe import Recipe, divide_batch, global_batch, names_of
from scripts.training.request import Machines, RunRequest
from scripts.training.rules import problems, refuse_problems
from scripts.training.tokeniser import Tokeniser
from scripts.training.tokens import cache_path

GIB = 2**30
SAMPLE = 20_000  # rows on which padding and packing are simulated
MEASURED = 2000  # rows whose tokens are counted where the data set isn't tokenised yet


@dataclass(frozen=True)
class Tokens:
    """rows and tokens of one epoch; longest row; tokens after padding; packed sequences; where from."""

    rows: int
    tokens: int
    longest: int
    padded: int
    packed: int
    source: str


def count_tokens(recipe: Recipe, base: str, per_device: int, assumptions: dict[str, Any]) -> Tokens:
    """Measured on the tokenised data, else on a sample of the rows, else assumed.

    base: the model whose tokenizer counts where the recipe's own model isn't there yet.
    """
    cutoff = int(recipe.get("cutoff_len", 2048))
    pairs = 2 if recipe["stage"] == "dpo" else 1
    try:
        count, lengths, source = _lengths(recipe, base)
    except Refusal as refusal:
        mean, count = assumptions["prompt_tokens"], assumptions["rows"]
        tokens = count * mean * pairs
        return Tokens(
            count, tokens, cutoff, int(tokens * 1.3), -(-count * mean // cutoff), f"assumed ({refusal})"
        )
    import numpy as np

    sample = np.random.default_rng(0).permutation(lengths)[:SAMPLE]
    whole = sample[: len(sample) // per_device * per_device].reshape(-1, per_device)
    waste = whole.max(1).sum() * per_device / max(whole.sum(), 1) if len(whole) else 1.0
    packs = sum(
        len(llamafactory.pack(part.tolist(), cutoff))
        for part in np.array_split(sample, -(-len(sample) // 2000))
    )
    tokens = int(lengths.mean() * count) * pairs
    return Tokens(
        count,
        tokens,
        int(lengths.max()),
        int(tokens * waste),
        math.ceil(packs * count / len(sample)),
        source,
    )


def _lengths(recipe: Recipe, base: str) -> tuple[int, Any, str]:
    """(rows of an epoch, tokens of each of them or of a sample, where from).

    Raises `Refusal` where there is no data set, or no tokenizer to count with.
    """
    import numpy as np

    cutoff = int(recipe.get("cutoff_len", 2048))
    folder = cache_path(recipe)
    if (folder / "train_lengths.npy").is_file():
        lengths = np.load(folder / "train_lengths.npy")
        return len(lengths), lengths, f"measured on {folder}"
    sets = [rows.find(name) for name in names_of(recipe["dataset"])]
    if not Path(recipe["model_name_or_path"]).is_dir():
        recipe = {**recipe, "model_name_or_path": base}
    tokeniser = Tokeniser(recipe)
    measured, count = [], 0.0
    for data in sets:
        sample, share = rows.sample(data, MEASURED // len(sets))
        tokens = np.array(tokeniser.encode(sample, data.entry, pack=False)[1])
        measured.append(tokens[tokens <= cutoff])
        count += len(measured[-1]) / share
    lengths = np.concatenate(measured)
    if not len(lengths):
        raise Refusal(f"no row of a sample of {recipe['dataset']} is within cutoff_len={cutoff}")
    return round(count), lengths, f"estimated from {len(lengths):,} rows of {recipe['dataset']}"


# The shipped DeepSpeed settings that the table's rows stand for
DEEPSPEED = {"ZeRO-2": "zero2.json", "ZeRO-3": "zero3.json", "ZeRO-3 offload": "zero3-offload.json"}


def possible(recipe: Recipe, gpus: int) -> list[str]:
    """The ZeRO settings that this recipe can run with.

    Splitting needs GPUs and unquantised weights, and none of the rules against it (an optimizer that can't
    be split, say).
    """
    if recipe.get("quantization_bit"):
        return ["no ZeRO"]
    without = {key: value for key, value in recipe.items() if key != "deepspeed"}
    usual = set(problems(without))
    files = {setting: str(configs() / "deepspeed" / name) for setting, name in DEEPSPEED.items()}
    candidates = DEEPSPEED if gpus > 1 else ["ZeRO-3 offload"]
    return ["no ZeRO"] + [
        setting
        for setting in candidates
        if not set(problems({**without, "deepspeed": files[setting]})) - usual
    ]


def memory_table(
    arch: memory.Architecture, recipe: Recipe, gpus: int, size: int, longest: int
) -> pl.DataFrame:
    """GiB on one GPU by part, one row a possible ZeRO setting, for `size` rows of `longest` tokens a GPU."""
    lines = []
    for setting in possible(recipe, gpus):
        parts = memory.memory(arch, recipe, setting, gpus, size, longest)
        cells = {part: parts[part] / GIB for part in memory.PARTS}
        host = memory.host_memory(arch, setting, gpus) / GIB
        lines.append({"setting": setting, **cells, "sum": sum(cells.values()), "host_ram": host})
    return pl.DataFrame(lines)


def first_fit(
    arch: memory.Architecture, recipe: Recipe, gpus: int, longest: int, room: float
) -> tuple[str, int] | None:
    """The first (setting, rows a GPU) that fits in `room` bytes.

    The recipe's rows a GPU first, then fewer; for each the least splitting first; offload, which is
    many times slower, only when nothing else fits.
    """
    most, _ = divide_batch(recipe, gpus)
    sizes = [size for size in range(most, 0, -1) if most % size == 0]
    settings = possible(recipe, gpus)
    quick = [setting for setting in settings if "offload" not in setting]
    order = [(setting, size) for size in sizes for setting in quick]
    order += [(setting, size) for size in sizes for setting in settings if setting not in quick]
    for setting, size in order:
        if sum(memory.memory(arch, recipe, setting, gpus, size, longest).values()) <= room:
            return setting, size
    return None


def offload_seconds(
    arch: memory.Architecture, assumed: dict[str, float], gpus: int, steps: int, forwards: float
) -> float:
    """Seconds that ZeRO-3 offload adds to `steps` steps of together `forwards` batches on each GPU.

    Each batch moves a GPU's share of the 16-bit weights in three times (forward, recomputed, backward)
    and of the gradients out once; each step the processors update the weights (arXiv 2101.06840,
    section 4).
    """
    moved = forwards * 8.0 * arch.parameters / gpus / (assumed["transfer_gb_s"] * 1e9)
    return moved + steps * arch.parameters / assumed["cpu_adam_per_s"]


@dataclass(frozen=True)
class Plan:
    """What a run will take. Printing it gives the plan as text; `table` is the memory by part.

    hours and dollars follow from `assumed` and from configs/gpus.yaml, for the setting of `fits`.
    fits: the first (ZeRO setting, rows a GPU) that fits in `room` bytes, None if nothing does.
    table: GiB on one GPU for the rows of `layout`, each as long as the longest row.
    """

    title: str
    tokens: Tokens
    steps: int
    batch: int
    layout: tuple[int, int, int]
    cutoff: int
    checkpoints: int
    disk: float
    hours: float
    dollars: float
    assumed: str
    room: float
    fits: tuple[str, int] | None
    table: pl.DataFrame
    checkpointing: str = "gradient checkpointing"
    not_modelled: tuple[str, ...] = ()
    unregistered: tuple[str, ...] = ()

    @property
    def verdict(self) -> str:
        """What fits first, in words."""
        if self.fits is None:
            return "nothing fits: more or larger GPUs, a shorter cutoff_len, or the LoRA or QLoRA recipe"
        setting, size = self.fits
        rows = f"per_device_train_batch_size {size}"
        return f"first that fits: {setting} with {rows}; the batch stays {self.batch}"

    def __str__(self) -> str:
        tokens, (gpus, size, accumulation) = self.tokens, self.layout
        titles = "".join(f"{part:>13}" for part in memory.PARTS)
        return "\n".join([
            self.title,
            f"tokens  {tokens.tokens:,} in {tokens.rows:,} rows an epoch ({tokens.source})",
            f"        padded {tokens.padded:,} ({tokens.padded / max(tokens.tokens, 1):.2f} x); "
            f"packed {tokens.packed:,} sequences of {self.cutoff}",
            f"steps   {self.steps:,} of {self.batch} = {gpus} GPUs x {size} x {accumulation}",
            f"disk    {self.disk / 1e9:,.1f} GB for {self.checkpoints} checkpoints; "
            f"{shutil.disk_usage(root()).free / 1e9:,.0f} GB are free here",
            f"time    {hours_in_words(self.hours)}, {dollars_in_words(self.dollars)}; "
            f"assumed: {self.assumed}",
            "",
            f"one GPU with {size} rows of {tokens.longest} tokens and {self.checkpointing}; "
            f"room: {self.room / GIB:.0f} GiB",
            f"{'GiB a GPU':<16}{titles}{'sum':>9}{'host RAM':>10}",
            *(
                f"{row['setting']:<16}" + "".join(f"{row[part]:>13.1f}" for part in memory.PARTS)
                + f"{row['sum']:>9.1f}{row['host_ram']:>10.0f}"
                for row in self.table.iter_rows(named=True)
            ),
            *(f"not modelled: {text}" for text in self.not_modelled),
            *(f"training will be refused: {text}" for text in self.unregistered),
            "",
            self.verdict,
        ])  # fmt: skip

    def _repr_html_(self) -> str:
        return f"<pre>{html.escape(str(self))}</pre>"


def plan(
    stage: str = "sft",
    model: str = "tiny",
    data: str = "sample",
    split: str = "study",
    recipe: str | Path | None = None,
    gpus: int | None = None,
    gpu: str = "h100-80gb",
    **settings: Any,
) -> Plan:
    """Plan a run of `train`'s arguments on `gpus` GPUs of the kind `gpu` (a name in configs/gpus.yaml)."""
    machines = Machines.from_environment(gpus=gpus)
    return make_plan(RunRequest(stage, model, data, split, recipe, settings, machines), gpu)


def make_plan(request: RunRequest, gpu_name: str, architecture: Path | None = None) -> Plan:
    """As `plan`, for a whole request; architecture: a config.json of a model that isn't here."""
    recipe = request.resolved
    refuse_problems(recipe, request.path)
    gpu, assumed = read_gpu(gpu_name)
    gpus = (request.machines.gpus or 1) * request.machines.nnodes
    lora = memory.is_lora(recipe)
    figures = architecture or memory.find_architecture(recipe, request.model)
    rank = int(recipe.get("lora_rank", 8)) if lora else 0
    arch = memory.architecture(figures, rank, recipe.get("lora_target", "all"))
    batch = global_batch(recipe)
    size, accumulation = divide_batch(recipe, gpus)
    tokens = count_tokens(recipe, base_model(request.model), size, assumed)
    epochs = float(recipe.get("num_train_epochs", 3.0))
    steps = math.ceil(math.ceil(tokens.rows / batch) * epochs)
    work = memory.flops(arch, recipe, tokens.padded * epochs, tokens.padded / max(tokens.rows, 1))
    speed = assumed["flops_utilisation"] * (
        assumed["quantised_speed"] if recipe.get("quantization_bit") else 1
    )
    hours = work / (gpus * gpu["bf16_tflops"] * 1e12 * speed) / 3600
    checkpoints = (
        int(recipe.get("save_total_limit") or steps // max(int(recipe.get("save_steps", 500)), 1)) + 1
    )
    room = gpu["memory_gb"] * 1e9 * assumed["free_share"]
    fits = first_fit(arch, recipe, gpus, tokens.longest, room)
    moved = ""
    if fits and fits[0].endswith("offload"):
        forwards = steps * batch / (fits[1] * gpus)
        hours += offload_seconds(arch, assumed, gpus, steps, forwards) / 3600
        moved = f", {assumed['transfer_gb_s']} GB/s to main memory"
    name = f"{request.model} {request.stage}"
    return Plan(
        title=f"{name}: {arch.parameters / 1e9:.2f} B parameters, {gpus} x {gpu_name}",
        tokens=tokens, steps=steps, batch=batch, layout=(gpus, size, accumulation),
        cutoff=recipe.get("cutoff_len", 2048), checkpoints=checkpoints,
        disk=memory.checkpoint_bytes(arch, recipe) * checkpoints,
        hours=hours, dollars=hours * gpus * gpu["dollars_per_hour"],
        assumed=f"{speed:.0%} of {gpu['bf16_tflops']} TFLOPS, "
        f"{gpu['dollars_per_hour']} $ a GPU and hour{moved}",
        room=room, fits=fits, table=memory_table(arch, recipe, gpus, size, tokens.longest),
        checkpointing="no " * bool(recipe.get("disable_gradient_checkpointing")) + "gradient checkpointing",
        not_modelled=tuple(memory.not_modelled(recipe, possible(recipe, gpus))),
        unregistered=tuple(rows.unregistered(recipe)),
    )  # fmt: skip
