"""The pass over the prompts: every file of rows is written in it, in order, with any number of workers."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
from tqdm import tqdm

from common.errors import Refusal
from common.files import sha256_file
from common.scale import to_columns
from scripts.data.files import JsonLines, Parquet
from scripts.data.rows import (
    PARTS,
    Contents,
    PromptNotes,
    Sections,
    evaluation_rows,
    training_rows,
)
from scripts.data.selection import TRAINING, VALIDATION


def write_files(contents: Contents, folder: Path, workers: int) -> tuple[dict[str, Any], PromptNotes]:
    """Write every file of rows in one pass; return their sums by file name, and what the prompts held."""
    settings, notes = contents.settings, PromptNotes.of(contents)
    held_out, trains = (bool(np.any(contents.selection.part == part)) for part in (VALIDATION, TRAINING))
    training = [
        *(settings.outputs if trains else []),
        *(["sft_validation"] if held_out and settings.outputs else []),
    ]
    reasoning = "sft_reasoning" in training
    if reasoning and not contents.source.has_reasoning:
        raise Refusal(
            f"{contents.source.folder} has no column `reasoning`; take sft_reasoning out of `outputs`"
        )
    evaluation = ["eval", *(["validation"] if held_out else [])]
    kind = JsonLines if settings.format == "jsonl" else Parquet
    files: dict[str, JsonLines | Parquet] = {n: kind(folder / f"{n}.{settings.format}") for n in training}
    files |= {name: Parquet(folder / f"{name}.parquet", plain=("prompt",)) for name in evaluation}
    scales = to_columns(contents.rows.items.text_scales)

    def build(frame: pl.DataFrame) -> dict[str, Any]:
        built = {name: training_rows(frame, name, settings) for name in training}
        if "demographic" in frame.columns:  # it was read where there are evaluation rows
            built |= {name: evaluation_rows(frame, PARTS[name], scales) for name in evaluation}
        return {name: files[name].encode(rows) for name, rows in built.items()}

    def write(built: dict[str, Any]) -> None:
        for name, piece in built.items():
            files[name].write(piece)

    columns = ["prompt", "demographic", *(["reasoning"] if reasoning else [])]
    columns += ["weight"] if contents.source.has_weight else []
    with ThreadPoolExecutor(1) as writer:
        for _ in in_order(writer, write, passes(contents, columns, notes, workers, build), 1):
            pass
    return {file.path.name: file.close() for file in files.values()}, notes


def write_counts(contents: Contents, path: Path) -> dict[str, Any]:
    """`train_counts.parquet`: how often each training answer was given to each item."""
    rows, items = contents.rows, contents.rows.items
    train = contents.selection.rows(TRAINING)
    scales = to_columns(items.text_scales)[items.text].drop("scale_step", "scale_labels")
    of_item = pl.DataFrame(
        {
            "study": items.study,
            "study_id": [rows.studies[study] for study in items.study],
            "condition_num": items.condition,
            "task_num": items.task,
            "item_num": items.item_num,
        }
    )
    given = pl.DataFrame({"item": rows.item[train], "response": rows.response[train]})
    counts = given.group_by(pl.all()).len("count").cast(pl.Int64)
    facts = pl.concat([of_item, scales], how="horizontal")[counts["item"]]
    frame = pl.concat([facts, counts.drop("item")], how="horizontal")
    frame = frame.sort("study", "condition_num", "task_num", "item_num", "response").drop("study")
    frame.write_parquet(path, compression="zstd")
    return {"sha256": sha256_file(path), "bytes": path.stat().st_size, "rows": len(frame)}


def read_prompts(contents: Contents, workers: int) -> PromptNotes:
    """A pass that writes nothing, for decisions that need the prompts before."""
    notes = PromptNotes.of(contents)
    for _ in passes(contents, ["prompt"], notes, workers, lambda _: None):
        pass
    return notes


def passes(
    contents: Contents,
    columns: list[str],
    notes: PromptNotes,
    workers: int,
    build: Callable[[pl.DataFrame], Any],
) -> Iterator[Any]:
    """Yield build(frame) for every section in order, and note the prompts."""
    sections = Sections(contents, columns)

    def work(section: tuple[int, pa.RecordBatch]) -> tuple[int, Any]:
        start, batch = section
        frame = sections.frame(start, batch)
        notes.add(start, frame)
        return len(frame), build(frame)

    with (
        ThreadPoolExecutor(workers) as pool,
        tqdm(total=len(contents.rows), unit="row", unit_scale=True, desc="converting", disable=None) as bar,
    ):
        for count, built in in_order(pool, work, sections.read(), workers):
            yield built
            bar.update(count)


def in_order(
    pool: ThreadPoolExecutor, function: Callable[[Any], Any], things: Iterable[Any], ahead: int
) -> Iterator[Any]:
    """Yield function(thing) for all things in order, `ahead` of them being worked on in the meantime."""
    waiting: deque[Future[Any]] = deque()
    for thing in things:
        waiting.append(pool.submit(function, thing))
        if len(waiting) > ahead:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()
