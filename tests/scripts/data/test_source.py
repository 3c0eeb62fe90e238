"""Opening a folder in the hub's layout: what can't be trusted is refused by name."""

import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from common.errors import Refusal
from scripts.data.facts import narrow, read_rows
from scripts.data.source import check_text, check_utf8, demographic_column, open_source
from tests.helpers.small_source import small_rows, write_source


def shard(folder, number=0):
    return folder / f"data/train-{number:05d}-of-00002.parquet"


def changed(row=5, **values):
    rows = small_rows()
    rows[row] |= values
    return rows


def test_rows_are_read_with_cells_items_and_people(tmp_path):
    rows = small_rows()
    facts = read_rows(open_source(write_source(tmp_path / "d", rows)))
    assert len(facts) == len(rows)
    for number, row in enumerate(rows):
        item = facts.item[number]
        assert facts.studies[facts.study[number]] == row["study_id"]
        assert facts.people[facts.person[number]] == row["participant"]
        assert facts.items.condition[item] == row["condition_num"]
        assert facts.items.task[item] == row["task_num"]
        assert facts.items.texts[facts.items.text[item]] == row["stimuli"]
    cells = {(r["study_id"], r["condition_num"], r["task_num"]) for r in rows}
    assert len(set(facts.cell.tolist())) == len(cells)
    people = {(r["study_id"], r["participant"]) for r in rows}
    assert len(facts.people) == len(people)


@pytest.mark.parametrize("least", [1, 150, 10_000])
def test_sections_hold_every_row_once_and_in_order(tmp_path, least):
    source = open_source(write_source(tmp_path / "d"))
    sections = source.sections(least)
    rows = [
        (start + number, study, sample)
        for section in sections
        for start, batch in source.read(section, ["study_id", "sample_id"], 30)
        for number, (study, sample) in enumerate(zip(*(c.to_pylist() for c in batch.columns), strict=True))
    ]
    wanted = [(row["study_id"], row["sample_id"]) for row in small_rows()]
    assert rows == [(number, *key) for number, key in enumerate(wanted)]
    assert [section.start for section in sections[1:]] == [s.start + s.rows for s in sections[:-1]]
    last = {path: [s for s in sections if s.path == path][-1] for path in source.files}
    assert all(section.rows >= least for section in sections if section is not last[section.path])


@pytest.mark.parametrize(
    ("values", "bits"),
    [([0, -(2**15)], 16), ([2**15], 32), ([-(2**31)], 32), ([2**31], 64), ([-(2**63)], 64)],
)
def test_row_facts_are_kept_in_the_narrowest_integers_that_hold_them(values, bits):
    narrowed = narrow(np.array(values, np.int64))
    assert narrowed.dtype.itemsize * 8 == bits and narrowed.tolist() == values


def test_items_of_a_cell_are_numbered_by_their_lowest_sample_id(tmp_path):
    rows = small_rows()[::-1]
    facts = read_rows(open_source(write_source(tmp_path / "d", rows)))
    lowest = {}
    for number, row in enumerate(rows):
        key = (int(facts.cell[number]), int(facts.items.item_num[facts.item[number]]))
        lowest[key] = min(lowest.get(key, 10**9), row["sample_id"])
    for (cell, item), sample in lowest.items():
        assert item == 0 or lowest[cell, item - 1] < sample


def test_demographic_fields_may_stand_in_any_order_and_type(tmp_path):
    folder = write_source(tmp_path / "d")
    table = pq.read_table(shard(folder, 1))
    people = table["demographic"].combine_chunks()
    fields = [people.field(i) for i in range(people.type.num_fields)]
    names = [field.name for field in people.type]
    fields[names.index("household_size")] = pa.array([3] * len(people))
    fields[names.index("phone_service")] = pa.nulls(len(people))
    table = table.set_column(3, "demographic", pa.StructArray.from_arrays(fields, names))
    pq.write_table(table, shard(folder, 1))
    source = open_source(folder)
    assert source.demographic.field("household_size").type == pa.string()
    assert source.demographic.field("phone_service").type == pa.string()
    assert source.demographic.field("age").type == pa.int64()


@pytest.mark.parametrize("missing", ["prompt", "response", "demographic"])
def test_a_missing_column_is_refused(tmp_path, missing):
    folder = write_source(tmp_path / "d")
    pq.write_table(pq.read_table(shard(folder)).drop_columns([missing]), shard(folder))
    with pytest.raises(Refusal, match=f"lacks the column {missing}"):
        open_source(folder)


def test_a_column_of_the_wrong_type_is_refused(tmp_path):
    rows = [row | {"response": str(row["response"])} for row in small_rows()]
    with pytest.raises(Refusal, match="`response` is string, not integer"):
        open_source(write_source(tmp_path / "d", rows))


def test_shards_that_disagree_on_columns_are_refused(tmp_path):
    folder = write_source(tmp_path / "d")
    pq.write_table(pq.read_table(shard(folder)).drop_columns(["reasoning"]), shard(folder))
    with pytest.raises(Refusal, match=r"disagree on columns.*reasoning"):
        open_source(folder)


def test_shards_that_disagree_on_demographic_fields_are_refused(tmp_path):
    folder = write_source(tmp_path / "d")
    table = pq.read_table(shard(folder))
    people = table["demographic"].combine_chunks()
    fewer = pa.StructArray.from_arrays([people.field(0)], ["age"])
    pq.write_table(table.set_column(3, "demographic", fewer), shard(folder))
    with pytest.raises(Refusal, match="demographic"):
        open_source(folder)


@pytest.mark.parametrize("keep", [0, 10, 0.5, 0.999])
def test_a_truncated_shard_is_refused(tmp_path, keep):
    folder = write_source(tmp_path / "d")
    content = shard(folder).read_bytes()
    shard(folder).write_bytes(content[: keep if isinstance(keep, int) else int(len(content) * keep)])
    with pytest.raises(Refusal, match="corrupt or truncated"):
        read_rows(open_source(folder))


def test_a_shard_with_overwritten_pages_is_refused(tmp_path):
    folder = write_source(tmp_path / "d")
    content = bytearray(shard(folder).read_bytes())
    content[4:4000] = b"\xff" * 3996
    shard(folder).write_bytes(content)
    with pytest.raises(Refusal, match=r"corrupt or truncated|UTF-8"):
        read_rows(open_source(folder))


def test_an_empty_or_missing_folder_is_refused_with_the_command(tmp_path):
    with pytest.raises(Refusal, match="make data DATA=sample"):
        open_source(tmp_path / "none", "sample")
    (tmp_path / "data").mkdir()
    with pytest.raises(Refusal, match=r"holds no \.parquet file"):
        open_source(tmp_path)


def test_a_key_that_stands_twice_is_refused_with_both_places(tmp_path):
    with pytest.raises(Refusal, match=r"\(st0, 2\) appears twice.*row 2 and.*row 5"):
        read_rows(open_source(write_source(tmp_path / "d", changed(sample_id=2))))


@pytest.mark.parametrize(
    ("value", "kind"),
    [(float("nan"), pa.float64()), (2.5, pa.float64()), (float("inf"), pa.float64()), (None, pa.int64()),
     (2**63, pa.uint64()), (10**20, pa.decimal128(30))],
)  # fmt: skip
def test_an_answer_that_is_no_whole_64_bit_number_is_refused_by_row(tmp_path, value, kind):
    rows = [row | {"response": abs(row["response"])} for row in changed(response=0)]
    rows[5]["response"] = value
    folder = write_source(tmp_path / "d", rows, response=kind)
    with pytest.raises(Refusal, match="row 5: `response` is"):
        read_rows(open_source(folder))


def test_whole_numbers_stored_as_floats_are_read(tmp_path):
    source = open_source(write_source(tmp_path / "d", response=pa.float64()))
    assert read_rows(source).response.tolist() == [row["response"] for row in small_rows()]


@pytest.mark.parametrize("name", ["../../x", "a/b", "", "..", "x" * 99])
def test_a_study_id_that_could_leave_its_folder_is_refused(tmp_path, name):
    with pytest.raises(Refusal, match=r"study id|empty"):
        read_rows(open_source(write_source(tmp_path / "d", changed(study_id=name))))


@pytest.mark.parametrize("name", ["stimuli", "study_id"])
@pytest.mark.parametrize("value", ["", None])
def test_empty_text_is_refused_by_row(tmp_path, name, value):
    with pytest.raises(Refusal, match=f"row 5: `{name}` is (empty|null)"):
        read_rows(open_source(write_source(tmp_path / "d", changed(**{name: value}))))


def test_invalid_utf8_is_refused(tmp_path):
    source = open_source(write_source(tmp_path / "d"))
    raw = pa.array([b"fine", b"\xff\xfe broken"]).view(pa.string())
    with pytest.raises(Refusal, match="`prompt` is not valid UTF-8"):
        check_text(pa.RecordBatch.from_arrays([raw], ["prompt"]), ("prompt",), 0, source)


def _swapped(source: Path, name: str, change) -> Path:
    """Replace a column of the first shard."""
    shard = source / "data/train-00000-of-00002.parquet"
    table = pq.read_table(shard)
    column = table.schema.get_field_index(name)
    pq.write_table(table.set_column(column, name, change(table[name].combine_chunks())), shard)
    return source


def _with_field(column: pa.StructArray, name: str, values: pa.Array) -> pa.StructArray:
    fields = {field.name: column.field(field.name) for field in column.type} | {name: values}
    return pa.StructArray.from_arrays(list(fields.values()), list(fields))


@pytest.mark.parametrize("kind", [pa.binary(), pa.large_binary(), pa.string_view(), pa.large_string()])
@pytest.mark.parametrize("name", ["stimuli", "prompt", "study_id"])
def test_texts_may_be_stored_as_bytes_or_views(tmp_path, kind, name):
    plain = read_rows(open_source(write_source(tmp_path / "a")))
    source = open_source(_swapped(write_source(tmp_path / "d"), name, lambda column: column.cast(kind)))
    assert read_rows(source).items.texts == plain.items.texts


@pytest.mark.parametrize("encoding", ["DELTA_BYTE_ARRAY", "DELTA_LENGTH_BYTE_ARRAY", "PLAIN"])
def test_healthy_shards_are_read_in_every_encoding(tmp_path, encoding):
    plain = read_rows(open_source(write_source(tmp_path / "a")))
    folder = write_source(tmp_path / "d")
    for shard in (folder / "data").iterdir():
        texts = dict.fromkeys(("study_id", "stimuli", "prompt"), encoding)
        pq.write_table(pq.read_table(shard), shard, use_dictionary=False, column_encoding=texts)
    assert read_rows(open_source(folder)).items.texts == plain.items.texts


@pytest.mark.parametrize(
    ("values", "kind", "stored"),
    [
        (lambda n: 34.0, pa.float64(), "int64"),
        (lambda n: float("nan") if n % 2 else 34.0, pa.float64(), "int64"),
        (lambda n: 34.5, pa.float32(), "double"),
        (lambda n: 34, pa.uint64(), "int64"),
        (lambda n: b"34", pa.binary(), "string"),
        (lambda n: "34", pa.string_view(), "string"),
        (lambda n: True, pa.bool_(), "string"),
        (lambda n: None, pa.null(), "int64"),
    ],
)
def test_a_demographic_field_keeps_its_number_or_becomes_text(tmp_path, values, kind, stored):
    def change(column):
        return _with_field(column, "age", pa.array([values(n) for n in range(len(column))], kind))

    source = open_source(_swapped(write_source(tmp_path / "d"), "demographic", change))
    assert str(source.demographic.field("age").type) == stored
    for section in source.sections(10**6):
        for start, batch in source.read(section, ["demographic"], 10**6):
            column = demographic_column(batch.column("demographic"), start, source)
            first = column.field("age")[0].as_py()
            wanted = {"int64": {34, None}, "double": {34.5}, "string": {"34", "true"}}[stored]
            assert start or first in wanted


@pytest.mark.parametrize(
    ("values", "cause"),
    [
        (pa.array([[1]] * 192), "`demographic.age` is list"),
        (pa.array([{"a": 1}] * 192), "`demographic.age` is struct"),
        (pa.array([b"\xff"] * 192), "row 0: a field of `demographic` is no text"),
        (
            pa.array([1] * 191 + [2**63], pa.uint64()),
            "row 191: a field of `demographic` is no text or 64-bit",
        ),
        (pa.array([b"\xff"] * 192).view(pa.string()), "`demographic` is not valid UTF-8"),
    ],
)
def test_a_demographic_field_that_is_no_value_is_refused_in_a_line(tmp_path, values, cause):
    source = _swapped(write_source(tmp_path / "d"), "demographic", lambda c: _with_field(c, "age", values))
    with pytest.raises(Refusal, match=cause):
        opened = open_source(source)
        for section in opened.sections(10**6):
            for start, batch in opened.read(section, ["demographic"], 10**6):
                check_utf8(
                    demographic_column(batch.column("demographic"), start, opened),
                    "demographic",
                    start,
                    opened,
                )


def test_fields_and_columns_that_appear_twice_are_refused(tmp_path):
    def twice(column):
        fields = [column.field(0), column.field(0)]
        return pa.StructArray.from_arrays(fields, ["age", "age"])

    with pytest.raises(Refusal, match="the field age twice"):
        open_source(_swapped(write_source(tmp_path / "d"), "demographic", twice))
    folder = write_source(tmp_path / "e")
    shard = folder / "data/train-00000-of-00002.parquet"
    table = pq.read_table(shard)
    pq.write_table(table.append_column("response", table["response"]), shard)
    with pytest.raises(Refusal, match="the column response twice"):
        open_source(folder)


def test_what_is_no_shard_is_ignored_or_refused(tmp_path):
    folder = write_source(tmp_path / "d")
    (folder / "data/._train-00000-of-00002.parquet").write_bytes(b"\0")
    assert len(open_source(folder).files) == 2
    odd = folder / "data/train-x.parquet"
    odd.mkdir()
    with pytest.raises(Refusal, match="is a folder, not a parquet file"):
        open_source(folder)
    odd.rmdir()
    os.mkfifo(odd)
    with pytest.raises(Refusal, match="is no file, not a parquet file"):
        open_source(folder)
    odd.unlink()
    odd.symlink_to("nowhere")
    with pytest.raises(Refusal, match="links to nothing"):
        open_source(folder)
    odd.unlink()
    (folder / "data/test-00000-of-00001.parquet").write_bytes(b"")
    with pytest.raises(Refusal, match=r"several parts \(test, train\)"):
        open_source(folder)


def test_blank_text_is_refused_by_row(tmp_path):
    with pytest.raises(Refusal, match="row 5: `stimuli` is empty"):
        read_rows(open_source(write_source(tmp_path / "d", changed(stimuli=" \n\u2003"))))
