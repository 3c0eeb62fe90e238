"""Read the scale that one passage states: the ask and what belongs to it."""

import re
from collections.abc import Iterable, Sequence
from itertools import pairwise

from common.scale import Kind, Scale
from scripts.data.scales.asks import FORMAT, unit_of
from scripts.data.scales.formats import (
    asks_for_several,
    find_bands,
    find_points,
    find_prose,
    find_step,
    is_fractional,
    shows_letters,
)
from scripts.data.scales.marks import NONE as NO_MARKS
from scripts.data.scales.marks import Mark, Marks, find_marks
from scripts.data.scales.ranges import Range, examples, find_limits, find_listing, find_ranges
from scripts.data.scales.tokens import NUMBER, QUOTES, WORD, Token, words

ORDINAL_POINTS = 11  # a range of at most so many answers counts as points, a longer one as a quantity

_DEGREE = re.compile(
    r"\b(?:strongly|somewhat|very|extremely|slightly|moderately|completely|totally|not at all|at all|a lot|"
    r"a little|much|more|less|most|least|never|rarely|seldom|sometimes|often|always|usually|definitely|"
    r"probably|certainly|likely|unlikely|rather|too|about right|same|neither|neutral|increased?|decreased?|"
    r"poor|fair|good|excellent|bad|worse|better|agree|disagree|favor|oppose|support|great deal|quite|fairly|"
    r"satisfied|dissatisfied|hardly|mostly|low|medium|high|daily|weekly|monthly|none|few|some|many|all)\b",
    re.IGNORECASE,
)
_MISSING = re.compile(
    r"don['’]?t know|no answer|refus|not sure|skip|not applicable|no opinion|unsure|prefer not", re.IGNORECASE
)
_POLAR = re.compile(r"(?:yes|no|true|false)\b", re.IGNORECASE)
_SCALED = words("scale thermometer slider from between anywhere range where")
_WEAK_MEANS = words("for if when is are to labelled labeled representing represents indicating reflects")


def read(tokens: Sequence[Token], text: str, open_too: bool = True) -> Scale | None:
    """The scale of a passage, None if it states none; its span is that of the tokens it was read from.

    `open_too`: whether a unit alone ("dollars") or letters as answers count, as they do in an ask.
    """
    if not tokens:
        return None
    if open_too and asks_for_several(tokens):
        return _unstated("several", tokens)
    void = examples(tokens)
    marks = find_marks(tokens, text, void)
    scale = _numeric(tokens, text, marks, void)
    if scale is not None or not open_too:
        return scale
    if is_fractional(tokens):
        return _unstated("fractions", tokens)
    if not any(token.kind == NUMBER for token in tokens) and _asks_for_words(tokens, text):
        return _unstated("letters", tokens)
    if unit := unit_of(tokens, text):
        return Scale("open", labels=((0, unit),), span=(tokens[0].start, tokens[-1].end))
    return None


def read_legend(tokens: Sequence[Token], text: str, asks: bool) -> Scale | None:
    """The scale of a sentence that is no request but holds one: `Yes = 1, No = 0.`, `How likely (0-100)?`."""
    void = examples(tokens)
    marks = find_marks(tokens, text, void)
    if len(marks.pairs) > 1:
        first = marks.pairs[0].first
        opened = any(token.text == "(" for token in tokens[max(0, first - 2) : first + 1])
        closed = (
            max(pair.last for pair in marks.pairs) >= len(tokens) - 1
            and min(pair.value for pair in marks.pairs) <= 1
        )
        shown = opened or marks.style in ("label first", "aside") or marks.joint == "to"
        shown = shown or (first > 0 and tokens[first - 1].text in ("where", "with", "if"))
        scaled = marks.joint == "to" and any(token.text == "scale" for token in tokens[:first])
        if (first < 2 and closed) or (asks and shown) or scaled:
            return _numeric(tokens, text, marks, void)
        return None
    listing = find_listing(tokens, void)
    if listing and (listing.first < 5 or tokens[listing.first - 1].text in ("(", ":")):
        ends = _end_labels(tokens, listing.first, listing.last, text)
        return (
            _listed(sorted(listing.values), ends, tokens, listing.last)
            if ends.pairs or listing.first < 2
            else None
        )
    for stated in find_ranges(tokens, void):
        ahead = [token.text for token in tokens[max(0, stated.first - 2) : stated.first]]
        following = tokens[stated.last].text if stated.last < len(tokens) else ""
        aside = following in (")", "]") and ("(" in ahead or "[" in ahead)
        final = stated.last == len(tokens) and stated.low in (0, 1) and "from" in ahead
        if asks and stated.whole and (aside or final or (ahead == ["from"] and following == ",")):
            return ranged(stated, tokens)
    return None


def _unstated(reason: str, tokens: Sequence[Token]) -> Scale:
    return Scale("unstated", span=(tokens[0].start, tokens[-1].end), reason=reason)


def _numeric(tokens: Sequence[Token], text: str, marks: Marks, void: frozenset[int]) -> Scale | None:
    """The scale of the numbers of a passage: a range, a listing, labelled values, limits or points."""
    pairs = marks.pairs
    listing = find_listing(tokens, void)
    limits = _best_range(tokens, marks, void)
    named_limits = find_limits(tokens, void)
    if limits is None and named_limits and (len(pairs) < 2 or marks.style == "label first"):
        limits, marks = named_limits, NO_MARKS
    if limits is not None:
        if not limits.whole or is_fractional(tokens):
            return _unstated("fractions", tokens)
        if listing and sorted(listing.values)[0] == limits.low and max(listing.values) == limits.high:
            return _listed(sorted(listing.values), marks, tokens, listing.last)
        return ranged(limits, tokens, marks)
    if listing and (len(pairs) < 2 or listing.first < pairs[0].first or _covers(listing.values, pairs)):
        ends = marks if len(pairs) > 1 else _end_labels(tokens, listing.first, listing.last, text)
        return _listed(sorted(listing.values), ends, tokens, listing.last)
    if len(pairs) >= 2:
        return _labelled(marks, tokens)
    if points := find_points(tokens):
        bounds = {11: (0, 10), 101: (0, 100)}.get(points[0], (1, points[0]) if points[0] <= 10 else None)
        if bounds:
            return ranged(Range(bounds[0], bounds[1], 0, points[1], 3), tokens)
    if told := find_prose(tokens):
        return ranged(told, tokens)
    return None


def _best_range(tokens: Sequence[Token], marks: Marks, void: frozenset[int]) -> Range | None:
    """The range that most surely is the answer's: none inside a label, the surer, then the first."""
    values = {pair.value for pair in marks.pairs}
    paired = len(marks.pairs) > 1
    candidates = []
    bands = find_bands(tokens, void)
    for stated in find_ranges(tokens, void):
        if stated in bands:
            continue
        within = paired and any(pair.first <= stated.first < pair.last for pair in marks.pairs)
        if within and not {stated.low, stated.high} <= values:
            continue
        if paired and stated.first >= marks.pairs[0].first and not {stated.low, stated.high} <= values:
            continue
        if stated.sure:
            candidates.append(stated)
    bare = [stated for stated in candidates if stated.sure == 1]
    if len(bare) > 1 and len(bare) == len(candidates) and len({(part.low, part.high) for part in bare}) > 1:
        return None  # 1-5, 6-10, 11-20: ranges as answers
    return max(candidates, key=lambda part: part.sure, default=None)


def _covers(values: list[int], pairs: list[Mark]) -> bool:
    return {pair.value for pair in pairs} <= set(values) and len(values) > len(pairs)


def _end_labels(tokens: Sequence[Token], first: int, last: int, text: str) -> Marks:
    """The labels of both ends in `Never 1 2 3 4 5 Always`."""
    begin, end = first, last
    while begin > 0 and (tokens[begin - 1].kind == WORD or tokens[begin - 1].text in "()|"):
        begin -= 1
    while end < len(tokens) and (tokens[end].kind == WORD or tokens[end].text in "()|"):
        end += 1
    sides = [
        [token for token in tokens[a:b] if token.kind == WORD and token.text not in FORMAT]
        for a, b in ((begin, first), (last, end))
    ]
    fences = (
        begin == 0 or tokens[begin - 1].text in ":;?.!\n\n",
        end == len(tokens) or tokens[end].text in ".!?\n\n",
    )
    if not all(fences) or not all(0 < len(part) < 6 for part in sides):
        return NO_MARKS
    values = (tokens[first].value, tokens[last - 1].value)
    labels = [" ".join(text[part[0].start : part[-1].end].split()) for part in sides]
    return Marks(
        [Mark(values[0], labels[0], begin, first + 1), Mark(values[1], labels[1], last - 1, end)],
        "aside",
        "to",
    )


def _span(tokens: Sequence[Token], last: int) -> tuple[int, int]:
    return tokens[0].start, tokens[max(0, min(last, len(tokens)) - 1)].end


def ranged(limits: Range, tokens: Sequence[Token], marks: Marks = NO_MARKS) -> Scale:
    """The scale of a stated range, with the labels of some or all of its points."""
    low, high = limits.low, limits.high
    inside = [pair for pair in marks.pairs if low <= pair.value <= high]
    values = {pair.value for pair in inside}
    complete = len(values) == high - low + 1
    beyond = len(inside) < len(marks.pairs)
    if marks.style == "list" and not complete and not {low, high} <= values:
        inside = []
    if len(inside) == 1 and not _is_named(inside[0], limits, marks, tokens):
        inside = []
    span = _span(tokens, max([limits.last, *(pair.last for pair in inside)]))
    if beyond and complete:
        return _labelled(marks, tokens)
    step, low, high = _stepped(tokens, low, high)
    return typed(low, high, step, inside, span)


def _is_named(pair: Mark, limits: Range, marks: Marks, tokens: Sequence[Token]) -> bool:
    """True if the only label in sight is that of a value, not a remark on the range that ends with it."""
    if marks.style == "aside":
        return pair.first + 1 != limits.last
    return marks.style == "means" and _means(tokens, pair)


def _means(tokens: Sequence[Token], pair: Mark) -> bool:
    """True if the value is joined to its label by a sign or word that says so."""
    after = pair.first + 1
    while after < len(tokens) and tokens[after].text in QUOTES:
        after += 1
    return after < len(tokens) and tokens[after].text not in _WEAK_MEANS


def _stepped(tokens: Sequence[Token], low: int, high: int) -> tuple[int, int, int]:
    """(step, low, high): the ends moved to the multiples, even or odd numbers that are asked for."""
    stated = find_step(tokens)
    if stated is None:
        return 1, low, high
    step, anchor = stated
    first, last = low, high
    if anchor is not None:
        first, last = low + (anchor - low) % step, high - (high - anchor) % step
    return (step, first, last) if first < last and (last - first) % step == 0 else (1, low, high)


def typed(low: int, high: int, step: int, marks: Iterable[Mark], span: tuple[int, int]) -> Scale:
    """The scale of a range: its kind by the number of its points and by its labels."""
    labels = tuple(sorted((mark.value, mark.label) for mark in marks if mark.label))
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


def _labelled(marks: Marks, tokens: Sequence[Token]) -> Scale:
    """The scale of labelled values without a stated range: they are all answers, or the ends of a range."""
    pairs = sorted(marks.pairs, key=lambda pair: pair.value)
    values = [pair.value for pair in pairs]
    span = _span(tokens, max(pair.last for pair in pairs))
    gaps = {b - a for a, b in pairwise(values)}
    labels = tuple((pair.value, pair.label) for pair in pairs)
    if gaps == {1}:
        return typed(values[0], values[-1], 1, pairs, span)
    if marks.joint != "to" and len(values) < 4 and _all_answers(marks, pairs, tokens):
        step = gaps.pop() if len(gaps) == 1 else 1
        kind: Kind = "binary" if len(values) == 2 else "choice"
        return Scale(kind, values[0], values[-1], step, labels, span)
    if len(values) <= 3 and not (len(gaps) > 1 and any(_MISSING.search(label) for _, label in labels)):
        return typed(values[0], values[-1], 1, pairs, span)  # both ends, perhaps the middle
    if len(gaps) == 1:
        return typed(values[0], values[-1], gaps.pop(), pairs, span)
    if any(token.text in ("thermometer", "slider") for token in tokens):
        return typed(values[0], values[-1], 1, pairs, span)
    return Scale("choice", values[0], values[-1], 1, labels, span)


def _all_answers(marks: Marks, pairs: list[Mark], tokens: Sequence[Token]) -> bool:
    """True if two or three labelled values, not next to one another, are all the answers there are."""
    if all(_POLAR.match(pair.label) for pair in pairs[:2]) or marks.joint == "or":
        return not any(token.text in ("scale", "range") for token in tokens)
    if any(token.text in _SCALED for token in tokens) or marks.style != "means":
        return False
    return not _means(tokens, pairs[0]) and not any(_DEGREE.search(pair.label) for pair in pairs)


def _listed(values: list[int], marks: Marks, tokens: Sequence[Token], last: int) -> Scale:
    """The scale of values listed one by one; labels count when they name values of the list."""
    pairs = [pair for pair in marks.pairs if pair.value in set(values)]
    if len(pairs) < 2:
        pairs = []
    span = _span(tokens, max([last, *(pair.last for pair in pairs)]))
    gaps = {b - a for a, b in pairwise(values)}
    if len(gaps) == 1:
        return typed(values[0], values[-1], gaps.pop(), pairs, span)
    names = {value: str(value) for value in values} | {pair.value: pair.label for pair in pairs if pair.label}
    return Scale("choice", values[0], values[-1], 1, tuple(sorted(names.items())), span)


def _graded(labels: tuple[tuple[int, str], ...]) -> bool:
    """True if most labels are degrees of something, so that their order means something."""
    return 2 * sum(bool(_DEGREE.search(label)) for _, label in labels) > len(labels)


_NUMERIC = words("integer integers number numbers digit digits value numeric percent percentage dollars")
_ANSWER_WORDS = words("yes no true false agree disagree")


def _asks_for_words(tokens: Sequence[Token], text: str) -> bool:
    """True if an ask without numbers wants letters or words: `Answer Yes or No`, `Only return A, B or C`."""
    if any(token.text in _NUMERIC for token in tokens):
        return False
    if shows_letters(tokens, text):
        return True
    words = [token.text for token in tokens if token.kind == WORD]
    for index, word in enumerate(words):
        if (
            word == "or"
            and 0 < index < len(words) - 1
            and {words[index - 1], words[index + 1]} & _ANSWER_WORDS
        ):
            return True
    quoted = sum(token.text in QUOTES for token in tokens) >= 4
    return ("or" in words and quoted) or bool({"word", "name", "label"} & set(words))
