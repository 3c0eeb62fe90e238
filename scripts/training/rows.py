"""The data sets that data/dataset_info.json names, read in chunks that several processes can share."""

import difflib
import functools
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from common.errors import Refusal
from common.files import sha256_file
from common.paths import root
from common.readers import read_json
from scripts.training.recipe import DATASET, Recipe, names_of

CHUNK = 4 * 2**20  # bytes of JSON lines that one worker takes at a time, about 2,000 rows
SAMPLED_CHUNKS = 8
SLICE = 2000  # rows of a parquet file or a JSON array, likewise
LONGEST_WRITE_NS = 60 * 10**9  # between a small file's last byte and its place
LISTED = 8  # data sets that a message names, those with the most similar names
RARE = ("kto", "sft_reasoning")  # our data sets that a setting asks for
REMEDY = "run `make data` with the same DATA and SPLIT first"


@dataclass(frozen=True)
class DataSet:
    """A registered data set: its name, its entry in dataset_info.json, its file."""

    name: str
    entry: dict[str, Any]
    file: Path

    @property
    def is_ours(self) -> bool:
        """True if `make data` writes it; another one is a data set of the user's own."""
        return DATASET.fullmatch(self.name) is not None


def find(name: str) -> DataSet:
    """The data set of this name; a `Refusal` if its entry or its file is missing or can't be read."""
    folder = root() / "data"
    info = read_json(folder / "dataset_info.json", REMEDY)
    if not isinstance(info, dict) or name not in info:
        raise Refusal(_not_registered(name, info))
    entry = info[name]
    if not isinstance(entry, dict) or not isinstance(entry.get("columns", {}), dict):
        raise Refusal(f"data/dataset_info.json: the entry {name!r} is broken; see data/README.md")
    file_name = entry.get("file_name")
    if not isinstance(file_name, str) or not file_name:
        raise Refusal(
            f"data/dataset_info.json: {name!r} names no file_name; download the data set to data/ and name "
            "its file"
        )
    if entry.get("num_samples"):
        raise Refusal(f"data/dataset_info.json: {name!r} has num_samples; use max_samples in the recipe")
    file = folder / file_name
    if not file.is_file():
        raise Refusal(f"{file} is missing or no file; {REMEDY}")
    if file.suffix not in (".jsonl", ".json", ".parquet"):
        raise Refusal(f"{file} can't be read; write it as .jsonl, .json or .parquet")
    return DataSet(name, entry, file)


def _not_registered(name: str, info: Any) -> str:
    """That dataset_info.json has no such data set, and the remedy: make it, or name one that is there."""
    ours = DATASET.fullmatch(name)
    if ours:
        setting = f"put {ours[1]} into `outputs` of the data settings and " if ours[1] in RARE else ""
        return f"data/dataset_info.json has no data set {name!r}; {setting}{REMEDY}"
    near = difflib.get_close_matches(name, list(info) if isinstance(info, dict) else [], LISTED, 0)
    there = f"it has {', '.join(near)}" if near else "it is empty"
    return f"data/dataset_info.json has no data set {name!r}; {there}; name one, or add an entry of your own"


def unregistered(recipe: Recipe) -> Iterator[str]:
    """A line for each data set of one's own that the recipe names and dataset_info.json doesn't have.

    Ours are left out, because `make data` writes them; nothing is said where the file isn't there yet.
    """
    file = root() / "data" / "dataset_info.json"
    info = read_json(file, REMEDY) if file.is_file() else None
    for name in (*names_of(recipe.get("dataset")), *names_of(recipe.get("eval_dataset"))):
        if info is not None and name not in info and not DATASET.fullmatch(name):
            yield _not_registered(name, info)


def stamp(file: Path) -> str:
    """SHA-256 of a data file: its manifest's, where neither was touched since they were written.

    That is told by the time of the last change (ctime), which moves with every write and can't be set back as
    a file's date can. So gigabytes are read anew only when they were edited or copied.
    """
    manifest, status = file.parent / "manifest.json", file.stat()
    if manifest.is_file() and status.st_ctime_ns <= manifest.stat().st_ctime_ns and _is_untouched(manifest):
        entry = read_json(manifest, "run `make data` again").get("files", {}).get(file.name)
        if entry and entry.get("bytes", status.st_size) == status.st_size:
            return str(entry["sha256"])
    return _sum(file, status.st_size, status.st_ctime_ns)


def _is_untouched(file: Path) -> bool:
    """True if a file's last change was its own writing (and no later copy, edit, chmod or date set back)."""
    status = file.stat()
    return 0 <= status.st_ctime_ns - status.st_mtime_ns < LONGEST_WRITE_NS


@functools.lru_cache(maxsize=16)
def _sum(file: Path, size: int, changed: int) -> str:
    return sha256_file(file)


def count_chunks(file: Path) -> int:
    """In how many chunks the file is read."""
    if file.suffix == ".parquet":
        return len(_slices(file))
    if _is_array(file):
        return -(-len(_array(file)) // SLICE)
    return -(-file.stat().st_size // CHUNK)


def read_chunk(file: Path, chunk: int) -> list[dict[str, Any]]:
    """The rows whose line starts in this chunk of a JSON-lines file, or a slice of another file."""
    if file.suffix == ".parquet":
        group, start = _slices(file)[chunk]
        return _row_group(file, group).slice(start, SLICE).to_pylist()
    if _is_array(file):
        return _array(file)[chunk * SLICE : (chunk + 1) * SLICE]
    with file.open("rb") as handle:
        start, end = chunk * CHUNK, (chunk + 1) * CHUNK
        if start:
            handle.seek(start - 1)
            handle.readline()  # the rest of a line that belongs to the chunk before
        lines = []
        while handle.tell() < end and (line := handle.readline()):
            lines.append(line)
    return [_parse(line, file) for line in lines if line.strip()]


def first_rows(data: DataSet, count: int) -> list[dict[str, Any]]:
    """The first `count` rows, fewer if there are no more."""
    rows: list[dict[str, Any]] = []
    for chunk in range(count_chunks(data.file)):
        rows += read_chunk(data.file, chunk)
        if len(rows) >= count:
            break
    return rows[:count]


def sample(data: DataSet, count: int) -> tuple[list[dict[str, Any]], float]:
    """Some `count` rows (all, if there are fewer) from all parts of the file, and their share of its rows.

    The share is exact for a file of few chunks, else an estimate: chunks have about as many rows.
    """
    chunks = count_chunks(data.file)
    chosen = sorted({round(part * (chunks - 1) / (SAMPLED_CHUNKS - 1)) for part in range(SAMPLED_CHUNKS)})
    read = [read_chunk(data.file, chunk) for chunk in chosen]
    total = sum(map(len, read)) * chunks / len(chosen)
    step = max(1, sum(map(len, read)) // count)
    rows = [row for chunk in read for row in chunk[::step]]
    return rows, len(rows) / total if rows else 1.0


def _parse(line: bytes, file: Path) -> Any:
    try:
        row = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        raise Refusal(f"{file} is not valid JSON ({error}: {line[:60]!r}); fix this row") from None
    if not isinstance(row, dict):
        raise Refusal(f"{file} has a row that is no object: {line[:60]!r}; fix it")
    return row


def _is_array(file: Path) -> bool:
    """True for a JSON file that holds one array instead of a row a line."""
    if file.suffix != ".json":
        return False
    with file.open("rb") as handle:
        return re.match(rb"(\xef\xbb\xbf)?\s*\[", handle.read(1000)) is not None


@functools.lru_cache(maxsize=2)
def _array(file: Path) -> list[dict[str, Any]]:
    try:
        rows = orjson.loads(file.read_bytes().removeprefix(b"\xef\xbb\xbf"))
    except orjson.JSONDecodeError as error:
        raise Refusal(f"{file} is not valid JSON ({error}); fix it") from None
    if not all(isinstance(row, dict) for row in rows):
        raise Refusal(f"{file} has a row that is no object; fix it")
    return rows


@functools.lru_cache(maxsize=1)
def _row_group(file: Path, group: int) -> Any:
    import pyarrow.parquet as pq  # a group is read once, not for every slice of it

    return pq.ParquetFile(file).read_row_group(group)


def _slices(file: Path) -> list[tuple[int, int]]:
    """(row group, first row in it) of every slice of a parquet file."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        groups = pq.read_metadata(file)
    except (pa.ArrowInvalid, OSError) as error:
        raise Refusal(f"{file} is no parquet file ({' '.join(str(error).split())}); {REMEDY}") from None
    sizes = [groups.row_group(group).num_rows for group in range(groups.num_row_groups)]
    return [(group, start) for group, size in enumerate(sizes) for start in range(0, size, SLICE)]
