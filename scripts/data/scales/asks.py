"""Find the sentences that ask for an answer, what belongs to them, and what is only a story."""

import itertools
from collections.abc import Sequence
from typing import NamedTuple

from scripts.data.scales.tokens import (
    CURRENCIES,
    END,
    LINE,
    NUMBER,
    QUOTES,
    SIGN,
    WORD,
    Token,
    at,
    kind_at,
    words,
)

STRONG, WEAK, NONE = "strong", "weak", ""


class Segment(NamedTuple):
    """A sentence or a line: its tokens from `begin` to `end`, and what closes it ("" at the end)."""

    begin: int
    end: int
    closer: str

    @property
    def asks(self) -> bool:
        return self.closer.startswith("?")


def segments(tokens: Sequence[Token]) -> list[Segment]:
    """The sentences and lines of the tokens, without empty ones."""
    parts: list[Segment] = []
    begin = 0
    for index, token in enumerate(tokens):
        if token.kind in (END, LINE):
            if index > begin:
                parts.append(Segment(begin, index, token.text))
            elif parts and token.text == "\n\n":
                parts[-1] = parts[-1]._replace(closer=parts[-1].closer + "\n\n")
            begin = index + 1
    if begin < len(tokens):
        parts.append(Segment(begin, len(tokens), ""))
    return parts


FORMAT = words("return respond answer reply give provide output write enter type print submit state report")
TASKS = FORMAT | words(
    "rate choose select pick indicate mark use express code record estimate assign score place move "
    "set click drag circle tick tell evaluate specify insert put say judge press"
)
_LEADS = words(
    "please kindly now then next finally and must should can may will to simply just only again first "
    "so but always remember also below above here respond"
)
_OBJECTS = words(
    "integer integers number numbers digit value scale percentage percent code rating score dollars "
    "euros whole numeric numerical amount figure option options following answer answers choices "
    "choice"
)
_NOMINALS = words(
    "answer answers response responses rating ratings score scores scale options choices categories "
    "range minimum maximum min max values codes coding key legend format slider integer"
)
_TELLERS = words("participants respondents critics voters students others experts judges players subjects we")
_OWNERS = words(
    "your the possible valid allowed permitted available answer response rating acceptable following "
    "of this that a an on using use with for all any each"
)
_SCALE_LEADS = words("on using with use imagine picture")
_STORY = words(
    "he she they was were had said gave scored rated chose told ranged got received reported saw read "
    "thought agreed others"
)
_TOLD = words(
    "say answer reply said answered chose picked rated gave responded selected reported indicated "
    "replied told"
)


def _is_imperative(tokens: Sequence[Token], index: int, begin: int) -> bool:
    """True if the verb at `index` tells the reader to do something."""
    position = index - 1
    while position >= begin and tokens[position].text in _LEADS:
        position -= 1
    if position < begin or tokens[position].kind == SIGN:
        return True
    if tokens[index - 1].text == "and" and tokens[begin].text in TASKS | {
        "please",
        "read",
        "look",
        "consider",
    }:
        return True
    if tokens[position].text == "you":
        return at(tokens, position - 1) not in ("told", "asked", "that", "which", "if", "when")
    return tokens[position].text == "is" and tokens[position + 1].text == "to"


def ask_of(tokens: Sequence[Token], part: Segment) -> tuple[str, int]:
    """(STRONG, WEAK or NONE, index of the token where the ask begins) of a sentence.

    Strong is what speaks of the format of the answer alone: `Only return ...`, `Answer with a number,
    nothing else`. Weak is any other request with a number, a scale or a unit.
    """
    weak = -1
    numeric = any(token.kind == NUMBER for token in tokens[part.begin : part.end])
    for index in range(part.begin, part.end):
        token = tokens[index]
        if token.kind != WORD or token.text not in TASKS:
            continue
        if at(tokens, index - 1) in ("not", "don't", "never") or not _is_imperative(
            tokens, index, part.begin
        ):
            continue
        if token.text in FORMAT and (first := _only(tokens, index, part)) is not None:
            return STRONG, first
        if weak < 0 and (numeric or any(token.text in _OBJECTS for token in tokens[index : part.end])):
            weak = index
    if weak >= 0:
        return WEAK, part.begin
    if _is_nominal(tokens, part):
        return WEAK, part.begin
    return NONE, -1


def _only(tokens: Sequence[Token], index: int, part: Segment) -> int | None:
    """Where a strong ask with the verb at `index` begins; None if the verb makes none."""
    for position in range(max(part.begin, index - 2), min(index + 6, part.end)):
        if tokens[position].text in ("only", "just", "solely", "exclusively"):
            return min(position, index)
    for position in range(index, part.end - 1):
        if tokens[position].text in ("nothing", "no") and tokens[position + 1].text in (
            "else",
            "more",
            "other",
        ):
            return index
    return None


def _is_nominal(tokens: Sequence[Token], part: Segment) -> bool:
    """True for `Scale: 1 to 7`, `Response options: ...`, `On a scale from ...`, but not in a story."""
    words = [token.text for token in tokens[part.begin : part.end]]
    position = 0
    while position < len(words) and words[position] not in _NOMINALS:
        if words[position] not in _OWNERS and words[position] not in QUOTES and words[position] != "(":
            break
        position += 1
    starts = position < len(words) and words[position] in _NOMINALS
    scaled = any(
        word in ("scale", "thermometer", "ladder") and any(lead in words[:at] for lead in _SCALE_LEADS)
        for at, word in enumerate(words)
    )
    if not starts and not scaled:
        return False
    stated = scaled or ":" in words or part.end - part.begin < 8 or bool(_PREDICATES & set(words))
    return part.asks or (stated and not tells_story(set(words)))


_PREDICATES = words(
    "range ranges ranging run runs from go goes must should can may integer integers lies between where "
    "with following = mean means minimum maximum min max lowest highest"
)


def tells_story(words: set[str]) -> bool:
    """True if the words of a statement are those of a story about other people's answers."""
    return bool((_STORY | _TELLERS) & words)


def names_question(tokens: Sequence[Token], part: Segment) -> bool:
    """True for an ask that names one of several questions: `the answer to Q2`."""
    return any(token.text[0] == "q" and token.text[1:].isdecimal() for token in tokens[part.begin : part.end])


_REPORTS = words("says said asks asked explains told replies")


def is_reported(tokens: Sequence[Token], part: Segment) -> bool:
    """True for what somebody in a story says: `Rate it from 1 to 10, the nurse says.`"""
    return any(token.text in _REPORTS for token in tokens[part.begin : part.end])


_AUXILIARIES = words("do does did would will can could should may")


def is_narrative(tokens: Sequence[Token], part: Segment) -> bool:
    """True for the answer of an earlier question, `You said 40.`: what stands before it is a story."""
    words = [token.text for token in tokens[part.begin : part.end]]
    triples = zip(["", *words], words, words[1:], strict=False)
    return any(b == "you" and c in _TOLD and a not in _AUXILIARIES for a, b, c in triples)


def is_quantity(tokens: Sequence[Token], part: Segment) -> bool:
    """True for a question that asks for a number of its own: `How many ...?`, `What would you pay?`."""
    words = [token.text for token in tokens[part.begin : part.end]]
    pairs = set(itertools.pairwise(words))
    return bool(
        pairs & {("how", "many"), ("how", "old"), ("what", "age"), ("what", "year"), ("what", "amount")}
        or (
            ("how", "much") in pairs
            and {"pay", "spend", "money", "donate", "earn", "cost", "give"} & set(words)
        )
        or ({"pay", "donate"} & set(words) and "what" in words)
    )


def is_quoted(tokens: Sequence[Token], part: Segment) -> bool:
    """True if the sentence is a quotation that closes before the next one begins."""
    opens = any(token.text in QUOTES for token in tokens[part.begin : min(part.begin + 1, part.end)])
    opens = opens or at(tokens, part.begin - 1) in QUOTES
    closes = tokens[part.end - 1].text in QUOTES or (
        at(tokens, part.end + 1) in QUOTES and part.closer[:1] in ".?!"
    )
    opened = sum(token.text in QUOTES for token in tokens[part.begin : part.end])
    return (closes and (opens or opened % 2 == 1)) or (opens and opened > 1)


_MARKING = words("= : - . ) ] | .. means meaning is being equals")


def starts_mark(tokens: Sequence[Token], begin: int, end: int) -> bool:
    """True if the tokens begin with a value and the sign of a label: `1 = `, `(2) `, `| 3 | `."""
    while begin < end and (
        tokens[begin].text in ("(", "[", "|", "where", "with", "if", "here") or tokens[begin].text in QUOTES
    ):
        begin += 1
    if begin + 1 >= end or tokens[begin].kind != NUMBER:
        return False
    after = begin + 1
    while at(tokens, after) in QUOTES:
        after += 1
    if tokens[begin].spelled:
        return at(tokens, after) in ("=", "means", "meaning", "being")
    return at(tokens, after) in _MARKING or at(tokens, after) == "(" or kind_at(tokens, after) == WORD


def starts_key(tokens: Sequence[Token], begin: int) -> bool:
    """True for a row of a table or a line such as `1 = never`, which explains a value wherever it stands."""
    return at(tokens, begin) == "|" or (
        kind_at(tokens, begin) == NUMBER and at(tokens, begin + 1) in ("=", ":", "-", "means")
    )


_CONTINUES = words(
    "where with here wherein scale labels meaning minimum maximum min max lowest highest increments "
    "steps even odd multiples whole integers values"
)


def continues(tokens: Sequence[Token], part: Segment, listing: bool) -> bool:
    """True if a sentence goes on with the scale of the ask before it.

    `listing`: whether a list is awaited, after "the following" or a colon.
    """
    first = at(tokens, part.begin)
    if starts_mark(tokens, part.begin, part.end):
        return True
    if first == "(" and at(tokens, part.begin + 1) in ("where", "with", "scale", "range", "min", "minimum"):
        return True
    if first in _CONTINUES or (first in ("the", "use") and at(tokens, part.begin + 1) in _CONTINUES | {"a"}):
        return any(token.kind == NUMBER for token in tokens[part.begin : part.end]) or first in (
            "even",
            "odd",
        )
    if first == "|":
        return True
    if listing:
        return any(token.kind == NUMBER for token in tokens[part.begin : part.end])
    return False


_UNIT_HEADS = words("integer integers number value amount answer figure numbers")
_UNIT_STOPS = words("and with only that you they nothing without from between which where out")
_NO_UNITS = words(
    "your answer option choice response alternative statement category item button question scale box "
    "space format field form digits digit word words figures numerals parentheses brackets range one "
    "this next list order candidate row line"
)
_SOLE = {"dollar": "dollars", "dollars": "dollars", "euro": "euros", "euros": "euros", "percent": "percent"}
_MONEY = words("a dollar dollars euro euros amount value percentage")
_SOLE |= {"percentage": "percent", "cents": "cents", "usd": "dollars"}


def unit_of(tokens: Sequence[Token], text: str) -> str:
    """The unit of an open ask, such as "dollars" or "hours per week"; empty if it names none."""
    for index, token in enumerate(tokens):
        if token.text not in _UNIT_HEADS:
            continue
        after = index + 1
        while at(tokens, after) in (",", "("):
            after += 1
        if at(tokens, after) in ("expressed", "measured"):
            after += 1
        if at(tokens, after) not in ("representing", "in", "of"):
            continue
        begin = after + 1
        while at(tokens, begin) in (
            "whole",
            "us",
            "the",
            "number",
            "amount",
            "of",
            "in",
            "total",
            "full",
            "a",
            "an",
        ):
            begin += 1
        end = begin
        while end < len(tokens) and tokens[end].kind == WORD and tokens[end].text not in _UNIT_STOPS:
            end += 1
        words = {token.text for token in tokens[begin:end]}
        if words <= _MONEY and words & set(_SOLE):
            return next(_SOLE[token.text] for token in tokens[begin:end] if token.text in _SOLE)
        if begin < end <= begin + 9 and not words & _NO_UNITS:
            unit = " ".join(text[tokens[begin].start : tokens[end - 1].end].split())
            return _SOLE.get(unit.lower(), unit)
    for token in tokens:
        if token.text in _SOLE or token.text in CURRENCIES:
            return _SOLE.get(token.text) or CURRENCIES[token.text]
    return ""


def is_conditional(tokens: Sequence[Token], part: Segment) -> bool:
    """True for one case of several: `If you agree, return 1`, `Return 2 if you don't`."""
    told = tokens[part.begin : part.end]
    return sum(token.kind == NUMBER for token in told) == 1 and any(
        token.text in ("if", "when", "otherwise") for token in told
    )


def first_condition(tokens: Sequence[Token], parts: list[Segment], index: int) -> int:
    """The first of the sentences that tell, up to the one at `index`, when to give which answer."""
    while index > 0 and is_conditional(tokens, parts[index]) and is_conditional(tokens, parts[index - 1]):
        index -= 1
    return index


def passage_of(tokens: Sequence[Token], parts: list[Segment], index: int, begin: int) -> Sequence[Token]:
    """The tokens of an ask and of the sentences or lines after it that go on with its scale."""
    words = {token.text for token in tokens[begin : parts[index].end]}
    listing = tokens[parts[index].end - 1].text == ":" or bool(words & {"following", "below", "options"})
    end = parts[index].end
    for number in range(index + 1, len(parts)):
        gap = "\n\n" in parts[number - 1].closer and not listing
        if (gap and not starts_key(tokens, parts[number].begin)) or not continues(
            tokens, parts[number], listing
        ):
            break
        end = parts[number].end
    return tokens[begin:end]
