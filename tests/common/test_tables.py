"""CSV files that other programs open: nothing in them is run."""

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.tables import harmless, html_table, text_table, write_csv


@pytest.mark.parametrize(
    "text",
    ["=HYPERLINK(1)", "@SUM(A1)", "+1+cmd|' /C calc'!A0", "-2+3", "\tx", "\r=1", " =1+1", "＝1", "-", "+x"],
)
def test_a_formula_gets_an_apostrophe(text):
    assert harmless(pl.DataFrame({"a": [text]}))["a"].item() == f"'{text}"


@pytest.mark.parametrize("text", ["-5", "+3.5", "-1e-5", "18-34", "a = b", "x@y", "", "−0.3"])
def test_numbers_and_plain_texts_stay(text):
    assert harmless(pl.DataFrame({"a": [text]}))["a"].item() == text


@given(st.text())
def test_no_text_begins_with_what_a_spreadsheet_runs(text):
    cell = harmless(pl.DataFrame({"a": [text]}))["a"].item()
    assert cell in (text, f"'{text}")
    if cell == text and text[:1] in "=@\t\r\n+-" and text:
        float(text)  # a number, and nothing else


def test_columns_have_the_names_of_broom_and_numbers_are_written_as_they_are(tmp_path):
    write_csv(pl.DataFrame({"std_error": [0.5], "conf_low": [-1.0], "name": ["a"]}), tmp_path / "a.csv")
    assert (tmp_path / "a.csv").read_text() == "std.error,conf.low,name\n0.5,-1.0,a\n"


def test_the_name_of_a_column_is_no_formula_either():
    assert harmless(pl.DataFrame({"=1+1": [1], "a-b": [2]})).columns == ["'=1+1", "a-b"]


def test_a_table_for_the_terminal_is_aligned_whole_and_harmless():
    shown = text_table(["model", "distance"], [["tiny-sft", "0.1"], ["x\x1b[31m[red]\ny", "10.25"]])
    first, rule, *rows = shown.splitlines()
    assert first.split() == ["model", "distance"] and not rule.strip("─ ")
    assert rows[0].split() == ["tiny-sft", "0.1"] and len(rows[0]) == len(rows[1])
    assert "\x1b" not in shown and r"x\x1b[31m[red] y" in rows[1] and rows[1].endswith(" 10.25")
    assert text_table(["a"], [["x" * 500]]).splitlines()[-1] == "x" * 500


def test_an_html_table_escapes_every_text():
    shown = html_table(["<b>", "x"], [["a & b", 1]], ["<i>"])
    assert "<b>" not in shown and "<i>" not in shown and "<td>a &amp; b</td><td>1</td>" in shown
