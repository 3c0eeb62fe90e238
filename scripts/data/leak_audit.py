"""Prove from files alone that nothing of an evaluation stands in training, for any data set on disk.

Reads JSON lines, JSON and parquet in alpaca or sharegpt form, also files that somebody else made. What
a file has no columns for can't be told, and the table says so. Exit code 2 when something that the
split forbids stands on both sides, when a rejected answer comes from outside training, or when a file
isn't the one that the manifest describes.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import polars as pl
import pyarrow.parquet as pq
from tqdm import tqdm

from common.errors import Refusal
from common.files import sha256_file
from common.paths import split_dir
from common.readers import read_json
from common.tables import text_table
from scripts.data.firewall import EXAMPLES, FORBIDDEN, PROMPTS, REJECTED, Check, verdict
from scripts.data.register import STAGES
from scripts.data.settings import PAIRED

KEYS = {
    "rows": ("study_id", "sample_id"),
    "studies": ("study_id",),
    "people": ("study_id", "participant"),
    "arms": ("study_id", "condition_num"),
    "outcomes": ("study_id", "task_num"),
}
INTEGERS = ("sample_id", "participant", "condition_num", "task_num", "rejected_sample_id")
CHUNK = 50_000


def read_side(paths: Sequence[Path]) -> pl.DataFrame:
    """Keys and prompt digests of all rows of some files; a key that a file lacks is null."""
    schema = {"study_id": pl.String, **dict.fromkeys(INTEGERS, pl.Int64), "prompt": pl.UInt64}
    frames = []
    for path in paths:
        chunk: list[tuple[Any, ...]] = []
        for number, row in enumerate(tqdm(_rows(path), desc=path.name, unit="row", disable=None), 1):
            try:
                chunk.append((row.get("study_id"), *(row.get(name) for name in INTEGERS), _digest(row)))
            except (AttributeError, KeyError, TypeError, IndexError):
                raise Refusal(
                    f"{path} row {number} has no prompt in alpaca or sharegpt form; fix it"
                ) from None
            if len(chunk) == CHUNK:
                frames.append(_frame(path, chunk, schema))
                chunk = []
        frames.append(_frame(path, chunk, schema))
    return pl.concat(frames)


def _frame(path: Path, rows: list[tuple[Any, ...]], schema: Any) -> pl.DataFrame:
    try:
        return pl.DataFrame(rows, schema=schema, orient="row")
    except (pl.exceptions.PolarsError, TypeError, OverflowError) as error:
        raise Refusal(
            f"{path}: keys must be a text and integers ({str(error).splitlines()[0]}); fix it"
        ) from None


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    """The rows of a file as dictionaries, streamed where the format allows."""
    try:
        if path.suffix == ".parquet":
            with pq.ParquetFile(path) as file:
                wanted = ("study_id", *INTEGERS, "instruction", "input", "conversations", "prompt")
                columns = [name for name in wanted if name in file.schema_arrow.names]
                for batch in file.iter_batches(4096, columns=columns):
                    yield from batch.to_pylist()
        elif path.suffix == ".json":
            yield from orjson.loads(path.read_bytes())
        else:
            with path.open("rb") as lines:
                for number, line in enumerate(lines, 1):
                    try:
                        yield orjson.loads(line)
                    except orjson.JSONDecodeError as error:
                        raise Refusal(
                            f"{path} line {number} is not valid JSON ({error}); make it again"
                        ) from None
    except FileNotFoundError:
        raise Refusal(
            f"{path} is missing; run `make data`, or give the files with --train and --eval"
        ) from None
    except (orjson.JSONDecodeError, OSError, ValueError) as error:
        raise Refusal(f"{path} can't be read ({str(error).splitlines()[0]}); make it again") from None


def _digest(row: dict[str, Any]) -> int:
    """64 bits of the user prompt's BLAKE2 digest."""
    if "instruction" in row:
        prompt = "\n".join(part for part in (row["instruction"], row.get("input")) if part)
    elif "conversations" in row:
        prompt = next(turn["value"] for turn in row["conversations"] if turn["from"] == "human")
    else:
        prompt = row["prompt"]
    return int.from_bytes(hashlib.blake2b(prompt.encode(), digest_size=8).digest(), "little")


def compare_sides(
    train: pl.DataFrame, evaluation: pl.DataFrame, split: str | None, identical: bool
) -> list[Check]:
    """Every check that the columns allow. `identical`: equal prompts on both sides are allowed."""
    forbidden = {"rows", FORBIDDEN.get(split or "")}
    checks = [_compare(name, train, evaluation, keys, name not in forbidden) for name, keys in KEYS.items()]
    shared = evaluation.join(train.select("prompt").unique(), on="prompt", how="semi")
    names = tuple(
        f"({study}, {sample})" for study, sample in shared.head(EXAMPLES).select(KEYS["rows"]).rows()
    )
    counts = (train["prompt"].n_unique(), len(evaluation), len(shared))
    checks.append(Check(PROMPTS, *counts, verdict(len(shared), identical), names))
    return checks


def _compare(
    name: str, train: pl.DataFrame, evaluation: pl.DataFrame, keys: tuple[str, ...], allowed: bool
) -> Check:
    missing = [key for key in keys for side in (train, evaluation) if side[key].null_count()]
    if missing:
        return Check(name, 0, 0, 0, f"can't tell: rows without {missing[0]}")
    left, right = train.select(keys).unique(), evaluation.select(keys).unique()
    both = left.join(right, on=keys, how="inner").sort(keys)
    shown = tuple(" ".join(str(part) for part in row) for row in both.head(EXAMPLES).rows())
    return Check(name, len(left), len(right), len(both), verdict(len(both), allowed), shown)


def audit_rejected(pairs: pl.DataFrame, train: pl.DataFrame) -> Check:
    """Rejected answers must be training rows (of the SFT file, when there is one beside the pairs)."""
    rejected = pairs.select("study_id", pl.col("rejected_sample_id").alias("sample_id")).unique()
    if rejected["sample_id"].null_count():
        return Check(REJECTED, 0, 0, 0, "can't tell: rows without rejected_sample_id")
    outside = rejected.join(train.select("study_id", "sample_id"), on=KEYS["rows"], how="anti")
    shown = tuple(f"({study}, {sample})" for study, sample in outside.head(EXAMPLES).rows())
    return Check(REJECTED, len(rejected), 0, len(outside), verdict(len(outside), False), shown)


def check_sums(folder: Path) -> None:
    """Refuse a file whose bytes aren't those that the manifest describes."""
    manifest = read_json(folder / "manifest.json", "run `make data`")
    for name, facts in manifest["files"].items():
        path = folder / name
        if not path.is_file() or sha256_file(path) != facts["sha256"]:
            raise Refusal(f"{path} is not the file that manifest.json describes; run `make data` again")


@dataclass(frozen=True)
class Audit:
    """Every check; it prints as a table."""

    checks: tuple[Check, ...]

    @property
    def violated(self) -> list[str]:
        """The names of the checks that found what must not be on both sides."""
        return [check.name for check in self.checks if check.verdict == "violated"]

    def frame(self) -> pl.DataFrame:
        """One row a check: name, train, eval, both, verdict, examples."""
        return pl.DataFrame([check.record() for check in self.checks])

    def enforce(self) -> None:
        """Refuse a data set that failed."""
        if self.violated:
            raise Refusal(
                f"found on both sides: {', '.join(self.violated)}; this data set must not be used as it is"
            )

    def __str__(self) -> str:
        columns = ("compared", "train", "eval", "both", "verdict", "examples")
        counts = [[f"{count:,}" for count in (check.train, check.eval, check.both)] for check in self.checks]
        rows = [
            [check.name, *numbers, check.verdict, ", ".join(check.examples[:3]) if check.both else ""]
            for check, numbers in zip(self.checks, counts, strict=True)
        ]
        return text_table(columns, rows, left=("verdict", "examples"))


def audit(data: str = "sample", split: str = "study") -> Audit:
    """Audit what `make_data` wrote: sums first, then all training files against the evaluation rows."""
    return Audit(tuple(audit_folder(split_dir(data, split), split)))


def audit_files(train: Sequence[Path], evaluation: Sequence[Path], split: str | None = None) -> Audit:
    """Audit files that anybody made. split: what must not be on both sides, beside rows and prompts."""
    sides = read_side(train), read_side(evaluation)
    return Audit(tuple(compare_sides(*sides, split, identical=split == "participant")))


def audit_folder(folder: Path, split: str) -> list[Check]:
    """Audit what `make data` wrote: sums first, then all training files against the evaluation rows."""
    check_sums(folder)
    config = read_json(folder / "manifest.json", "run `make data`")["config"]
    stages = [path for name in STAGES for path in folder.glob(f"{name}.*")]
    evaluation = read_side([folder / "eval.parquet"])
    sides = {path: read_side([path]) for path in stages}
    train = pl.concat(sides.values())
    identical = config["identical_prompts"] == "count" or split == "participant"
    checks = compare_sides(train, evaluation, split, identical)
    pairs = next((side for path, side in sides.items() if path.stem in PAIRED), None)
    answers = next((side for path, side in sides.items() if path.stem == "sft"), pairs)
    if pairs is not None and answers is not None:
        checks.append(audit_rejected(pairs, answers))
    return checks
