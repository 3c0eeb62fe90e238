"""Texts from data, made safe to show."""

from xml.etree import ElementTree

from hypothesis import given
from hypothesis import strategies as st

from common.text import printable


@given(st.text(st.characters()))
def test_any_text_becomes_one_that_xml_and_a_terminal_take(text: str):
    shown = printable(text)
    escaped = shown.replace("&", "&amp;").replace("<", "&lt;")
    ElementTree.fromstring(f"<text>{escaped}</text>".encode())
    assert all(letter.isprintable() or letter in "\t\n" or not letter.isascii() for letter in shown)
    assert printable(shown) == shown


def test_what_is_safe_stays_and_what_is_not_can_still_be_read():
    assert printable("Zürich 😀\n\t<b>") == "Zürich 😀\n\t<b>"
    assert printable("\x1b[31mred\x00\u202e\r") == r"\x1b[31mred\x00\u202e\r"
