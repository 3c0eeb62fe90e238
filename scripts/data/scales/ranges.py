"""Read ranges, listed values and limits out of tokens: `from 1 to 7`, `0, 5, 10, ... 95`, `at most 10`."""

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

from scripts.data.scales.tokens import (
    BROKEN,
    END,
    LINE,
    NUMBER,
    QUOTES,
    WORD,
    Token,
    at,
    kind_at,
    skip_quotes,
    words,
)


class Range(NamedTuple):
    """A stated range, the tokens that state it, and how sure it is that answers are meant."""

    low: int
    high: int
    first: int
    last: int
    sure: int
    """3 after a word for the answer ("integer"), 2 after "from" or in brackets, 1 bare, 0 doubtful."""
    whole: bool = True
    """False when an end is no integer."""


class Listing(NamedTuple):
    """Values listed one by one, and the tokens that list them."""

    values: list[int]
    first: int
    last: int


LEADS = words("from between range ranging ranges runs goes of anywhere somewhere")


ANSWERS = words(
    "integer integers number numbers value values digit digits scale rating score percentage percent "
    "figure amount answer answers response responses range likert slider thermometer points"
)


UNITS = words(
    "points point degrees degree percent dollars dollar euros pounds cents years hours days weeks "
    "months minutes stars people times"
)


_NEUTRAL = words("points point degrees degree percent dollars dollar stars")


_THROUGH = words("to through thru until till - .. ~")


_COUNTED = UNITS - _NEUTRAL | words(
    "year hour day week month minute houses parts men women children items questions pages miles weeks"
)


def examples(tokens: Sequence[Token]) -> frozenset[int]:
    """The indices of tokens that only give examples: `(for example 0, 1, 2 or 3)`, `e.g. 7`."""
    inside: set[int] = set()
    index = 0
    while index < len(tokens):
        word = tokens[index].text
        short = word == "eg" and (tokens[index].end - tokens[index].start > 2 or at(tokens, index - 1) == "(")
        begins = (
            short
            or word == "example"
            or (word == "like" and at(tokens, index - 1) == "(")
            or (word == "such" and at(tokens, index + 1) == "as")
        )
        if begins or (word == "instance" and at(tokens, index - 1) == "for"):
            depth = 0
            while index < len(tokens) and tokens[index].kind not in (END, LINE):
                depth += {"(": 1, ")": -1}.get(tokens[index].text, 0)
                if depth < 0 or tokens[index].text == ";":
                    break
                inside.add(index)
                index += 1
        index += 1
    return frozenset(inside)


def find_ranges(tokens: Sequence[Token], void: frozenset[int]) -> list[Range]:
    """Every range that the tokens state, in the order of the text."""
    ranges = []
    index = 0
    while index < len(tokens):
        stated = None
        if tokens[index].kind in (NUMBER, BROKEN) and index not in void:
            stated = _range_at(tokens, index)
        if stated:
            ranges.append(stated)
        index = stated.last if stated else index + 1
    return ranges


def _range_at(tokens: Sequence[Token], index: int) -> Range | None:
    first = tokens[index]
    lead = index - 1
    while lead >= 0 and (
        tokens[lead].text in QUOTES or tokens[lead].text in ("the", "a", ":", ",", "=", "point")
    ):
        lead -= 1
    word = at(tokens, lead)
    after = _joint(tokens, index + 1, word)
    if after < 0:
        return None
    end = skip_quotes(tokens, after + 1)
    while at(tokens, end) in ("a", "the", "point", "+"):
        end += 1
    if end >= len(tokens) or tokens[end].kind not in (NUMBER, BROKEN):
        return None
    last = tokens[end]
    dashed = tokens[after].text in ("-", "..", "~")
    if dashed and at(tokens, end + 1) == tokens[after].text and kind_at(tokens, end + 2) == NUMBER:
        return None  # 1 - 2 - 3 - 4 - 5
    if dashed and at(tokens, index - 1) == tokens[after].text and kind_at(tokens, index - 2) == NUMBER:
        return None
    if last.spelled != first.spelled and first.text in ("one", "a"):
        return None
    if dashed and at(tokens, end + 1) == "-" and last.kind == BROKEN and last.value:
        return None
    low, high = sorted((first.value, last.value))
    whole = first.kind == NUMBER and last.kind == NUMBER
    if "strictly" in (at(tokens, lead - 1), at(tokens, lead)) or at(tokens, end + 1) == "exclusive":
        low, high = low + 1, high - 1
    if low >= high and whole:
        return None
    return Range(low, high, index, end + 1, _sure(tokens, lead, index, end), whole)


def _joint(tokens: Sequence[Token], begin: int, lead: str) -> int:
    """The token between the ends of a range whose first end stands before `begin`; -1 if it is no range."""
    after = skip_aside(tokens, begin)
    while at(tokens, after) in _WAY and at(tokens, after + 1) in _WAY | {"to"}:
        after += 1
    joint = at(tokens, after)
    if joint in _THROUGH:
        return after + 2 if [token.text for token in tokens[after : after + 3]] == ["-", "to", "-"] else after
    if (joint == "and" and lead in ("between", "range")) or (joint in (",", ";") and lead == "["):
        return after
    second = {"from": "to", "between": "and"}.get(lead)
    for position in range(after, min(after + 7, len(tokens) - 1)):  # from 0 at the bottom to 10 at the top
        if tokens[position].kind != WORD and tokens[position].text != ",":
            break
        if tokens[position].text == second and tokens[position + 1].kind == NUMBER:
            return position
    return -1


_WAY = words("all the way up down")


def skip_aside(tokens: Sequence[Token], index: int) -> int:
    """The index after a unit, a closing quotation mark and a short aside in parentheses."""
    index = skip_quotes(tokens, index)
    if at(tokens, index) in UNITS:
        index += 1
    if at(tokens, index) == "(":
        for end in range(index + 1, min(index + 25, len(tokens))):
            if tokens[end].text == ")":
                return end + 1
            if tokens[end].kind in (LINE, END):
                break
    return index


_BETWEEN_LEADS = words("ranging range in the of from ( , anywhere somewhere whole single")


def _sure(tokens: Sequence[Token], lead: int, index: int, end: int) -> int:
    word = at(tokens, lead)
    if word in LEADS or word in ("(", "[", "{"):
        before = lead - 1
        while before >= 0 and tokens[before].text in _BETWEEN_LEADS:
            before -= 1
        sure = 3 if at(tokens, before) in ANSWERS or word in ("[", "range", "ranging") else 2
    else:
        sure = 3 if word in ANSWERS else 1
    following = at(tokens, end + 1)
    if following in ("scale", "-point", "inclusive", "rating"):
        return 3
    if following in _COUNTED and sure < 3 and word not in ("from", "between"):
        return 0
    return sure


def find_listing(tokens: Sequence[Token], void: frozenset[int]) -> Listing | None:
    """The first values that are listed as answers: `1, 2 or 3`, `0/1`, `1 2 3 4 5`, `0, 5, ..., 95`."""
    index = 0
    while index < len(tokens):
        if tokens[index].kind != NUMBER or index in void:
            index += 1
            continue
        run, joints, after = _run(tokens, index, void)
        values = _listed(tokens, run, joints, after)
        if values:
            return Listing(values, index, after)
        index = after
    return _alternative(tokens, void)


def _alternative(tokens: Sequence[Token], void: frozenset[int]) -> Listing | None:
    """The two values of `1 if true, else 0` and `1 for yes, otherwise return 0`."""
    numbers = [index for index, token in enumerate(tokens) if token.kind == NUMBER and index not in void]
    if len(numbers) != 2 or tokens[numbers[0]].value == tokens[numbers[1]].value:
        return None
    first, second = numbers
    between = [token.text for token in tokens[max(first, second - 3) : second]]
    if "otherwise" in between or ("else" in between and "nothing" not in between):
        return Listing([tokens[first].value, tokens[second].value], first, second + 1)
    return None


_JOINTS = words(", ; / | - .. or and")


_PASSED = QUOTES | {"a", "an"}  # what may stand around a listed value


def _run(tokens: Sequence[Token], index: int, void: frozenset[int]) -> tuple[list[int], list[str], int]:
    """(indices of the numbers of a run, what stands between them, the index after the run)."""
    run = [index]
    joints: list[str] = []
    after = index + 1
    while True:
        joint = []
        position = after
        while position < len(tokens) and (
            tokens[position].text in _JOINTS or tokens[position].text in _PASSED
        ):
            if tokens[position].text not in _PASSED:
                joint.append(tokens[position].text)
            position += 1
        if kind_at(tokens, position) != NUMBER or position in void:
            return run, joints, after
        run.append(position)
        joints.append(" ".join(joint))
        after = position + 1


def _listed(tokens: Sequence[Token], run: list[int], joints: list[str], after: int) -> list[int]:
    """The values of a run of numbers, or none if it lists no answers."""
    values = [tokens[index].value for index in run]
    if len(values) < 2 or len(set(values)) < len(values):
        return []
    if any(".." in joint for joint in joints) and any("," in joint or ";" in joint for joint in joints):
        return _extrapolated(values, joints)
    kinds = set(joints)
    follows = at(tokens, skip_quotes(tokens, after))
    if any("or" in joint.split() for joint in joints):
        open_ended = follows in (
            "more",
            "less",
            "fewer",
            "higher",
            "lower",
            "above",
            "below",
            "over",
            "under",
        )
        counted = follows in _COUNTED or follows in UNITS - _NEUTRAL
        return [] if open_ended or (counted and len(values) < 3) or kinds & {"..", "-"} else values
    steps = {b - a for a, b in pairwise(values)}
    if kinds == {"/"}:
        return values if len(steps) == 1 and (len(values) > 2 or abs(steps.pop()) == 1) else []
    if len(values) >= 3 and kinds <= {",", ";", ", and", "and"}:
        return values if follows not in _COUNTED else []
    if len(values) >= 3 and len(kinds) == 1 and len(steps) == 1 and kinds <= {"", "|", "-", "..", "/"}:
        return values
    if kinds <= {"and", ", and"} and at(tokens, run[0] - 1) in ("integers", "numbers", "values", "either"):
        return values
    return []


def _extrapolated(values: list[int], joints: list[str]) -> list[int]:
    """Every value of a list with an ellipsis, such as `0, 5, 10, ..., 95`; none if its steps don't fit."""
    gaps = [number for number, joint in enumerate(joints) if ".." in joint]
    if len(gaps) != 1:
        return []
    head, tail = values[: gaps[0] + 1], values[gaps[0] + 1 :]
    steps = {b - a for part in (head, tail) for a, b in pairwise(part)} or {1 if tail[0] > head[-1] else -1}
    step = steps.pop()
    if steps or step == 0 or (tail[0] - head[-1]) % step or (tail[0] - head[-1]) // step < 1:
        return []
    if (tail[-1] - head[0]) // step > 10**6:
        return []
    return list(range(head[0], tail[-1] + (1 if step > 0 else -1), step))


_LOW = words("min minimum lowest smallest least")


_HIGH = words("max maximum highest largest greatest most")


_MORE = words("more greater higher larger above over")


_LESS = words("less fewer lower smaller below under")


_FILLERS = words(
    ". of is answer value score rating possible number : = the allowed being ( are than or equal should "
    "be must integer a an at response permitted valid"
)


def find_limits(tokens: Sequence[Token], void: frozenset[int]) -> Range | None:
    """A range stated by its two limits: `minimum 0, maximum 24`, `no more than 10`, `1 <= x <= 7`."""
    ends: dict[str, tuple[int, int]] = {}
    pending: str | None = None
    strict = negated = False
    for index, token in enumerate(tokens):
        word = token.text
        if token.kind == NUMBER and index not in void:
            end = pending
            if end is None and at(tokens, index + 1) in ("or", "and"):
                beyond = at(tokens, index + 2)
                end = "low" if beyond in _MORE else "high" if beyond in _LESS else None
            if end and end not in ends:
                shift = (1 if end == "low" else -1) if strict else 0
                ends[end] = (token.value + shift, index)
            pending, strict, negated = None, False, False
        elif word in ("<", "<=", ">", ">="):
            side = "low" if word[0] == "<" else "high"
            if kind_at(tokens, index - 1) == NUMBER:
                shift = 0 if "=" in word else (1 if side == "low" else -1)
                ends.setdefault(side, (tokens[index - 1].value + shift, index))
            else:
                pending, strict = ("high" if side == "low" else "low"), "=" not in word
        elif word in ("no", "not", "never"):
            negated, pending = True, None
        elif word in _LOW or word in _HIGH:
            pending = "low" if word in _LOW else "high"
            strict = False
        elif word in _MORE or word in _LESS:
            pending = "low" if (word in _MORE) != negated else "high"
            strict = not negated and at(tokens, index + 1) not in ("or",)
        elif word in ("exceed", "exceeding"):
            pending, strict = ("high" if negated else None), False
        elif word == "up" and at(tokens, index + 1) == "to":
            pending, strict = "high", False
        elif word in ("starts", "starting", "begins", "beginning"):
            pending, strict = "low", False
        elif word in ("ends", "ending"):
            pending, strict = "high", False
        elif word in ("positive", "nonnegative") and "low" not in ends:
            ends["low"] = (1 if word == "positive" else 0, index)
        elif word == "equal" or (word == "to" and at(tokens, index - 1) == "equal"):
            strict = False
        elif word not in _FILLERS and word not in QUOTES:
            pending = None
            negated = negated and word in ("any", "be")
    if len(ends) < 2 or ends["low"][0] >= ends["high"][0]:
        return None
    indices = [index for _, index in ends.values()]
    return Range(ends["low"][0], ends["high"][0], min(indices), max(indices) + 1, 3)
