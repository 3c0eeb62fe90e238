"""The narrow facts of every row: who, which cell and item, what answer. Prompts are streamed, not held.

One pass over the keys, the answers and the distinct stimuli makes the tables that every later decision
needs. Duplicate keys and answers that aren't whole 64-bit numbers are refused with the row's place.
"""

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import pyarrow as pa

from common.errors import Refusal
from common.paths import safe_name
from common.scale import Scale
from scripts.data.scales.parser import parse_scale
from scripts.data.source import INTEGERS, Source, check_text

READ_ROWS = 131_072  # narrow columns at once


@dataclass
class Items:
    """The distinct (study, condition, task, stimulus) of a data set, as parallel arrays.

    `cell` numbers the (study, condition, task) that an item belongs to; `item_num` counts a cell's
    texts from 0 in the order of their first sample_id; `text` indexes `texts`.
    """

    study: np.ndarray
    condition: np.ndarray
    task: np.ndarray
    cell: np.ndarray
    item_num: np.ndarray
    text: np.ndarray
    texts: list[str]

    def __len__(self) -> int:
        return len(self.study)

    @cached_property
    def text_scales(self) -> list[Scale]:
        return [parse_scale(text) for text in self.texts]

    @property
    def scales(self) -> list[Scale]:
        """The answer scale of each item, read from its own text."""
        return [self.text_scales[text] for text in self.text]


@dataclass
class Rows:
    """The narrow facts of every row, in the order of the shards. Codes index the tables beside them.

    The arrays of a row each are of the narrowest integers of 16, 32 or 64 bits that hold them.
    """

    studies: list[str]  # names of the studies
    study: np.ndarray  # index into studies
    sample: np.ndarray  # sample_id
    person: np.ndarray  # index into people
    item: np.ndarray  # index into items
    response: np.ndarray
    people_study: np.ndarray  # int32: the study of each person
    people: np.ndarray  # int64: the participant number of each person
    items: Items = field(repr=False)

    def __len__(self) -> int:
        return len(self.sample)

    @property
    def cell(self) -> np.ndarray:
        return self.items.cell[self.item]

    def name(self, row: int) -> str:
        return f"({self.studies[self.study[row]]}, {self.sample[row]})"


def read_rows(source: Source) -> Rows:
    """One pass over the narrow columns (and the distinct stimuli). Raises `Refusal` on bad rows.

    Memory: about 16 bytes a row, four times that on the way; texts are held once each.
    """
    parts: dict[str, list[np.ndarray]] = {name: [] for name in (*INTEGERS, "study_id", "stimuli")}
    codes_of: dict[str, dict[str, int]] = {"study_id": {}, "stimuli": {}}
    columns = [*INTEGERS, "study_id", "stimuli"]
    for section in source.sections(READ_ROWS):
        for start, batch in source.read(section, columns, READ_ROWS, dictionary=("study_id", "stimuli")):
            check_text(batch, ("study_id", "stimuli"), start, source)
            for name in INTEGERS:
                parts[name].append(_integers(batch.column(name), name, start, source))
            for name, codes in codes_of.items():
                column = batch.column(name)
                if not pa.types.is_dictionary(column.type):
                    column = column.dictionary_encode()
                local = [codes.setdefault(text, len(codes)) for text in column.dictionary.to_pylist()]
                indices = column.indices.to_numpy(zero_copy_only=False)
                parts[name].append(np.array(local, np.int32)[indices])
    columns_of = {name: np.concatenate(parts.pop(name)) for name in list(parts)}
    pa.default_memory_pool().release_unused()
    return _tabulate(columns_of, list(codes_of["study_id"]), list(codes_of["stimuli"]), source)


def _integers(column: pa.Array, name: str, start: int, source: Source) -> np.ndarray:
    """An integer column as int64; the first row that isn't a whole 64-bit number is refused by place."""
    try:
        if not column.null_count:
            return column.cast(pa.int64()).to_numpy(zero_copy_only=False)
    except pa.ArrowInvalid:
        pass
    for offset in range(len(column)):
        value = column[offset]
        try:
            whole = value.is_valid and value.cast(pa.int64()).is_valid
        except pa.ArrowInvalid:
            whole = False
        if not whole:
            shown = value.as_py()
            raise Refusal(
                f"{source.location(start + offset)}: `{name}` is {'null' if shown is None else shown}, "
                "not a whole 64-bit number; remove the row or fix its answer"
            )
    raise AssertionError("a column that doesn't cast has a value that doesn't")


def factorize(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(code of each value as int32, the distinct values in the order of their first appearance)."""
    encoded = pa.array(values).dictionary_encode()
    return encoded.indices.to_numpy(), encoded.dictionary.to_numpy()


def narrow(values: np.ndarray) -> np.ndarray:
    """`values` as integers of 16, 32 or 64 bits, the narrowest that hold them."""
    low, high = int(values.min()), int(values.max())
    for kind in (np.int16, np.int32):
        if np.iinfo(kind).min <= low and high <= np.iinfo(kind).max:
            return values.astype(kind)
    return values


def combine(codes: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Codes of the distinct pairs of `codes` and `values`."""
    more, distinct = factorize(values)
    return factorize(codes.astype(np.int64) * len(distinct) + more)[0]


def _repeats(study: np.ndarray, sample: np.ndarray) -> bool:
    """True if a (study, sample) pair appears twice. Sorts one array: a hash table is ten times larger."""
    low, high = int(sample.min()), int(sample.max())
    if (high - low + 1) * (int(study.max()) + 1) < 2**63:
        keys = study.astype(np.int64) * (high - low + 1) + (sample - low)
    else:
        keys = combine(study, sample)
    keys.sort()
    return bool(np.any(keys[1:] == keys[:-1]))


def first_rows(codes: np.ndarray) -> np.ndarray:
    """The first row of each code, for codes in the order of first appearance."""
    first = np.empty(int(codes.max()) + 1, np.int64)
    first[codes[::-1]] = np.arange(len(codes) - 1, -1, -1)
    return first


def _tabulate(columns: dict[str, np.ndarray], studies: list[str], texts: list[str], source: Source) -> Rows:
    for name in studies:
        safe_name(name, "the study id")
    study, sample = columns["study_id"], columns["sample_id"]
    if _repeats(study, sample):
        keys = combine(study, sample)
        seen = first_rows(keys)
        again = int(np.argmax(seen[keys] != np.arange(len(keys))))
        raise Refusal(
            f"the key (study_id, sample_id) = ({studies[study[again]]}, {sample[again]}) appears twice: "
            f"{source.location(int(seen[keys[again]]))} and {source.location(again)}; keys must be unique"
        )
    person = combine(study, columns["participant"])
    people = first_rows(person)
    cell = combine(combine(study, columns["condition_num"]), columns["task_num"])
    item = combine(cell, columns["stimuli"])
    first = first_rows(item)
    items = Items(
        study=study[first],
        condition=columns["condition_num"][first],
        task=columns["task_num"][first],
        cell=cell[first],
        item_num=_item_numbers(item, cell[first], sample),
        text=columns["stimuli"][first],
        texts=texts,
    )
    return Rows(
        studies=studies,
        study=narrow(study),
        sample=narrow(sample),
        person=narrow(person),
        item=narrow(item),
        response=narrow(columns["response"]),
        people_study=study[people],
        people=columns["participant"][people],
        items=items,
    )


def _item_numbers(item: np.ndarray, cell_of_item: np.ndarray, sample: np.ndarray) -> np.ndarray:
    """Number each cell's items from 0 in the order of their lowest sample_id."""
    lowest = np.full(len(cell_of_item), np.iinfo(np.int64).max)
    np.minimum.at(lowest, item, sample)
    order = np.lexsort((lowest, cell_of_item))
    ordered = cell_of_item[order]
    starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
    numbers = np.empty(len(order), np.int64)
    numbers[order] = np.arange(len(order)) - np.repeat(starts, np.diff(np.r_[starts, len(order)]))
    return numbers
