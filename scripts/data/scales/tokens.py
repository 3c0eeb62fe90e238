"""Cut a stimulus text into tokens: numbers with their values, words, signs, lines and sentence ends.

Every pass goes over the text once, from left to right, and no pattern backtracks, so that the time grows
with the length of the text whatever the text holds.
"""

import re
from collections.abc import Sequence
from typing import NamedTuple

NUMBER, BROKEN, WORD, SIGN, LINE, END = "number", "broken", "word", "sign", "line", "end"
LARGEST = 18  # digits; a longer number is no answer of 64 bits


def words(text: str) -> frozenset[str]:
    """The words of a list written in one string."""
    return frozenset(text.split())


class Token(NamedTuple):
    """A piece of the text, and where it stands."""

    kind: str
    """NUMBER, BROKEN (a decimal, a time, an ordinal, "7" in "7-point"), WORD, SIGN, LINE or END (of a
    sentence)."""
    text: str
    """In lower case; every dash as "-", leader dots as "..", a blank line as two line ends."""
    value: int
    """Of a NUMBER and, where it has one, of a BROKEN number; 0 for the others."""
    start: int
    end: int
    spelled: bool = False
    """True for a number in words."""
    priced: bool = False
    """True for a number with a sign of a currency."""


_RAW = re.compile(
    r"(?P<word>[^\W\d_](?!\.[A-Za-z]\.)[^\W_]*(?:['’][^\W\d_][^\W_]*)*)"
    r"|(?P<number>\d+(?:[.,'’\u00a0\u202f]\d+)*)"
    r"|(?P<initials>[A-Za-z]\.(?:[A-Za-z]\.)+)"
    r"|(?P<line>\n\s*|<br ?/?>)"
    r"|(?P<dots>\.(?:\s?\.)+|…)"
    r"|(?P<arrow>-{1,3}>|={1,3}>|[→⇒➔➡])"
    r"|(?P<box>\[\s?\]|\(\s\)|[☐□○◯●◻])"
    r"|(?P<dash>[-‐‑‒–—―−﹣－]+)"
    r"|(?P<equal>=+)|(?P<compare><=|>=|[≤≥<>])"
    r"|(?P<sign>[,;:()\[\]{}/|?!.\"“”„«»‘’'°º%$€£+~])"
)
_ONES = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen"
)
ONES = {word: number for number, word in enumerate(f"{_ONES} seventeen eighteen nineteen".split())}
TENS = {"twenty": 20, "thirty": 30, "forty": 40, "fifty": 50, "sixty": 60, "seventy": 70, "eighty": 80}
TENS |= {"ninety": 90}
TIMES = {"hundred": 100, "thousand": 1000, "million": 10**6, "billion": 10**9}
SHORT_TIMES = {"k": 1000, "m": 10**6, "mn": 10**6, "bn": 10**9, "b": 10**9}
_SPELLED = frozenset(ONES) | frozenset(TENS) | {"a", "hundred"}
QUOTES = frozenset("\"“”„«»‘’'")
CURRENCIES = {"$": "dollars", "€": "euros", "£": "pounds"}
COMPOUNDS = words(
    "point points year years month months week weeks day days hour hours minute minutes item items "
    "member person part step page dollar percent mile foot bedroom story letter digit star unit"
)
_JOINTS = words("to and or through thru from between than of until till")


def at(tokens: Sequence[Token], index: int) -> str:
    """The text of the token at `index`; a line end beyond the tokens."""
    return tokens[index].text if 0 <= index < len(tokens) else "\n"


def kind_at(tokens: Sequence[Token], index: int) -> str:
    """The kind of the token at `index`; empty beyond the tokens."""
    return tokens[index].kind if 0 <= index < len(tokens) else ""


def skip_quotes(tokens: Sequence[Token], index: int) -> int:
    """The first index from `index` on that is no quotation mark."""
    while index < len(tokens) and tokens[index].text in QUOTES:
        index += 1
    return index


def numbered(text: str, begin: int = 0) -> list[Token]:
    """The tokens of `text` from `begin` on, without sentence ends; positions count from its start."""
    return _numbers(_raw(text, begin), text)


def _raw(text: str, begin: int) -> list[Token]:
    tokens: list[Token] = []
    for match in _RAW.finditer(text, begin):
        kind, shown = match.lastgroup, match[0]
        start, end = match.span()
        if kind == "word":
            if shown == "o" and text[end : end + 1].isspace():  # a bullet of a list exported from Qualtrics
                if tokens and tokens[-1].text == ")":
                    tokens.append(Token(LINE, "\n", 0, start, end))
                if not tokens or tokens[-1].kind in (LINE, END) or tokens[-1].text == "?":
                    continue
            tokens.append(Token(WORD, shown.lower().replace("’", "'"), 0, start, end))
        elif kind == "number":
            _digits(tokens, shown, start)
        elif kind == "initials":
            tokens.append(Token(WORD, shown.lower().replace(".", ""), 0, start, end))
        elif kind == "line":
            tokens.append(Token(LINE, "\n\n" if shown.count("\n") > 1 else "\n", 0, start, end))
        elif kind == "box":  # the box or the circle that is ticked begins a line of a list
            if tokens and tokens[-1].kind not in (LINE, END):
                tokens.append(Token(LINE, "\n", 0, start, end))
        elif kind == "dash":
            first = not tokens or tokens[-1].kind == LINE
            if not (first and text[end : end + 1].isspace()):  # else the bullet of a list
                tokens.append(Token(SIGN, "-" if len(shown) < 3 else "---", 0, start, end))
        else:
            same = {"dots": "..", "arrow": "=", "equal": "=", "≤": "<=", "≥": ">="}
            tokens.append(Token(SIGN, same.get(kind or "") or same.get(shown, shown), 0, start, end))
    return tokens


def _digits(tokens: list[Token], shown: str, start: int) -> None:
    """Append a run of digits: a number, a list of numbers without spaces, or a broken one."""
    if shown.isdecimal() and len(shown) <= LARGEST:
        tokens.append(Token(NUMBER, shown, int(shown), start, start + len(shown)))
        return
    groups = re.split(r"[^\d]", shown)
    end = start + len(shown)
    if len(groups) == 1:
        whole = len(shown) <= LARGEST
        tokens.append(Token(NUMBER if whole else BROKEN, shown, int(shown) if whole else 0, start, end))
        return
    separators = set(re.sub(r"\d", "", shown))
    thousands = len(groups[0]) <= 3 and shown[0] != "0" and all(len(group) == 3 for group in groups[1:])
    points = separators == {"."} and len(groups) == 2 and not (tokens and tokens[-1].text == "€")
    if thousands and len(separators) == 1 and not points and len(groups) < 7:
        tokens.append(Token(NUMBER, shown, int("".join(groups)), start, end))
    elif separators == {","}:
        begin = start
        for group in groups:
            if begin > start:
                tokens.append(Token(SIGN, ",", 0, begin - 1, begin))
            _digits(tokens, group, begin)
            begin += len(group) + 1
    else:
        tokens.append(Token(BROKEN, shown, 0, start, end))


def _glued(tokens: list[Token], left: int, right: int) -> bool:
    return left >= 0 and right < len(tokens) and tokens[left].end == tokens[right].start


def _numbers(raw: list[Token], text: str) -> list[Token]:
    """Join signs, currencies, multipliers and units to their numbers, and words to numbers."""
    tokens: list[Token] = []
    index = 0
    while index < len(raw):
        token = raw[index]
        kind = token.kind
        if kind in (NUMBER, BROKEN):
            index = _numeral(tokens, raw, index)
        elif kind == WORD and token.text in _SPELLED and (spelled := _spelled(raw, index)):
            value, after = spelled
            number = Token(NUMBER, token.text, value, token.start, raw[after - 1].end, spelled=True)
            index = after
            _append_signed(tokens, number)
        else:
            tokens.append(token)
            index += 1
    return tokens


def _numeral(tokens: list[Token], raw: list[Token], index: int) -> int:
    """Append the number at `index` with all that belongs to it; the index after it."""
    token = raw[index]
    kind, value, after = token.kind, token.value, index + 1
    after, value = _spaced_thousands(tokens, raw, after, value)
    following = raw[after] if after < len(raw) else None
    if (
        following
        and following.text == ":"
        and _glued(raw, after - 1, after)
        and _glued(raw, after, after + 1)
    ) and raw[after + 1].kind == NUMBER:  # a time
        tokens.append(Token(BROKEN, token.text, 0, token.start, raw[after + 1].end))
        return after + 2
    if following and following.kind == WORD:
        glued = _glued(raw, after - 1, after)
        times = TIMES.get(following.text) or (SHORT_TIMES.get(following.text) if glued else None)
        if times:
            parts = token.text.split(".")
            exact = len(parts) == 2 and len(parts[-1]) <= 9 and "".join(parts).isdecimal()
            if kind == BROKEN and exact:
                value = int(parts[0] + parts[1]) * times // 10 ** len(parts[1])
                kind = NUMBER
            elif kind == NUMBER:
                value *= times
            after += 1
        elif glued:  # 1st, 5pm, 3D
            kind, after = BROKEN, after + 1
    elif (
        following
        and following.text == "-"
        and _glued(raw, after - 1, after)
        and _glued(raw, after, after + 1)
    ) and raw[after + 1].text in COMPOUNDS:
        kind = BROKEN  # 7-point, 18-year-old
    while after < len(raw) and raw[after].text in ("%", "°", "º"):
        after += 1
    if after < len(raw) and raw[after].text == "+" and _glued(raw, after - 1, after):
        after += 1
    number = Token(kind, token.text, value, token.start, raw[after - 1].end)
    _append_signed(tokens, number)
    return after


def _spaced_thousands(tokens: list[Token], raw: list[Token], after: int, value: int) -> tuple[int, int]:
    """Read on over groups of three digits after single spaces, as in `1 000` or `$12 500`."""
    token = raw[after - 1]
    if token.kind != NUMBER or len(token.text) > 3 or token.text[0] == "0":
        return after, value
    last = after
    while (
        last < len(raw)
        and last - after < 4
        and raw[last].kind == NUMBER
        and len(raw[last].text) == 3
        and raw[last].start == raw[last - 1].end + 1
    ):
        last += 1
    priced = bool(tokens) and tokens[-1].text in CURRENCIES
    if last > after and (raw[last - 1].text == "000" or priced):
        return last, int("".join(part.text for part in raw[after - 1 : last]))
    return after, value


def _append_signed(tokens: list[Token], number: Token) -> None:
    """Append a number; the currency and the sign that stand before it become part of it."""
    start, priced, negative, kind = number.start, False, False, number.kind
    if tokens and tokens[-1].text in CURRENCIES:
        start, priced = tokens.pop().start, True
    if tokens and tokens[-1].text in ("us", "usd") and priced:
        start = tokens.pop().start
    before = tokens[-1] if tokens else None
    if before and before.text in ("-", "+"):
        ahead = tokens[-2] if len(tokens) > 1 else None
        near = before.end == start
        if ahead and ahead.kind == WORD and ahead.end == before.start and ahead.text not in _JOINTS:
            kind = BROKEN if near else kind  # Covid-19
        elif _is_sign(ahead, before, near):
            tokens.pop()
            start, negative = before.start, before.text == "-"
            if ahead and ahead.text in CURRENCIES:
                tokens.pop()
                start, priced = ahead.start, True
    elif before and before.text in ("minus", "negative", "plus"):
        ahead = tokens[-2] if len(tokens) > 1 else None
        if not (ahead and ahead.kind == NUMBER) and not (ahead and ahead.text == "or"):
            tokens.pop()
            start, negative = before.start, before.text != "plus"
    value = -number.value if negative else number.value
    tokens.append(number._replace(kind=kind, value=value, start=start, priced=priced))


def _is_sign(ahead: Token | None, dash: Token, near: bool) -> bool:
    """True if a dash before a number is its sign, not the dash of a range."""
    if ahead is None or ahead.kind in (LINE, END):
        return near
    if ahead.kind in (NUMBER, BROKEN):
        return near and ahead.value < 0 and ahead.end < dash.start
    if near:
        return ahead.end < dash.start or ahead.text in "([{,;:=<>~/|$€£" or ahead.text in QUOTES
    return ahead.text in _JOINTS or ahead.text in (",", "(", "[")


def _spelled(raw: list[Token], index: int) -> tuple[int, int] | None:
    """(value, index after it) of a number in words that begins at `index`."""
    first = raw[index].text
    after = index + 1
    if first in ONES or first in TENS:
        current = ONES.get(first, TENS.get(first, 0))
    elif first in ("a", "hundred") and (
        first == "hundred" or (after < len(raw) and raw[after].text in TIMES)
    ):
        current = 1
        after -= first == "hundred"
    else:
        return None
    total = 0
    while after < len(raw):
        word = raw[after].text
        dashed = word == "-" and _glued(raw, after - 1, after) and _glued(raw, after, after + 1)
        unit = ONES.get(raw[after + 1].text if dashed else word, 0)
        if word in TIMES:
            if word == "hundred":
                current = max(current, 1) * 100
            else:
                total, current = total + max(current, 1) * TIMES[word], 0
            after += 1
        elif 0 < unit < 10 and current >= 20 and current % 10 == 0:
            current += unit
            after += 2 if dashed else 1
        elif word in TENS and current >= 100 and current % 100 == 0:
            current += TENS[word]
            after += 1
        else:
            break
        if total + current > 10**LARGEST:
            return None
    if after < len(raw) and raw[after].text == "percent":
        after += 1
    return total + current, after
