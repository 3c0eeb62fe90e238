"""Cut the labels of values out of a passage, without what leads to them and what follows the scale."""

import re
from collections.abc import Sequence
from typing import NamedTuple

from scripts.data.scales.tokens import END, LINE, NUMBER, QUOTES, SIGN, Token, at, words


class Mark(NamedTuple):
    """A stated value, its label, and the tokens that hold the pair."""

    value: int
    label: str
    first: int
    last: int


_TRAILING = words("and or to while whereas with where a an the then up through , ; / - ( [ .. : |")
_VERBS = words("press enter type return choose select answer write give put respond reply code mark use")
_NAMING = words("option category choice point level number value")  # the next value follows them


_LEADING = words("and or to while whereas with where then either up through , ; : / - ( [ .. | =")


_LEAD_IN = words(
    "from either enter return with where between choose select answer respond say code as of integer "
    "number scale reply press write type give put mark is"
)


_ASKS = words(
    "how what which please indicate rate return respond answer reply choose select use give do only "
    "nothing enter write provide where to"
)


def label_before(tokens: Sequence[Token], begin: int, stop: int, first: bool) -> int:
    """Where the label that ends at `stop` begins, without what leads to it."""
    for index in range(stop - 1, begin - 1, -1):
        if tokens[index].text in ("if", "when") and at(tokens, stop) == ",":
            return index + 1
        if tokens[index].text in (";", ":", "|", "?") or (tokens[index].text == "," and index < stop - 1):
            begin = index + 1
            break
        if first and tokens[index].text in _LEAD_IN and index < stop - 1:
            begin = index + 1
            break
    while begin < stop - 1 and tokens[begin].text in _LEADING:
        begin += 1
    return begin


def clean(
    tokens: Sequence[Token], begin: int, stop: int, text: str, last: bool, aside: bool
) -> tuple[str, int]:
    """(the label of the tokens, the index after it): without what follows the scale and what leads on.

    last: whether no other value follows. aside: whether the label stands in parentheses of its own.
    """
    depth = 0
    end = begin
    quoted = at(tokens, begin) in QUOTES
    while end < stop:
        token = tokens[end]
        if token.kind == LINE and end > begin:
            break
        if token.kind == END and not (quoted and end + 2 < stop and not _closes(tokens, end)):
            break
        if token.text in ("(", "["):
            if _codes_missing(tokens, end, stop):
                break
            depth += 1
        elif token.text in (")", "]"):
            depth -= 1
            if depth < 0:
                break
        elif (
            token.text == "|"
            or (token.text == ".." and end > begin)
            or token.text == ";"
            or (end > begin and _leaves(tokens, end, stop, last))
        ):
            break
        end += 1
    trailing = frozenset() if aside else _TRAILING if last else _TRAILING | _NAMING
    while end > begin + 1 and not _is_letter(tokens[end - 1], text):
        leads = tokens[end - 1].text in _VERBS and at(tokens, end - 2) in _TRAILING and not aside
        if tokens[end - 1].text not in trailing and not leads:
            break
        end -= 1
    return show(tokens, begin, end, text), end


def _is_letter(token: Token, text: str) -> bool:
    """True for a single capital letter: `Profile A` ends with no article."""
    return token.end - token.start == 1 and text[token.start].isupper()


def _closes(tokens: Sequence[Token], index: int) -> bool:
    """True if a closing quotation mark follows the sentence end at `index`."""
    return at(tokens, index + 1) in QUOTES


def _codes_missing(tokens: Sequence[Token], index: int, stop: int) -> bool:
    """True if the parenthesis at `index` is a code for missing answers, as in `(refuse = 99)`."""
    inside = [token.text for token in tokens[index + 1 : min(stop, index + 8)]]
    if inside and inside[0] in ("question", "item", "page", "screen", "part"):
        return True
    return ("=" in inside or ":" in inside) and any(_MISSING.search(word) for word in inside)


_MISSING = re.compile(r"don't|dk|refus|skip|unsure|missing|prefer|n/a|know")


def _leaves(tokens: Sequence[Token], index: int, stop: int, last: bool) -> bool:
    """True if the token at `index` begins what is no part of a label: the end of the ask, bare values."""
    word, following = tokens[index].text, at(tokens, index + 1)
    if word in (",", "and", "-", "but", "so") or index == 0:
        second = at(tokens, index + 2)
        if following == "nothing" or (following in ("and", "but") and second == "nothing"):
            return True
        if following == "no" and second in ("other", "additional", "further", "explanation", "more"):
            return True
        if following == "without" or (following == "do" and second == "not"):
            return True
        if following in ("and", "but", "so") and second in _ASKS:
            return True
        if word != "and" and last and following in _ASKS:
            return True
        if (
            word in ("and", "but", "so")
            and last
            and following in ("only", "please", "nothing", "use", "do", "return")
        ):
            return True
        if word == "," and index + 1 < stop and tokens[index + 1].kind == NUMBER:
            return (
                second in (",", "-", "and", "or", ")") or index + 2 >= stop or tokens[index + 2].kind == END
            )
        return False
    if (word == "nothing" and following in ("else", "more")) or (word == "thank" and following == "you"):
        return True
    return word == "only" and last and (index + 1 >= stop or tokens[index + 1].kind == END)


def show(tokens: Sequence[Token], begin: int, end: int, text: str) -> str:
    """The text of the tokens without quotation marks, markdown and punctuation around it."""
    while end > begin and (tokens[end - 1].kind in (SIGN, END, LINE) and tokens[end - 1].text not in ")]%"):
        end -= 1
    while begin < end and (tokens[begin].kind in (SIGN, END, LINE) and tokens[begin].text not in "(["):
        begin += 1
    if begin >= end:
        return ""
    shown = " ".join(
        text[tokens[begin].start : tokens[end - 1].end].replace("*", "").replace("`", "").split()
    )
    return shown.strip(" .,;:\"'“”‘’_")
