"""Shorten long vignettes; never the question, the scale or the answer's format.

A row that is too long for a model's `cutoff_len` is dropped by the tokeniser. With
`vignette_most_characters` in the data settings its stimulus is shortened instead: words leave the end
of the vignette, the sentences that ask stay. A text is left as it is when it has no vignette, or when
the shortened text would no longer state the same scale.
"""

import re
from collections.abc import Sequence

from common.scale import Scale
from scripts.data.scales.parser import parse_scale

CUT = " [...]"
_SENTENCE_END = re.compile(r"[.!?][\"'”’)]*\s+")


def shorten(text: str, most: int) -> str:
    """`text` with at most `most` characters if that can be had by cutting its vignette, else as it is."""
    if len(text) <= most:
        return text
    begin = _question_begin(text)
    room = most - (len(text) - begin) - len(CUT) - 2
    if begin == 0 or room <= 0:
        return text
    beginning = text[:room].rpartition(" ")[0] or text[:room]
    shortened = f"{beginning.rstrip()}{CUT}\n\n{text[begin:]}"
    return shortened if _meaning(parse_scale(shortened)) == _meaning(parse_scale(text)) else text


def shortened_texts(texts: Sequence[str], most: int | None) -> list[str]:
    """Each of the distinct stimulus texts, shortened where `most` asks for it."""
    return list(texts) if most is None else [shorten(text, most) for text in texts]


def _question_begin(text: str) -> int:
    """Where the part that must stay begins: the paragraph that asks, or the sentence before the format."""
    span = parse_scale(text).span
    asks = span[0] if span else len(text.rstrip())
    paragraph = text.rfind("\n\n", 0, asks)
    if paragraph >= 0:
        return paragraph + 2
    ends = [match.end() for match in _SENTENCE_END.finditer(text, 0, asks)]
    # The last sentence end before the format closes the question; the one before it begins the question.
    return ends[-2] if len(ends) >= 2 else 0


def _meaning(scale: Scale) -> tuple[object, ...]:
    return scale.kind, scale.low, scale.high, scale.step, scale.labels
