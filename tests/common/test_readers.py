"""Readers: a file is read as it was meant, or refused in one line that names the place."""

import json
import os
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from common.errors import Refusal
from common.readers import line_of, parse_yaml, read_csv, read_json, read_parquet, read_yaml

REMEDY = "run: make data"
SCHEMA = {"study_id": pl.String, "sample_id": pl.Int64, "answers": pl.List(pl.Int64), "who": pl.Struct}
TABLE = pl.DataFrame(
    {
        "study_id": ["a", "b"],
        "sample_id": [1, 2],
        "answers": [[1, 2], []],
        "who": [{"age": 30}, {"age": None}],
    }
)


def refused(read: Callable[..., Any], *arguments: Any) -> str:
    with pytest.raises(Refusal) as refusal:
        read(*arguments)
    message = str(refusal.value)
    assert message.isprintable()
    return message


# YAML


def test_yaml_words_and_numbers_are_what_a_person_means():
    text = "a: no\nb: 1e-5\nc: 2024-01-02\nd: 007\ne: 12:30\nf: true\ng: ~\n"
    text += "h: 0x1F\ni: 1_000\n1: x\nj: 'true'\nk: .5"
    values, lines = parse_yaml(text, "x.yaml")
    assert values == {
        "a": "no", "b": 1e-5, "c": "2024-01-02", "d": "007", "e": "12:30", "f": True, "g": None, "h": 31,
        "i": 1000, "1": "x", "j": "true", "k": 0.5,
    }  # fmt: skip
    assert lines[("c",)] == 3 and lines[("1",)] == 10


def test_yes_and_no_are_booleans_where_a_recipe_is_read_but_never_in_quotes():
    assert parse_yaml("[yes, No, off, 'on']", "x", yes_is_true=True)[0] == [True, False, False, "on"]


@pytest.mark.parametrize(
    ("line", "remedy"),
    [
        ("question: {arm}?", "put the text in double quotes"),
        ("items:\n  - {arm} is it?", "put the text in double quotes"),
        ("question: Is it so: yes?", "put the text in double quotes"),
        ("vignette: *stars*", "put the text in double quotes"),
        ("vignette: @home", "put the text in double quotes"),
        ("vignette: 'it's'", "close the quotes"),
        ('vignette: "open', "close the quotes"),
        ("\tvignette: x", "indent with blanks, not tabs"),
    ],
)
def test_a_text_that_yaml_reads_as_its_own_signs_is_refused_with_line_and_remedy(line, remedy):
    message = refused(parse_yaml, f"title: x\n{line}\n", "x.yaml")
    assert message.startswith("x.yaml line ")
    assert remedy in message


def test_aliases_and_merges_work():
    values, lines = parse_yaml("base: &b {x: 1, y: 2}\nmine:\n  <<: *b\n  y: 3\nall: [*b, *b]\n", "x.yaml")
    assert values == {"base": {"x": 1, "y": 2}, "mine": {"x": 1, "y": 3}, "all": [{"x": 1, "y": 2}] * 2}
    assert line_of(lines, ("mine", "z", 0)) == 2


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: 1\nb: 2\na: 3", "x.yaml line 3: `a` appears twice"),
        ("a:\n  - {b: 1, b: 2}", "line 2: `b` appears twice"),
        ("a: [", "x.yaml line 1 is not valid YAML"),
        ("a: 1\n---\nb: 2", "not valid YAML"),
        ("a: &x [*x]", "line 1: nested deeper than 50 levels (an alias inside itself?)"),
        ("[" * 60 + "]" * 60, "nested deeper than 50 levels"),
        ("[" * 100_000, "nested deeper than 50 levels"),
        ("a0: &a0 [x]\n" + "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 12)),
         "aliases of aliases?"),
        ("a: !!python/object/apply:os.system [x]", "line 1: the tag tag:yaml.org,2002:python/object/apply"),
        ("a: 1\nb: !thing x", "line 2: the tag !thing has no meaning here"),
        ("a: !!int x", "x is no number"),
        ("a: " + "9" * 5000, "is no number"),
        ("a: 1e999", "1e999 is too large"),
        ("a: .nan", ".nan is no number"),
        ("a: 99999999999999999999", "too large"),
        ("? [a]\n: 1", "line 1: a key is a word"),
        ("a: 1\nb: \x07", "line 2 has a control character"),
        ('a: "\\ud800"', "line 1: an escape stands for no letter"),
        ('a: "\\0"', "line 1: an escape stands for no letter"),
        ("<<: 3", "`<<` merges mappings only"),
        ("a: !!timestamp 2020-99-99", "has no meaning here"),
        ("a: !!binary x=", "has no meaning here"),
    ],
)  # fmt: skip
def test_yaml_that_can_mean_anything_but_plain_values_is_refused_with_its_line(text: str, words: str):
    assert words in refused(parse_yaml, text, "x.yaml")


def test_a_yaml_file_of_another_encoding_or_size_is_refused(tmp_path: Path):
    path = tmp_path / "x.yaml"
    path.write_bytes(b"a: 1\nb: \xe9\n")
    assert "line 2 is not UTF-8 text; save the file as UTF-8" in refused(read_yaml, path, REMEDY)
    path.write_bytes(b"\xef\xbb\xbfa: 1")
    assert read_yaml(path, REMEDY)[0] == {"a": 1}
    path.write_text("# " + "x" * 2**20)
    assert "larger than 1 MB" in refused(read_yaml, path, REMEDY)


# Any file


@pytest.mark.parametrize("read", [read_yaml, read_json, read_csv, lambda p, r: read_parquet(p, SCHEMA, r)])
def test_what_is_no_file_is_refused_and_never_waited_for(tmp_path: Path, read: Callable[..., Any]):
    assert f"none is missing; {REMEDY}" in refused(read, tmp_path / "none", REMEDY)
    assert f"is a folder, not a file; {REMEDY}" in refused(read, tmp_path, REMEDY)
    os.mkfifo(tmp_path / "pipe")
    assert f"pipe is no file; {REMEDY}" in refused(read, tmp_path / "pipe", REMEDY)


# JSON


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"torn": ', "is not valid JSON"),
        ("[" * 100_000, "nested too deep"),
        ("1" * 5000, "is too large"),
        ('{"a": 18446744073709551616}', "is too large"),
        ('{"a": 1, "a": 2}', "the key 'a' appears twice"),
        ('"\\ud800"', "half of a letter"),
        ("", "is not valid JSON"),
    ],
)
def test_broken_json_is_refused_with_the_remedy(tmp_path: Path, text: str, words: str):
    path = tmp_path / "x.json"
    path.write_text(text)
    message = refused(read_json, path, REMEDY)
    assert words in message and message.endswith(REMEDY)


def test_json_with_a_byte_order_mark_and_numbers_of_64_bits_is_read(tmp_path: Path):
    path = tmp_path / "x.json"
    path.write_bytes(b'\xef\xbb\xbf{"a": [18446744073709551615, "\\ud83d\\ude00", 0.12345678901234567890]}')
    assert read_json(path, REMEDY) == {"a": [2**64 - 1, "😀", 0.12345678901234567890]}


# Parquet


def parquet(folder: Path, frame: pl.DataFrame) -> Path:
    frame.write_parquet(folder / "x.parquet")
    return folder / "x.parquet"


def test_a_table_is_read_with_the_types_of_its_schema(tmp_path: Path):
    loose = TABLE.with_columns(pl.col("sample_id").cast(pl.Float32), pl.col("study_id").cast(pl.Categorical))
    path = parquet(tmp_path, loose.with_columns(pl.col("answers").cast(pl.List(pl.Int8)), more=1))
    assert read_parquet(path, SCHEMA, REMEDY).equals(TABLE)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (pl.lit(1).alias("study_id"), "column study_id holds Int32, not String"),
        (pl.Series("sample_id", [1.0, 2.5]), "column sample_id holds Float64, not Int64: row 2 has 2.5"),
        (pl.Series("sample_id", [1, 2**63], pl.UInt64), "row 2 has 9223372036854775808"),
        (pl.Series("sample_id", ["1", "2"]), "column sample_id holds String, not Int64"),
        (pl.Series("answers", ["1", "2"]), "column answers holds String, not List(Int64)"),
        (pl.Series("answers", [["x"], []]), "column answers holds List(String), not List(Int64)"),
        (pl.Series("who", ["x", "y"]), "column who holds String, not Struct"),
    ],
)
def test_a_column_of_another_type_is_refused_by_its_name_and_first_wrong_row(tmp_path: Path, change, words):
    message = refused(read_parquet, parquet(tmp_path, TABLE.with_columns(change)), SCHEMA, REMEDY)
    assert words in message and message.endswith(REMEDY)


def test_a_missing_column_and_a_torn_file_are_refused(tmp_path: Path):
    path = parquet(tmp_path, TABLE.drop("answers", "who"))
    assert "has no column answers, who" in refused(read_parquet, path, SCHEMA, REMEDY)
    path.write_bytes(path.read_bytes()[:-20])
    assert "is damaged or no parquet file" in refused(read_parquet, path, SCHEMA, REMEDY)


# CSV


@pytest.mark.parametrize(
    "content",
    [
        b"arm,answer\nco\xc3\xbbt,3\nx,NA\n",
        b"\xef\xbb\xbfarm;answer\r\nco\xc3\xbbt;3\r\nx;\r\n",
        b"arm\tanswer\rco\xc3\xbbt\t3\rx\t\r",
        "arm\tanswer\nco\u00fbt\t3\nx\t\n".encode("utf-16"),
        b'"arm",answer\n"co\xc3\xbbt",3\nx,NA\n',
    ],
)
def test_a_csv_of_any_spreadsheet_is_read(tmp_path: Path, content: bytes):
    path = tmp_path / "x.csv"
    path.write_bytes(content)
    assert read_csv(path, REMEDY, ["arm"]).to_dict(as_series=False) == {
        "arm": ["coût", "x"],
        "answer": [3, None],
    }


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is no CSV table"),
        (b"\n\n", "is no CSV table"),
        (b"a,b\n1,2,3\n", "is no CSV table"),
        (b'a,b\n"1,2\n', "is no CSV table"),
        (b"a,a\n1,2\n", "has two columns a"),
        (b"a,b\n1,\xe9\n", "line 2 is not UTF-8 text; save the file as UTF-8"),
        (b"a\0,b\n1,2\n", "zero bytes"),
        (b"arms;answer\n1;2\n", "has no column arm; its columns are arms, answer, read with a semicolon"),
        (b"\xff\xfea", "not UTF-16"),
    ],
)
def test_a_csv_that_cannot_be_read_safely_is_refused(tmp_path: Path, content: bytes, words: str):
    path = tmp_path / "x.csv"
    path.write_bytes(content)
    assert words in refused(read_csv, path, REMEDY, ["arm"] if b"arm" in content else [])


COUNTED_PAGES = """
import sys
from pathlib import Path
from common.errors import Refusal
from common.readers import read_columns
path = Path(sys.argv[1])
whole, refused = path.read_bytes(), 0
at = -1
while (at := whole.find(b"\\x2c\\x15\\x04", at + 1)) >= 0:  # a page's header: it holds 2 values
    path.write_bytes(whole[: at + 2] + b"\\x03" + whole[at + 3 :])  # -2 values
    try:
        read_columns(path, "make it again")
    except Refusal:
        refused += 1
print(refused)
"""


def test_a_page_that_claims_fewer_values_than_none_is_refused_and_ends_no_process(tmp_path: Path):
    path = parquet(tmp_path, TABLE)
    ran = subprocess.run([sys.executable, "-c", COUNTED_PAGES, str(path)], capture_output=True, text=True)
    assert ran.returncode == 0 and int(ran.stdout) >= 2, ran.stderr


# Mutated files: they work, or are refused in one line


def valid_files(folder: Path) -> dict[str, bytes]:
    recipe = (Path(__file__).parents[2] / "configs/tiny/sft.yaml").read_bytes()
    manifest = {
        "rows": {"read": 3, "dropped": {"no scale": 1}},
        "files": [1, 2.5, None, "é"],
        "inputs": "ab" * 32,
    }
    csv = b'arm,outcome,answer\ncontrol,vote,1\n"a, b",vote,0\n'
    return {
        "yaml": recipe, "json": json.dumps(manifest, indent=1).encode(), "csv": csv,
        "parquet": parquet(folder, pl.concat([TABLE] * 50)).read_bytes(),
    }  # fmt: skip


READ: dict[str, Callable[[Path], Any]] = {
    "yaml": lambda path: read_yaml(path, REMEDY),
    "json": lambda path: read_json(path, REMEDY),
    "csv": lambda path: read_csv(path, REMEDY),
    "parquet": lambda path: read_parquet(path, SCHEMA, REMEDY),
}
PIECES = [
    b"\0",
    b"\xff",
    b"\xef\xbb\xbf",
    b'"',
    b"{",
    b"[" * 2000,
    b"- ",
    b"&a ",
    b"*a",
    b"!!x ",
    b"9" * 5000,
    b"\n",
    b"\\ud800",
    b",",
    b": ",
]


def mutated(content: bytes, seed: int) -> bytes:
    """A few bytes changed, removed, repeated or inserted, as a torn disk or a careless hand would."""
    chance = random.Random(seed)
    data = bytearray(content)
    for _ in range(chance.randint(1, 6)):
        at = chance.randrange(len(data) + 1)
        until = at + chance.choice([1, 1, 2, 8, 64, len(data)])
        kind = chance.randrange(4)
        if kind == 0:
            del data[at:until]
        elif kind == 1:
            data[at:at] = data[at:until]
        elif kind == 2:
            data[at:at] = chance.choice(PIECES)
        elif at < len(data):
            data[at] = chance.randrange(256)
    return bytes(data)


def check_mutations(folder: Path, kind: str, content: bytes, seed: int) -> None:
    path = folder / f"mutated.{kind}"
    path.write_bytes(mutated(content, seed))
    try:
        READ[kind](path)
    except Refusal as refusal:
        assert "\n" not in str(refusal) and str(path) in str(refusal)


@pytest.mark.parametrize("kind", READ)
def test_a_mutated_file_works_or_is_refused_in_one_line(tmp_path: Path, kind: str):
    content = valid_files(tmp_path)[kind]

    @settings(
        derandomize=True,
        max_examples=100,
        deadline=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture],
    )
    @given(st.integers(0, 2**32))
    def check(seed: int) -> None:
        check_mutations(tmp_path, kind, content, seed)

    check()


@pytest.mark.whole
@pytest.mark.parametrize("kind", READ)
def test_two_thousand_mutated_files_work_or_are_refused_in_one_line(tmp_path: Path, kind: str):
    content = valid_files(tmp_path)[kind]

    @settings(max_examples=2000, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(st.integers(0, 2**32))
    def check(seed: int) -> None:
        check_mutations(tmp_path, kind, content, seed)

    check()
