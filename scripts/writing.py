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
from scripts.assemble import Prompts, Stimuli, Texts, UnknownShape, arrow_of, split_prompts
from scripts.draws import draw
from scripts.evaluation_rows import EvaluationRows
from scripts.outputs import BATCH_ROWS, GROUP_ROWS, Batch, Lines, Tables, Training, Writer
from scripts.pairs import Pairs
from scripts.rows import Rows
from scripts.selection import DROPPED, EVALUATION, TRAINING, VALIDATION, Selection
from scripts.settings import DataSettings
from scripts.source import Source, check_filled, check_utf8, text_column

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
    settings, rows = job.settings, job.rows
    lines = settings.format == "jsonl"
    builders: dict[str, Training] = {}
    writers: dict[str, Writer] = {}
    held_out = bool(np.any(job.chosen.part == VALIDATION))
    for name in (*settings.outputs, *(["sft_validation"] if held_out else [])):
        builders[name] = Training(name, settings.form, settings.order, rows, job.stimuli)
        path = folder / f"{name}.{settings.format}"
        writers[path.name] = Lines(path) if lines else Tables(path, GROUP_ROWS)
    for name in ("eval.parquet", *(["validation.parquet"] if held_out else [])):
        writers[name] = Tables(folder / name, GROUP_ROWS, plain=("prompt",))
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
            if len(waiting) > workers:  # one more than are being built, so that none waits
                count, done = waiting.popleft()
                yield done.result()
                bar.update(count)
        for count, done in waiting:
            yield done.result()
            bar.update(count)


def remember(job: Job, start: int, prompts: Prompts) -> None:
    """Keep the sampled prompts of a batch, and its longest, as they are written, for the data card."""

    def written(place: int) -> str:
        return (prompts.heads[prompts.head[place]] + job.stimuli.raw[prompts.text[place]]).decode()

    low, high = np.searchsorted(job.sample, [start, start + len(prompts.head)])
    for row in job.sample[low:high].tolist():
        job.sampled[row] = written(row - start)
    heads = np.fromiter(map(len, prompts.heads), np.int64, len(prompts.heads))
    lengths = heads[prompts.head] + job.stimuli.raw.lengths()[prompts.text]
    job.longest[start] = written(int(np.argmax(lengths)))


def checked_prompts(job: Job, start: int, batch: pa.RecordBatch) -> Prompts:
    """The prompts of a batch, taken apart; null, empty and invalid ones are refused."""
    check_filled(batch.column("prompt"), "prompt", start, job.source)
    text = job.rows.items.text[job.rows.item[start : start + batch.num_rows]]
    prompts = split_prompts(text_column(batch, "prompt"), text, job.stimuli)
    # Stimuli were checked when they were read, so heads are all that can be wrong: a fifth of the bytes.
    heads = arrow_of(Texts.of(prompts.heads))
    check_utf8(heads, "prompt", start, batch.num_rows, job.source)
    return prompts


def hash_prompts(job: Job, workers: int) -> None:
    """A pass of its own that only hashes the prompts, for decisions that need them before writing."""

    def build(start: int, batch: pa.RecordBatch) -> None:
        job.hashes[start : start + batch.num_rows] = checked_prompts(job, start, batch).hashes

    for _ in stream(job, ["prompt"], np.array([], np.int64), workers, build):
        pass


def build_pieces(
    job: Job, builders: dict[str, Training], evaluation: "EvaluationRows", start: int, batch: pa.RecordBatch
) -> dict[str, Any]:
    """What one batch adds to each file."""
    settings = job.settings
    number = slice(start, start + batch.num_rows)
    prompts = checked_prompts(job, start, batch)
    job.hashes[number] = prompts.hashes
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

    unchanged = settings.order == "persona-first" and not job.stimuli.shortened.any()
    given = text_column(batch, "prompt") if unchanged else None

    def sub(at: np.ndarray, answers: list[pa.Array], rejected: np.ndarray | None = None) -> Batch:
        return Batch(prompts, before, after, at, start + at, answers, rejected, given)

    pieces: dict[str, Any] = {}
    for name, builder in builders.items():
        piece = sub(*training_answers(job, name, start, batch))
        if len(piece.at):
            build = builder.lines if settings.format == "jsonl" else builder.table
            pieces[f"{name}.{settings.format}"] = build(piece)
    for name, part in (("validation.parquet", VALIDATION), ("eval.parquet", EVALUATION)):
        asked = np.flatnonzero(job.chosen.part[number] == part)
        if len(asked):
            pieces[name] = evaluation.table(sub(asked, []), batch)
    return pieces


def training_answers(
    job: Job, name: str, start: int, batch: pa.RecordBatch
) -> tuple[np.ndarray, list[pa.Array], np.ndarray | None]:
    """(places, answer columns, rejected rows) of the rows that a batch adds to one training file."""
    part = VALIDATION if name == "sft_validation" else TRAINING
    train = np.flatnonzero(job.chosen.part[start : start + batch.num_rows] == part)
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
