"""The pass over the prompts: batches in, every file of rows out, in order, with any number of workers."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from tqdm import tqdm

from common.draws import draw
from common.errors import Refusal
from scripts.data.assemble import Prompts, Split, Stimuli, UnknownShape, arrow_of, split_prompts
from scripts.data.evaluation_rows import EvaluationRows
from scripts.data.facts import Rows
from scripts.data.outputs import Batch, Lines, Tables, Training, Writer
from scripts.data.pairs import Pairs
from scripts.data.selection import DROPPED, EVALUATION, TRAINING, VALIDATION, Selection
from scripts.data.settings import DataSettings
from scripts.data.source import Section, Source, check_filled, check_utf8, text_column

SECTION_ROWS = 32_768  # rows of the source read at once, at least
BATCH_ROWS = 8_192  # rows that are built at once, about
PIECE_ROWS = 1_024  # rows whose prompts are decoded at once
SAMPLE = 1000  # prompts that the data card measures


@dataclass
class Job:
    """All that the pass over the prompts needs, and what it finds."""

    source: Source
    rows: Rows
    chosen: Selection
    settings: DataSettings
    stimuli: Stimuli
    pairs: Pairs | None = None

    def __post_init__(self) -> None:
        self.hashes = np.zeros(len(self.rows), np.uint64)  # of each prompt; equal for equal bytes
        self.notes: dict[int, dict[str, int]] = {}  # what each batch counted, by its first row
        self.longest: dict[int, str] = {}  # the longest prompt of each batch, by its first row
        self.sampled: dict[int, str] = {}  # the prompts of `sample`
        used = np.flatnonzero(self.chosen.part <= EVALUATION)
        if len(used) > SAMPLE:
            used = used[np.argpartition(draw(self.settings.seed, "card", used), SAMPLE)[:SAMPLE]]
        self.sample = np.sort(used)

    def counted(self) -> dict[str, int]:
        part, off = self.chosen.part, self.chosen.off_scale
        shortened = self.stimuli.shortened[self.rows.items.text][self.rows.item]
        found = {
            "off_scale_train": int(np.sum(off & (part == TRAINING))),
            "off_scale_eval": int(np.sum(off & (part == EVALUATION))),
            "vignettes_shortened": int(np.sum(shortened & (part != DROPPED))),
        }
        for name in ("prompts_not_ending_with_stimulus", "rows_without_reasoning"):
            found[name] = sum(note.get(name, 0) for note in self.notes.values())
        return found


def write_files(job: Job, folder: Path, workers: int) -> dict[str, Any]:
    """The one pass over the prompts: write every file of rows; return their sums by file name."""
    settings, rows, off_scale = job.settings, job.rows, job.chosen.off_scale
    lines = settings.format == "jsonl"
    builders: dict[str, Training] = {}
    writers: dict[str, Writer] = {}
    held_out = bool(np.any(job.chosen.part == VALIDATION))
    for name in (*settings.outputs, *(["sft_validation"] if held_out else [])):
        builders[name] = Training(name, settings.form, settings.order, rows, off_scale, job.stimuli)
        path = folder / f"{name}.{settings.format}"
        writers[path.name] = Lines(path) if lines else Tables(path)
    for name in ("eval.parquet", *(["validation.parquet"] if held_out else [])):
        writers[name] = Tables(folder / name, plain=("prompt",))
    evaluation = EvaluationRows(rows, off_scale, job.source.demographic, job.stimuli)

    def build(start: int, prompts: Prompts, batch: pa.Table) -> dict[str, Any]:
        return build_pieces(job, builders, evaluation, start, prompts, batch)

    columns = ["prompt", *(["reasoning"] if "sft_reasoning" in settings.outputs else [])]
    if "sft_reasoning" in settings.outputs and not job.source.has_reasoning:
        raise Refusal(f"{job.source.folder} has no column `reasoning`; take sft_reasoning out of `outputs`")
    evaluated = np.flatnonzero((job.chosen.part == EVALUATION) | (job.chosen.part == VALIDATION))
    for pieces in stream(job, columns, evaluated, workers, build):
        for name, piece in pieces.items():
            writers[name].write(piece)
    return {name: writer.close() for name, writer in writers.items()}


def stream(
    job: Job,
    columns: list[str],
    demographic_rows: np.ndarray,
    workers: int,
    build: Callable[[int, Prompts, pa.Table], Any],
) -> Iterator[Any]:
    """Yield build(first row, prompts, other columns) for all batches of rows in order.

    Two stages share the workers: sections of the source are read and their prompts taken apart, which
    leaves a tenth of the bytes; then batches of them are built. `demographic` is read only in sections
    that hold one of the (ascending) `demographic_rows`.
    """

    def read(section: Section) -> deque[tuple[list[Split], int, pa.Table]]:
        low, high = np.searchsorted(demographic_rows, [section.start, section.start + section.rows])
        return deque(split_section(job, section, [*columns, *(["demographic"] if low < high else [])]))

    def complete(batch: tuple[list[Split], int, pa.Table]) -> tuple[int, Any]:
        pieces, start, others = batch
        prompts = Prompts.of(pieces, job.stimuli)
        # Stimuli were checked when they were read, so heads are all that can be wrong: a fifth of the bytes.
        check_utf8(arrow_of(prompts.joined), "prompt", start, len(prompts.head), job.source)
        job.hashes[start : start + len(prompts.head)] = prompts.hashes
        return len(prompts.head), build(start, prompts, others)

    with (
        ThreadPoolExecutor(workers) as pool,
        tqdm(total=len(job.rows), unit="row", unit_scale=True, desc="converting", disable=None) as bar,
    ):
        sections = in_order(pool, read, job.source.sections(SECTION_ROWS), 1)
        batches = (section.popleft() for section in sections for _ in range(len(section)))
        for count, built in in_order(pool, complete, batches, workers + 1):
            yield built
            bar.update(count)


def in_order(
    pool: ThreadPoolExecutor, function: Callable[[Any], Any], items: Iterable[Any], ahead: int
) -> Iterator[Any]:
    """Yield function(item) for all items in order, `ahead` of them being worked on in the meantime."""
    waiting: deque[Future[Any]] = deque()
    for item in items:
        waiting.append(pool.submit(function, item))
        if len(waiting) > ahead:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def split_section(
    job: Job, section: Section, columns: list[str]
) -> Iterator[tuple[list[Split], int, pa.Table]]:
    """Yield (prompts in pieces, first row, other columns) for about BATCH_ROWS rows at a time.

    Prompts are taken apart as soon as they are decoded, few at a time, and then dropped: so their memory
    stays in the processor's cache (decoding takes 1.6 times as long 4,096 at a time).
    """
    splits: list[Split] = []
    others: list[pa.RecordBatch] = []
    first = section.start
    for start, batch in job.source.read(section, columns, PIECE_ROWS):
        if start - first >= BATCH_ROWS:
            yield splits, first, pa.Table.from_batches(others)
            first, splits, others = start, [], []
        column = text_column(batch, "prompt")
        check_filled(column, "prompt", start, job.source)
        text = job.rows.items.text[job.rows.item[start : start + batch.num_rows]]
        splits.append(split_prompts(column, text, job.stimuli))
        others.append(batch.drop_columns(["prompt"]))
    if splits:
        yield splits, first, pa.Table.from_batches(others)


def remember(job: Job, start: int, prompts: Prompts) -> None:
    """Keep the sampled prompts of a batch, and its longest, as they are written, for the data card."""

    def written(place: int) -> str:
        return (prompts.heads[prompts.head[place]] + job.stimuli.raw[prompts.text[place]]).decode()

    low, high = np.searchsorted(job.sample, [start, start + len(prompts.head)])
    for row in job.sample[low:high].tolist():
        job.sampled[row] = written(row - start)
    lengths = prompts.joined.lengths()[prompts.head] + job.stimuli.raw.lengths()[prompts.text]
    job.longest[start] = written(int(np.argmax(lengths)))


def hash_prompts(job: Job, workers: int) -> None:
    """A pass of its own that only hashes the prompts, for decisions that need them before writing."""
    for _ in stream(job, ["prompt"], np.array([], np.int64), workers, lambda *_: None):
        pass


def build_pieces(
    job: Job,
    builders: dict[str, Training],
    evaluation: EvaluationRows,
    start: int,
    prompts: Prompts,
    batch: pa.Table,
) -> dict[str, Any]:
    """What one batch adds to each file."""
    settings = job.settings
    number = slice(start, start + len(prompts.head))
    unsplit = int(np.sum(prompts.text == job.stimuli.empty))
    job.notes[start] = {"prompts_not_ending_with_stimulus": unsplit}
    remember(job, start, prompts)
    try:
        before, after = prompts.around(settings.order)
    except UnknownShape as problem:
        raise Refusal(
            f"{job.source.place(start + problem.args[0])}: the prompt isn't persona, instruction and "
            "stimulus in the published wording, so its order can't be changed; set `order: persona-first`"
        ) from None

    def sub(at: np.ndarray, answers: list[pa.Array], rejected: np.ndarray | None = None) -> Batch:
        return Batch(prompts, before, after, at, start + at, answers, rejected)

    pieces: dict[str, Any] = {}
    for name, builder in builders.items():
        piece = sub(*training_answers(job, name, number, batch))
        if len(piece.at):
            build = builder.lines if settings.format == "jsonl" else builder.table
            pieces[f"{name}.{settings.format}"] = build(piece)
    for name, part in (("validation.parquet", VALIDATION), ("eval.parquet", EVALUATION)):
        asked = np.flatnonzero(job.chosen.part[number] == part)
        if len(asked):
            pieces[name] = evaluation.table(sub(asked, []), batch)
    return pieces


def training_answers(
    job: Job, name: str, number: slice, batch: pa.Table
) -> tuple[np.ndarray, list[pa.Array], np.ndarray | None]:
    """(places, answer columns, rejected rows) of the rows that a batch adds to one training file."""
    part = VALIDATION if name == "sft_validation" else TRAINING
    start, train = number.start, np.flatnonzero(job.chosen.part[number] == part)
    if name == "dpo" and job.pairs is not None:
        rejected = job.pairs.rejected[number]
        at = np.flatnonzero(rejected >= 0)
        return at, [answer_text(job.rows, start + at), answer_text(job.rows, rejected[at])], rejected[at]
    if name == "sft_reasoning":
        reasoning = pc.fill_null(batch.column("reasoning").cast(pa.string()).combine_chunks(), "")
        there = pc.binary_length(reasoning).to_numpy(zero_copy_only=False)[train] > 0
        at = train[there]
        job.notes[start]["rows_without_reasoning"] = len(train) - len(at)
        texts, answers = reasoning.take(pa.array(at)), answer_text(job.rows, start + at)
        return at, [pc.binary_join_element_wise(texts, "\n\nAnswer: ", answers, "")], None
    return train, [answer_text(job.rows, start + train)], None


def answer_text(rows: Rows, number: np.ndarray) -> pa.Array:
    """The answers of some rows as text."""
    return pa.array(rows.response[number]).cast(pa.string())
