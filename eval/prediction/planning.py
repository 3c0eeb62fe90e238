"""Plan an evaluation before it is paid for: rows, tokens, what shared beginnings save, hours and cost.

    socrates plan --eval --model llama3-8b --data socsci210 --gpu h100-80gb

Tokens are counted with the model's own tokenizer on blocks of rows drawn at random, which are planned as
`plan_batches` plans them when they are predicted. Figures and assumptions are those of configs/gpus.yaml.
"""

import html
import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl

from common.errors import Refusal
from common.gpus import dollars_in_words, hours_in_words, read_gpu
from common.paths import configs, split_dir
from common.readers import read_json
from common.runs import base_model, recipe_models
from common.scale import from_columns
from eval.models import Model, find_models
from eval.prediction.batches import common_beginning, plan_batches
from eval.prediction.blocks import BLOCK
from eval.rows import PREDICTED, read_rows, select_rows
from eval.settings import Settings

LOCAL, VLLM = "in process", "vLLM"
BLOCKS = 8  # that are drawn and counted
CACHED = 16  # tokens a block of vLLM's prefix cache (its default on a GPU): only whole blocks are kept
FEW_ANSWERS = 8  # up to here each answer's end of turn is asked (`walk.FIRST_ENDS`)
REPLY = 2  # tokens of a sampled answer: the number and the end of the turn
ASSUMED_SCALE = 7  # answers of an item, where there are no rows


class Sample(NamedTuple):
    """Blocks of rows: of each block the prompts' token ids, and the answers of each row (None: sampled).

    tokens: of an answer scale. shares: by what to multiply prompts and rows to get those of all rows.
    """

    blocks: list[list[list[int]]]
    answers: list[list[tuple[int, ...] | None]]
    tokens: Callable[[tuple[int, ...]], int]
    shares: tuple[float, float]
    source: str


class Count(NamedTuple):
    """Tokens: in the prompts, read once shared beginnings are left out, computed in all; and requests."""

    prompts: float
    read: float
    computed: float
    requests: float = 0.0


@dataclass(frozen=True)
class EvaluationPlan:
    """What predicting will take. Printing it gives the plan as text.

    table: one row a model and back end: model, parameters, rows, prompt_tokens, saved_tokens (of them,
    by shared beginnings), backend, computed_tokens (with padding and answers), requests (vLLM), gpus,
    hours and dollars (null where the weights don't fit on a GPU), source (of the tokens).
    assumed: every assumption in words.
    """

    title: str
    table: pl.DataFrame
    assumed: tuple[str, ...]

    def __str__(self) -> str:
        lines = [self.title]
        for (name,), part in self.table.group_by("model", maintain_order=True):
            first = part.row(0, named=True)
            lines.append(f"{name}: {first['parameters'] / 1e9:.2f} B parameters, {first['rows']:,} rows")
            lines.append(f"  {'prompts':<13}{first['prompt_tokens']:,} tokens ({first['source']})")
            lines += [_line(row) for row in part.iter_rows(named=True)]
        if self.table["model"].n_unique() > 1:
            for (backend,), part in self.table.group_by("backend", maintain_order=True):
                hours, dollars = (float(part[name].sum()) for name in ("hours", "dollars"))
                lines.append(f"all models, {backend}: {_takes(hours, dollars)}")
                if missing := part["hours"].null_count():
                    lines[-1] += f", without {missing} that don't fit"
        return "\n".join([*lines, *(f"assumed: {text}" for text in self.assumed)])

    def _repr_html_(self) -> str:
        return f"<pre>{html.escape(str(self))}</pre>"


def _line(row: dict[str, Any]) -> str:
    asked = f" in {row['requests']:,} requests" if row["requests"] else ""
    if row["hours"] is None:
        takes = "the weights don't fit on one GPU"
    else:
        takes = _takes(row["hours"], row["dollars"]) + f" on {row['gpus']} GPU" + "s" * (row["gpus"] > 1)
    share = row["saved_tokens"] / max(row["prompt_tokens"], 1)
    return (
        f"  {row['backend']:<13}shared beginnings save {row['saved_tokens']:,} ({share:.0%}); "
        f"computes {row['computed_tokens']:,}{asked}: {takes}"
    )


def _takes(hours: float, dollars: float) -> str:
    return f"{hours_in_words(hours)}, {dollars_in_words(dollars)}"


def plan_evaluation(
    model: str = "tiny",
    data: str = "sample",
    split: str = "study",
    settings: Settings | None = None,
    *,
    gpu: str = "h100-80gb",
    gpus: int = 1,
) -> EvaluationPlan:
    """What it takes to predict a split's evaluation rows in exact mode, in process and through vLLM.

    model: as for `evaluate`, several by commas. gpu: a name in configs/gpus.yaml. A forward pass takes
    2 x parameters x tokens FLOPs (Kaplan et al. 2020, arXiv 2001.08361, section 2.1; attention left out).
    Raises `Refusal` for another mode, an unknown GPU, and a model of unknown size.
    """
    settings = settings or Settings()
    if settings.mode != "exact":
        raise Refusal(f"mode is {settings.mode}, and the plan counts exact mode alone; set mode: exact")
    if gpus < 1:
        raise Refusal(f"GPUS={gpus} can't predict anything; give 1 or more")
    figures, assumed = read_gpu(gpu)
    file = split_dir(data, split) / "eval.parquet"
    rows = None
    if file.is_file():
        rows = select_rows(read_rows(file, PREDICTED), settings.max_rows, settings.seed)
    count = len(rows) if rows is not None else int(min(assumed["eval_rows"], settings.max_rows or math.inf))
    lines: list[dict[str, Any]] = []
    for each in find_models(model, data, split):
        parameters = count_parameters(each)
        sample = _sample(rows, count, each.path, assumed)
        shared = {"model": each.name, "parameters": parameters, "rows": count, "source": sample.source}
        for backend, counted in (
            (LOCAL, count_local(sample, settings)),
            (VLLM, count_vllm(sample, settings, assumed["vllm_requests_an_answer"])),
        ):
            tokens = {
                "prompt_tokens": round(counted.prompts),
                "saved_tokens": round(counted.prompts - counted.read),
                "backend": backend,
                "computed_tokens": round(counted.computed),
                "requests": round(counted.requests),
            }
            lines.append(shared | tokens | _cost(backend, parameters, counted, gpus, (figures, assumed)))
    table = pl.DataFrame(lines, schema_overrides={"hours": pl.Float64, "dollars": pl.Float64})
    where = "" if rows is not None else f" ({file} is missing: rows, prompts and 7-point scales are assumed)"
    title = f"evaluation of {data}/{split} in exact mode on {gpu}{where}"
    return EvaluationPlan(title, table, _assumptions(figures, assumed, settings))


def _cost(
    backend: str,
    parameters: int,
    counted: Count,
    gpus: int,
    described: tuple[dict[str, float], dict[str, float]],
) -> dict[str, Any]:
    """GPUs, hours and dollars; through vLLM the hours of the requests, where these are more."""
    gpu, assumed = described
    needed = _gpus_needed(2 * parameters, gpu["memory_gb"] * 1e9 * assumed["free_share"])
    if backend == LOCAL and needed > 1:
        return {"gpus": gpus, "hours": None, "dollars": None}
    used = math.ceil(gpus / needed) * needed
    speed = used * gpu["bf16_tflops"] * 1e12 * assumed["flops_utilisation"]
    asking = counted.requests / (used / needed * assumed["vllm_requests_per_s"])
    hours = max(2 * parameters * counted.computed / speed, asking) / 3600
    return {"gpus": used, "hours": hours, "dollars": hours * used * gpu["dollars_per_hour"]}


def _assumptions(figures: dict[str, float], assumed: dict[str, float], settings: Settings) -> tuple[str, ...]:
    return (
        f"{assumed['flops_utilisation']:.0%} of {figures['bf16_tflops']} TFLOPS, 2 FLOPs a parameter and "
        f"token, {figures['dollars_per_hour']} $ a GPU and hour; none of it measured on a GPU",
        f"in process: batches of {settings.local.batch_tokens:,} tokens; answers in the tokenizer's own "
        "spelling alone; loading the model isn't counted",
        f"vLLM: 1 + answers requests a row up to {FEW_ANSWERS} answers, {assumed['vllm_requests_an_answer']} "
        f"an answer beyond (8 on 1-7 and about 60 on 0-100 were counted), {assumed['vllm_requests_per_s']} "
        f"requests/s a server (not measured), a prefix cache that holds whole blocks of {CACHED} tokens and "
        "forgets none; starting it isn't counted",
        f"rows that can't be enumerated: {settings.sampled.samples} x {REPLY} tokens, as fast as reading",
    )


def _gpus_needed(weights: float, room: float) -> int:
    """GPUs that hold the 16-bit weights (bytes): a power of two, which divides the attention heads."""
    return 1 << max(0, math.ceil(math.log2(weights / room)))


def count_parameters(model: Model) -> int:
    """The parameters of a model that needn't be here, from its config.json; nothing is allocated.

    An adapter counts as its base. Raises `Refusal` where no config.json is to be had.
    """
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    folder = Path(model.path)
    adapter = folder / "adapter_config.json"
    if adapter.is_file():
        base = read_json(adapter, "copy the adapter again").get("base_model_name_or_path")
        return count_parameters(Model(str(base), model.name))
    shipped = [
        configs() / name / "architecture.json" for name in recipe_models() if base_model(name) == model.path
    ]
    file = next((file for file in (folder / "config.json", *shipped) if file.is_file()), None)
    try:
        if file:
            figures = {k: v for k, v in read_json(file, "copy it again").items() if k != "architectures"}
            config = AutoConfig.for_model(**figures)
        else:
            config = AutoConfig.from_pretrained(model.path, trust_remote_code=False)
        with torch.device("meta"):
            return sum(p.numel() for p in AutoModelForCausalLM.from_config(config).parameters())
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise Refusal(
            f"the size of {model.path} isn't known ({reason}); give a folder that holds its config.json"
        ) from None


def _sample(rows: pl.DataFrame | None, count: int, path: str, assumed: dict[str, float]) -> Sample:
    """Whole blocks of the sorted rows, as `blocks.stream` cuts them, tokenised."""
    if rows is None:
        prompt, scale = list(range(int(assumed["prompt_tokens"]))), tuple(range(1, ASSUMED_SCALE + 1))
        return Sample([[prompt]], [[scale]], len, (count, count), "assumed: nothing is shared")
    order = rows.sort("system", "prompt")
    starts = np.arange(0, count, BLOCK)
    drawn = np.random.default_rng(0).permutation(starts)[:BLOCKS]
    parts = [order[start : start + BLOCK] for start in sorted(drawn.tolist())]
    encode, tokens, source = _encoder(path, assumed)
    blocks = [encode(part["system"].to_list(), part["prompt"].to_list()) for part in parts]
    answers = [[scale.answers() for scale in from_columns(part)] for part in parts]
    size = sum(map(len, parts))
    shares = _characters(order) / sum(map(_characters, parts)), count / size
    return Sample(blocks, answers, tokens, shares, f"{source} {size:,} rows")


def _characters(rows: pl.DataFrame) -> int:
    return int(rows.select(pl.col("system", "prompt").str.len_chars().sum()).sum_horizontal()[0])


def _encoder(path: str, assumed: dict[str, float]) -> tuple[Callable[..., Any], Callable[..., int], str]:
    """(prompts to token ids, answers to the number of their tokens, in words where from)."""
    from common.chat import PromptEncoder
    from eval.prediction.backends.token_server import load_tokenizer
    from eval.prediction.trie import TrieBuilder

    try:
        tokenizer = load_tokenizer(path)
    except Refusal:  # a hub id that isn't cached, is gated or out of reach
        width = int(assumed["characters_a_token"])
        ids: dict[str, int] = {}

        def cut(systems: Sequence[str | None], prompts: Sequence[str]) -> list[list[int]]:
            texts = [f"{system or ''}\n{prompt}" for system, prompt in zip(systems, prompts, strict=True)]
            pieces = [[text[at : at + width] for at in range(0, len(text), width)] for text in texts]
            return [[ids.setdefault(piece, len(ids)) for piece in row] for row in pieces]

        return (
            cut,
            len,
            f"assumed: {width} characters a token, as {path} gives no tokenizer here; counted on",
        )
    encoder = PromptEncoder(tokenizer, path)
    tries = TrieBuilder(tokenizer, encoder.answer_prefix)
    return encoder.encode, lambda answers: int(tries.build(answers).usual.sum()), "estimated from"


def _answer_tokens(sample: Sample, answers: tuple[int, ...] | None, settings: Settings) -> int:
    return sample.tokens(answers) if answers else REPLY * settings.sampled.samples


def count_local(sample: Sample, settings: Settings) -> Count:
    """In process: the batches that will be read, of prompts and scales that differ in a block."""
    prompts = read = padded = extra = 0
    for block, answers in zip(sample.blocks, sample.answers, strict=True):
        prompts += sum(map(len, block))
        distinct = list(dict.fromkeys(zip(map(tuple, block), answers, strict=True)))
        texts = [ids for ids, _ in distinct]
        sizes = [_answer_tokens(sample, scale, settings) for _, scale in distinct]
        extra += sum(sizes)
        for batch in plan_batches(texts, sizes, settings.local.batch_tokens, settings.local.reuse_prefixes):
            heads = [length for _, length in batch.groups] or [batch.shared]
            rest = (len(texts[row]) - heads[g] for row, g in zip(batch.rows, batch.group_of, strict=True))
            read += batch.shared + sum(length - batch.shared for length in heads) + sum(rest)
            padded += batch.cost
    by_prompt, by_row = sample.shares
    return Count(prompts * by_prompt, read * by_prompt, padded * by_prompt + extra * by_row)


def count_vllm(sample: Sample, settings: Settings, an_answer: float) -> Count:
    """Through vLLM: a prompt's cached blocks aren't read again; each further request reads half a block."""
    prompts = read = further = requests = 0.0
    for block, answers in zip(sample.blocks, sample.answers, strict=True):
        ordered = [np.asarray(ids) for ids in sorted(block)]
        prompts += sum(map(len, ordered))
        shared = [common_beginning(a, b) for a, b in itertools.pairwise(ordered)]
        read += sum(map(len, ordered)) - sum(length // CACHED * CACHED for length in shared)
        for scale in answers:
            asked = _requests(len(scale), an_answer) if scale else 1
            requests += asked
            further += (asked - 1) * CACHED / 2 if scale else REPLY * settings.sampled.samples
    by_prompt, by_row = sample.shares
    computed = read * by_prompt + further * by_row
    return Count(prompts * by_prompt, read * by_prompt, computed, requests * by_row)


def _requests(answers: int, an_answer: float) -> float:
    """Requests of one row of exact mode through vLLM (see eval/prediction/walk.py)."""
    return 1 + answers if answers <= FEW_ANSWERS else max(1 + FEW_ANSWERS, an_answer * answers)
