"""Tokenise a recipe's data sets once, on the CPU, before any GPU is taken.

    socrates tokenise sft --model tiny --data sample --split study

Writes `outputs/tokenised/<name>-<hash>/`, which LLaMA-Factory reads through `tokenized_path`. The hash
covers everything that the tokens depend on (data, tokenizer, template, cutoff, packing, versions), so
a stale cache can't be used. The token ids are LLaMA-Factory's own: its converter, template and
processor run on every row; only the calls to the tokenizer are gathered into batches. A row longer
than `cutoff_len` is dropped and counted, never cut.
"""

import contextlib
import hashlib
import importlib.metadata
import io
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any, NamedTuple

from common.errors import Refusal
from common.files import atomic_path, fingerprint, sha256_file, write_json
from common.paths import root
from common.step import Step
from scripts.training import rows
from scripts.training.mixture import add_shares, mixture, rewrite
from scripts.training.parity import refuse_differences
from scripts.training.recipe import Recipe, names_of
from scripts.training.tokeniser import KEYS, UNLIMITED, Tokeniser

# What the tokens depend on, beside the data, the tokenizer's files and the keys of a row
DEPENDS = (
    *KEYS, "stage", "max_samples", "seed", "eval_on_each_dataset", "val_size", "mix_strategy",
    "interleave_probs",
)  # fmt: skip
TOKENIZER_FILES = (
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.json", "merges.txt",
    "tokenizer.model", "chat_template.jinja",
)  # fmt: skip
COUNTS, RECORD = "tokens.json", "record.json"
# Keys of the rows of our own data sets that name a person
PERSON = ("study_id", "participant")


class HeldOut(NamedTuple):
    """One side of a share of people that `val_size` keeps out of training."""

    share: float
    seed: int
    validation: bool

    def takes(self, row: dict[str, Any], number: int) -> bool:
        """True if the row is on this side: a person's rows are all on one (no person: by row number)."""
        key = [row.get(name) for name in PERSON] if PERSON[1] in row else number
        draw = hashlib.blake2b(f"{self.seed}:{key}".encode(), digest_size=8).digest()
        return (int.from_bytes(draw) / 2**64 < self.share) == self.validation


class Part(NamedTuple):
    """A data set as one part (train, validation) of the tokenised data takes it.

    most: only its first rows; held_out: one side of the people, or all.
    """

    data: rows.DataSet
    most: int | None
    held_out: HeldOut | None


class Job(NamedTuple):
    """One chunk of a data set, to be tokenised into one Arrow file."""

    recipe: Recipe
    part: Part
    chunk: int
    take: int
    pack: bool
    target: Path


def parts_of(recipe: Recipe) -> dict[str, list[Part]]:
    """The data sets of each part: train, validation (or one validation a data set)."""
    most, share = recipe.get("max_samples"), float(recipe.get("val_size") or 0)
    train = [rows.find(name) for name in names_of(recipe.get("dataset"))]
    for data in train:
        _check_stage(recipe, data)
    if share >= 1:  # a number of rows
        share = min(0.5, share / max(sum(_count_rows(data) for data in train), 1))
    sides = [HeldOut(share, recipe.get("seed", 42), side) if share else None for side in (False, True)]
    parts = {"train": [Part(data, most, sides[0]) for data in train]}
    if share:
        parts["validation"] = [Part(data, most, sides[1]) for data in train]
    evaluated = [Part(rows.find(name), most, None) for name in names_of(recipe.get("eval_dataset"))]
    if recipe.get("eval_on_each_dataset") and evaluated:
        parts |= {f"validation_{part.data.name}": [part] for part in evaluated}
    elif evaluated:
        parts["validation"] = evaluated
    return parts


def _check_stage(recipe: Recipe, data: rows.DataSet) -> None:
    """A data set must hold what the stage trains on: pairs, tagged answers, or answers."""
    columns = data.entry.get("columns", {})
    kind = "dpo" if data.entry.get("ranking") else "kto" if "kto_tag" in columns else "sft"
    takes = {"dpo": ("dpo",), "kto": ("kto",), "sft": ("sft",), "pt": ("sft",)}[recipe["stage"]]
    if kind not in takes:
        meaning = {"dpo": "pairs (ranking: true)", "kto": "answers with a kto_tag", "sft": "answers"}
        raise Refusal(
            f"{data.name} holds {meaning[kind]}, and stage {recipe['stage']} trains on {meaning[takes[0]]}; "
            "name another data set"
        )


def _count_rows(data: rows.DataSet) -> int:
    return sum(len(rows.read_chunk(data.file, chunk)) for chunk in range(rows.count_chunks(data.file)))


def cache_dir() -> Path:
    """The folder of all tokenised data."""
    return root() / "outputs" / "tokenised"


def cache_path(recipe: Recipe) -> Path:
    """Where the tokenised data of this recipe lies, if it has been made."""
    model = Path(str(recipe["model_name_or_path"]))
    files = [model / name for name in TOKENIZER_FILES if (model / name).is_file()]
    tokenizer: list[Any] = [sha256_file(file) for file in files]
    sets = {
        key: [rows.find(name) for name in names_of(recipe.get(key))] for key in ("dataset", "eval_dataset")
    }
    depends = {
        "keys": {key: recipe.get(key) for key in DEPENDS},
        "data": {key: [[data.entry, rows.stamp(data.file)] for data in group] for key, group in sets.items()},
        "tokenizer": tokenizer or [str(model), recipe.get("model_revision")],
        "versions": [
            importlib.metadata.version(name) for name in ("llamafactory", "transformers", "tokenizers")
        ],
    }
    name = "+".join(data.name for data in sets["dataset"])[:80]
    return cache_dir() / f"{name}-{fingerprint(depends)[:16]}"


_ready: dict[str, Tokeniser] = {}  # of this process: loading one takes seconds


def _tokeniser(recipe: Recipe) -> Tokeniser:
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # one process a core is faster than threads
    key = fingerprint(recipe)
    if key not in _ready:
        _ready.clear()
        _ready[key] = Tokeniser(recipe)
    return _ready[key]


def _encode_chunk(job: Job) -> tuple[list[int], int]:
    """Tokenise one chunk into one Arrow file; gives the lengths of all its rows and how many were written."""
    import pyarrow as pa

    examples = rows.read_chunk(job.part.data.file, job.chunk)[: job.take]
    if held_out := job.part.held_out:
        examples = [row for number, row in enumerate(examples) if held_out.takes(row, number)]
    if not examples:
        return [], 0
    columns, lengths = _tokeniser(job.recipe).encode(examples, job.part.data.entry, job.pack)
    table = pa.table({key: pa.array(values, _arrow_type(key)) for key, values in columns.items()})
    if table.num_rows:
        with pa.OSFile(str(job.target), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table, max_chunksize=1000)
    return lengths, table.num_rows


def _arrow_type(column: str) -> Any:
    import pyarrow as pa

    if column in ("images", "videos", "audios"):  # always empty, but the collators ask for them
        return pa.null()
    if column == "packing_params":
        return None
    if column == "kto_tags":
        return pa.bool_()
    return pa.list_(
        pa.int8() if column.endswith("attention_mask") and "packing" not in column else pa.int32()
    )


def _jobs(recipe: Recipe, part: Part, pack: bool, folder: Path, first: int) -> Iterator[Job]:
    """The chunks of a data set, until `part.most` rows are taken; files are numbered from `first`."""
    left = UNLIMITED if part.most is None else part.most
    for chunk in range(rows.count_chunks(part.data.file)):
        if left <= 0:
            return
        yield Job(recipe, part, chunk, left, pack, folder / f"data-{first + chunk:05}.arrow")
        if part.most is not None:
            left -= len(rows.read_chunk(part.data.file, chunk))


def tokenise(recipe: Recipe, workers: int | None = None, quiet: bool = False) -> Path:
    """Make the tokenised data of a resolved recipe, unless it is there; gives its folder.

    The folder is what `datasets.load_from_disk` reads, with `tokens.json` (counts of rows, tokens and
    dropped rows, in all and by data set) and `train_lengths.npy` (tokens of every training row) beside it.
    """
    folder = cache_path(recipe)
    with Step(folder / RECORD, folder.name, whole=True, wait=True) as step:
        if not step.done:
            _write_tokens(recipe, folder, workers or len(os.sched_getaffinity(0)), quiet)
        elif not quiet:
            print(f"tokens: nothing to do, {folder} is up to date", file=sys.stderr)
    return folder


def _write_tokens(recipe: Recipe, folder: Path, workers: int, quiet: bool) -> None:
    """Write the folder of tokens as a whole, its record last."""
    parts = parts_of(recipe)
    tokeniser = _tokeniser(recipe)  # here first: what is wrong with model or template is one line
    ours = [part for part in parts["train"] if part.data.is_ours]
    for part in ours or parts["train"]:  # a further data set's rows are never asked by the evaluator
        refuse_differences(tokeniser, part.data, str(recipe["model_name_or_path"]))
    counts: dict[str, Any] = {}
    chunks = sum(rows.count_chunks(part.data.file) for group in parts.values() for part in group)
    with atomic_path(folder) as partial, contextlib.ExitStack() as stack:
        partial.mkdir()
        run: Callable[..., Any] = map
        if min(workers, chunks - 2) > 1:  # a process takes seconds to start
            run = stack.enter_context(_processes(workers))
        for name, group in parts.items():
            counts[name] = _tokenise_part(run, recipe, name, group, partial, quiet)
        write_json(partial / "dataset_dict.json", {"splits": list(parts)})
        write_json(partial / COUNTS, counts)
        # Sizes only: tokens are as large as their data, and each start of a training looks at them.
        files = [file for file in partial.rglob("*") if file.is_file()]
        sizes = {str(file.relative_to(partial)): {"bytes": file.stat().st_size} for file in files}
        write_json(partial / RECORD, {"inputs": folder.name, "files": sizes})


@contextlib.contextmanager
def _processes(workers: int) -> Iterator[Callable[..., Any]]:
    """A `map` over processes. Ctrl-C is for this one only, which ends them; one that dies is a `Refusal`."""
    pool = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"))

    def run(function: Callable[..., Any], jobs: list[Job]) -> Iterator[Any]:
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            return pool.map(function, jobs)  # the processes that start here inherit the mask
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    try:
        yield run
    except BrokenProcessPool:
        raise Refusal(
            "a process that tokenises was killed (was main memory full?); give fewer with --workers"
        ) from None
    finally:
        for process in multiprocessing.active_children():
            process.kill()
        pool.shutdown(cancel_futures=True)


def _tokenise_part(
    run: Callable[..., Any], recipe: Recipe, name: str, group: list[Part], folder: Path, quiet: bool
) -> dict[str, Any]:
    """Tokenise one part's data sets and mix them; gives its counts."""
    import numpy as np

    (folder / name).mkdir()
    packing = recipe.get("packing", recipe["stage"] == "pt") or recipe.get("neat_packing")
    pack, cutoff = name == "train" and bool(packing), recipe.get("cutoff_len", 2048)
    cuts = pack and recipe["stage"] == "pt"
    sets: list[dict[str, Any]] = []
    all_lengths: list[Any] = []
    files: list[str] = []
    for part in group:
        jobs = list(_jobs(recipe, part, pack, folder / name, len(files)))
        results = _progress(run(_encode_chunk, jobs), f"tokenising {part.data.name}", len(jobs), quiet)
        chunks = list(zip(jobs, results, strict=True))
        lengths = np.array([length for _, (of_rows, _) in chunks for length in of_rows], dtype=np.int32)
        fitting = lengths if cuts else lengths[lengths <= cutoff]
        if not len(fitting):
            raise Refusal(f"{part.data.file} has no row within cutoff_len={cutoff}; raise cutoff_len")
        files += [job.target.name if written else "" for job, (_, written) in chunks]
        all_lengths.append(fitting)
        sets.append({
            "dataset": part.data.name, "rows": len(lengths), "dropped_too_long": len(lengths) - len(fitting),
            "tokens": int(fitting.sum()), "sequences": sum(written for _, (_, written) in chunks),
        })  # fmt: skip
    _describe(folder / name, name, [file for file in files if file])
    fitting = np.concatenate(all_lengths)
    order = mixture(recipe, [one["sequences"] for one in sets])
    add_shares(sets, order, None if pack else fitting)
    if order is not None:
        rewrite(folder / name, order)
        fitting = fitting if pack else fitting[order]
    np.save(folder / f"{name}_lengths.npy", fitting)
    return {
        "dataset": ",".join(one["dataset"] for one in sets), "packed": pack,
        "rows": sum(one["rows"] for one in sets),
        "dropped_too_long": sum(one["dropped_too_long"] for one in sets),
        "sequences": len(order) if order is not None else sum(one["sequences"] for one in sets),
        "tokens": int(fitting.sum()), "longest": int(fitting.max()), "datasets": sets,
    }  # fmt: skip


def _progress(results: Iterator[Any], title: str, total: int, quiet: bool) -> Iterator[Any]:
    """A bar on a terminal, a line for each tenth elsewhere, nothing when quiet."""
    if quiet:
        yield from results
    elif sys.stderr.isatty():
        from tqdm import tqdm

        yield from tqdm(results, title, total, leave=False)
    else:
        for number, result in enumerate(results, 1):
            if total > 10 and number % (total // 10) == 0:
                print(f"{title}: {number} of {total} parts", file=sys.stderr, flush=True)
            yield result


def _describe(folder: Path, part: str, files: list[str]) -> None:
    """The two small files that make a folder of Arrow files one `datasets.load_from_disk` data set."""
    import pyarrow as pa
    from datasets import DatasetInfo, Features

    with pa.OSFile(str(folder / files[0])) as source:
        schema = pa.ipc.open_stream(io.BufferedReader(source)).schema
    DatasetInfo(features=Features.from_arrow_schema(schema)).write_to_directory(str(folder))
    write_json(
        folder / "state.json",
        {
            "_data_files": [{"filename": name} for name in files], 
            "_fingerprint": fingerprint([folder.parent.name, part])[:16],
            "_format_columns": None, "_format_kwargs": {}, "_format_type": None,
            "_output_all_columns": False, "_split": part,
        },
    )  # fmt: skip
