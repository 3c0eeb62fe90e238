"""One reader for each kind of file: YAML, JSON, parquet and CSV.

Whatever is wrong with a file becomes a `Refusal` that names the file, the line (or column and row) and the
remedy. So a caller gets values of the shape it asked for, or one line for the user; nothing else.
"""

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import polars as pl
import yaml

from common.errors import Refusal

KeyPath = tuple[str | int, ...]  # keys and list positions from the top of a file
Lines = dict[KeyPath, int]
LARGEST_YAML = 2**20  # bytes: people write these files by hand
DEEPEST = 50  # levels of nesting
MOST_VALUES = 100_000  # of a YAML file, aliases counted as often as they are used


def read_bytes(path: str | Path, remedy: str) -> bytes:
    """A file's content. Raises `Refusal` for what is missing or no file (a folder, a pipe, a device)."""
    path = Path(path)
    if not path.is_file():
        what = "is a folder, not a file" if path.is_dir() else "is no file" if path.exists() else "is missing"
        raise Refusal(f"{path} {what}; {remedy}")
    return path.read_bytes()


def read_text(path: str | Path, remedy: str) -> str:
    """A file's text, without the byte order mark that Windows writes. Raises `Refusal` if it isn't UTF-8."""
    content = read_bytes(path, remedy)
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise Refusal(f"{path} line {line} is not UTF-8 text; save the file as UTF-8") from None


# YAML


class _Loader(yaml.SafeLoader):
    """Resolves plain words as YAML 1.2 does, where `no` is a word, `1e-5` a number and a date text.

    Differences to 1.2: `_` may group digits, and numbers with a leading zero (codes, as in 007) are words.
    """

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012 (yaml declares it so)


for _kind, _pattern, _starts in (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?(?:0|[1-9][0-9_]*)|0x[0-9a-fA-F]+", list("-+0123456789")),
    (
        "float",
        r"[-+]?(?:[0-9][0-9_]*\.[0-9_]*(?:[eE][-+]?[0-9]+)?|\.[0-9]+(?:[eE][-+]?[0-9]+)?"
        r"|[0-9]+[eE][-+]?[0-9]+|\.(?:inf|Inf|INF))|\.(?:nan|NaN|NAN)",
        list("-+.0123456789"),
    ),
    ("merge", "<<", ["<"]),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_kind}", re.compile(rf"(?:{_pattern})$"), _starts)
YES_NO = {"yes": True, "on": True, "no": False, "off": False}


def read_yaml(path: str | Path, remedy: str, yes_is_true: bool = False) -> tuple[Any, Lines]:
    """A YAML file's values, and the line of each value's place.

    Keys are text and unique; `yes`, `no`, `on`, `off` are words unless `yes_is_true`. Aliases and `<<`
    work, within limits of size and depth. Raises `Refusal` with the line for everything else.
    """
    text = read_text(path, remedy)
    if len(text) > LARGEST_YAML:
        raise Refusal(f"{path} is larger than 1 MB, too large for YAML; {remedy}")
    return parse_yaml(text, str(path), yes_is_true)


def parse_yaml(text: str, name: str, yes_is_true: bool = False) -> tuple[Any, Lines]:
    """As `read_yaml`, of a text; `name` says in refusals where it comes from."""
    try:
        node = yaml.compose(text, _Loader)
    except yaml.MarkedYAMLError as error:
        lines = text.splitlines()
        marks = [mark.line for mark in (error.problem_mark, error.context_mark) if mark]
        remedies = [_quotes(lines[line]) for line in marks if line < len(lines)]
        at = f" line {marks[0] + 1}" if marks else ""
        remedy = next(filter(None, remedies), "")
        raise Refusal(f"{name}{at} is not valid YAML: {_one_line(error.problem or error)}{remedy}") from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise Refusal(f"{name} line {line} has a control character; remove it") from None
    except RecursionError:
        raise Refusal(f"{name} is not valid YAML: nested deeper than {DEEPEST} levels") from None
    walk = _Walk(name, yes_is_true)
    return walk.value(node, ()) if node is not None else None, walk.lines


def _quotes(line: str) -> str:
    """The remedy for a line whose text holds what YAML reads as its own signs."""
    if "\t" in line[: len(line) - len(line.lstrip())]:
        return "; indent with blanks, not tabs"
    value = re.sub(r"^[\s-]*(?:[^\s\"'{\[][^:]*:\s+)?", "", line)
    if value.startswith(("'", '"')):
        return "; close the quotes, and write a quote inside them twice or with the other kind around"
    if value[:1] in tuple("{[*&!|>%@`") or ": " in value or " #" in value:
        return "; put the text in double quotes"
    return ""


class _Walk:
    """Turns nodes into plain values, noting the line of each place."""

    def __init__(self, name: str, yes_is_true: bool) -> None:
        self.name, self.yes_is_true = name, yes_is_true
        self.lines: Lines = {(): 1}
        self.values = 0

    def refuse(self, node: yaml.Node, what: str) -> Refusal:
        return Refusal(f"{self.name} line {node.start_mark.line + 1}: {what}")

    def value(self, node: yaml.Node, keys: KeyPath) -> Any:
        self.values += 1
        self.lines.setdefault(keys, node.start_mark.line + 1)
        if len(keys) > DEEPEST:
            raise self.refuse(node, f"nested deeper than {DEEPEST} levels (an alias inside itself?)")
        if self.values > MOST_VALUES:
            raise self.refuse(
                node, f"more than {MOST_VALUES:,} values (aliases of aliases?); shorten the file"
            )
        kind = node.tag.rpartition(":")[2] if node.tag.startswith("tag:yaml.org,2002:") else node.tag
        if isinstance(node, yaml.MappingNode) and kind == "map":
            return self.mapping(node, keys)
        if isinstance(node, yaml.SequenceNode) and kind == "seq":
            return [self.value(item, (*keys, index)) for index, item in enumerate(node.value)]
        if isinstance(node, yaml.ScalarNode):
            return self.scalar(node, kind)
        raise self.refuse(node, f"the tag {node.tag} has no meaning here; remove it")

    def mapping(self, node: yaml.MappingNode, keys: KeyPath) -> dict[str, Any]:
        values: dict[str, Any] = {}
        merged: dict[str, Any] = {}
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise self.refuse(key, "a key is a word, not a list or mapping; quote it if it is text")
            if key.tag.endswith(":merge"):
                parts = value.value if isinstance(value, yaml.SequenceNode) else [value]
                for part in reversed([self.value(part, keys) for part in parts]):
                    if not isinstance(part, dict):
                        raise self.refuse(value, "`<<` merges mappings only")
                    merged |= part
                continue
            name = self.text(key)
            if name in values:
                raise self.refuse(key, f"`{name}` appears twice; keep one of them")
            self.lines[(*keys, name)] = key.start_mark.line + 1
            values[name] = self.value(value, (*keys, name))
        return merged | values

    def scalar(self, node: yaml.ScalarNode, kind: str) -> Any:
        text = self.text(node)
        if kind == "str":
            plain = self.yes_is_true and node.style is None
            return YES_NO.get(text.lower(), text) if plain else text
        if kind == "null":
            return None
        if kind == "bool" and text.lower() in ("true", "false"):
            return text.lower() == "true"
        if kind in ("int", "float"):
            return self.number(node, kind)
        raise self.refuse(node, f"the tag {node.tag} has no meaning here; remove it")

    def number(self, node: yaml.ScalarNode, kind: str) -> int | float:
        try:
            number = int(node.value, 0) if kind == "int" else float(node.value.replace("_", ""))
        except ValueError:
            raise self.refuse(node, f"{node.value[:40]} is no number") from None
        if not -(2**63) <= number < 2**64:
            raise self.refuse(node, f"{node.value[:40]} is too large")
        return number

    def text(self, node: yaml.ScalarNode) -> str:
        text = str(node.value)
        if "\0" in text or re.search("[\ud800-\udfff]", text):
            raise self.refuse(node, "an escape stands for no letter (\\0 or half of a pair); remove it")
        return text


def line_of(lines: Lines, keys: Iterable[str | int]) -> int:
    """The line of `place`, or of the nearest place around it that is in the file."""
    nearest: KeyPath = ()
    for part in keys:
        deeper = next((at for at in ((*nearest, part), (*nearest, str(part))) if at in lines), None)
        nearest = nearest if deeper is None else deeper
    return lines[nearest]


# JSON


def read_json(path: str | Path, remedy: str) -> Any:
    """Read a JSON file; a missing or broken one is a `Refusal` that ends with `remedy`.

    Refused, too: a key given twice, integers beyond 64 bits, half of a surrogate pair.
    """
    text = read_text(path, remedy)
    try:
        value = json.loads(
            text, object_pairs_hook=unique_keys, parse_int=_int64 if re.search(r"\d{19}", text) else None
        )
        if re.search(r"\\u[dD][89abcdefABCDEF]", text):
            json.dumps(value, ensure_ascii=False).encode()
    except json.JSONDecodeError as error:
        raise Refusal(f"{path} is not valid JSON ({error}); {remedy}") from None
    except RecursionError:
        raise Refusal(f"{path} is not valid JSON (nested too deep); {remedy}") from None
    except UnicodeEncodeError:
        raise Refusal(f"{path} is not valid JSON (an escape is half of a letter); {remedy}") from None
    except ValueError as error:
        raise Refusal(f"{path} is not valid JSON ({error}); {remedy}") from None
    return value


def unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """`object_pairs_hook` of `json.loads`: an object with a key twice is a `ValueError` that names it."""
    values = dict(pairs)
    if len(values) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the key {twice!r} appears twice")
    return values


def _int64(text: str) -> int:
    if len(text) > 20 or not -(2**63) <= int(text) < 2**64:
        raise ValueError(f"the number {text[:20]}... is too large")
    return int(text)


# Tables

_POLARS_ERRORS = (pl.exceptions.PolarsError, pl.exceptions.PanicException)


def read_parquet(path: str | Path, schema: Mapping[str, Any], remedy: str) -> pl.DataFrame:
    """The columns of `schema` (name: polars type) of a parquet file, with these types.

    Whole numbers may be stored as floats; a type without its parts (`pl.Struct`) takes any. Raises
    `Refusal` that names a missing column, a column of another type, or the first value that doesn't fit.
    """
    return conform(read_columns(path, remedy, schema), schema, str(path), remedy)


def read_columns(path: str | Path, remedy: str, columns: Iterable[str] | None = None) -> pl.DataFrame:
    """Columns of a parquet file (default: all) with the types that are stored; of `columns`, those there are.

    pyarrow reads it: polars believes the counts in a file's pages, and a damaged one ends the whole process
    ("memory allocation of 2305843009213693944 bytes failed"). Raises `Refusal` for what is no parquet file.
    """
    import pyarrow as pa  # takes a third of a second
    import pyarrow.parquet as pq

    path = Path(path)
    if not path.is_file():
        read_bytes(path, remedy)
    try:
        names = pq.read_schema(path).names
        wanted = names if columns is None else [name for name in columns if name in names]
        table = pq.read_table(path, columns=wanted, partitioning=None)  # a folder `a=b` is no column
        return pl.DataFrame(pl.from_arrow(table, rechunk=False))
    except (pa.ArrowException, OSError, ValueError, *_POLARS_ERRORS) as error:
        raise Refusal(f"{path} is damaged or no parquet file ({_one_line(error)}); {remedy}") from None


def conform(frame: pl.DataFrame, schema: Mapping[str, Any], name: str, remedy: str) -> pl.DataFrame:
    """`frame` with the columns and types of `schema`; refusals call it `name` and count rows from 1."""
    if missing := [column for column in schema if column not in frame.columns]:
        raise Refusal(f"{name} has no column {', '.join(missing)}; {remedy}")
    return frame.select(_typed(frame[column], dtype, name, remedy) for column, dtype in schema.items())


def _typed(series: pl.Series, dtype: Any, name: str, remedy: str) -> pl.Series:
    if series.dtype == dtype:
        return series
    wanted = f"{name}: column {series.name} holds {series.dtype}, not {_type_name(dtype)}"
    if isinstance(dtype, type):
        dtype = pl.Null() if dtype in (pl.Struct, pl.List) else dtype()  # Null: nothing can be cast to it
    if series.dtype != pl.Null and _family(series.dtype) != _family(dtype):
        raise Refusal(f"{wanted}; {remedy}")
    try:
        typed = series.cast(dtype, strict=True)
    except pl.exceptions.PolarsError:
        loose = series.cast(dtype, strict=False)
        bad = loose.is_null() & series.is_not_null() if not series.dtype.is_nested() else series.is_not_null()
        raise _bad_value(series, bad, wanted, remedy) from None
    if series.dtype.is_float() and dtype.is_integer():
        bad = (series != typed).fill_null(False)
        if bad.any():
            raise _bad_value(series, bad, wanted, remedy)
    return typed


def _bad_value(series: pl.Series, bad: pl.Series, wanted: str, remedy: str) -> Refusal:
    row = bad.arg_true()[0] if bad.any() else 0
    return Refusal(f"{wanted}: row {row + 1} has {str(series[row])[:40]}; {remedy}")


def _family(dtype: Any) -> Any:
    """Types that may be cast into one another."""
    if dtype.is_numeric():
        return "number"
    if dtype in (pl.String, pl.Categorical, pl.Enum):
        return "text"
    if isinstance(dtype, pl.List):
        return pl.List, _family(dtype.inner)
    if isinstance(dtype, pl.Struct):
        return pl.Struct, tuple((field.name, _family(field.dtype)) for field in dtype.fields)
    return dtype


def _type_name(dtype: Any) -> str:
    return dtype.__name__ if isinstance(dtype, type) else str(dtype)


DELIMITERS = {",": "a comma", ";": "a semicolon", "\t": "a tab"}


def read_csv(path: str | Path, remedy: str, columns: Iterable[str] = ()) -> pl.DataFrame:
    """A CSV table with a header, types inferred from all rows; empty cells and NA are null.

    Comma, semicolon or tab part the cells: what the header holds most of. UTF-8, with or without a byte
    order mark, or UTF-16 with one (a spreadsheet's "Unicode text"). `columns` must be there. Raises
    `Refusal` for another encoding (with the line), double or missing columns, and rows that are too long.
    """
    content = read_bytes(path, remedy)
    if content[:2] in (b"\xff\xfe", b"\xfe\xff"):
        try:
            text = content.decode("utf-16")
        except UnicodeDecodeError:
            raise Refusal(f"{path} is not UTF-16 text although it begins so; save it as UTF-8") from None
    else:
        text = read_text(path, remedy)
    if "\0" in text:
        raise Refusal(f"{path} is no CSV table (it holds zero bytes); save it as CSV in UTF-8")
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    header = text.partition("\n")[0]
    delimiter = max(DELIMITERS, key=header.count)
    try:
        names = pl.read_csv(
            header.encode(), separator=delimiter, has_header=False, infer_schema=False, raise_if_empty=True
        ).row(0)
        if twice := [name or "(no name)" for name in names if names.count(name) > 1]:
            raise Refusal(f"{path} has two columns {twice[0]}; rename one of them")
        frame = pl.read_csv(
            text.encode(), separator=delimiter, infer_schema_length=None, null_values=["", "NA"]
        )
    except _POLARS_ERRORS as error:
        raise Refusal(f"{path} is no CSV table ({_one_line(error)}); {remedy}") from None
    if missing := [column for column in columns if column not in frame.columns]:
        raise Refusal(
            f"{path} has no column {', '.join(missing)}; its columns are {', '.join(frame.columns)}, read "
            f"with {DELIMITERS[delimiter]} between them; {remedy}"
        )
    return frame


def _one_line(error: object) -> str:
    return " ".join(str(error).split())[:160]
