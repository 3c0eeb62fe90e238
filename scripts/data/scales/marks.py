"""Read values and their labels out of tokens: `1 = no`, `no (0)`, `2. bus`, `| 3 | car |`."""

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

from scripts.data.scales.asks import FORMAT
from scripts.data.scales.labels import Mark, clean, label_before, show
from scripts.data.scales.tables import row_pair, slashed
from scripts.data.scales.tokens import BROKEN, END, LINE, NUMBER, QUOTES, WORD, Token, at, words


class Marks(NamedTuple):
    """The stated pairs of a passage, in the order of the text."""

    pairs: list[Mark]
    style: str
    """"means" (`1 = no`, `1 for no`), "label first", "list" (`1. no`) or "aside" (`1 (no)`)."""
    joint: str
    """The word before the last pair: "to" where the pairs end a range, "or" where they are all."""


NONE = Marks([], "", "")


MEANS = words(
    "means meaning mean being is are represents representing indicates indicating corresponds denotes "
    "denoting signifies signifying equals for if when labelled labeled refers reflects"
)


_SECOND = words("for to that")  # `stands for`, `corresponds to`, `means that`


SUPERLATIVES = words("lowest highest best worst least most minimum maximum smallest largest")


_SEPARATORS = words(", ; and or to through / - .. then |")


_AUXILIARIES = words("do does did is are was were will would should can could has have had i")


_TELL = FORMAT | words("choose select pick put press with a the value number integer code then please")


_ENDS_RANGE = words("to through until till thru")


def find_marks(tokens: Sequence[Token], text: str, void: frozenset[int] = frozenset()) -> Marks:
    """The pairs of value and label that `tokens` state, in the way that most of them are stated.

    `void` holds the indices of numbers that are only examples.
    """
    closing = _closing(tokens)
    by_style: dict[str, list[tuple[int, int, int]]] = {}  # style: (number, label start, label end or -1)
    for index, token in enumerate(tokens):
        if token.kind != NUMBER or index in void:
            continue
        for style, begin, end in _styles(tokens, index, closing):
            by_style.setdefault(style, []).append((index, begin, end))
    best: list[tuple[int, int, int]] = []
    best_style = ""
    for style, pairings in by_style.items():
        pairings = _distinct(tokens, pairings)
        if style in _LISTS and not _counts([tokens[pairing[0]].value for pairing in pairings]):
            continue
        if style == "p" and not _is_label_first(tokens, pairings):
            continue
        if (len(pairings), _PRIORITY.get(style, 0)) > (len(best), _PRIORITY.get(best_style, 0)):
            best, best_style = pairings, style
    paired = slashed(tokens, text, void) or row_pair(tokens, text)
    if paired and len(paired) > len(best):
        return Marks(paired, "list", "")
    if not best:
        return NONE
    if best_style in _LABEL_FIRST:
        return _read_label_first(tokens, best, text)
    return _read_value_first(tokens, best, best_style, text)


_LISTS = frozenset([".", ")", "]", "|", "B", "b", "t"])


_LABEL_FIRST = words("p e c a o d t b i")


_PRIORITY = {"E": 9, "e": 8, "i": 8, "P": 7, "p": 6, "()": 5, "[]": 5, ":": 4, "-": 3, "|": 2, "a": 2}


def _closing(tokens: Sequence[Token]) -> dict[int, int]:
    """The index of the parenthesis that closes each opening one."""
    pairs: dict[int, int] = {}
    opened: list[int] = []
    for index, token in enumerate(tokens):
        if token.text == "(":
            opened.append(index)
        elif token.text == ")" and opened:
            pairs[opened.pop()] = index
    return pairs


def _is_text(tokens: Sequence[Token], index: int) -> bool:
    """True if a label may begin or end with the token at `index`."""
    if not 0 <= index < len(tokens):
        return False
    return (
        tokens[index].kind in (WORD, BROKEN)
        or tokens[index].text in QUOTES
        or tokens[index].text in ("(", "$")
    )


def _styles(tokens: Sequence[Token], index: int, closing: dict[int, int]) -> list[tuple[str, int, int]]:
    """The ways in which the number at `index` may be paired: (style, start of its label, its end or -1)."""
    ways = []
    after, before = index + 1, index - 1
    if at(tokens, after) in QUOTES and at(tokens, before) in QUOTES:
        after, before = after + 1, before - 1
    following, ahead = at(tokens, after), at(tokens, before)
    starts_line = (
        index == 0 or ahead in ("\n", "\n\n") or (ahead == "|" and at(tokens, before - 1)[0] == "\n")
    )
    if following == "=" and after + 1 < len(tokens):
        ways.append(("E", after + 1, -1))
    elif following in MEANS or (following in ("stands", "to") and _names(tokens, after + 1)):
        begin = after + 1
        while at(tokens, begin) in _SECOND and (at(tokens, begin) != "to" or following != "to"):
            begin += 1
        ways.append(("E", begin, -1))
    elif following == "the" and at(tokens, after + 1) in SUPERLATIVES:
        ways.append(("E", after, -1))
    elif following == "(" and after in closing and tokens[after + 1].kind != NUMBER:
        begin = after + 1
        while at(tokens, begin) in ("=", "meaning", "means", "ie", ",", "-", "labelled", "labeled"):
            begin += 1
        if begin < closing[after]:
            ways.append(("P", begin, closing[after]))
    elif following == ":" and at(tokens, after + 1)[0] != "\n":
        ways.append((":", after + 1, -1))
    elif following in (")", "]") and (_is_text(tokens, after + 1) or _starts_number(tokens, after + 1)):
        opened = {")": "(", "]": "["}[following] == ahead
        ways.append((("()" if following == ")" else "[]") if opened else following, after + 1, -1))
    elif following in (".", "-", "..", "|") and _is_text(tokens, after + 1):
        ways.append((following, after + 1, -1))
    elif starts_line and _is_text(tokens, after) and following not in ("to", "or", "and", "through"):
        ways.append(("B", after, -1))
    named = _is_text(tokens, before - 1) or at(tokens, before - 1) == ")"
    ends = following in _SEPARATORS or following[0] == "\n" or following == ")"
    ends = ends or (after < len(tokens) and tokens[after].kind == END)
    if ahead in ("(", "[") and following in (")", "]") and named:
        ways.append(("p", before, after + 1))
    elif ahead == "=" and at(tokens, before - 1) == "(" and following == ")" and _is_text(tokens, before - 2):
        ways.append(("p", before - 1, after + 1))
    elif ahead == "=" and named and following != "=":
        ways.append(("e", before, after))
    elif ahead == ":" and named and ends:
        ways.append(("c", before, after))
    elif ahead == "as" and named:
        ways.append(("a", before, after))
    elif ahead == ".." and named and ends:
        ways.append(("o", before, after))
    elif ahead == "-" and named and ends:
        ways.append(("d", before, after))
    elif ahead == "|" and following == "|" and at(tokens, after + 1)[0] == "\n" and named:
        ways.append(("t", before, after + 1))
    elif (stop := _condition_end(tokens, before)) >= 0:
        ways.append(("i", stop, after))
    elif (
        before >= 0
        and tokens[before].kind == WORD
        and following[0] == "\n"
        and ahead not in ("to", "and", "or")
    ):
        ways.append(("b", index, after))
    return ways


def _condition_end(tokens: Sequence[Token], before: int) -> int:
    """The comma in `If you agree, return 1`, where `before` is the token ahead of the number; else -1."""
    while before >= 0 and tokens[before].text in _TELL:
        before -= 1
    if at(tokens, before) != ",":
        return -1
    for index in range(before - 1, max(-1, before - 30), -1):
        if tokens[index].kind in (LINE, END) or tokens[index].text == ",":
            return -1
        if tokens[index].text in ("if", "when"):
            return before if index < before - 1 else -1
    return -1


def _names(tokens: Sequence[Token], index: int) -> bool:
    return index < len(tokens) and tokens[index].kind == WORD


def _starts_number(tokens: Sequence[Token], index: int) -> bool:
    """True if a label that begins with a number begins at `index`."""
    if not (index + 1 < len(tokens) and tokens[index].kind in (NUMBER, BROKEN)):
        return False
    return tokens[index + 1].kind == WORD or tokens[index + 1].text == "-" or tokens[index].priced


def _distinct(tokens: Sequence[Token], pairings: list[tuple[int, int, int]]) -> list[tuple[int, int, int]]:
    """The pairings up to the first value that comes again: there another list begins."""
    seen: set[int] = set()
    for number, pairing in enumerate(pairings):
        value = tokens[pairing[0]].value
        if value in seen:
            return pairings[:number]
        seen.add(value)
    return pairings


def _counts(values: list[int]) -> bool:
    """True for values that go up or down by one, but for a code or two at the end (9 = don't know)."""
    steps = [b - a for a, b in pairwise(values)]
    if not steps or abs(steps[0]) != 1:
        return False
    others = [number for number, step in enumerate(steps) if step != steps[0]]
    return not others or (others[0] >= len(steps) - 2 and len(steps) > 2)


def _is_label_first(tokens: Sequence[Token], pairings: list[tuple[int, int, int]]) -> bool:
    """Of numbers in parentheses: True if each ends a label, False if each begins one."""
    closed = sum(
        at(tokens, end) in _SEPARATORS or end >= len(tokens) or tokens[end].kind in (LINE, END)
        for _, _, end in pairings
    )
    ahead = pairings[0][1] - 1
    return 2 * closed > len(pairings) or (
        2 * closed == len(pairings) and ahead >= 0 and tokens[ahead].kind == WORD
    )


def _read_value_first(
    tokens: Sequence[Token], pairings: list[tuple[int, int, int]], style: str, text: str
) -> Marks:
    pairs = []
    joint = ""
    for number, (index, begin, end) in enumerate(pairings):
        following = pairings[number + 1][0] if number + 1 < len(pairings) else len(tokens)
        stop = end if end >= 0 else following
        label, last = clean(tokens, begin, stop, text, number + 1 == len(pairings), end >= 0)
        pairs.append(Mark(tokens[index].value, label, index, last + (end >= 0)))
        if number + 1 < len(pairings):
            joint = _joint(tokens, last + (end >= 0), following)
    return Marks(pairs, {"E": "means", "P": "aside"}.get(style, "list"), joint)


def _joint(tokens: Sequence[Token], begin: int, end: int) -> str:
    """ "to", "or" or "": how the tokens between two pairs join them."""
    between = [token.text for token in tokens[begin:end]]
    if any(word in _ENDS_RANGE for word in between) or between in (["-"], [".."], ["up", "to"]):
        return "to"
    return "or" if "or" in between else ""


def _read_label_first(tokens: Sequence[Token], pairings: list[tuple[int, int, int]], text: str) -> Marks:
    pairs: list[Mark] = []
    joint = ""
    floor = 0
    for number, (index, stop, end) in enumerate(pairings):
        begin = stop
        while begin > floor and tokens[begin - 1].kind not in (LINE, END):
            begin -= 1
        joint = _joint(tokens, floor, begin + 1) if number and begin < stop else joint
        if number:
            joint = _joint(tokens, floor, min(stop, floor + 2))
        label = label_before(tokens, begin, stop, number == 0)
        if number == 0 and len(pairings) > 1 and at(tokens, stop) != ",":
            label = _after_auxiliary(tokens, label, stop, pairings)
        shown = show(tokens, label, stop, text)
        pairs.append(Mark(tokens[index].value, shown, label, end))
        floor = end
    return Marks(pairs, "label first", joint)


def _after_auxiliary(
    tokens: Sequence[Token], begin: int, stop: int, pairings: list[tuple[int, int, int]]
) -> int:
    """Where the first label begins in `Did sales rise (1), fall (2)`: after the question that leads to it."""
    first = 0
    for index in range(max(0, begin - 1), stop - 1):
        if tokens[index].text in _AUXILIARIES:
            first = index + 1
    if first == 0:
        return begin
    second = label_before(tokens, pairings[0][2], pairings[1][1], False)
    return max(first, stop - max(1, pairings[1][1] - second))
