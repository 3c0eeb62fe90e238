"""Open a data set in the hub's layout (`data/*.parquet`), check it, and stream it.

A `Source` knows the shards and that they fit together. Corrupt shards, missing or wrong columns and
broken text are refused with the place; what the rows say is read by `scripts/data/facts.py`.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from common.errors import Refusal
from common.files import file_stamp
from common.paths import BUILT_IN

INTEGERS = ("sample_id", "participant", "response", "condition_num", "task_num")
TEXTS = ("study_id", "stimuli", "prompt")
COLUMNS = (*INTEGERS, *TEXTS, "demographic")


class Section(NamedTuple):
    """Neighbouring row groups of one shard, which are read at once."""

    path: Path
    groups: tuple[int, ...]
    start: int  # number of its first row in the data
    rows: int


@dataclass(frozen=True)
class Source:
    """Shards that agree on their columns. `demographic` is the struct type that all of them fit."""

    folder: Path
    files: tuple[Path, ...]
    groups: tuple[tuple[int, ...], ...]  # rows of each row group of each shard
    demographic: pa.StructType
    has_reasoning: bool

    def stamps(self) -> list[Any]:
        return [file_stamp(file) for file in self.files]

    def sections(self, rows: int) -> list[Section]:
        """All row groups in order, in sections of at least `rows` rows as far as a shard has them."""
        found, start = [], 0
        for path, sizes in zip(self.files, self.groups, strict=True):
            first = 0
            for group in range(len(sizes)):
                count = sum(sizes[first : group + 1])
                if count >= rows or group + 1 == len(sizes):
                    found.append(Section(path, tuple(range(first, group + 1)), start, count))
                    first, start = group + 1, start + count
        return found

    def read(
        self, section: Section, columns: Sequence[str], rows: int, dictionary: Sequence[str] = ()
    ) -> Iterator[tuple[int, pa.RecordBatch]]:
        """Yield (number of the first row, batch of at most `rows` rows) in order."""
        start = section.start
        try:
            with pq.ParquetFile(section.path, read_dictionary=list(dictionary)) as file:
                for batch in file.iter_batches(
                    batch_size=rows, row_groups=section.groups, columns=columns, use_threads=False
                ):
                    yield start, batch
                    start += batch.num_rows
        except (pa.ArrowException, OSError, ValueError) as error:
            raise _corrupt(section.path, error) from None

    def place(self, row: int) -> str:
        """Where row number `row` stands: the shard and the row inside it."""
        for path, sizes in zip(self.files, self.groups, strict=True):
            if row < sum(sizes):
                return f"{path} row {row}"
            row -= sum(sizes)
        raise IndexError(row)


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
    schemas, groups = [], []
    for path in files:
        try:
            with pq.ParquetFile(path) as file:
                schemas.append(file.schema_arrow)
                sizes = (file.metadata.row_group(n).num_rows for n in range(file.num_row_groups))
                groups.append(tuple(sizes))
        except (pa.ArrowException, OSError, ValueError) as error:
            raise _corrupt(path, error) from None
        _check_columns(path, schemas[-1])
    if not any(map(sum, groups)):
        raise Refusal(f"{folder}/data holds no row; {remedy}")
    reasoning = ["reasoning" in schema.names for schema in schemas]
    if len(set(reasoning)) > 1:
        raise Refusal(
            f"the shards disagree on columns: {files[reasoning.index(False)]} lacks `reasoning`, "
            f"{files[reasoning.index(True)]} has it; write them again with the same columns"
        )
    demographic = _common_struct([schema.field("demographic").type for schema in schemas], files)
    return Source(folder, files, tuple(groups), demographic, reasoning[0])


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
        check_utf8(batch.column(name), name, start, source)
        check_filled(batch.column(name), name, start, source)


def check_utf8(column: pa.Array, name: str, start: int, source: Source) -> None:
    """Refuse texts that aren't UTF-8, by row; `start`: the row of the first one."""
    words = column.dictionary if pa.types.is_dictionary(column.type) else column
    if not _invalid(words):
        return
    low, high = 0, len(words)  # the first invalid one is in low..high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if _invalid(words.slice(low, middle - low)) else (middle, high)
    if words is not column:
        low = max(0, pc.index(column.indices, low).as_py())
    raise Refusal(
        f"{source.place(start + low)}: `{name}` is not valid UTF-8 text; write the shard again as UTF-8"
    )


def _invalid(values: pa.Array) -> bool:
    try:
        values.validate(full=True)
    except pa.ArrowInvalid:
        return True
    return False


def check_filled(column: pa.Array, name: str, start: int, source: Source) -> None:
    """Refuse null and empty text, by row."""
    if column.null_count:
        row = pc.index(column.is_valid(), False).as_py()
        raise Refusal(f"{source.place(start + row)}: `{name}` is null; remove the row or fill it in")
    values = column.dictionary if pa.types.is_dictionary(column.type) else column
    if pc.any(pc.equal(pc.binary_length(values), 0)).as_py():
        row = pc.index(pc.binary_length(column.cast(_value_type(column.type))), 0).as_py()
        if row >= 0:  # a dictionary may hold words that no row uses
            raise Refusal(f"{source.place(start + row)}: `{name}` is empty; remove the row or fill it in")
