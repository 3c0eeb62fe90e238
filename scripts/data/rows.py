"""The rows of every file, as polars expressions: one pass over the prompts, section by section.

A prompt is a head (persona and instruction) and a stimulus. Where a file needs the whole prompt as it was
published, the source's own column is written; it is taken apart only to shorten or to reorder it, and for
parquet, where head and stimulus repeat so often that they shrink to nothing in columns of their own.
"""

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import polars as pl
import pyarrow as pa

from common.draws import draw
from common.errors import Refusal
from common.names import Names
from common.prompts import (
    INSTRUCTION,
    PERSONA_HEAD,
    STIMULUS_FIRST_INSTRUCTION,
    STIMULUS_HEAD,
    SYSTEM_PROMPT,
)
from scripts.data.facts import Rows
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
    names: Names = field(default_factory=Names)
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

    hashes: uint64 of each row's prompt, equal for equal bytes. ending: prompts that end with their
    stimulus, after a space or newline. published: those in the published form. sampled: prompts that the
    card measures, by row.
    """

    hashes: np.ndarray
    sample: np.ndarray
    ending: int = 0
    published: int = 0
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
        ending, published = frame.select(pl.col("ends").sum(), pl.col("published").sum()).row(0)
        without = 0
        if "reasoning" in frame.columns:
            without = len(frame.filter((pl.col("part") == TRAINING) & ~has_reasoning()))
        with self.lock:
            self.ending += ending
            self.published += published
            self.without_reasoning += without
            self.longest = max(self.longest, longest, key=lambda text: (len(text), text))
            self.sampled |= dict(zip(sampled.tolist(), prompts[sampled - start], strict=True))

    def sample_of(self, rows: Rows) -> tuple[list[str], list[str]]:
        """(prompts, answers) that the card measures, by row."""
        order = sorted(self.sampled)
        return [self.sampled[row] for row in order], [str(rows.response[row]) for row in order]


class Sections:
    """The rows of the source, a frame a section, with everything that a file may need of them."""

    def __init__(self, contents: Contents, columns: list[str]) -> None:
        self.contents, self.columns = contents, columns
        items = contents.rows.items
        studies = [contents.rows.studies[study] for study in items.study]
        self.items = pl.DataFrame(
            {
                "study_id": studies,
                "condition_num": items.condition,
                "task_num": items.task,
                "item_num": items.item_num,
                "text": items.text,
                "source_stimulus": pl.Series(items.texts, dtype=pl.String)[items.text],
                "stimuli": pl.Series(contents.stimuli, dtype=pl.String)[items.text],
            }
        )
        if contents.names.studies:
            names = contents.names
            arms = map(names.condition, studies, items.condition.tolist())
            outcomes = map(names.task, studies, items.task.tolist())
            self.items = self.items.with_columns(
                pl.Series("condition_name", list(arms), pl.String),
                pl.Series("task_name", list(outcomes), pl.String),
            )

    def read(self) -> Iterator[tuple[int, pa.RecordBatch]]:
        """(first row, columns of the source) of every section, in order."""
        source, parts = self.contents.source, self.contents.selection.part
        for section in source.sections(SECTION_ROWS):
            part = parts[section.start : section.start + section.rows]
            needed = section.start == 0 or np.any((part == EVALUATION) | (part == VALIDATION))
            columns = [name for name in self.columns if needed or name != "demographic"]
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
            column = demographic_column(column, start, source)
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
    """Add what a prompt consists of: `head`, `tail`, and the new `prompt`; and the columns that are counted.

    `split`: the prompt ends with its stimulus, after a newline. The head of one that isn't split is the whole
    prompt, and its tail is empty. `ends`: after a space, too. `published`: head and stimulus as published.
    """
    settings = contents.settings
    end = f"\n\n{INSTRUCTION}\n\n"
    without = pl.col("prompt").str.strip_suffix(pl.col("source_stimulus"))
    complete = pl.col("prompt").str.ends_with(pl.col("source_stimulus"))
    head = pl.col("head").str
    frame = frame.with_columns(head=without).with_columns(
        split=complete & head.ends_with("\n"),
        ends=complete & head.contains(r"(^|\s)$"),
        published=complete & head.starts_with(f"{PERSONA_HEAD}\n") & head.ends_with(end),
    )
    if (
        settings.order == "persona-first"
        and settings.format == "jsonl"
        and not settings.vignette_most_characters
    ):
        return frame
    frame = frame.with_columns(
        head=pl.when("split").then("head").otherwise("prompt"),
        tail=pl.when("split").then("stimuli").otherwise(pl.lit("")),
    )
    if settings.order == "persona-first":
        return frame.with_columns(prompt=pl.col("head") + pl.col("tail"))
    if not frame["published"].all():
        odd = contents.source.location(start + (frame["published"].arg_min() or 0))
        raise Refusal(
            f"{odd}: the prompt isn't persona, instruction and stimulus in the published wording, so its "
            "order can't be changed; set `order: persona-first`"
        )
    first = pl.lit(f"{STIMULUS_HEAD}\n\n") + pl.col("tail") + "\n"
    last = pl.col("head").str.strip_suffix(end) + f"\n\n{STIMULUS_FIRST_INSTRUCTION}"
    return frame.with_columns(head=first, tail=last, prompt=first + "\n" + last)


def training_rows(frame: pl.DataFrame, name: str, settings: DataSettings) -> pl.DataFrame:
    """The rows of a section that the training file `name` holds, in its columns."""
    answers = [pl.col("response").cast(pl.String).alias("output")]
    off_scale = pl.col("off_scale")
    keys = list(map(pl.col, KEYS))
    if name == "kto":
        frame, tag = tagged_answers(frame.filter("paired")), pl.col("kto_tag")
        keys = [tag, *keys, pl.col("rejected_sample_id")]
    elif name == "dpo":
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


def tagged_answers(frame: pl.DataFrame) -> pl.DataFrame:
    """Two rows a pair, for KTO: the person's own answer, tagged true, and the other's, tagged false."""
    return frame.with_columns(
        response=pl.concat_list(
            pl.col("response").cast(pl.Int64), pl.col("rejected_response").cast(pl.Int64)
        ),
        off_scale=pl.concat_list("off_scale", "rejected_off_scale"),
        kto_tag=pl.lit([True, False], dtype=pl.List(pl.Boolean)),
    ).explode("response", "off_scale", "kto_tag")


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
    names = [name for name in ("condition_name", "task_name") if name in frame.columns]
    return frame.select(
        "study_id", "sample_id", "participant", "condition_num", "task_num", "item_num", *names,
        system, "prompt", "stimuli", "response", *scales.columns, "off_scale", "demographic",
        *(["weight"] if "weight" in frame.columns else []),
    )  # fmt: skip
