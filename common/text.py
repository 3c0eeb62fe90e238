"""Texts from data, made safe to show: on a terminal, in a page, in a figure."""

import re

# Control characters (a terminal obeys them, XML forbids them), halves of surrogate pairs, characters that
# reorder a line, and the two that are no characters at all. Line breaks and tabs are plain text.
_UNSAFE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]")


def printable(text: str) -> str:
    """`text` with every character that a terminal or an XML file can't take written as an escape."""
    return _UNSAFE.sub(lambda match: match[0].encode("unicode_escape", "surrogatepass").decode(), text)
