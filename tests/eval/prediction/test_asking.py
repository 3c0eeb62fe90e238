"""The parser reads what a reply states, and never guesses."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval.prediction.asking import is_bare, parse_answer, row_seed


@given(st.integers(-(2**53), 2**53))
def test_a_bare_integer_is_read_as_it_is(answer: int) -> None:
    assert is_bare(str(answer))
    assert parse_answer(str(answer)) == answer


@given(
    st.integers(-(10**9), 10**9), st.sampled_from([" {} ", "{}.", '"{}"', "**{}**", "{}.0", "\n{}\n", "`{}`"])
)
def test_an_integer_in_plain_wrapping_is_read_but_not_bare(answer: int, wrapping: str) -> None:
    text = wrapping.format(answer)
    assert parse_answer(text) == answer
    assert not is_bare(text)


@given(st.text())
def test_any_text_gives_an_integer_or_none_and_only_digits_give_one(text: str) -> None:
    answer = parse_answer(text)
    assert answer is None or isinstance(answer, int)
    if not any(sign in "0123456789" for sign in text):
        assert answer is None
    if is_bare(text):
        assert answer == int(text) or abs(int(text)) > 2**53


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("1,000", 1000),
        ("1,234,567", 1234567),
        ("\u22123", -3),
        ("+3", 3),
        ("007", 7),
        ("They lean left.\n\nAnswer: 6", 6),
        ("**Answer: 6**", 6),
        ("answer : -2.", -2),
    ],
)
def test_other_ways_to_write_one_integer_are_read(text: str, answer: int) -> None:
    assert parse_answer(text) == answer


@pytest.mark.parametrize(
    "text",
    [
        "", " ", "-", "seven", "3 or 4", "3-4", "3/7", "7.5", "1e3", "1,00", "10,0000", "I choose 5",
        "5 (agree)", "5\n6", "Answer: 5\nAnswer: 6", "Answer: 5 or 6", "Answer: 5\nbecause", "Rating: 5",
        "٣", "５", "²", "1 000", "99999999999999999999", "9" * 5000,
        "- 5", "--5", "5%", "$5", "0x10", "5\x00",
    ],
)  # fmt: skip
def test_a_reply_that_does_not_state_one_integer_is_not_read(text: str) -> None:
    assert parse_answer(text) is None


def test_a_rows_seed_names_the_row() -> None:
    seeds = {row_seed(0, study, sample) for study in ("a", "b") for sample in (0, 1, 2)} | {
        row_seed(1, "a", 0)
    }
    assert len(seeds) == 7
