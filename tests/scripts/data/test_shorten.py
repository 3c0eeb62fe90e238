"""Long vignettes lose words at their end; the question, the scale and the answer's format never change."""

from hypothesis import given
from hypothesis import strategies as st

from common.scale import Scale
from scripts.data.scales import parse_scale
from scripts.data.shorten import CUT, shorten, shortened_texts

QUESTION = "How likely would you be to help? "
FORMAT = "Only return an integer from 1 to 7, where 1 means never and 7 means always, nothing else."
STORY = "You meet a neighbour on the stairs who carries a heavy box. " * 20


def test_the_vignette_is_cut_at_a_word_and_marked_and_what_asks_stays():
    short = shorten(f"{STORY}\n\n{QUESTION}{FORMAT}", 400)
    vignette, asks = short.split(f"{CUT}\n\n")
    assert asks == QUESTION + FORMAT
    assert STORY.startswith(vignette + " ") and 300 < len(short) <= 400


def test_without_paragraphs_the_sentence_that_asks_stays():
    short = shorten(STORY + QUESTION + FORMAT, 300)
    assert short.endswith(f"{CUT}\n\n{QUESTION}{FORMAT}") and len(short) <= 300


def test_a_short_text_and_a_text_that_is_all_question_are_left_alone():
    assert shorten(QUESTION + FORMAT, 1000) == QUESTION + FORMAT
    assert shorten(QUESTION * 10 + FORMAT, 200).endswith(QUESTION + FORMAT)
    long_question = f"{STORY}{FORMAT}".replace(". ", ", ")
    assert shorten(long_question, 300) == long_question


def test_a_text_whose_labels_stand_in_the_vignette_is_left_alone_rather_than_asked_otherwise():
    labels = "1 = strongly favor, 2 = favor, 3 = oppose."
    text = f"{STORY}{labels}\n\n{QUESTION}Only return an integer, nothing else."
    assert shorten(text, 400) == text or parse_scale(shorten(text, 400)).labels == parse_scale(text).labels


@given(st.integers(100, 2000), st.integers(-9, 5), st.integers(1, 100), st.integers(0, 40))
def test_no_cut_ever_changes_the_scale(most: int, low: int, width: int, sentences: int):
    scale = Scale("bounded", low, low + width)
    text = f"{STORY[: 60 * sentences]}\n\n{QUESTION}{scale.sentence()}"
    short = shorten(text, most)
    assert short.endswith(QUESTION + scale.sentence())
    scale, wanted = parse_scale(short), parse_scale(text)
    assert (scale.low, scale.high, scale.kind) == (wanted.low, wanted.high, wanted.kind)


def test_nothing_is_shortened_unless_asked_for():
    assert shortened_texts([STORY * 100], None) == [STORY * 100]
