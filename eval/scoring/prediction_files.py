"""Tables of predictions from files of any usual kind."""

import json
from pathlib import Path
from typing import Any

import polars as pl

from common.errors import Refusal
from common.readers import read_columns, read_csv, read_json, unique_keys

SUFFIXES = (".parquet", ".csv", ".tsv", ".json", ".jsonl")


def read_table(path: Path, remedy: str) -> pl.DataFrame:
    """A table in one of the kinds of SUFFIXES. Raises `Refusal` for what is missing, empty or no table."""
    if not path.is_file():
        raise Refusal(f"{path} is missing; {remedy}")
    if path.suffix not in SUFFIXES:
        raise Refusal(f"{path}: predictions are a {', '.join(SUFFIXES)} file; rename or convert it")
    try:
        if path.suffix == ".parquet":
            frame = read_columns(path, "write it again")
        elif path.suffix == ".jsonl":
            _check_lines(path)
            frame = pl.read_ndjson(path, infer_schema_length=None)
        elif path.suffix == ".json":
            frame = _records(read_json(path, "write it again"), path)
        else:
            frame = read_csv(path, "write it again")
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as error:
        raise Refusal(f"{path} can't be read ({_line(error)}); write it again") from None
    except (ValueError, TypeError, OverflowError, RecursionError) as error:
        raise Refusal(f"{path} can't be read ({_line(error)}); write it again") from None
    if frame.is_empty():
        raise Refusal(f"{path} holds no predictions; write one row for each evaluation row")
    return frame


def _records(content: Any, path: Path) -> pl.DataFrame:
    if not (isinstance(content, list) and content and all(isinstance(one, dict) for one in content)):
        example = '[{"study_id": "s", "sample_id": 1, "prediction": 4}]'
        raise Refusal(f"{path} isn't a list of objects such as {example}; write it again")
    return pl.DataFrame(content, infer_schema_length=None)


def _check_lines(path: Path) -> None:
    """Refuse the first line that isn't one JSON object with every key once; polars would keep one of two."""
    with path.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            try:
                if line.strip() and not isinstance(json.loads(line, object_pairs_hook=unique_keys), dict):
                    raise ValueError("not a JSON object")
            except (ValueError, RecursionError) as error:
                raise Refusal(
                    f"{path} line {number} can't be read ({_line(error)}); write it again"
                ) from None


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200]
