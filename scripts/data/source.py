"""Open a data set in the hub's layout (`data/*.parquet`), check it, and stream it.

A `Source` knows the shards and that they fit together. Corrupt shards, missing or wrong columns and
broken text are refused with the place; what the rows say is read by `scripts/data/facts.py`.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from common.errors import Refusal
from common.files import sha256_file
from common.paths import BUILT_IN

INTEGERS = ("sample_id", "participant", "response", "condition_num", "task_num")
TEXTS = ("study_id", "stimuli", "prompt")
COLUMNS = (*INTEGERS, *TEXTS, "demographic")
NARROW_ROWS = 131_072
BLANK_BYTES = 100  # shorter texts are looked at: a blank one of more is nobody's mistake
PART = re.compile(r"(train|test|validation|valid|val|dev)[-_.]", re.IGNORECASE)  # of a data set on the hub


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
    has_weight: bool = False  # of an imported survey

    def stamps(self) -> list[Any]:
        """Names and SHA-256 of the shards: what tells that they changed, by any row and whatever their date.

        All bytes are read: an answer that is corrected may leave size and date as they were, and SocSci210's
        1.4 GB take a second or two, less than the data sets made of them, which `Step` sums up, too.
        """
        return [[file.name, sha256_file(file)] for file in self.files]

    def sections(self, rows: int) -> list[Section]:
        """All row groups in order, in sections of at least `rows` rows as far as a shard has them."""
        sections, start = [], 0
        for path, sizes in zip(self.files, self.groups, strict=True):
            first = 0
            for group in range(len(sizes)):
                count = sum(sizes[first : group + 1])
                if count >= rows or group + 1 == len(sizes):
                    sections.append(Section(path, tuple(range(first, group + 1)), start, count))
                    first, start = group + 1, start + count
        return sections

    def read(
        self, section: Section, columns: Sequence[str], rows: int, dictionary: Sequence[str] = ()
    ) -> Iterator[tuple[int, pa.RecordBatch]]:
        """Yield (number of the first row, batch of at most `rows` rows) in order."""
        try:
            yield from self._batches(section, columns, rows, dictionary)
        except (pa.ArrowException, OSError, ValueError) as error:
            if not dictionary:
                raise _corrupt(section.path, error) from None
        else:
            return
        yield from self.read(section, columns, rows)  # some encodings can't be read as dictionaries

    def _batches(
        self, section: Section, columns: Sequence[str], rows: int, dictionary: Sequence[str]
    ) -> Iterator[tuple[int, pa.RecordBatch]]:
        start = section.start
        with pq.ParquetFile(section.path, read_dictionary=list(dictionary)) as file:
            for batch in file.iter_batches(
                batch_size=rows, row_groups=section.groups, columns=columns, use_threads=False
            ):
                yield start, _decoded(batch)
                start += batch.num_rows

    def location(self, row: int) -> str:
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
    files = _shards(folder, remedy)
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
    weighted = all(
        "weight" in schema.names and pa.types.is_floating(schema.field("weight").type) for schema in schemas
    )
    source = Source(folder, files, tuple(groups), demographic, reasoning[0], weighted)
    return replace(source, demographic=whole_numbers(source))


def _shards(folder: Path, remedy: str) -> tuple[Path, ...]:
    """The parquet files of `data/`, by name. Files that programs hide (`._x.parquet`) don't count."""
    shards = sorted(
        path for path in (folder / "data").glob("*.parquet") if not path.name.startswith((".", "_"))
    )
    if not shards:
        raise Refusal(f"{folder}/data holds no .parquet file; {remedy}")
    for path in shards:
        _refuse_no_file(path)
    parts = {match[1].lower() for path in shards if (match := PART.match(path.name))}
    if len(parts) > 1:
        raise Refusal(
            f"{folder}/data holds shards of several parts ({', '.join(sorted(parts))}), which would be "
            "mixed; keep those of one part there, or rename files whose rows belong together"
        )
    return tuple(shards)


def _refuse_no_file(path: Path) -> None:
    """Refuse what is no file: a folder, a pipe, a link to nothing. None of them is opened."""
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "links to nothing" if path.is_symlink() else "is no file"
        raise Refusal(f"{path} {what}, not a parquet file; remove it, or put the file there")


def _corrupt(path: Path, error: Exception) -> Exception:
    """A `Refusal` for a shard that can't be decoded; other failures of the machine stay what they are."""
    if isinstance(error, OSError) and error.errno:
        return error
    cause = " ".join(str(error).split())[:160]
    if isinstance(error, pa.ArrowNotImplementedError):
        return Refusal(
            f"{path} uses a way of storing that can't be read here ({cause}); write it again plainly"
        )
    return Refusal(f"{path} is corrupt or truncated ({cause}); delete it and fetch or write it again")


def _check_columns(path: Path, schema: pa.Schema) -> None:
    if twice := [name for name in COLUMNS if schema.names.count(name) > 1]:
        raise Refusal(f"{path} has the column {twice[0]} twice; keep one of them")
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
        if not (_is_text(kind) or nullable):
            raise _wrong_type(path, name, kind, "string")
    kind = schema.field("demographic").type
    if not pa.types.is_struct(kind):
        raise _wrong_type(path, "demographic", kind, "struct")
    fields = [member.name for member in kind]
    if twice := [name for name in fields if fields.count(name) > 1]:
        raise Refusal(f"{path}: `demographic` has the field {twice[0]} twice; keep one of them")
    for member in kind:
        if pa.types.is_nested(_value_type(member.type)):
            raise Refusal(
                f"{path}: `demographic.{member.name}` is {member.type}, not a number or a text; write one "
                "value a person"
            )


def _is_text(kind: pa.DataType) -> bool:
    """Strings, also as bytes: what isn't UTF-8 in them is refused by row."""
    return any(
        is_kind(kind)
        for is_kind in (
            pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view,
            pa.types.is_binary, pa.types.is_large_binary, pa.types.is_binary_view,
        )
    )  # fmt: skip


def _wrong_type(path: Path, name: str, kind: pa.DataType, wanted: str) -> Refusal:
    return Refusal(f"{path}: column `{name}` is {kind}, not {wanted}; write the shard again with that type")


def _decoded(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Texts that are stored as bytes or views as strings; whether they are UTF-8 is checked later, by row."""
    for number, field in enumerate(batch.schema):
        column, kind = batch.column(number), _value_type(field.type)
        views = {pa.binary(): pa.string(), pa.large_binary(): pa.large_string()}
        if field.name not in (*TEXTS, "reasoning") or not (
            kind in views or kind in (pa.string_view(), pa.binary_view())
        ):
            continue
        column = column.cast(kind) if pa.types.is_dictionary(field.type) else column
        if kind not in views:
            column, kind = column.cast(pa.binary()), pa.binary()
        batch = batch.set_column(number, field.name, column.view(views[kind]))
    return batch


def _value_type(kind: pa.DataType) -> pa.DataType:
    return kind.value_type if pa.types.is_dictionary(kind) else kind


def _common_struct(kinds: list[pa.StructType], files: Sequence[Path]) -> pa.StructType:
    """One struct type that all shards fit: the first one's field order; text where types differ."""
    names = [field.name for field in kinds[0]]
    fields = []
    for name in names:
        types = []
        for kind, path in zip(kinds, files, strict=True):
            here = [member.name for member in kind]
            if set(here) != set(names):
                odd = ", ".join(sorted(set(here) ^ set(names)))
                raise Refusal(
                    f"the shards disagree on the fields of `demographic`: {path} and {files[0]} "
                    f"differ in {odd}; write them again with the same fields"
                )
            types.append(_value_type(kind.field(name).type))
        fields.append(pa.field(name, _common_type(types)))
    return pa.struct(fields)


def _common_type(kinds: Sequence[pa.DataType]) -> pa.DataType:
    """int64 if all shards hold integers, float64 if some hold other numbers, else text."""
    given = [kind for kind in kinds if not pa.types.is_null(kind)]
    if not given:
        return pa.string()
    if all(pa.types.is_integer(kind) for kind in given):
        return pa.int64()
    numbers = (pa.types.is_integer, pa.types.is_floating, pa.types.is_decimal)
    if all(any(is_number(kind) for is_number in numbers) for kind in given):
        return pa.float64()
    return pa.string()


def whole_numbers(source: "Source") -> pa.StructType:
    """`source.demographic` with int64 for fields of floats that are whole numbers (an age of 34.0)."""
    floats = [member.name for member in source.demographic if pa.types.is_floating(member.type)]
    broken: set[str] = set()
    for section in source.sections(NARROW_ROWS) if floats else ():
        for _, batch in source.read(section, [f"demographic.{name}" for name in floats], NARROW_ROWS):
            for name in set(floats) - broken:
                values = pc.struct_field(batch.column("demographic"), name).cast(pa.float64())
                values = pc.drop_null(pc.if_else(pc.is_nan(values), None, values))
                if not pc.all(pc.equal(values, pc.floor(values)), min_count=0).as_py() or (
                    len(values) and pc.max(pc.abs(values)).as_py() >= 2**53
                ):
                    broken.add(name)
    return pa.struct(
        pa.field(member.name, pa.int64() if member.name in set(floats) - broken else member.type)
        for member in source.demographic
    )


def demographic_column(array: pa.Array, start: int, source: Source) -> pa.StructArray:
    """`array`, from row `start` on, with exactly the fields of `source.demographic`.

    Shards may order or type them differently. Raises `Refusal` for a value that doesn't fit, by row.
    """
    try:
        return _as_struct(array, source.demographic)
    except (pa.ArrowException, UnicodeDecodeError):
        for row in range(len(array)):
            try:
                _as_struct(array.slice(row, 1), source.demographic)
            except (pa.ArrowException, UnicodeDecodeError) as error:
                cause = " ".join(str(error).split())[:120]
                raise Refusal(
                    f"{source.location(start + row)}: a field of `demographic` is no text or 64-bit number "
                    f"({cause}); fix it"
                ) from None
        raise


def _as_struct(array: pa.Array, kind: pa.StructType) -> pa.StructArray:
    valid = array.is_valid()
    fields = [_typed_field(pc.struct_field(array, name), kind.field(name).type) for name in _names(kind)]
    return pa.StructArray.from_arrays(fields, fields=list(kind), mask=pc.invert(valid))


def _typed_field(values: pa.Array, kind: pa.DataType) -> pa.Array:
    if pa.types.is_dictionary(values.type):
        values = values.cast(values.type.value_type)
    if pa.types.is_floating(values.type):
        values = pc.if_else(pc.is_nan(values), None, values)
        if pa.types.is_string(kind):  # other shards hold text: 34, not 34.0
            whole = pc.equal(values, pc.floor(values))
            integers = pc.if_else(whole, values, None).cast(pa.int64()).cast(kind)
            return pc.if_else(pc.fill_null(whole, False), integers, values.cast(kind))
    return values.cast(kind)


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
        f"{source.location(start + low)}: `{name}` is not valid UTF-8 text; write the shard again as UTF-8"
    )


def _invalid(values: pa.Array) -> bool:
    try:
        values.validate(full=True)
    except pa.ArrowInvalid:
        return True
    return False


def check_filled(column: pa.Array, name: str, start: int, source: Source) -> None:
    """Refuse null, empty and blank text, by row."""
    if column.null_count:
        row = pc.index(column.is_valid(), False).as_py()
        raise Refusal(f"{source.location(start + row)}: `{name}` is null; remove the row or fill it in")
    words = column.dictionary if pa.types.is_dictionary(column.type) else column
    short = pc.less(pc.binary_length(words), BLANK_BYTES)
    if not pc.any(short).as_py():
        return
    blank = {number for number in pc.indices_nonzero(short).to_pylist() if not words[number].as_py().strip()}
    for row in range(len(column)) if blank else ():
        if (row if words is column else column.indices[row].as_py()) in blank:
            raise Refusal(f"{source.location(start + row)}: `{name}` is empty; remove the row or fill it in")
