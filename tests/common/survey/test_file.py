"""Files as programs write them: other encodings and delimiters, empty columns, ids that look like numbers."""

from pathlib import Path

import polars as pl
import pyreadstat
import pytest

from common.errors import Refusal
from common.survey.file import read_survey

TABLE = pl.DataFrame({"id": ["007", "1e3"], "town": ["Köln", "Übach"], "w": ["0,5", "1,25"]})


@pytest.mark.parametrize(
    ("encoding", "delimiter"),
    [("utf-8", ","), ("utf-8-sig", ";"), ("cp1252", ";"), ("utf-16", "\t"), ("utf-8", "\t")],
)
def test_a_csv_is_read_as_it_is_written_whatever_program_wrote_it(tmp_path, encoding, delimiter):
    path = tmp_path / "x.csv"
    path.write_bytes(TABLE.write_csv(separator=delimiter, line_terminator="\r\n").encode(encoding))
    survey = read_survey(path)
    assert survey.frame.equals(TABLE)
    assert bool(survey.notes) == (encoding == "cp1252")


def test_a_line_that_names_the_delimiter_and_columns_without_name_and_cells_are_no_answers(tmp_path):
    path = tmp_path / "x.csv"
    path.write_text("sep=;\nid;town;;w;\n007;Köln;;0,5;\n1e3;Übach;;1,25;\n")
    assert read_survey(path).frame.equals(TABLE)


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("a,b\n1,2,3\n", "a row has more cells than the header"),
        ("a, a \n1,2\n", "two columns a; rename one"),
        ("a\0b\n", "holds zero bytes"),
    ],
)
def test_a_broken_csv_is_refused_with_its_cause(tmp_path, text, cause):
    path = tmp_path / "x.csv"
    path.write_text(text)
    with pytest.raises(Refusal, match=cause):
        read_survey(path)


def test_columns_of_lists_are_left_out_and_dates_and_numbers_are_texts(tmp_path):
    path = tmp_path / "x.parquet"
    frame = pl.DataFrame({"a": [1.0, None], "b": [[1], [2]], "c": [True, None], "d": ["x\u00a0", " "]})
    frame.with_columns(e=pl.date(2024, 1, 5), f=pl.col("d").cast(pl.Categorical)).write_parquet(path)
    survey = read_survey(path).frame
    assert survey.columns == ["a", "c", "d", "e", "f"]
    assert survey.row(0) == ("1", "true", "x", "2024-01-05", "x") and survey["d"][1] is None


def test_what_spss_and_stata_declare_missing_is_missing(tmp_path):
    frame = pl.DataFrame({"q": [1.0, 8.0, 9.0]})
    pyreadstat.write_sav(frame, str(tmp_path / "x.sav"), missing_ranges={"q": [{"lo": 8, "hi": 9}]})
    assert read_survey(Path(tmp_path / "x.sav")).frame["q"].to_list() == ["1", None, None]
    stata = frame.to_pandas().astype(object)
    stata.loc[2, "q"] = "a"
    pyreadstat.write_dta(stata, str(tmp_path / "x.dta"), missing_user_values={"q": ["a"]})
    assert read_survey(tmp_path / "x.dta").frame["q"].to_list() == ["1", "8", None]
