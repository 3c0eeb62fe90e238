"""The files of a data set: training rows in every form, evaluation rows, and their sums.

A builder turns a batch into lines or a table (in worker threads); a writer puts them into one file,
in the order that they are given, and knows the file's SHA-256 at the end.
"""

import hashlib
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from common.files import sha256_file
from common.prompts import STIMULUS_HEAD, SYSTEM_PROMPT, Order
from scripts.data.assemble import BUFFERS, Prompts, Stimuli, Texts, arrow_of, escape, join
from scripts.data.facts import Rows

GROUP_ROWS = 8_192  # rows of a row group, at least: fewer aren't worth reading at once
# What stands before the prompt, and before, between and after the answers, in a line.
SYSTEM = '{"system":"' + escape(SYSTEM_PROMPT).decode()
LINE = {
    ("alpaca", "sft"): ('","instruction":"', '","output":"', '"'),
    ("alpaca", "dpo"): ('","instruction":"', '","chosen":"', '","rejected":"', '"'),
    ("sharegpt", "sft"): (
        '","conversations":[{"from":"human","value":"',
        '"},{"from":"gpt","value":"',
        '"}]',
    ),
    ("sharegpt", "dpo"): (
        '","conversations":[{"from":"human","value":"',
        '"}],"chosen":{"from":"gpt","value":"',
        '"},"rejected":{"from":"gpt","value":"',
        '"}',
    ),
}


@dataclass(frozen=True)
class Batch:
    """Rows of one training file inside a batch of the source.

    at: places in `prompts`; number: row numbers in the data; answers: one text a row for each answer
    column; rejected: row numbers of the rejected answers (DPO), else None. before, after: what stands
    around the stimulus, for each head.
    """

    prompts: Prompts
    before: list[bytes]
    after: list[bytes]
    at: np.ndarray
    number: np.ndarray
    answers: list[pa.Array]
    rejected: np.ndarray | None = None


class Writer:
    """One file. A thread of its own writes the pieces, in the order given; few wait, so memory is bounded."""

    def __init__(self, path: Path) -> None:
        self.path, self.rows = path, 0
        self._thread = ThreadPoolExecutor(1)
        self._pending: deque[Future[None]] = deque()

    def write(self, piece: Any) -> None:
        """Hand over a piece; an error of an earlier one is raised here or in `close`."""
        while len(self._pending) >= 2:
            self._pending.popleft().result()
        self._pending.append(self._thread.submit(self._put, piece))

    def close(self) -> dict[str, Any]:
        """Wait until all is written; return the file's sha256, bytes and rows."""
        for pending in self._pending:
            pending.result()
        self._thread.shutdown()
        return {"sha256": self._end(), "bytes": self.path.stat().st_size, "rows": self.rows}

    def _put(self, piece: Any) -> None:
        raise NotImplementedError

    def _end(self) -> str:
        """Complete the file; return its SHA-256."""
        raise NotImplementedError


class Lines(Writer):
    """A JSON-lines file, hashed while it is written."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._file = path.open("wb", buffering=0)
        self._sum = hashlib.sha256()

    def _put(self, piece: Texts) -> None:
        self.rows += len(piece.offsets) - 1
        view = piece.data.data[: int(piece.offsets[-1])]
        self._sum.update(view)
        while len(view):
            view = view[self._file.write(view) :]
        BUFFERS.give(piece.data)

    def _end(self) -> str:
        self._file.close()
        return self._sum.hexdigest()


class Tables(Writer):
    """A parquet file. Small tables are gathered into row groups of at least GROUP_ROWS."""

    def __init__(self, path: Path, plain: tuple[str, ...] = ()) -> None:
        super().__init__(path)
        self._plain = plain
        self._writer: pq.ParquetWriter | None = None
        self._waiting: list[pa.Table] = []

    def _put(self, piece: pa.Table) -> None:
        self.rows += piece.num_rows
        self._waiting.append(piece)
        if sum(part.num_rows for part in self._waiting) >= GROUP_ROWS:
            self._flush()

    def _flush(self) -> None:
        if not self._waiting:
            return
        whole = pa.concat_tables(self._waiting).unify_dictionaries()
        self._waiting = []
        if self._writer is None:
            encoded = [name for name in whole.schema.names if name not in self._plain]
            self._writer = pq.ParquetWriter(
                self.path,
                whole.schema,
                compression="zstd",
                use_dictionary=encoded,
                dictionary_pagesize_limit=2**26,
                store_schema=False,  # readers then see plain text, whatever we kept in memory
            )
        if whole.num_rows:
            self._writer.write_table(whole, row_group_size=whole.num_rows)

    def _end(self) -> str:
        self._flush()
        if self._writer:
            self._writer.close()
        return sha256_file(self.path)


class Training:
    """Builds one training file's lines or tables from batches."""

    def __init__(
        self, stage: str, form: str, order: Order, rows: Rows, off_scale: np.ndarray, stimuli: Stimuli
    ) -> None:
        self.stage, self.form, self.order = stage, form, order
        self.dpo = stage == "dpo"
        self.rows, self.off_scale, self.stimuli = rows, off_scale, stimuli
        opening, *self.around = LINE[(form, "dpo" if self.dpo else "sft")]
        self.opening = (SYSTEM + opening).encode()
        items = rows.items
        studies = [escape(study).decode() for study in rows.studies]
        self.item_keys = pa.array(
            f',"study_id":"{studies[study]}","condition_num":{condition},"task_num":{task},"sample_id":'
            for study, condition, task in zip(items.study, items.condition, items.task, strict=True)
        )

    def lines(self, batch: Batch) -> Texts:
        """One JSON object a row, in one buffer."""
        rows, number = self.rows, batch.number
        tail: list[Any] = []
        for answer, text in zip(batch.answers, self.around[1:], strict=True):
            if self.stage == "sft_reasoning":
                answer = pa.array([escape(line).decode() for line in answer.to_pylist()], pa.string())
            tail += [answer, text]
        tail += [self.item_keys.take(pa.array(rows.item[number])), _text(rows.sample[number])]
        tail += [',"participant":', _text(rows.people[rows.person[number]])]
        if batch.rejected is not None:
            tail += [',"rejected_sample_id":', _text(rows.sample[batch.rejected])]
        tail += [',"off_scale":', pa.array(["false", "true"]).take(pa.array(self._off_scale(batch) * 1))]
        ends = Texts.of_arrow(pc.binary_join_element_wise(*tail, "}\n", ""))
        used, head = np.unique(batch.prompts.head[batch.at], return_inverse=True)
        first = Texts.of([self.opening + escape(batch.before[i]) for i in used])
        last = Texts.of([escape(batch.after[i]) + self.around[0].encode() for i in used])
        return join(
            first, head, self.stimuli.escaped, batch.prompts.text[batch.at], last, head, ends, reuse=True
        )

    def table(self, batch: Batch) -> pa.Table:
        """The same rows as columns. Alpaca keeps head and stimulus apart: LLaMA-Factory joins the columns
        `instruction` and `input` by one newline, and both repeat so often that they shrink to nothing."""
        rows, number = self.rows, batch.number
        count = len(number)
        columns: dict[str, pa.Array] = {"system": _constant(SYSTEM_PROMPT, count)}
        if self.form == "alpaca":
            columns["instruction"], columns["input"] = self._halves(batch)
            columns |= dict(
                zip(("chosen", "rejected") if self.dpo else ("output",), batch.answers, strict=True)
            )
        else:
            human = _messages("human", prompt_column(batch, self.stimuli))
            gpt = [_messages("gpt", answer) for answer in batch.answers]
            turns = [human] if self.dpo else [human, *gpt]
            columns["conversations"] = _interleave(turns)
            if self.dpo:
                columns |= dict(zip(("chosen", "rejected"), gpt, strict=True))
        items = rows.items
        columns["study_id"] = _encoded(rows.studies, rows.study[number])
        columns["condition_num"] = pa.array(items.condition[rows.item[number]])
        columns["task_num"] = pa.array(items.task[rows.item[number]])
        columns["sample_id"] = pa.array(rows.sample[number], pa.int64())
        columns["participant"] = pa.array(rows.people[rows.person[number]])
        if batch.rejected is not None:
            columns["rejected_sample_id"] = pa.array(rows.sample[batch.rejected], pa.int64())
        columns["off_scale"] = pa.array(self._off_scale(batch))
        return pa.table(columns)

    def _off_scale(self, batch: Batch) -> np.ndarray:
        """True where an answer of the row isn't admissible on its item's scale."""
        off = self.off_scale[batch.number]
        return off if batch.rejected is None else off | self.off_scale[batch.rejected]

    def _halves(self, batch: Batch) -> tuple[pa.Array, pa.Array]:
        """The prompt as `instruction` and `input`: joined by one newline they are it again."""
        head, text = batch.prompts.head[batch.at], batch.prompts.text[batch.at]
        used_heads, head = np.unique(head, return_inverse=True)
        used_texts, text = np.unique(text, return_inverse=True)
        texts = [self.stimuli.raw[i] for i in used_texts]
        if self.order == "stimulus-first":
            opening = f"{STIMULUS_HEAD}\n\n".encode()
            return (
                _unique([opening + raw + b"\n" for raw in texts], text),
                _unique([batch.after[i][2:] for i in used_heads], head),
            )
        # A head that holds the whole prompt (its stimulus text is empty) has no newline to give away.
        empty = np.zeros(len(used_heads), bool)
        empty[head[used_texts[text] == self.stimuli.empty]] = True
        heads = [
            batch.before[i] if whole else batch.before[i][:-1]
            for i, whole in zip(used_heads, empty, strict=True)
        ]
        return _unique(heads, head), _unique(texts, text)


def prompt_column(batch: Batch, stimuli: Stimuli) -> pa.StringArray:
    """The whole prompt of each row, in the order asked for."""
    head, text = batch.prompts.head[batch.at], batch.prompts.text[batch.at]
    nothing = Texts(np.zeros(1, np.uint8), np.zeros(len(head) + 1, np.int64))
    before, after = Texts.of(batch.before), Texts.of(batch.after)
    return arrow_of(join(before, head, stimuli.raw, text, after, head, nothing)).cast(pa.string())


def _text(numbers: np.ndarray) -> pa.Array:
    return pa.array(numbers).cast(pa.string())


def _constant(text: str, count: int) -> pa.Array:
    return pa.DictionaryArray.from_arrays(pa.array(np.zeros(count, np.int32)), pa.array([text]))


def _encoded(texts: list[str], codes: np.ndarray) -> pa.Array:
    return pa.DictionaryArray.from_arrays(pa.array(codes.astype(np.int32)), pa.array(texts, pa.string()))


def _unique(texts: list[bytes], codes: np.ndarray) -> pa.Array:
    """Dictionary array of texts; equal texts get one entry, as parquet's writer relies on."""
    known: dict[bytes, int] = {}
    local = np.array([known.setdefault(text, len(known)) for text in texts], np.int32)
    words = pa.array(list(known), pa.binary()).cast(pa.string())
    return pa.DictionaryArray.from_arrays(pa.array(local[codes]), words)


def _messages(role: str, texts: pa.Array) -> pa.StructArray:
    roles = pa.array([role]).take(pa.array(np.zeros(len(texts), np.int32)))
    return pa.StructArray.from_arrays([roles, texts], ["from", "value"])


def _interleave(turns: list[pa.StructArray]) -> pa.ListArray:
    """One list of messages a row, from one array a turn."""
    count = len(turns[0])
    order = np.arange(count * len(turns)).reshape(len(turns), count).T.ravel()
    offsets = np.arange(0, count * len(turns) + 1, len(turns), dtype=np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), pa.concat_arrays(turns).take(pa.array(order)))
