"""The contract: what the READMEs promise is what the code says, and records are read whole or refused."""

import re
from pathlib import Path
from typing import Any, Literal

import polars as pl
import pytest
from pydantic import Field

from common.contract import (
    CELL,
    EVALUATION,
    ITEM,
    KEY,
    PERSON,
    PREDICTIONS,
    TRAIN_COUNTS,
    Manifest,
    Record,
    read_record,
    write_record,
)
from common.errors import Refusal

PROJECT = Path(__file__).parents[2]
WORDS = {
    "string": pl.String, "int64": pl.Int64, "int32": pl.Int32, "float32": pl.Float32, "bool": pl.Boolean,
    "struct": pl.Struct, "list int64": pl.List(pl.Int64), "list float32": pl.List(pl.Float32),
    "list of struct(value int64, label string)": pl.List(pl.Struct({"value": pl.Int64, "label": pl.String})),
}  # fmt: skip


def table(text: str, *heading: str) -> dict[str, Any]:
    """Columns and types of the first table after the headings, written like `a, b | string, int64 x 2`."""
    for words in heading:
        text = text[text.index(words) + len(words) :]
    columns: dict[str, Any] = {}
    for line in re.search(r"\|---.*\n((?:\|.*\n)+)", text)[1].splitlines():
        names, types = (cell.strip() for cell in line.split("|")[1:3])
        types = types.removesuffix(", null when not stated")
        listed = [types] if types in WORDS else types.split(", ")
        spelled = [
            word for kind in listed for word in [kind.split(" x ")[0]] * int((kind + " x 1").split(" x ")[1])
        ]
        names = names.split(", ")
        columns |= zip(names, spelled * (len(names) if len(spelled) == 1 else 1), strict=True)
    return columns


def schema(text: str, *heading: str) -> dict[str, Any]:
    return {name: WORDS[word] for name, word in table(text, *heading).items()}


def test_the_readme_of_the_data_lists_the_columns_and_types_of_evaluation_rows():
    text = (PROJECT / "data/README.md").read_text()
    assert schema(text, "## eval.parquet") == EVALUATION


def test_the_readme_of_the_data_lists_the_columns_of_training_counts():
    text = (PROJECT / "data/README.md").read_text()
    columns = table(text, "## train_counts.parquet")
    types = {name: EVALUATION[name] if word == "as above" else WORDS[word] for name, word in columns.items()}
    assert types == TRAIN_COUNTS


def test_the_readme_of_predictions_lists_their_columns_and_types():
    text = (PROJECT / "eval/prediction/README.md").read_text()
    assert schema(text, "`predictions.parquet`, one row") == PREDICTIONS


def test_the_readme_of_the_data_lists_every_key_of_the_manifest():
    text = (PROJECT / "data/README.md").read_text()
    rows = re.findall(r"^\| ([a-z_, ]+) \|", text[text.index("## manifest.json") :], re.MULTILINE)
    keys = [key for row in rows if row != "key" for key in row.split(", ")]
    assert sorted(keys) == sorted(field.alias or name for name, field in Manifest.model_fields.items())


def test_the_readme_of_the_data_lists_the_columns_of_every_key():
    text = (PROJECT / "data/README.md").read_text()
    for names, what in ((KEY, "a row"), (PERSON, "a person"), (CELL, "a cell"), (ITEM, "an item")):
        assert f"| ({', '.join(names)}) | {what}" in text


class Small(Record):
    schema_version: Literal[3] = Field(3, alias="schema")
    rows: int


def test_a_record_is_read_as_it_was_written(tmp_path: Path):
    write_record(tmp_path / "small.json", Small(rows=4))
    assert read_record(tmp_path / "small.json", Small, "run: make") == Small(rows=4)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[]", "has schema None, this version reads 3"),
        ('{"schema": 2, "rows": 1}', "has schema 2, this version reads 3"),
        ('{"schema": 3}', "not a whole record (`rows`: Field required)"),
        ('{"schema": 3, "rows": "many"}', "not a whole record (`rows`: "),
        ('{"schema": 3, "rows": 1, "more": 1}', "not a whole record (`more`: "),
        ('{"schema": 3', "is not valid JSON"),
    ],
)
def test_a_record_that_is_not_whole_or_of_another_version_is_refused(tmp_path: Path, text: str, words: str):
    path = tmp_path / "small.json"
    path.write_text(text)
    with pytest.raises(Refusal) as refused:
        read_record(path, Small, "run: make")
    assert words in str(refused.value) and str(refused.value).endswith("; run: make")
