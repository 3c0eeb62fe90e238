"""Read values and labels that stand apart: `Yes/No (1/0)`, a row of values over a row of labels."""

from collections.abc import Sequence
from itertools import pairwise

from scripts.data.scales.labels import Mark, show
from scripts.data.scales.tokens import LINE, NUMBER, WORD, Token, at, kind_at


def slashed(tokens: Sequence[Token], text: str, void: frozenset[int]) -> list[Mark]:
    """The pairs of `Yes/No (1/0)`: words between slashes, then as many numbers between slashes."""
    for index, token in enumerate(tokens):
        if (
            token.kind != NUMBER
            or index in void
            or at(tokens, index + 1) != "/"
            or at(tokens, index - 1) == "/"
        ):
            continue
        values = [index]
        while at(tokens, values[-1] + 1) == "/" and kind_at(tokens, values[-1] + 2) == NUMBER:
            values.append(values[-1] + 2)
        end = index - 1
        while end >= 0 and tokens[end].text in ("(", "[", "=", ":", "-"):
            end -= 1
        labels = [end]
        while at(tokens, labels[-1] - 1) == "/" and kind_at(tokens, labels[-1] - 2) == WORD:
            labels.append(labels[-1] - 2)
        if len(labels) == len(values) > 1:
            return [
                Mark(tokens[value].value, show(tokens, label, label + 1, text), labels[-1], values[-1] + 1)
                for value, label in zip(values, reversed(labels), strict=True)
            ]
    return []


def row_pair(tokens: Sequence[Token], text: str) -> list[Mark]:
    """The pairs of a table with a row of values and, above or below it, a row of as many labels."""
    rows: list[list[tuple[int, int]]] = []
    for begin, end in _lines(tokens):
        if any(token.text == "|" for token in tokens[begin:end]):
            cells = _cells(tokens, begin, end)
            if any(tokens[a].kind in (WORD, NUMBER) for a, _ in cells):
                rows.append(cells)
    for above, below in pairwise(rows):
        for values, labels in ((above, below), (below, above)):
            numbers = [(a, b) for a, b in values if b - a == 1 and tokens[a].kind == NUMBER]
            same = labels[-len(numbers) :] if len(numbers) > 2 else []
            fits = len(values) - len(numbers) < 2 and len(labels) in (len(numbers), len(values))
            if same and fits and all(tokens[a].kind == WORD for a, _ in same):
                return [
                    Mark(tokens[a].value, show(tokens, c, d, text), min(a, c), max(b, d))
                    for (a, b), (c, d) in zip(numbers, same, strict=True)
                ]
    return []


def _lines(tokens: Sequence[Token]) -> list[tuple[int, int]]:
    ends = [index for index, token in enumerate(tokens) if token.kind == LINE] + [len(tokens)]
    return list(zip([0, *(end + 1 for end in ends[:-1])], ends, strict=True))


def _cells(tokens: Sequence[Token], begin: int, end: int) -> list[tuple[int, int]]:
    """The (begin, end) of the cells of a table row that aren't empty or a rule."""
    cells = []
    start = begin
    for index in range(begin, end + 1):
        if index == end or tokens[index].text == "|":
            if index > start and tokens[start].text not in ("---", "-", ":"):
                cells.append((start, index))
            start = index + 1
    return cells
