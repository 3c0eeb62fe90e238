"""Tell where sentences end: full stops, question and exclamation marks, and lists on one line."""

from scripts.data.scales.tokens import END, LINE, NUMBER, QUOTES, SIGN, WORD, Token, numbered, words

_ABBREVIATED = words("min max mr mrs ms dr st vs approx jr sr prof gov sen rep inc ltd dept")
STARTERS = words(
    "only please return respond answer reply give provide enter choose select pick rate indicate how "
    "what which do does did is are would will should use on the in"
)


def tokenize(text: str, begin: int = 0) -> list[Token]:
    """The tokens of `text` from `begin` on; their positions count from the start of `text`."""
    return _sentences(numbered(text, begin), text)


def _sentences(tokens: list[Token], text: str) -> list[Token]:
    """Turn full stops, question and exclamation marks that end a sentence into END tokens."""
    result: list[Token] = []
    listed: int | None = None  # the value of the last `1.` of a list
    here = False  # whether that list is on this line
    quoted = 0  # the index of the mark that closes a quoted label
    for index, token in enumerate(tokens):
        if index < quoted and token.kind != LINE:
            result.append(token)
            continue
        if index == quoted > 0 and result[-1].text in (".", "?", "!") and index + 1 < len(tokens):
            if text[tokens[index + 1].start].isupper():
                token = Token(END, ".", 0, token.start, token.end)
        elif token.text in QUOTES and result and _labels(result[-1]):
            quoted = _closing_quote(tokens, index)
        if token.kind == WORD and text[token.end - 1] != ".":
            result.append(token)
            continue
        here = here and token.kind != LINE
        following = tokens[index + 1] if index + 1 < len(tokens) else None
        before = result[-1] if result else None
        if token.text in (".", "?", "!") and token.kind == SIGN:
            if token.text == "." and before and before.kind == NUMBER and before.end == token.start:
                ahead = result[-2] if len(result) > 1 else None
                starts = ahead is None or ahead.kind in (LINE, END)
                opens = starts or (before.value in (0, 1) and _counts_on(tokens, index, before.value + 1))
                counts = listed is not None and before.value == listed + 1 and (here or starts)
                if following and following.kind not in (LINE, END) and (counts or opens):
                    listed, here = before.value, True
                    result.append(token)
                    continue
            if _ends(before, token, following, tokens, index, text):
                token = token._replace(kind=END)
        elif token.text == ")" and before and before.kind == NUMBER and _asks_anew(tokens, index + 1, text):
            token, closed = token._replace(kind=SIGN), Token(LINE, "\n", 0, token.end, token.end)
            result += [token, closed]  # the last value of a list, `No (2) Only return ...`
            continue
        elif token.kind == WORD and following and following.kind == WORD:
            result.append(token)  # initials such as U.S. at the end of a sentence
            if following.text in STARTERS and text[following.start].isupper():
                result.append(Token(END, ".", 0, token.end, token.end))
            continue
        result.append(token)
    return result


def _asks_anew(tokens: list[Token], index: int, text: str) -> bool:
    """True if `Only return`, with a capital, begins at `index`."""
    if index + 1 >= len(tokens) or tokens[index].text not in ("only", "please"):
        return False
    return tokens[index + 1].text in STARTERS and text[tokens[index].start].isupper()


def _counts_on(tokens: list[Token], index: int, value: int) -> bool:
    """True if a list goes on with `value` and a full stop soon after `index`."""
    ahead = zip(tokens[index + 1 : index + 80], tokens[index + 2 : index + 81], strict=False)
    return any(number.kind == NUMBER and number.value == value and stop.text == "." for number, stop in ahead)


def _labels(token: Token) -> bool:
    """True if a quotation after this token is the label of a value."""
    return token.text in ("for", "=", "means", "is", "being", "meaning", ":") or token.kind == NUMBER


def _closing_quote(tokens: list[Token], index: int) -> int:
    """The index of the mark that closes the quotation at `index`; 0 if none does soon."""
    for closing in range(index + 2, min(index + 80, len(tokens))):
        token = tokens[closing]
        if (
            token.text in QUOTES
            and tokens[closing - 1].end == token.start
            and (
                closing + 1 == len(tokens)
                or tokens[closing + 1].start > token.end
                or tokens[closing + 1].kind != WORD
            )
        ):
            return closing
    return 0


def _ends(
    before: Token | None, mark: Token, following: Token | None, tokens: list[Token], index: int, text: str
) -> bool:
    """True if a full stop, question or exclamation mark ends a sentence."""
    if following is None or following.kind == LINE:
        return True
    if mark.text == "." and before and before.text in _ABBREVIATED and before.end == mark.start:
        return False
    while following.text in QUOTES or following.text in (")", "]"):
        index += 1
        if index + 1 >= len(tokens):
            return True
        closing, following = following, tokens[index + 1]
        if following.text in (",", ";", ":", ")") and following.start == closing.end:
            return False
    if following.kind == LINE:
        return True
    if mark.text == "." and following.start == mark.end:
        return False
    return mark.text != "." or not text[following.start].islower()
