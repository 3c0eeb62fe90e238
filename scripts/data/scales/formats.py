"""Read what else an ask may say: steps, points, a scale in prose, answers that are not one integer."""

from collections.abc import Sequence
from itertools import pairwise

from scripts.data.scales.ranges import Range, find_ranges, skip_aside
from scripts.data.scales.tokens import BROKEN, END, LINE, NUMBER, WORD, Token, at, kind_at, words


def find_step(tokens: Sequence[Token]) -> tuple[int, int | None] | None:
    """(step, anchor) that the tokens ask for: `in steps of 10`, `even numbers`.

    anchor: an admissible answer where the words name one, as multiples do (0); None where steps are
    counted from the lowest answer.
    """
    for index, token in enumerate(tokens):
        word, following = token.text, at(tokens, index + 1)
        number = tokens[index + 2] if kind_at(tokens, index + 2) == NUMBER else None
        if word in _MULTIPLES and following in ("of", "by", "to") and number and number.value > 1:
            return number.value, 0
        if word in _STEPS and following == "of" and number and number.value > 0:
            return number.value, None
        if word in _COUNTING and (size := _count_after(tokens, index + 1)):
            return size, None
        if word == "nearest" and kind_at(tokens, index + 1) == NUMBER and tokens[index + 1].value > 1:
            return tokens[index + 1].value, 0
        if word in ("even", "odd") and following in _WHOLE:
            return 2, int(word == "odd")
        if word in _STEPS and (size := _step_before(tokens, index)):
            return size, None
        if word in _TENS and at(tokens, index - 1) in ("in", "by"):
            return _TENS[word], 0
    return None


def _count_after(tokens: Sequence[Token], index: int) -> int:
    """The size in (going) `up in 15s`, `up by 15`, `in 15s`; 0 if none stands at `index`."""
    up = at(tokens, index) == "up"
    index += up
    by = at(tokens, index) in (("in", "by") if up else ("in",))
    sized = by and kind_at(tokens, index + 1) in (NUMBER, BROKEN)
    return tokens[index + 1].value if sized and tokens[index + 1].value > 1 else 0


def _step_before(tokens: Sequence[Token], index: int) -> int:
    """The size in `in 5-point increments`; 0 if none stands before the word at `index`."""
    back = index - 1
    while at(tokens, back) in ("-", "point", "unit", "dollar", "percent", "percentage"):
        back -= 1
    if (
        back < 0
        or tokens[back].kind not in (NUMBER, BROKEN)
        or at(tokens, back - 1) not in ("in", "by", "using")
    ):
        return 0
    return max(0, tokens[back].value)


_MULTIPLES = words("multiples multiple divisible nearest rounded counting going")
_COUNTING = words("counting going increasing rising")
_STEPS = words("steps increments intervals units jumps increment")
_WHOLE = words("number numbers integer integers value values whole numbered digits")
_TENS = {"twos": 2, "fives": 5, "tens": 10, "twenties": 20}


def find_points(tokens: Sequence[Token]) -> tuple[int, int] | None:
    """(number of points, the index after them) of a `7-point scale`."""
    for index, token in enumerate(tokens):
        if token.kind not in (NUMBER, BROKEN) or token.value < 2:
            continue
        after = index + 1 + (at(tokens, index + 1) == "-")
        if at(tokens, after) in ("point", "points", "pt"):
            for position in range(after + 1, min(after + 9, len(tokens))):
                if tokens[position].kind in (END, LINE):
                    break
                if tokens[position].text in ("scale", "likert", "scales"):
                    return token.value, position + 1
    return None


def find_prose(tokens: Sequence[Token]) -> Range | None:
    """A range told in prose: the end points of a scale, a feeling thermometer, bands that mean something."""
    bands = find_bands(tokens, frozenset())
    if len(bands) > 1 and all(part.whole for part in bands):
        low, high = min(part.low for part in bands), max(part.high for part in bands)
        return Range(low, high, bands[0].first, bands[-1].last, 2)
    named: list[int] = []
    naming = False
    for index, token in enumerate(tokens):
        if token.kind == NUMBER and naming:
            named.append(index)
        naming = token.text in ("point", "points", "number") or (
            naming and (token.kind == NUMBER or token.text in (",", "or", "and", "-", "to"))
        )
    values = sorted({tokens[index].value for index in named})
    if len(values) > 2 and values == list(range(values[0], values[-1] + 1)):
        return Range(values[0], values[-1], named[0], named[-1] + 1, 2)
    return _thermometer(tokens)


def _thermometer(tokens: Sequence[Token]) -> Range | None:
    """The 0 to 100 degrees of a feeling thermometer that is described in several sentences."""
    numbers: list[int] = []
    felt = False
    begin = 0
    for end in range(len(tokens) + 1):
        if end < len(tokens) and tokens[end].kind not in (END, LINE):
            continue
        named = {token.text for token in tokens[begin:end]}
        if named & {"thermometer", "degree", "degrees", "ratings"}:
            numbers += [index for index in range(begin, end) if tokens[index].kind == NUMBER]
            felt = felt or bool("thermometer" in named and named & _FEELINGS)
        begin = end + 1
    values = {tokens[index].value for index in numbers}
    if felt and values and min(values) == 0 and max(values) == 100:
        return Range(0, 100, numbers[0], numbers[-1] + 1, 2)
    return None


def find_bands(tokens: Sequence[Token], void: frozenset[int]) -> list[Range]:
    """Ranges that mean something (`50 to 100 mean that you feel warm`): each is a part of the scale."""
    if not any(token.text in _TELL for token in tokens):
        return []
    return [part for part in find_ranges(tokens, void) if at(tokens, skip_aside(tokens, part.last)) in _TELL]


_FEELINGS = words("rate feel feeling feelings warm favorable")
_TELL = words("mean means indicate indicates represent represents show shows reflect reflects")


_SEVERAL = words("integers numbers values ratings scores digits answers percentages")


def asks_for_several(tokens: Sequence[Token]) -> bool:
    """True if more than one number is asked for: `three integers`, `numbers separated by commas`."""
    for index, token in enumerate(tokens):
        word, following = token.text, at(tokens, index + 1)
        if word in _SEVERAL:
            ahead = tokens[index - 1] if index else None
            if (
                ahead
                and ahead.kind == NUMBER
                and ahead.value > 1
                and at(tokens, index - 2) not in ("of", "to")
            ):
                return True
            if following in ("separated", "in") and at(tokens, index + 2) in ("by", "order"):
                return True
            if at(tokens, index - 1) == "of" and at(tokens, index - 2) in (
                "list",
                "sequence",
                "series",
                "pair",
            ):
                return True
        if word == "comma" and at(tokens, index + 2) == "separated":
            return True
        if word == "separated" and following == "by":
            return True
        if word in _SINGLE and following in ("for", "per"):
            single = at(tokens, index - 1) in ("one", "an", "a")
            if at(tokens, index + 2) in _EACH or (single and following == "per"):
                return True
    return False


_SINGLE = words("integer number rating score value digit line")
_EACH = words("each every statement item row line person question")


def is_fractional(tokens: Sequence[Token]) -> bool:
    """True if the tokens ask for a number that need not be whole."""
    if any(token.text in ("integer", "integers", "whole") for token in tokens):
        return False
    for index, token in enumerate(tokens):
        if token.text in _FRACTIONS and at(tokens, index - 1) not in ("no", "without", "any"):
            return True
        if token.text == "real" and at(tokens, index + 1) in ("number", "value"):
            return True
    return False


_FRACTIONS = words("float decimal decimals fraction fractional")


def shows_letters(tokens: Sequence[Token], text: str) -> bool:
    """True if the answers are letters or words: `A, B or C`, `the letter`, `Yes or No`."""
    words = [token.text for token in tokens if token.kind == WORD]
    if "letter" in words or "letters" in words:
        return True
    letters = []
    for index, token in enumerate(tokens):
        if token.kind == WORD and len(token.text) == 1 and token.text != "i":
            marked = (
                at(tokens, index + 1) in (".", ")", ":", "=", ",", "]", "/", "-")
                or at(tokens, index - 1) == "or"
            )
            upper = text[token.start].isupper()
            if (marked and (upper or at(tokens, index + 1) in (")", "."))) or (
                tokens[index - 1].text == "or" if index else False
            ):
                letters.append(token.text)
    return any(b == chr(ord(a) + 1) for a, b in pairwise(letters)) and letters[0] in ("a", "b")
