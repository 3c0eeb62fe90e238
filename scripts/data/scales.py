"""Read an item's answer scale out of its stimulus text.

The parser looks for the sentence that asks for the answer ("Only return an integer from 1 to 7, where
..."), from the end of the text backwards, and reads stated values with their labels, ranges, steps and
units there. Numbers elsewhere in a vignette (years, ages, prices) are no scale. What it understands is
listed in tests/scripts/data/wordings.yaml; a wording that is missed is added there first.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import pairwise

from common.scale import Kind, Scale

ORDINAL_POINTS = 11  # a range of at most so many answers counts as points, a longer one as a quantity
TAIL = 2000  # characters at the end of a text in which the ask is looked for
NEAR = 600  # characters before an ask without a scale that may hold its scale; vignettes stand further off

_ONES = "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen"
WORDS = {word: number for number, word in enumerate(_ONES.split())}
WORDS |= {"sixteen": 16, "seventeen": 17, "eighteen": 18, "nineteen": 19, "twenty": 20, "thirty": 30}
WORDS |= {"forty": 40, "fifty": 50, "sixty": 60, "seventy": 70, "eighty": 80, "ninety": 90}
WORDS |= {"hundred": 100, "one hundred": 100, "a hundred": 100, "a thousand": 1000, "one thousand": 1000}
UNITS = {"dollar": "dollars", "euro": "euros", "percentage": "percent"}
UNITS |= {"$": "dollars", "€": "euros", "£": "pounds"}
_WORD = "|".join(sorted(WORDS, key=len, reverse=True))
_DIGITS = r"\d{1,3}(?:,\d{3})+(?!\d)|\d+"
# A number: sign, currency, digits or a word, percent. Not part of a word, a decimal, a date or a time.
_SIGN = r"(?:(?<![\w)])[-−–+]\s?|\b(?:minus|negative|plus)\s)"
NUMBER = rf"(?:{_SIGN}?[$€£]?\s?(?:{_DIGITS})(?![\d.:/]\d|\w)\s?[%°]?|{_SIGN}?\b(?:{_WORD})\b(?:\spercent)?)"
_ONLY = re.compile(NUMBER, re.IGNORECASE)

# Where the answer is asked for. The last one in the text counts.
_ASK = re.compile(
    r"\b(?:only|just)\s+(?:return|respond|answer|reply|give|provide|output|write|enter)\b"
    r"|\b(?:return|respond|answer|reply|provide|enter|give|write|type|output|choose|select|pick|indicate|"
    r"report|state|mark|use|rate|express|code|record|estimate|assign|score)\b(?=[^.?!\n]{0,90}?"
    rf"(?:\b(?:integer|number|digit|value|scale|percentage|percent|code|rating|dollars?)\b|{NUMBER}))"
    r"|\b(?:on|using|with)\s+(?:a|an|the|this)\s+[^.?!\n]{0,40}?\bscale\b"
    r"|\bscale\s+(?:of|from|ranging|runs|goes|is)\b|\b(?:response|answer)\s+(?:options|format|categories|scale)\b"
    r"|\b(?:options|answers|responses|your (?:answer|response|rating))\s*(?:are|is|must|should|can|:)",
    re.IGNORECASE,
)
_MEANS = (
    r"(?:\s*(?:=|→|->)\s*|\s+(?:means|meaning|mean|being|is|represents|representing|indicates|indicating|"
    r"stands for|standing for|corresponds to|corresponding to|denotes|denoting|signifies|signifying|"
    r"equals|for|if|labell?ed|refers to)\s+(?:that\s+)?)"
)
# A value, then its label: `1 = no`, `7 means ...`, `0 (no)`, and list entries such as `1. no` or `2) no`.
_VALUE_FIRST = re.compile(rf"(?P<v>{NUMBER})(?:{_MEANS}|\s*(?P<p>\((?=[^)\d])))", re.IGNORECASE)
_ENTRY = re.compile(
    r"(?:^|(?<=[\n;,:(?.])|(?<=\bor)|(?<=\band)|\s(?=\d+[.)]\s+[A-Z]))[ \t]*"
    rf"(?:\((?P<w>{NUMBER})\)|\[(?P<x>{NUMBER})\]|(?P<v>{NUMBER})\s*[:.)]|(?P<u>{NUMBER})\s+[-–—])\s+(?=\S)",
    re.IGNORECASE,
)
# A label, then its value: `no (0)`, `yes = 1`.
_LABEL_FIRST = re.compile(
    rf"(?P<label>[A-Za-z][A-Za-z'’/ -]{{0,80}}?)\s*"
    rf"(?:\(\s*(?:=\s*)?(?P<v>{NUMBER})\s*\)|=\s*(?P<u>{NUMBER}))",
    re.IGNORECASE,
)
_LEAD_IN = re.compile(
    r"^.*\b(?:from|either|enter|return|with|where|or|and|to|between|integer|choose|select)\s+", re.IGNORECASE
)
_ASIDE = r"(?:\s*\([^)]*\)|\s+(?:degrees|points|percent|dollars|years|hours|days)\b)?"
_RANGE = re.compile(
    rf"(?:(?P<lead>between|from|range of|ranging from|\bscale of)\s+)?(?P<a>{NUMBER}){_ASIDE}\s*"
    rf"(?P<join>\s(?:up\s+)?to|\sthrough|\sthru|\suntil|\sand|[-–—−]|\.\.\.?|…|,)\s*(?P<b>{NUMBER})",
    re.IGNORECASE,
)
_LEAST = (
    r"(?:at least|no (?:less|lower|fewer|smaller) than|not (?:less|lower) than|"
    r"minimum(?: value)?(?: of| is|:)?|lowest(?: answer| value)?(?: is|:)?)"
)
_MOST = (
    r"(?:at most|up to|no (?:more|higher|greater|larger) than|not (?:more|exceed(?:ing)?)(?: than)?|"
    r"maximum(?: value)?(?: of| is|:)?|highest(?: answer| value)?(?: is|:)?)"
)
_LIMITS = re.compile(
    rf"{_LEAST}\s+(?P<a>{NUMBER})[^.\n]{{0,40}}?{_MOST}\s+(?P<b>{NUMBER})",
    re.IGNORECASE,
)
_EITHER = re.compile(
    rf"(?P<list>{NUMBER}(?:\s*,\s*{NUMBER})*)\s*,?\s+or\s+(?P<last>{NUMBER})(?!\s*(?:more|less))",
    re.IGNORECASE,
)
_POINTS = re.compile(rf"\b(?P<n>{_DIGITS}|{_WORD})[- ]point\b[^.?!\n]{{0,30}}?\bscale\b", re.IGNORECASE)
_STEP = re.compile(
    rf"(?:steps|increments|intervals|multiples|units)\s+of\s+(?P<s>{NUMBER})|\bmultiple\s+of\s+(?P<t>{NUMBER})",
    re.IGNORECASE,
)
_UNIT = re.compile(
    r"\b(?:integer|number|value|amount|answer|figure)s?\s*,?\s*"
    r"(?:\(?(?:representing|expressed in|measured in|in|of)\s+"
    r"(?:whole\s+|U\.?S\.?\s+|the\s+(?:number|amount)\s+(?:of|in)\s+)?)"
    r"(?P<unit>[A-Za-z][A-Za-z ]{0,38}?[A-Za-z])\s*"
    r"(?=[,.;()]|$|\s(?:and|with|only|that|you|they|nothing|without)\b)"
    r"|\b(?P<sole>dollar|euro|percent(?:age)?)s?\b|(?P<sign>[$€£](?!\s?\d))",
    re.IGNORECASE,
)
_REST = re.compile(
    r"[\s,;.:]*(?:[-–—]\s+)?(?:and |with |but )?(?:nothing (?:else|more)|"
    r"no (?:other|additional|further) (?:text|words?|commentary)|"
    r"without (?:any )?(?:other|additional|further|explanation|commentary)|"
    r"do not (?:explain|write|add))\b.*$|[\s,;]+only[\s.]*$"
    r"|(?:[.?!]\s+|\n\s*)(?=(?:Only|Please|Return|Respond|Answer|Reply|Provide|Enter|Give|Write|Nothing|Do|"
    r"No|Just|Your|You|What|How|Choose|Select|Pick)\b).*$",
    re.DOTALL,
)
_SEPARATOR = re.compile(r"^[\s\"'“”‘’:;,]+|(?:[\s\"'“”‘’:;,.(]|\b(?:and|or|to|while|whereas|with|where)$)+$")
_DEGREE = re.compile(
    r"\b(?:strongly|somewhat|very|extremely|slightly|moderately|completely|totally|not at all|at all|a lot|"
    r"a little|much|more|less|most|least|never|rarely|seldom|sometimes|often|always|usually|definitely|"
    r"probably|certainly|likely|unlikely|rather|too|about right|same|neither|neutral|increased?|decreased?|"
    r"poor|fair|good|excellent|bad|worse|better|agree|disagree|favor|oppose|support|great deal|quite|fairly|"
    r"hardly|mostly|low|medium|high|daily|weekly|monthly|none|few|some|many|all)\b",
    re.IGNORECASE,
)
_MISSING = re.compile(
    r"don['’]?t know|no answer|refus|not sure|skip|not applicable|no opinion|unsure", re.IGNORECASE
)


@dataclass(frozen=True)
class _Mark:
    """A stated value and its label, and where the pair stands in the region."""

    value: int
    label: str
    start: int
    end: int


def parse_scale(text: str) -> Scale:
    """The answer scale that `text` states, with the span where; kind `unstated` when it states none.

    Endpoints are sorted, so a range written from high to low is the same scale. Two labelled
    endpoints stand for all integers between them. At most 11 points without a label each are
    `ordinal`, more are `bounded`; fully labelled points are `ordinal` when most of their labels are
    degrees ("somewhat", "never") and `choice` when not.
    """
    begin = text.rfind("Only return")  # the published wording, found without a search
    if begin < 0:
        tail = max(0, len(text) - TAIL)
        begin = max((found.start() + tail for found in _ASK.finditer(text[tail:])), default=len(text))
    scale = _parse(text, begin)
    return scale if scale.kind not in ("open", "unstated") else _parse(text, max(0, begin - NEAR))


@lru_cache(4096)
def _parse_from(text: str) -> Scale:
    """The scale that `text` states after its last ask, or else in a list; spans count from its start."""
    starts = [found.start() for found in _ASK.finditer(text)]
    unit: Scale | None = None
    end = len(text)
    for start in reversed(starts):
        scale = _read(text[start:end], start)
        if scale is not None and scale.kind != "open":
            return scale
        unit = unit or scale
        end = len(text) if end - start < 60 else end  # an ask inside an ask: read on to the end
    return _read_list(text, 0) or unit or Scale("unstated")


def _parse(text: str, begin: int) -> Scale:
    scale = _parse_from(text[begin:])
    values = [value for value, _ in scale.labels] + [scale.low or 0, scale.high or 0]
    if max(values) >= 2**63 or min(values) < -(2**63):
        return Scale("unstated")  # no answer of 64 bits is meant
    if scale.span is None:
        return scale
    return replace(scale, span=(scale.span[0] + begin, scale.span[1] + begin))


def _read(region: str, offset: int) -> Scale | None:
    """The scale stated in the text that follows an ask, or None."""
    marks = _marks(region)
    step = _step(region)
    limits = _range(region, marks)
    if limits is not None:
        low, high, end = limits
        inside = [mark for mark in marks if low <= mark.value <= high]
        span = (offset, offset + max([end, *(mark.end for mark in inside)]))
        beyond = [mark for mark in marks if not low <= mark.value <= high]
        if beyond and len(inside) == high - low + 1:
            return _labelled(marks, span)
        return _typed(low, high, step, inside, span)
    if len(marks) >= 2:
        return _labelled(marks, (offset, offset + max(mark.end for mark in marks)))
    if found := _EITHER.search(region):
        values = sorted({_value(found["last"]), *(_value(part[0]) for part in _ONLY.finditer(found["list"]))})
        return _enumerated(values, (offset, offset + found.end()))
    if found := _POINTS.search(region):
        return _typed(1, _value(found["n"]), 1, [], (offset, offset + found.end()))
    if found := _UNIT.search(region):
        unit = (
            found["unit"] or found["sole"] or {"$": "dollars", "€": "euros", "£": "pounds"}[found["sign"]]
        ).strip()
        unit = {"dollar": "dollars", "euro": "euros", "percentage": "percent"}.get(unit.lower(), unit)
        return Scale("open", labels=((0, unit),), span=(offset, offset + found.end()))
    return None


def _read_list(region: str, offset: int) -> Scale | None:
    """A list of at least two labelled values anywhere in the text, for texts that ask without a scale."""
    marks = [mark for mark in _marks(region) if mark.label]
    consecutive = all(b.value - a.value == 1 for a, b in pairwise(marks))
    if len(marks) < 2 or not consecutive:
        return None
    return _labelled(marks, (offset + marks[0].start, offset + marks[-1].end))


def _value(text: str) -> int:
    """The integer that a match of NUMBER stands for."""
    text = re.sub(r"\s+", " ", text.strip().lower())
    negative = text.startswith(("-", "−", "–", "minus", "negative"))
    bare = re.sub(r"^(?:[-−–+]|minus|negative|plus)\s?|[$€£%°,]| percent$", "", text).strip()
    bare = bare.replace(",", "").lstrip("$€£ ").rstrip("%° ")
    number = WORDS[bare] if bare in WORDS else int(bare)
    return -number if negative else number


def _marks(region: str) -> list[_Mark]:
    """The stated (value, label) pairs of a region, ascending; each value once, the last statement of it."""
    found = [(m.start(), m.end(), _value(m["v"]), m["p"] is not None) for m in _VALUE_FIRST.finditer(region)]
    if len({value for _, _, value, _ in found}) < 2:
        entries = list(_ENTRY.finditer(region))
        found = [(m.start(), m.end(), _value(m["v"] or m["w"] or m["x"] or m["u"]), False) for m in entries]
        if len({value for _, _, value, _ in found}) < 2:
            return _label_first(region)
    marks: dict[int, _Mark] = {}
    end = len(region)
    for start, label_start, value, in_parentheses in reversed(found):
        if value in marks:
            break  # an earlier list, for instance in the vignette
        closing = region.find(")", label_start) if in_parentheses else -1
        stop = closing if closing >= 0 else end
        label, length = _clean(region[label_start:stop])
        marks[value] = _Mark(value, label, start, label_start + length)
        end = start
    return sorted(marks.values(), key=lambda mark: mark.value)


def _label_first(region: str) -> list[_Mark]:
    marks = {}
    for found in _LABEL_FIRST.finditer(region):
        value = _value(found["v"] or found["u"])
        label = _LEAD_IN.sub("", found["label"])
        marks[value] = _Mark(value, _clean(label)[0], found.start(), found.end())
    return sorted(marks.values(), key=lambda mark: mark.value) if len(marks) >= 2 else []


def _clean(label: str) -> tuple[str, int]:
    """A label without separators and without what follows the scale; and where it ends in `label`."""
    cut = _REST.sub("", label, count=1)
    cut = cut.split("\n\n")[0]
    if cut.count(")") > cut.count("("):
        cut = cut[: cut.rindex(")")]
    clean = cut
    while (shorter := _SEPARATOR.sub("", clean)) != clean:
        clean = shorter
    return " ".join(clean.split()), len(cut.rstrip())


def _range(region: str, marks: list[_Mark]) -> tuple[int, int, int] | None:
    """(low, high, end) of the first stated range that is no part of a label."""
    if found := _LIMITS.search(region):
        return (*sorted((_value(found["a"]), _value(found["b"]))), found.end())  # type: ignore[return-value]
    first = min((mark.start for mark in marks), default=len(region))
    values = {mark.value for mark in marks}
    for found in _RANGE.finditer(region):
        join, lead = found["join"].strip().lower(), (found["lead"] or "").lower()
        if (
            join in ("and", ",")
            and lead != "between"
            and not (join == "," and region[: found.start()].endswith("["))
        ):
            continue
        low, high = sorted((_value(found["a"]), _value(found["b"])))
        own = {low, high} <= values and "(" in found[0]  # `1 (never) to 5 (always)`
        if low < high and (found.start() < first or own):
            return low, high, found.end()
    return None


def _step(region: str) -> int:
    found = _STEP.search(region)
    return max(1, _value(found["s"] or found["t"])) if found else 1


def _typed(low: int, high: int, step: int, marks: Iterable[_Mark], span: tuple[int, int]) -> Scale:
    """The scale of a range, with the labels of some or all of its points."""
    labels = tuple((mark.value, mark.label) for mark in marks if mark.label)
    if (high - low) % step:
        step = 1
    points = (high - low) // step + 1
    kind: Kind = "bounded"
    if points == 2:
        kind = "binary"
    elif points <= ORDINAL_POINTS:
        kind = "ordinal"
        if len(labels) == points and not _graded(labels):
            kind = "choice"
    return Scale(kind, low, high, step, labels, span)


def _labelled(marks: list[_Mark], span: tuple[int, int]) -> Scale:
    """The scale of labelled values without a stated range."""
    values = [mark.value for mark in marks]
    gaps = {b - a for a, b in pairwise(values)}
    if gaps == {1}:
        return _typed(values[0], values[-1], 1, marks, span)
    if len(gaps) == 1 and len(values) <= 3:  # both ends, perhaps the middle
        return _typed(values[0], values[-1], 1, marks, span)
    if len(gaps) == 1:
        return _typed(values[0], values[-1], gaps.pop(), marks, span)
    labels = tuple((mark.value, mark.label) for mark in marks)
    if len(values) == 3 and not any(_MISSING.search(label) for _, label in labels):
        return _typed(values[0], values[-1], 1, marks, span)
    return Scale("choice", values[0], values[-1], 1, labels, span)


def _enumerated(values: list[int], span: tuple[int, int]) -> Scale:
    """The scale of values listed without labels."""
    gaps = {b - a for a, b in pairwise(values)}
    if len(gaps) == 1:
        return _typed(values[0], values[-1], gaps.pop(), [], span)
    return Scale("choice", values[0], values[-1], 1, tuple((value, str(value)) for value in values), span)


def _graded(labels: tuple[tuple[int, str], ...]) -> bool:
    """True if most labels are degrees of something, so that their order means something."""
    return 2 * sum(bool(_DEGREE.search(label)) for _, label in labels) > len(labels)
