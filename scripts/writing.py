"""The pass over the prompts: batches in, every file of rows out, in order, with any number of workers."""

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from tqdm import tqdm

from common.files import Refusal
from scripts.assemble import Stimuli, UnknownShape, split_prompts
from scripts.draws import draw
from scripts.evaluation_rows import EvaluationRows
from scripts.outputs import BATCH_ROWS, Batch, Lines, Tables, Training, Writer
from scripts.pairs import Pairs
from scripts.rows import Rows
from scripts.selection import DROPPED, EVALUATION, TRAINING, VALIDATION, Selection
from scripts.settings import DataSettings
from scripts.source import Source, check_text, text_column

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
        order = np.argsort(draw(self.settings.seed, "card", used))
        self.sample = np.sort(used[order[:SAMPLE]])

    def _shortened(self) -> np.ndarray:
        return (self.stimuli.longer() < 0)[self.rows.items.text[self.rows.item]]

    def counted(self) -> dict[str, int]:
        part, off = self.chosen.part, self.chosen.off_scale
        found = {
            "off_scale_train": int(np.sum(off & (part == TRAINING))),
            "off_scale_eval": int(np.sum(off & (part == EVALUATION))),
            "vignettes_shortened": int(np.sum(self._shortened() & (part != DROPPED))),
        }
        for name in ("prompts_not_ending_with_stimulus", "rows_without_reasoning"):
            found[name] = sum(note.get(name, 0) for note in self.notes.values())
        return found


def write_files(job: Job, folder: Path, workers: int) -> dict[str, Any]:
    """The one pass over the prompts: write every file of rows; return their sums by file name."""
    settings, rows = job.settings, job.rows
    lines = settings.format == "jsonl"
    builders: dict[str, Training] = {}
    writers: dict[str, Writer] = {}
    for name in settings.outputs:
        builders[name] = Training(name, settings.form, settings.order, rows, job.stimuli)
        writers[f"{name}.{settings.format}"] = (
            Lines(folder / f"{name}.jsonl") if lines else Tables(folder / f"{name}.parquet")
        )
    builders["validation"] = Training("sft", settings.form, settings.order, rows, job.stimuli)
    writers["eval.parquet"] = Tables(folder / "eval.parquet", BATCH_ROWS, plain=("prompt",))
    if np.any(job.chosen.part == VALIDATION):
        writers["validation.jsonl"] = Lines(folder / "validation.jsonl")
        writers["validation.parquet"] = Tables(folder / "validation.parquet", BATCH_ROWS, plain=("prompt",))
    evaluation = EvaluationRows(rows, job.chosen.off_scale, job.source.demographic, job.stimuli)

    def build(start: int, batch: pa.RecordBatch) -> dict[str, Any]:
        return build_pieces(job, builders, evaluation, start, batch)

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
    build: Callable[[int, pa.RecordBatch], Any],
) -> Iterator[Any]:
    """Yield build(first row, batch) for all batches in order, `workers` of them being built at once."""
    waiting: deque[tuple[int, Future[Any]]] = deque()
    with (
        ThreadPoolExecutor(workers) as pool,
        tqdm(total=len(job.rows), unit="row", unit_scale=True, desc="converting", disable=None) as bar,
    ):
        for start, batch in job.source.batches(columns, BATCH_ROWS, extra=("demographic", demographic_rows)):
            waiting.append((batch.num_rows, pool.submit(build, start, batch)))
            if len(waiting) >= workers:
                count, done = waiting.popleft()
                yield done.result()
                bar.update(count)
        for count, done in waiting:
            yield done.result()
            bar.update(count)


def remember(job: Job, start: int, column: pa.Array, text: np.ndarray) -> None:
    """Keep the sampled prompts of a batch, and its longest, as they are written, for the data card.

    `text`: the stimulus text that each prompt of the batch ends with.
    """

    def written(place: int) -> str:
        source, shown = (part[text[place]].decode() for part in (job.stimuli.source, job.stimuli.raw))
        return column[place].as_py().removesuffix(source) + shown

    low, high = np.searchsorted(job.sample, [start, start + len(column)])
    for row in job.sample[low:high].tolist():
        job.sampled[row] = written(row - start)
    lengths = pc.binary_length(column).to_numpy() + job.stimuli.longer()[text]
    job.longest[start] = written(int(np.argmax(lengths)))


def hash_prompts(job: Job, workers: int) -> None:
    """A pass of its own that only hashes the prompts, for decisions that need them before writing."""

    def build(start: int, batch: pa.RecordBatch) -> None:
        check_text(batch, ("prompt",), start, job.source)
        number = slice(start, start + batch.num_rows)
        text = job.rows.items.text[job.rows.item[number]]
        job.hashes[number] = split_prompts(text_column(batch, "prompt"), text, job.stimuli).hashes

    for _ in stream(job, ["prompt"], np.array([], np.int64), workers, build):
        pass


def build_pieces(
    job: Job, builders: dict[str, Training], evaluation: "EvaluationRows", start: int, batch: pa.RecordBatch
) -> dict[str, Any]:
    """What one batch adds to each file."""
    rows, settings = job.rows, job.settings
    check_text(batch, ("prompt",), start, job.source)
    number = np.arange(start, start + batch.num_rows)
    prompts = split_prompts(text_column(batch, "prompt"), rows.items.text[rows.item[number]], job.stimuli)
    job.hashes[number] = prompts.hashes
    unsplit = int(np.sum(prompts.text == job.stimuli.empty))
    job.notes[start] = {"prompts_not_ending_with_stimulus": unsplit}
    remember(job, start, text_column(batch, "prompt"), prompts.text)
    try:
        before, after = prompts.around(settings.order)
    except UnknownShape as problem:
        raise Refusal(
            f"{job.source.place(start + problem.args[0])}: the prompt isn't persona, instruction and "
            "stimulus in the published wording, so its order can't be changed; set `order: persona-first`"
        ) from None

    def sub(at: np.ndarray, answers: list[pa.Array], rejected: np.ndarray | None = None) -> Batch:
        return Batch(prompts, before, after, at, start + at, answers, rejected)

    part = job.chosen.part[number]
    pieces: dict[str, Any] = {}
    for name, builder in builders.items():
        if name == "validation":
            continue
        piece = sub(*training_answers(job, name, start, batch, np.flatnonzero(part == TRAINING)))
        if len(piece.at):
            build = builder.lines if settings.format == "jsonl" else builder.table
            pieces[f"{name}.{settings.format}"] = build(piece)
    held = np.flatnonzero(part == VALIDATION)
    if len(held):
        piece = sub(held, [answer_text(rows, start + held)])
        pieces["validation.jsonl"] = builders["validation"].lines(piece)
        pieces["validation.parquet"] = evaluation.table(piece, batch)
    asked = np.flatnonzero(part == EVALUATION)
    if len(asked):
        pieces["eval.parquet"] = evaluation.table(sub(asked, []), batch)
    return pieces


def training_answers(
    job: Job, name: str, start: int, batch: pa.RecordBatch, train: np.ndarray
) -> tuple[np.ndarray, list[pa.Array], np.ndarray | None]:
    """(places, answer columns, rejected rows) of the rows that a batch adds to one training file.

    `train`: places of the batch's training rows, of which pairs and reasoning may leave some out.
    """
    if name == "dpo" and job.pairs is not None:
        rejected = job.pairs.rejected[start : start + batch.num_rows]
        at = np.flatnonzero(rejected >= 0)
        return at, [answer_text(job.rows, start + at), answer_text(job.rows, rejected[at])], rejected[at]
    if name == "sft_reasoning":
        reasoning = pc.fill_null(batch.column("reasoning").cast(pa.string()), "")
        there = pc.binary_length(reasoning).to_numpy(zero_copy_only=False)[train] > 0
        at = train[there]
        job.notes[start]["rows_without_reasoning"] = len(train) - len(at)
        texts, answers = reasoning.take(pa.array(at)), answer_text(job.rows, start + at)
        return at, [pc.binary_join_element_wise(texts, "\n\nAnswer: ", answers, "")], None
    return train, [answer_text(job.rows, start + train)], None


def answer_text(rows: Rows, number: np.ndarray) -> pa.Array:
    """The answers of some rows as text."""
    return pa.array(rows.response[number]).cast(pa.string())
