"""The rows of every file, as polars expressions: one pass over the prompts, section by section.

A prompt is a head (persona and instruction) and a stimulus. Where a file needs the whole prompt as it was
published, the source's own column is written; it is taken apart only to shorten or to reorder it, and for
parquet, where head and stimulus repeat so often that they shrink to nothing in columns of their own.
"""

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
from tqdm import tqdm

from common.draws import draw
from common.errors import Refusal
from common.files import sha256_file
from common.prompts import (
    INSTRUCTION,
    PERSONA_HEAD,
    STIMULUS_FIRST_INSTRUCTION,
    STIMULUS_HEAD,
    SYSTEM_PROMPT,
)
from common.scale import to_columns
from scripts.data.facts import Rows
from scripts.data.files import JsonLines, Parquet
from scripts.data.pairs import Pairs
from scripts.data.selection import DROPPED, EVALUATION, TRAINING, VALIDATION, Selection
from scripts.data.settings import DataSettings
from scripts.data.source import Source, check_filled, check_utf8, demographic_column

SECTION_ROWS = 4_096  # rows that are built at once: larger sections take more memory and no less time
SAMPLE = 1000  # prompts that the data card measures
PARTS = {"sft_validation": VALIDATION, "validation": VALIDATION, "eval": EVALUATION}
KEYS = ("study_id", "condition_num", "task_num", "sample_id", "participant")


@dataclass(frozen=True)
class Contents:
    """What the files of a data set are made from."""

    source: Source
    rows: Rows
    selection: Selection
    settings: DataSettings
    stimuli: list[str]  # the distinct stimulus texts as they are written, perhaps shortened
    pairs: Pairs | None = None

    @property
    def shortened(self) -> np.ndarray:
        """bool for each row: its stimulus was shortened."""
        pairs = zip(self.rows.items.texts, self.stimuli, strict=True)
        changed = np.array([source != written for source, written in pairs])
        return changed[self.rows.items.text][self.rows.item]


@dataclass
class PromptNotes:
    """What a pass over the prompts finds.

    hashes: uint64 of each row's prompt, equal for equal bytes. unsplit: prompts that don't end with their
    stimulus. sampled: prompts that the card measures, by row.
    """

    hashes: np.ndarray
    sample: np.ndarray
    unsplit: int = 0
    without_reasoning: int = 0
    longest: str = ""
    sampled: dict[int, str] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    @classmethod
    def of(cls, contents: Contents) -> "PromptNotes":
        used = np.flatnonzero(contents.selection.part != DROPPED)
        if len(used) > SAMPLE:
            draws = draw(contents.settings.seed, "card", used)
            used = used[np.argpartition(draws, SAMPLE)[:SAMPLE]]
        return cls(np.zeros(len(contents.rows), np.uint64), np.sort(used))

    def add(self, start: int, frame: pl.DataFrame) -> None:
        """Note a section's prompts; `start` is its first row."""
        prompts = frame["prompt"]
        self.hashes[start : start + len(frame)] = prompts.hash().to_numpy()
        longest = prompts[int(prompts.str.len_bytes().arg_max() or 0)]
        low, high = np.searchsorted(self.sample, [start, start + len(frame)])
        sampled = self.sample[low:high]
        unsplit = len(frame) - int(frame["split"].sum())
        without = 0
        if "reasoning" in frame.columns:
            without = len(frame.filter((pl.col("part") == TRAINING) & ~has_reasoning()))
        with self.lock:
            self.unsplit += unsplit
            self.without_reasoning += without
            self.longest = max(self.longest, longest, key=lambda text: (len(text), text))
            self.sampled |= dict(zip(sampled.tolist(), prompts[sampled - start], strict=True))


class Sections:
    """The rows of the source, a frame a section, with everything that a file may need of them."""

    def __init__(self, contents: Contents, columns: list[str]) -> None:
        self.contents, self.columns = contents, columns
        items = contents.rows.items
        self.items = pl.DataFrame(
            {
                "study_id": [contents.rows.studies[study] for study in items.study],
                "condition_num": items.condition,
                "task_num": items.task,
                "item_num": items.item_num,
                "text": items.text,
                "source_stimulus": pl.Series(items.texts, dtype=pl.String)[items.text],
                "stimuli": pl.Series(contents.stimuli, dtype=pl.String)[items.text],
            }
        )

    def read(self) -> Iterator[tuple[int, pa.RecordBatch]]:
        """(first row, columns of the source) of every section, in order."""
        source, evaluates = self.contents.source, self.contents.selection.part
        for section in source.sections(SECTION_ROWS):
            part = evaluates[section.start : section.start + section.rows]
            asked = "demographic" in self.columns and np.any((part == EVALUATION) | (part == VALIDATION))
            columns = [name for name in self.columns if asked or name != "demographic"]
            yield from source.read(section, columns, SECTION_ROWS)

    def frame(self, start: int, batch: pa.RecordBatch) -> pl.DataFrame:
        """The rows of a section: the source's columns, what is known of each row, and its prompt's parts."""
        contents = self.contents
        columns = {name: self._checked(name, batch.column(name), start) for name in batch.schema.names}
        source = pl.DataFrame({name: pl.Series(name, column) for name, column in columns.items()})
        facts = self._facts(slice(start, start + batch.num_rows))
        frame = pl.concat([source, facts], how="horizontal")
        return _with_prompts(frame, contents, start)

    def _checked(self, name: str, column: pa.Array, start: int) -> pa.Array:
        source = self.contents.source
        if name == "demographic":
            column = demographic_column(column, source.demographic)
        check_utf8(column, name, start, source)
        if name == "prompt":
            check_filled(column, name, start, source)
        return column.cast(column.type.value_type) if pa.types.is_dictionary(column.type) else column

    def _facts(self, span: slice) -> pl.DataFrame:
        rows, selection, pairs = self.contents.rows, self.contents.selection, self.contents.pairs
        facts = self.items[rows.item[span].astype(np.int64)].with_columns(
            part=selection.part[span],
            sample_id=pl.Series(rows.sample[span]).cast(pl.Int64),
            participant=rows.people[rows.person[span]],
            response=pl.Series(rows.response[span]).cast(pl.Int64),
            off_scale=selection.off_scale[span],
        )
        if pairs is None:
            return facts
        rejected = pairs.rejected[span]  # -1 where there is none: that row isn't written
        return facts.with_columns(
            paired=rejected >= 0,
            rejected_sample_id=pl.Series(rows.sample[rejected]).cast(pl.Int64),
            rejected_response=rows.response[rejected],
            rejected_off_scale=selection.off_scale[rejected],
        )


def _with_prompts(frame: pl.DataFrame, contents: Contents, start: int) -> pl.DataFrame:
    """Add `split` (the prompt ends with its stimulus, after a newline), `head`, `tail`, and the new `prompt`.

    The head of a prompt that isn't split is the whole prompt, and its tail is empty.
    """
    without = pl.col("prompt").str.strip_suffix(pl.col("source_stimulus"))
    ends = pl.col("prompt").str.ends_with(pl.col("source_stimulus"))
    frame = frame.with_columns(split=ends & without.str.ends_with("\n"))
    order, settings = contents.settings.order, contents.settings
    if order == "persona-first" and settings.format == "jsonl" and not settings.vignette_most_characters:
        return frame
    frame = frame.with_columns(
        head=pl.when("split").then(without).otherwise("prompt"),
        tail=pl.when("split").then("stimuli").otherwise(pl.lit("")),
    )
    if order == "persona-first":
        return frame.with_columns(prompt=pl.col("head") + pl.col("tail"))
    end = f"\n\n{INSTRUCTION}\n\n"
    published = pl.col("head").str.starts_with(f"{PERSONA_HEAD}\n") & pl.col("head").str.ends_with(end)
    unpublished = frame.select(~published).to_series()
    if unpublished.any():
        raise Refusal(
            f"{contents.source.place(start + (unpublished.arg_max() or 0))}: the prompt isn't persona, "
            "instruction and stimulus in the published wording, so its order can't be changed; "
            "set `order: persona-first`"
        )
    first = pl.lit(f"{STIMULUS_HEAD}\n\n") + pl.col("tail") + "\n"
    last = pl.col("head").str.strip_suffix(end) + f"\n\n{STIMULUS_FIRST_INSTRUCTION}"
    return frame.with_columns(head=first, tail=last, prompt=first + "\n" + last)


def training_rows(frame: pl.DataFrame, name: str, settings: DataSettings) -> pl.DataFrame:
    """The rows of a section that the training file `name` holds, in its columns."""
    answers = [pl.col("response").cast(pl.String).alias("output")]
    off_scale = pl.col("off_scale")
    keys = list(map(pl.col, KEYS))
    if name == "dpo":
        answers = [answers[0].alias("chosen"), pl.col("rejected_response").cast(pl.String).alias("rejected")]
        off_scale = off_scale | pl.col("rejected_off_scale")
        keys.append(pl.col("rejected_sample_id"))
        frame = frame.filter("paired")
    else:
        frame = frame.filter(pl.col("part") == PARTS.get(name, TRAINING))
    if name == "sft_reasoning":
        frame = frame.filter(has_reasoning())
        answers = [(pl.col("reasoning") + "\n\nAnswer: " + answers[0]).alias("output")]
    system = pl.lit(SYSTEM_PROMPT).alias("system")
    return frame.select(system, *_turns(answers, settings), *keys, off_scale)


def has_reasoning() -> pl.Expr:
    """True where a row has reasoning."""
    return pl.col("reasoning").fill_null("") != ""


def _turns(answers: list[pl.Expr], settings: DataSettings) -> list[pl.Expr]:
    """The columns of prompt and answers, in the form and format of the settings."""
    if settings.form == "alpaca":
        if settings.format == "jsonl":
            return [pl.col("prompt").alias("instruction"), *answers]
        # LLaMA-Factory joins the two columns by one newline: it isn't written again.
        head = pl.when(pl.col("tail") != "").then(pl.col("head").str.strip_suffix("\n")).otherwise("head")
        return [(head if settings.order == "persona-first" else pl.col("head")).alias("instruction"),
                pl.col("tail").alias("input"), *answers]  # fmt: skip
    asked = _message("human", pl.col("prompt"))
    replies = [_message("gpt", answer) for answer in answers]
    if len(answers) == 2:
        return [pl.concat_list(asked).alias("conversations"),
                replies[0].alias("chosen"), replies[1].alias("rejected")]  # fmt: skip
    return [pl.concat_list(asked, *replies).alias("conversations")]


def _message(speaker: str, text: pl.Expr) -> pl.Expr:
    return pl.struct(pl.lit(speaker).alias("from"), text.alias("value"))


def evaluation_rows(frame: pl.DataFrame, part: int, scales: pl.DataFrame) -> pl.DataFrame:
    """The evaluation rows of a section, in the columns of the contract; `scales`: by stimulus text."""
    frame = frame.filter(pl.col("part") == part)
    frame = pl.concat([frame, scales[frame["text"].cast(pl.Int64)]], how="horizontal")
    system = pl.lit(SYSTEM_PROMPT).alias("system")
    return frame.select(
        "study_id", "sample_id", "participant", "condition_num", "task_num", "item_num",
        system, "prompt", "stimuli", "response", *scales.columns, "off_scale", "demographic",
    )  # fmt: skip


def write_files(contents: Contents, folder: Path, workers: int) -> tuple[dict[str, Any], PromptNotes]:
    """Write every file of rows in one pass; return their sums by file name, and what the prompts held."""
    settings, notes = contents.settings, PromptNotes.of(contents)
    reasoning = "sft_reasoning" in settings.outputs
    if reasoning and not contents.source.has_reasoning:
        raise Refusal(
            f"{contents.source.folder} has no column `reasoning`; take sft_reasoning out of `outputs`"
        )
    held_out = bool(np.any(contents.selection.part == VALIDATION))
    training = [*settings.outputs, *(["sft_validation"] if held_out else [])]
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
