"""First cut of the scale parser; replaced below by the full one."""

import re

from common.scale import Scale

_RANGE = re.compile(
    r"from (-?\d+) to (-?\d+)(?:, where (-?\d+) means (.+?) and (-?\d+) means (.+?), nothing else)?"
)
_LABEL = re.compile(r"(-?\d+) = ([^,]+(?:, (?!-?\d+ =|nothing)[^,]+)*)")


def parse_scale(text: str) -> Scale:
    tail = text[text.rfind("Only return") :]
    if found := _RANGE.search(tail):
        low, high = sorted((int(found[1]), int(found[2])))
        labels = ((int(found[3]), found[4]), (int(found[5]), found[6])) if found[3] else ()
        kind = "binary" if high - low == 1 else "ordinal" if high - low < 12 else "bounded"
        return Scale(kind, low, high, 1, tuple(sorted(labels)))
    labels = tuple(sorted((int(a), b.strip()) for a, b in _LABEL.findall(tail)))
    if len(labels) > 1:
        kind = "binary" if len(labels) == 2 else "choice"
        return Scale(kind, labels[0][0], labels[-1][0], 1, labels)
    return Scale("unstated")
