"""Open a data set in the hub's layout (`data/*.parquet`), check it, and stream it.

A `Source` knows the shards and that they fit together. `read_rows` makes the one pass over the
narrow columns that every later decision needs; prompts are never held, only streamed. What can't be
trusted (corrupt shards, duplicate keys, fractional answers, broken text) is refused with the place.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from common.files import Refusal, file_stamp
from common.paths import BUILT_IN, safe_name
from common.scale import Scale
from scripts.scales import parse_scale

INTEGERS = ("sample_id", "participant", "response", "condition_num", "task_num")
TEXTS = ("study_id", "stimuli", "prompt")
COLUMNS = (*INTEGERS, *TEXTS, "demographic")
READ_ROWS = 131_072  # narrow columns at once


@dataclass(frozen=True)
class Source:
    """Shards that agree on their columns. `demographic` is the struct type that all of them fit."""

    folder: Path
    files: tuple[Path, ...]
    counts: tuple[int, ...]
    demographic: pa.StructType
    has_reasoning: bool

    @property
    def rows(self) -> int:
        return sum(self.counts)

    def stamps(self) -> list[Any]:
        return [file_stamp(file) for file in self.files]

    def batches(
        self,
        columns: Sequence[str],
        rows: int,
        dictionary: Sequence[str] = (),
        extra: tuple[str, np.ndarray] | None = None,
    ) -> Iterator[tuple[int, pa.RecordBatch]]:
        """Yield (number of the first row, batch of at most `rows` rows) in the order of the shards.

        `extra`: a column that is read only where it is wanted, and the (ascending) rows that want it.
        """
        start = 0
        for path in self.files:
            try:
                with pq.ParquetFile(path, read_dictionary=list(dictionary)) as file:
                    for groups, more in _group_runs(file.metadata, start, extra):
                        chosen = [*columns, *more]
                        for batch in file.iter_batches(batch_size=rows, row_groups=groups, columns=chosen):
                            yield start, batch
                            start += batch.num_rows
            except (pa.ArrowException, OSError, ValueError) as error:
                raise _corrupt(path, error) from None

    def place(self, row: int) -> str:
        """Where row number `row` stands: the shard and the row inside it."""
        for path, count in zip(self.files, self.counts, strict=True):
            if row < count:
                return f"{path} row {row}"
            row -= count
        raise IndexError(row)


def _group_runs(
    metadata: pq.FileMetaData, start: int, extra: tuple[str, np.ndarray] | None
) -> list[tuple[list[int], list[str]]]:
    """Runs of neighbouring row groups that are read with the same columns, and the extra ones of each."""
    runs: list[tuple[list[int], list[str]]] = []
    for group in range(metadata.num_row_groups):
        more: list[str] = []
        end = start + metadata.row_group(group).num_rows
        if extra is not None:
            low, high = np.searchsorted(extra[1], [start, end])
            more = [extra[0]] if high > low else []
        start = end
        if runs and runs[-1][1] == more:
            runs[-1][0].append(group)
        else:
            runs.append(([group], more))
    return runs


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
    """The narrow facts of every row, in the order of the shards. Codes index the tables beside them."""

    studies: list[str]  # names of the studies
    study: np.ndarray  # int16/int32: index into studies
    sample: np.ndarray  # int64: sample_id
    person: np.ndarray  # int32: index into people
    item: np.ndarray  # int32: index into items
    response: np.ndarray  # int64
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


def open_source(folder: str | Path, data: str | None = None) -> Source:
    """Check a folder in the hub's layout: shards are there, whole, and agree. Raises `Refusal`."""
    folder = Path(folder)
    remedy = (
        f"run `make data DATA={data}`"
        if data in BUILT_IN
        else "give a folder that holds data/*.parquet and metadata/*.json as on the hub"
    )
    if not folder.is_dir():
        raise Refusal(f"{folder} is missing; {remedy}")
    files = tuple(sorted((folder / "data").glob("*.parquet")))
    if not files:
        raise Refusal(f"{folder}/data holds no .parquet file; {remedy}")
    schemas, counts = [], []
    for path in files:
        try:
            with pq.ParquetFile(path) as file:
                schemas.append(file.schema_arrow)
                counts.append(file.metadata.num_rows)
        except (pa.ArrowException, OSError, ValueError) as error:
            raise _corrupt(path, error) from None
        _check_columns(path, schemas[-1])
    if sum(counts) == 0:
        raise Refusal(f"{folder}/data holds no row; {remedy}")
    reasoning = ["reasoning" in schema.names for schema in schemas]
    if len(set(reasoning)) > 1:
        raise Refusal(
            f"the shards disagree on columns: {files[reasoning.index(False)]} lacks `reasoning`, "
            f"{files[reasoning.index(True)]} has it; write them again with the same columns"
        )
    demographic = _common_struct([schema.field("demographic").type for schema in schemas], files)
    return Source(folder, files, tuple(counts), demographic, reasoning[0])


def _corrupt(path: Path, error: Exception) -> Exception:
    """A `Refusal` for a shard that can't be decoded; other failures of the machine stay what they are."""
    if isinstance(error, OSError) and error.errno:
        return error
    cause = str(error).splitlines()[0][:160]
    return Refusal(f"{path} is corrupt or truncated ({cause}); delete it and fetch or write it again")


def _check_columns(path: Path, schema: pa.Schema) -> None:
    missing = [name for name in COLUMNS if name not in schema.names]
    if missing:
        raise Refusal(
            f"{path} lacks the column{'s' if len(missing) > 1 else ''} {', '.join(missing)}; "
            "every shard needs the columns of data/README.md"
        )
    for name in INTEGERS:
        kind = schema.field(name).type
        if not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)):
            raise _wrong_type(path, name, kind, "integer")
    for name in (*TEXTS, *(["reasoning"] if "reasoning" in schema.names else [])):
        kind = _value_type(schema.field(name).type)
        nullable = name == "reasoning" and pa.types.is_null(kind)
        if not (pa.types.is_string(kind) or pa.types.is_large_string(kind) or nullable):
            raise _wrong_type(path, name, kind, "string")
    kind = schema.field("demographic").type
    if not pa.types.is_struct(kind):
        raise _wrong_type(path, "demographic", kind, "struct")


def _wrong_type(path: Path, name: str, kind: pa.DataType, wanted: str) -> Refusal:
    return Refusal(f"{path}: column `{name}` is {kind}, not {wanted}; write the shard again with that type")


def _value_type(kind: pa.DataType) -> pa.DataType:
    return kind.value_type if pa.types.is_dictionary(kind) else kind


def _common_struct(kinds: list[pa.StructType], files: Sequence[Path]) -> pa.StructType:
    """One struct type that all shards fit: the first one's field order; text where types differ."""
    names = [field.name for field in kinds[0]]
    fields = []
    for name in names:
        found = []
        for kind, path in zip(kinds, files, strict=True):
            here = [member.name for member in kind]
            if set(here) != set(names):
                odd = ", ".join(sorted(set(here) ^ set(names)))
                raise Refusal(
                    f"the shards disagree on the fields of `demographic`: {path} and {files[0]} "
                    f"differ in {odd}; write them again with the same fields"
                )
            found.append(_value_type(kind.field(name).type))
        known = [kind for kind in found if not pa.types.is_null(kind)]
        whole = bool(known) and all(pa.types.is_integer(kind) for kind in known)
        fields.append(pa.field(name, pa.int64() if whole else pa.string()))
    return pa.struct(fields)


def demographic_column(array: pa.Array, kind: pa.StructType) -> pa.StructArray:
    """`array` with exactly the fields of `kind` (shards may order or type them differently)."""
    valid = array.is_valid()
    fields = [pc.struct_field(array, name).cast(kind.field(name).type) for name in _names(kind)]
    return pa.StructArray.from_arrays(fields, fields=list(kind), mask=pc.invert(valid))


def _names(kind: pa.StructType) -> list[str]:
    return [member.name for member in kind]


def check_text(batch: pa.RecordBatch, names: Sequence[str], start: int, source: Source) -> None:
    """Refuse null, empty and invalid UTF-8 text in the columns `names` of a batch."""
    for name in names:
        column = batch.column(name)
        values = column.dictionary if pa.types.is_dictionary(column.type) else column
        try:
            values.validate(full=True)
        except pa.ArrowInvalid:
            raise Refusal(
                f"{source.place(start)} or one of the {batch.num_rows - 1} rows after it: `{name}` is not "
                "valid UTF-8 text; write the shard again as UTF-8"
            ) from None
        if column.null_count:
            row = int(np.argmin(column.is_valid().to_numpy(zero_copy_only=False)))
            raise Refusal(f"{source.place(start + row)}: `{name}` is null; remove the row or fill it in")
        empty = pc.equal(pc.binary_length(values), 0)
        if pc.any(empty).as_py():
            whole = pc.equal(pc.binary_length(column.cast(_value_type(column.type))), 0)
            row = int(np.argmax(whole.to_numpy(zero_copy_only=False)))
            if whole[row].as_py():
                raise Refusal(f"{source.place(start + row)}: `{name}` is empty; remove the row or fill it in")


def read_rows(source: Source) -> Rows:
    """One pass over the narrow columns (and the distinct stimuli). Raises `Refusal` on bad rows.

    Memory: about 50 bytes a row; texts are held once each.
    """
    parts: dict[str, list[np.ndarray]] = {name: [] for name in (*INTEGERS, "study_id", "stimuli")}
    known: dict[str, dict[str, int]] = {"study_id": {}, "stimuli": {}}
    columns = [*INTEGERS, "study_id", "stimuli"]
    for start, batch in source.batches(columns, READ_ROWS, dictionary=("study_id", "stimuli")):
        check_text(batch, ("study_id", "stimuli"), start, source)
        for name in INTEGERS:
            parts[name].append(_integers(batch.column(name), name, start, source))
        for name, codes in known.items():
            column = batch.column(name)
            if not pa.types.is_dictionary(column.type):
                column = column.dictionary_encode()
            local = [codes.setdefault(text, len(codes)) for text in column.dictionary.to_pylist()]
            indices = column.indices.to_numpy(zero_copy_only=False)
            parts[name].append(np.array(local, np.int32)[indices])
    columns_of = {name: np.concatenate(parts.pop(name)) for name in list(parts)}
    pa.default_memory_pool().release_unused()
    return _tabulate(columns_of, list(known["study_id"]), list(known["stimuli"]), source)


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
                f"{source.place(start + offset)}: `{name}` is {'null' if shown is None else shown}, "
                "not a whole 64-bit number; remove the row or mend its answer"
            )
    raise AssertionError("a column that doesn't cast has a value that doesn't")


def factorize(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(code of each value as int32, the distinct values in the order of their first appearance)."""
    encoded = pa.array(values).dictionary_encode()
    return encoded.indices.to_numpy(), encoded.dictionary.to_numpy()


def combine(codes: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Codes of the distinct pairs of `codes` and `values`."""
    more, distinct = factorize(values)
    return factorize(codes.astype(np.int64) * len(distinct) + more)[0]


def _repeats(study: np.ndarray, sample: np.ndarray) -> bool:
    """True if a (study, sample) pair stands twice. Sorts one array: a hash table is ten times larger."""
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
            f"the key (study_id, sample_id) = ({studies[study[again]]}, {sample[again]}) stands twice: "
            f"{source.place(int(seen[keys[again]]))} and {source.place(again)}; keys must be unique"
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
        study=study,
        sample=sample,
        person=person,
        item=item,
        response=columns["response"],
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
