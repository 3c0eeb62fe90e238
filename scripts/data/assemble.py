"""Assemble millions of prompts from the few thousand texts that they repeat.

Every prompt is a head (persona and instruction, shared by one person's rows) and a stimulus text
(shared by a cell). Both are escaped, hashed and reordered once per distinct text; rows are then put
together by copying bytes. The kernels are compiled by numba, run without the interpreter's lock, and
are cached on disk.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numba
import numpy as np
import orjson
import pyarrow as pa

from common.prompts import INSTRUCTION, PERSONA_HEAD, STIMULUS_FIRST_INSTRUCTION, STIMULUS_HEAD, Order

HEAD_START = f"{PERSONA_HEAD}\n".encode()
HEAD_END = f"\n\n{INSTRUCTION}\n\n".encode()
# Every line separator that some reader of lines honours; control characters are escaped by JSON itself.
SEPARATORS = ((b"\xc2\x85", rb"\u0085"), (b"\xe2\x80\xa8", rb"\u2028"), (b"\xe2\x80\xa9", rb"\u2029"))


def escape(text: bytes | str) -> bytes:
    """`text` as the inside of a JSON string that stays on one line in every reader."""
    escaped = orjson.dumps(text if isinstance(text, str) else text.decode())[1:-1]
    for raw, safe in SEPARATORS:
        if raw in escaped:
            escaped = escaped.replace(raw, safe)
    return escaped


@dataclass(frozen=True)
class Texts:
    """Byte strings end to end in one buffer: text i is data[offsets[i]:offsets[i + 1]]."""

    data: np.ndarray  # uint8
    offsets: np.ndarray  # int64

    @classmethod
    def of(cls, texts: Sequence[bytes]) -> "Texts":
        lengths = np.fromiter(map(len, texts), np.int64, len(texts))
        joined = b"".join(texts) or b"\0"  # an empty buffer has no address
        return cls(np.frombuffer(joined, np.uint8), np.r_[0, np.cumsum(lengths)].astype(np.int64))

    @classmethod
    def of_arrow(cls, array: pa.Array) -> "Texts":
        """A string array without nulls, its bytes shared, not copied."""
        wide = pa.types.is_large_string(array.type) or pa.types.is_large_binary(array.type)
        _, offsets, data = array.buffers()
        raw = np.frombuffer(offsets, np.int64 if wide else np.int32)
        raw = raw[array.offset : array.offset + len(array) + 1].astype(np.int64)
        empty = data is None or not data.size
        return cls(np.frombuffer(b"\0" if empty else data, np.uint8), raw)

    def lengths(self) -> np.ndarray:
        return np.diff(self.offsets)

    def __getitem__(self, index: int) -> bytes:
        return self.data[self.offsets[index] : self.offsets[index + 1]].tobytes()


# Loops over slices with a plain counter: numba can then prove that no index is negative, and the compiler
# turns them into copies and comparisons of many bytes at once (measured: 80 times faster than data[i + j]).
@numba.njit(nogil=True, cache=True)
def _differ(one, other):  # pragma: no cover - compiled
    """True if two byte slices of equal length differ. No early exit, for the same reason."""
    wrong = np.uint8(0)
    for j in range(len(one)):
        wrong |= one[j] ^ other[j]
    return wrong != 0


@numba.njit(nogil=True, cache=True)
def _put(out, o, data, start, end):  # pragma: no cover - compiled
    """Copy data[start:end] to out[o:]; return where it ends there."""
    source = data[start:end]
    target = out[o : o + end - start]
    for j in range(len(source)):
        target[j] = source[j]
    return o + end - start


@numba.njit(nogil=True, cache=True)
def _split(data, offsets, text, stim, stim_offsets, head_length, new_run):  # pragma: no cover - compiled
    """Length of each prompt's head (all of it when it doesn't end with its stimulus); where heads change."""
    before, before_length = 0, -1
    for i in range(len(text)):
        start, end = offsets[i], offsets[i + 1]
        s, e = stim_offsets[text[i]], stim_offsets[text[i] + 1]
        head = end - start - (e - s)
        # A newline stands between them: LLaMA-Factory joins the two columns of parquet rows by one.
        same = head > 0 and data[start + head - 1] == 10
        if not same or _differ(data[start + head : end], stim[s:e]):
            head = end - start
        head_length[i] = head
        new_run[i] = head != before_length or _differ(
            data[start : start + head], data[before : before + head]
        )
        before, before_length = start, head


@numba.njit(nogil=True, cache=True)
def _hash(data, offsets, hashes, powers):  # pragma: no cover - compiled
    """Polynomial hash of each text modulo 2**64, and the power that appending the text multiplies by."""
    # Four bytes a round: their products don't wait for one another, which makes it 1.7 times as fast.
    one = np.uint64(0x9E3779B97F4A7C15)
    two, three, four = one * one, one * one * one, one * one * one * one
    for i in range(len(hashes)):
        text = data[offsets[i] : offsets[i + 1]]
        h, p = np.uint64(0), np.uint64(1)
        rounds = len(text) // 4
        for r in range(rounds):
            a, b = np.uint64(text[4 * r]) + np.uint64(1), np.uint64(text[4 * r + 1]) + np.uint64(1)
            c, d = np.uint64(text[4 * r + 2]) + np.uint64(1), np.uint64(text[4 * r + 3]) + np.uint64(1)
            h = h * four + (a * three + b * two + c * one + d)
            p = p * four
        for j in range(4 * rounds, len(text)):
            h = h * one + np.uint64(text[j]) + np.uint64(1)
            p = p * one
        hashes[i], powers[i] = h, p


@numba.njit(nogil=True, cache=True)
def _join(
    out, at, a, a_off, a_row, b, b_off, b_row, c, c_off, c_row, d, d_off
):  # pragma: no cover - compiled
    """Write a[a_row[i]] + b[b_row[i]] + c[c_row[i]] + d[i] for every row i; `at`: where row i begins."""
    for i in range(len(a_row)):
        o = _put(out, at[i], a, a_off[a_row[i]], a_off[a_row[i] + 1])
        o = _put(out, o, b, b_off[b_row[i]], b_off[b_row[i] + 1])
        o = _put(out, o, c, c_off[c_row[i]], c_off[c_row[i] + 1])
        _put(out, o, d, d_off[i], d_off[i + 1])


class Buffers:
    """Buffers that are used again: fresh memory costs as much as filling it."""

    def __init__(self) -> None:
        self._free: deque[np.ndarray] = deque(maxlen=4)

    def take(self, size: int) -> np.ndarray:
        """A buffer of at least `size` bytes."""
        try:
            buffer = self._free.popleft()
        except IndexError:
            buffer = np.empty(0, np.uint8)
        return buffer if len(buffer) >= size else np.empty(size + size // 8, np.uint8)

    def give(self, buffer: np.ndarray) -> None:
        """Hand a buffer back; nothing may look at it any more."""
        self._free.append(buffer)


BUFFERS = Buffers()


def hash_texts(texts: Texts) -> tuple[np.ndarray, np.ndarray]:
    """(hash, power) of each text, so that hash(a + b) = hash(a) * power(b) + hash(b), modulo 2**64."""
    count = len(texts.offsets) - 1
    hashes, powers = np.empty(count, np.uint64), np.empty(count, np.uint64)
    _hash(texts.data, texts.offsets, hashes, powers)
    return hashes, powers


def join(
    a: Texts,
    a_row: np.ndarray,
    b: Texts,
    b_row: np.ndarray,
    c: Texts,
    c_row: np.ndarray,
    d: Texts,
    reuse: bool = False,
) -> Texts:
    """One text a row, put together from three tables of texts and one text of its own.

    `reuse`: into a used buffer, which the caller gives back to BUFFERS.
    """
    lengths = a.lengths()[a_row] + b.lengths()[b_row] + c.lengths()[c_row] + d.lengths()
    offsets = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(lengths, out=offsets[1:])
    size = max(1, int(offsets[-1]))
    out = BUFFERS.take(size) if reuse else np.empty(size, np.uint8)
    tables = ((a.data, a.offsets, a_row), (b.data, b.offsets, b_row), (c.data, c.offsets, c_row))
    _join(out, offsets, *tables[0], *tables[1], *tables[2], d.data, d.offsets)
    return Texts(out, offsets)


def arrow_of(texts: Texts) -> pa.Array:
    """The texts as an Arrow string array."""
    offsets = pa.py_buffer(np.ascontiguousarray(texts.offsets, np.int64))
    return pa.LargeStringArray.from_buffers(len(texts.offsets) - 1, offsets, pa.py_buffer(texts.data))


class Stimuli:
    """The distinct stimulus texts: as they are in the source, and as they are written (perhaps shortened),
    escaped and hashed. The last text is the empty one."""

    def __init__(self, texts: Sequence[str], written: Sequence[str] | None = None) -> None:
        encoded = [text.encode() for text in written or texts] + [b""]
        self.texts = list(written or texts)
        self.source = Texts.of([text.encode() for text in texts] + [b""])
        self.raw = Texts.of(encoded)
        self.escaped = Texts.of([escape(text) for text in encoded])
        self.hashes, self.powers = hash_texts(self.raw)
        self.empty = len(texts)
        self.shortened = self.raw.lengths() < self.source.lengths()  # bool for each text


class UnknownShape(Exception):
    """Row `args[0]` of a batch isn't persona, instruction and stimulus, so it can't be reordered."""


class Split(NamedTuple):
    """Neighbouring prompts as heads (one a run of equal ones) and stimulus texts.

    `text[i]` is `stimuli.empty` where the prompt doesn't end with its stimulus; its head is then all
    of the prompt.
    """

    heads: list[bytes]
    head: np.ndarray  # the head of each row
    text: np.ndarray  # the stimulus text of each row


def split_prompts(column: pa.Array, text: np.ndarray, stimuli: Stimuli) -> Split:
    """Take a piece of the `prompt` column apart. `text`: the stimulus text of each row (int32)."""
    prompts, known = Texts.of_arrow(column), stimuli.source
    head_length, new_run = np.empty(len(text), np.int64), np.empty(len(text), np.bool_)
    _split(prompts.data, prompts.offsets, text, known.data, known.offsets, head_length, new_run)
    first = np.flatnonzero(new_run)
    starts = prompts.offsets[first]
    ends = starts + head_length[first]
    buffer = prompts.data.data
    heads = [bytes(buffer[start:end]) for start, end in zip(starts.tolist(), ends.tolist(), strict=True)]
    whole = head_length == prompts.lengths()
    return Split(heads, np.cumsum(new_run) - 1, np.where(whole, stimuli.empty, text).astype(np.int32))


@dataclass(frozen=True)
class Prompts:
    """A batch of prompts, taken apart as in `Split`."""

    heads: list[bytes]
    head: np.ndarray
    text: np.ndarray
    joined: Texts  # the heads again, end to end
    hashes: np.ndarray  # uint64, equal for prompts of equal bytes

    @classmethod
    def of(cls, pieces: Sequence[Split], stimuli: Stimuli) -> "Prompts":
        """The prompts of neighbouring pieces."""
        heads = [head for piece in pieces for head in piece.heads]
        before = np.cumsum([0, *(len(piece.heads) for piece in pieces)]).tolist()
        head = np.concatenate([piece.head + n for piece, n in zip(pieces, before, strict=False)])
        text = np.concatenate([piece.text for piece in pieces])
        joined = Texts.of(heads)
        hashes, _ = hash_texts(joined)
        return cls(heads, head, text, joined, hashes[head] * stimuli.powers[text] + stimuli.hashes[text])

    def around(self, order: Order) -> tuple[list[bytes], list[bytes]]:
        """What stands before and after the stimulus, for each head. Raises `UnknownShape`."""
        if order == "persona-first":
            return self.heads, [b""] * len(self.heads)
        after = []
        for number, head in enumerate(self.heads):
            if not (head.startswith(HEAD_START) and head.endswith(HEAD_END)):
                raise UnknownShape(int(np.argmax(self.head == number)))
            persona = head[: -len(HEAD_END)].decode()
            after.append(f"\n\n{persona}\n\n{STIMULUS_FIRST_INSTRUCTION}".encode())
        return [f"{STIMULUS_HEAD}\n\n".encode()] * len(self.heads), after
