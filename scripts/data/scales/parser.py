"""Read an item's answer scale out of its stimulus text.

The text is cut into tokens once. The last sentence that asks for the answer ("Only return an integer from
1 to 7, where ...") decides: its range, values, labels, step or unit are read. If it says only that a number
is wanted, the sentences and the list right before it are read, but no vignette: what stands beyond another
question, in a quotation or in a story is no scale. In doubt the scale is `unstated`. What is understood is
listed in tests/scripts/data/wordings.yaml; a wording that is missed is added there first.
"""

import re
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from itertools import pairwise

from common.scale import Scale
from scripts.data.scales.asks import (
    NONE,
    WEAK,
    Segment,
    ask_of,
    first_condition,
    is_quoted,
    is_reported,
    names_question,
    passage_of,
    segments,
)
from scripts.data.scales.before import scale_before
from scripts.data.scales.formats import find_step
from scripts.data.scales.reading import read, typed
from scripts.data.scales.sentences import tokenize
from scripts.data.scales.tokens import ONES, TENS, Token

TAILS = (700, 3000)  # characters at the end of a text in which the ask is looked for, first in few
NEAR = 800  # characters before an ask without a scale that may hold its scale; vignettes stand further off
LABELS_NEAR = 400  # characters before an ask with a range that may hold its labels
LONGEST = (
    10_000  # characters from an ask on that are read; a scale that goes on beyond them is not understood
)
PUBLISHED = "Only return"  # how SocSci210 begins its asks; found without cutting the text into tokens


def parse_scale(text: str) -> Scale:
    """The answer scale that `text` states, with the span where; kind `unstated` when it states none.

    Endpoints are sorted, so a range written from high to low is the same scale. Two labelled
    endpoints stand for all integers between them. At most 11 points without a label each are
    `ordinal`, more are `bounded`; fully labelled points are `ordinal` when most of their labels are
    degrees ("somewhat", "never") and `choice` when not. An `unstated` scale may say why (`reason`):
    "letters" (or words) as answers, "fractions", "several" numbers in one answer.
    """
    scale = _stated(text)
    return _listed(text, scale) or scale


def _listed(text: str, scale: Scale) -> Scale | None:
    """The values of an ask for the number of a unit that were listed with it: `1, 2, 3 or 4 stars`."""
    if scale.kind != "open" or not scale.labels or scale.span is None:
        return None
    first = max(0, scale.span[0] - NEAR)
    pattern = rf"\b(\d{{1,6}}(?:, ?\d{{1,6}})*),? or (\d{{1,6}}) {re.escape(scale.labels[0][1])}\b"
    found = list(re.finditer(pattern, text[first : scale.span[0]]))
    if not found:
        return None
    values = [int(number) for number in (*re.findall(r"\d+", found[-1][1]), found[-1][2])]
    steps = {b - a for a, b in pairwise(values)}
    if len(steps) != 1 or min(steps) < 1:
        return None
    return typed(values[0], values[-1], steps.pop(), (), (first + found[-1].start(), scale.span[1]))


def _stated(text: str) -> Scale:
    """What the ask states, and the sentences before a bare one."""
    begin = text.rfind(PUBLISHED)
    end = begin + LONGEST if begin >= 0 else len(text)
    scale = _parse_ending(text[begin:end]) if begin >= 0 else None
    if scale is not None and _is_complete(scale):
        return _moved(scale, begin)
    if begin < 0:
        return _parse_tail(text)
    near = NEAR if scale is None else LABELS_NEAR
    if scale is not None and not _may_label(text[max(0, begin - near) : begin], scale):
        return _moved(scale, begin)
    first = _after_space(text, begin - near)
    return _moved(_parse(text[first:end], bool(first)) or Scale("unstated"), first)


def _parse_tail(text: str) -> Scale:
    """The scale of a text whose ask isn't worded as in SocSci210."""
    for width in TAILS:
        first = _after_space(text, len(text) - width)
        scale = _parse(text[first:], bool(first))
        if first == 0 or (scale is not None and scale.span and scale.span[0] > width // 4):
            break
    return _moved(scale or Scale("unstated"), first)


def _after_space(text: str, begin: int) -> int:
    """the first index from `begin` on where no word is cut."""
    space = _SPACE.search(text, max(0, begin)) if begin > 0 else None
    return space.start() if space else max(0, begin)


_NAMES = {value: name for name, value in {**ONES, **TENS}.items()}


def _may_label(text: str, scale: Scale) -> bool:
    """False if the text before an ask with a range doesn't even hold both ends, so that it labels none."""
    ends = [abs(end) for end in (scale.low, scale.high) if end is not None]
    lower = text.lower()
    return all(str(end) in lower or _NAMES.get(end, "hundred") in lower for end in ends)


_SPACE = re.compile(r"\s")


def _is_complete(scale: Scale) -> bool:
    """True if nothing before the ask can add to its scale."""
    return scale.low is None or bool(scale.labels)


@lru_cache(4096)
def _parse_ending(ending: str) -> Scale | None:
    """The scale that an ending states by itself: many texts share one."""
    tokens = tokenize(ending)
    parts = segments(tokens)
    ask = _last_ask(tokens, parts, ending)
    scale = ask[1] if ask else None
    if scale and scale.span and len(ending) == LONGEST and scale.span[1] > LONGEST - 100:
        return Scale("unstated")
    return scale


def _moved(scale: Scale, begin: int) -> Scale:
    values = [value for value, _ in scale.labels] + [scale.low or 0, scale.high or 0]
    if max(values) >= 2**63 or min(values) < -(2**63):
        return Scale("unstated")  # no answer of 64 bits is meant
    if scale.span is None:
        return scale
    return replace(scale, span=(scale.span[0] + begin, scale.span[1] + begin))


def _parse(text: str, cut: bool) -> Scale | None:
    """The scale of a text, or of the end of one if it was `cut`."""
    tokens = tokenize(text)
    parts = segments(tokens)
    last_ask = _last_ask(tokens, parts, text)
    ask, scale = last_ask or (len(parts), None)
    if scale is not None and _is_complete(scale):
        return scale
    if scale is None and ask < len(parts) and names_question(tokens, parts[ask]):
        return None
    near = (tokens[parts[ask].begin].start if ask < len(parts) else len(text)) - NEAR
    before = scale_before(
        tokens, [part for part in parts[int(cut) : ask] if tokens[part.begin].start >= near], text
    )
    if scale is None:
        return before
    if before and before.labels and (before.low, before.high) == (scale.low, scale.high) and scale.step == 1:
        span = (before.span or (0, 0))[0], (scale.span or (0, 0))[1]
        return replace(before, span=span)
    return scale


def _last_ask(tokens: Sequence[Token], parts: list[Segment], text: str) -> tuple[int, Scale | None] | None:
    """(index of the last sentence that asks for the answer, its scale); None if no sentence does."""
    for index in range(len(parts) - 1, -1, -1):
        part = parts[index]
        strength, begin = ask_of(tokens, part)
        quoted = index < len(parts) - 1 and is_quoted(tokens, part)
        if strength == NONE or (strength == WEAK and (quoted or is_reported(tokens, part))):
            continue
        first = first_condition(tokens, parts, index)
        passage = passage_of(tokens, parts, index, begin)
        if first < index:
            passage = tokens[parts[first].begin : parts[index].end]
        scale = read(passage, text)
        if scale is None and begin > parts[index].begin:
            scale = read(passage_of(tokens, parts, index, parts[index].begin), text, open_too=False)
        if strength == WEAK and (key := _key_after(tokens, parts[index + 1 :], text)):
            return len(parts), key
        if scale is not None or find_step(tokens[parts[index].begin : parts[index].end]) is None:
            return index, scale
    return None


def _key_after(tokens: Sequence[Token], parts: list[Segment], text: str) -> Scale | None:
    """The scale of a question that stands behind the ask of an earlier one and brings its own."""
    return scale_before(tokens, parts, text) if any(part.asks for part in parts) else None
