"""Find the scale of a bare ask in the sentences and the list that stand before it, but not in a story."""

from collections.abc import Sequence
from itertools import pairwise

from common.scale import Scale
from scripts.data.scales.asks import (
    NONE,
    STRONG,
    Segment,
    ask_of,
    is_narrative,
    is_quantity,
    is_quoted,
    is_reported,
    passage_of,
    starts_mark,
    tells_story,
)
from scripts.data.scales.formats import find_prose
from scripts.data.scales.reading import ranged, read, read_legend
from scripts.data.scales.tokens import NUMBER, Token, words


def scale_before(tokens: Sequence[Token], parts: list[Segment], text: str) -> Scale | None:
    """The scale that the sentences before a bare ask state, nearest first; None if they tell a story.

    Beyond another question only what speaks of answers counts: an instruction, a key, a described scale.
    """
    if not parts:
        return None
    whole = tokens[parts[0].begin : parts[-1].end]
    told = find_prose(whole)
    asked = quantity = False
    index = len(parts) - 1
    while index >= 0:
        part = parts[index]
        if is_narrative(tokens, part):
            return None
        first = _list_begin(tokens, parts, index)
        if first < index or starts_mark(tokens, part.begin, part.end):
            scale = read(tokens[parts[first].begin : part.end], text, open_too=False)
            keyed = any(token.text in _KEY_SIGNS for token in tokens[parts[first].begin : part.end])
            if scale is not None and (scale.labels or first < index) and (keyed or not part.asks):
                return scale if not asked or _is_key(tokens, parts, first, scale, quantity) else None
            asked, quantity = asked or part.asks, quantity or is_quantity(tokens, part)
            index = first - 1
            continue
        scale = _of_sentence(tokens, parts, index, text, asked, quantity)
        if told and part.begin - parts[0].begin < told.last and part.end - parts[0].begin > told.first:
            same = scale is not None and (scale.low, scale.high) == (told.low, told.high)
            return scale if same else ranged(told, whole)
        if scale is not None:
            return scale
        if part.asks:
            asked = True
            quantity = quantity or is_quantity(tokens, part)
        index -= 1
    return None


_KEY_SIGNS = words("= means meaning being")
_HEADS = words(
    "value values code codes answer answers score scores meaning label labels response responses "
    "rating scale option options number choices"
)
_ABOUT_ANSWERS = _HEADS | words(
    "slider thermometer ladder rate ratings respond question questions statement statements item "
    "items indicate express agreement numbers integer"
)


def _speaks_of_answers(sentence: list[str]) -> bool:
    if any(word in _ABOUT_ANSWERS and word not in ("number", "numbers") for word in sentence):
        return True
    return any(b == "number" and a in ("a", "whole", "one") for a, b in pairwise(sentence))


def _is_key(tokens: Sequence[Token], parts: list[Segment], first: int, scale: Scale, quantity: bool) -> bool:
    """True if a list before another question explains the values of answers, and is no list of a story."""
    begin = parts[first].begin
    words_of = {token.text for token in tokens[begin : parts[first].end]}
    if "=" in words_of or "means" in words_of:
        return True
    head = {token.text for token in tokens[parts[first - 1].begin : parts[first - 1].end]} if first else set()
    if first and tokens[parts[first - 1].end - 1].text == ":" and head & _ABOUT_ANSWERS and not quantity:
        return True
    if tokens[begin].text == "|":
        return (
            bool(words_of & _HEADS)
            or sum(token.kind == NUMBER for token in tokens[begin : parts[first].end]) > 2
        )
    return scale.kind != "choice" and not quantity


def _list_begin(tokens: Sequence[Token], parts: list[Segment], index: int) -> int:
    """The first of the lines that, up to the one at `index`, list values and labels."""
    first = index
    while first >= 0 and _is_entry(tokens, parts[first]):
        first -= 1
    return min(first + 1, index)


def _is_entry(tokens: Sequence[Token], part: Segment) -> bool:
    if starts_mark(tokens, part.begin, part.end) or tokens[part.begin].text == "|":
        return True
    last = tokens[part.end - 1]
    closes = last.kind == NUMBER or last.text in (")", "]")
    ends_line = part.closer.startswith("\n") or (part.closer == "" and last.text == ")")
    return ends_line and closes and part.end - part.begin < 12


def _of_sentence(
    tokens: Sequence[Token], parts: list[Segment], index: int, text: str, asked: bool, quantity: bool
) -> Scale | None:
    """The scale of one sentence before a bare ask; `asked`: another question stands between."""
    part = parts[index]
    strength, begin = ask_of(tokens, part)
    if strength == STRONG:
        return read(passage_of(tokens, parts, index, begin), text)
    if (asked and (part.asks or quantity)) or is_quoted(tokens, part) or is_reported(tokens, part):
        return None
    words_of = {token.text for token in tokens[part.begin : part.end]}
    if strength == NONE:
        named = "scale" in words_of and not tells_story(words_of)
        return read_legend(tokens[part.begin : part.end], text, part.asks) if named or not asked else None
    if asked and not _speaks_of_answers([token.text for token in tokens[part.begin : part.end]]):
        return None
    return read(passage_of(tokens, parts, index, begin), text, open_too=not asked)
