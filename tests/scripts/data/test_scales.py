"""The scale parser: a table of wordings that a person can extend, and what rendering implies."""

import json
import random
import time
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from common.scale import Scale
from scripts.data.scales import ORDINAL_POINTS, parse_scale

WORDINGS = yaml.safe_load((Path(__file__).parent / "wordings.yaml").read_text())
FILLER = "In 2019 a town of 40,000 people, 18 to 65 years old, voted on 3 plans between 5 and 9 pm. "


def facts(scale: Scale) -> tuple:
    return scale.kind, scale.low, scale.high, scale.step, dict(scale.labels)


def expected(wording: dict) -> tuple:
    low, high = wording.get("low"), wording.get("high")
    return wording["kind"], low, high, wording.get("step", 1), wording.get("labels", {})


@pytest.mark.parametrize("wording", WORDINGS, ids=lambda wording: json.dumps(wording["text"])[:60])
def test_a_wording_of_the_table_is_understood(wording):
    assert facts(parse_scale(wording["text"])) == expected(wording)


@pytest.mark.parametrize("wording", WORDINGS, ids=lambda wording: json.dumps(wording["text"])[:60])
def test_numbers_of_a_vignette_before_it_change_nothing(wording):
    assert facts(parse_scale(FILLER + "Long story. " * 300 + wording["text"])) == expected(wording)


VIGNETTES = [
    FILLER,
    "He told her to choose between 3 and 5 houses, and she rated each from 1 to 10. ",
    "The plan has three parts: 1 = schools, 2 = roads, 3 = parks. It costs $5 to $10 million. ",
    "Anna (34) and Ben (36) earn 20 to 30 thousand a year. They have 1 dog, 2 cats and 3 birds. ",
    "On a scale from 0 to 10, critics gave the film a 7. Tickets cost 12 dollars. ",
    '"Please rate the mayor from 1 to 5," the clerk said. "4," said the man. ',
    "A poll found that 55 percent support it, 30% to 40% oppose it; the margin was 3 points. ",
    "Step 1: fill in the form. Step 2: pay $20. Step 3: wait 5-7 days. ",
    "The options were (1) to stay, (2) to leave or (3) to call. Nobody chose 2. ",
    "Between 1990 and 2010 prices rose from 100 to 250. The score was 3 - 2. ",
]


def test_no_story_full_of_numbers_becomes_the_scale():
    stories = [*VIGNETTES, "".join(VIGNETTES), "".join(reversed(VIGNETTES)) + "\n\n"]
    wrong = [
        (story[:30], wording["text"][:60])
        for story in stories
        for wording in WORDINGS
        if facts(parse_scale(story + wording["text"])) != expected(wording)
    ]
    assert wrong == []


def test_no_mixture_of_stories_becomes_the_scale():
    rng = random.Random(0)
    wrong = []
    for _ in range(1500):
        gap, wording = rng.choice(["", "\n", "\n\n"]), rng.choice(WORDINGS)
        text = gap.join(rng.sample(VIGNETTES, len(VIGNETTES))) + gap + wording["text"]
        if facts(parse_scale(text)) != expected(wording):
            wrong.append(text[-300:])
    assert wrong == []


STORIES = [
    "Imagine you have won $500 and can choose between option 1 and option 2.",
    "The committee scores each bid from 0 to 100, where 0 means very poor and 100 means excellent.",
    "Three of five neighbors, aged 30 to 45, chose plan 2.",
    "Would you rate the hotel 4 or 5 stars?",
    'The survey asked: "How satisfied are you (1 = not at all, 5 = very)?" The average was 3.',
    "A doctor explains that the pain scale runs from 0 to 10.",
    "Please note that the fee of $25 to $40 is due within 10 to 14 days.",
    "You can choose any number of coins from 0 to 10 to keep.",
    "Agenda:\n1. Budget\n2. Roads\n3. Parks\n",
    "| Year | Price |\n|---|---|\n| 1 | low |\n| 2 | high |\n| 3 | higher |\n",
    "The thermometer showed 0 degrees at night and 100 in the sauna.",
    "The rating (1-5) of the shop is 4.",
    "Press 1 for English or 2 for Spanish, says the machine.",
    "Return the form by 5 to 7 June.",
    "Enter the building through door 1, 2 or 3.",
    "The rules: give at least 1 and at most 5 coins.",
    "Rate your pain from 1 to 10, the nurse says. You say 3.",
    "Select between 2 and 4 toppings for the pizza.",
    "They report a 7-point lead on a 5-point scale.",
]
BARE = [
    ("How many books did you read? Only return an integer, nothing else.", "unstated"),
    ("How do you think the person feels? Only return an integer, nothing else.", "unstated"),
    ("What would you pay for it? Only return an integer representing dollars, nothing else.", "open"),
    ("What share of people would agree? Please answer with a whole number.", "unstated"),
]


@pytest.mark.parametrize("story", STORIES, ids=lambda story: story[:40])
@pytest.mark.parametrize("gap", [" ", "\n\n"])
def test_an_ask_without_a_scale_takes_none_from_a_story(story, gap):
    assert [parse_scale(story + gap + ask).kind for ask, _ in BARE] == [kind for _, kind in BARE]


AFTER = [
    " Thank you.",
    " (Question 3 of 12)",
    "\n\nNext item: The economy is in good shape.",
    "\n\nPage 4 of 9",
]


@pytest.mark.parametrize("after", AFTER)
def test_text_after_the_ask_changes_nothing(after):
    asks = [wording for wording in WORDINGS if "nothing else." in wording["text"]]
    wrong = [
        wording["text"]
        for wording in asks
        if facts(parse_scale(wording["text"] + after)) != expected(wording)
    ]
    assert len(asks) > 30
    assert wrong == []


def test_the_table_holds_at_least_two_hundred_different_wordings():
    assert len({wording["text"] for wording in WORDINGS}) >= 200


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("Which one?\nA. Bus\nB. Train\nOnly return the letter.", "letters"),
        ("Do you agree? Answer Yes or No, nothing else.", "letters"),
        ("Only return a decimal number between 0 and 1.", "fractions"),
        ("Only return three integers separated by commas.", "several"),
        ("How many books? Only return an integer, nothing else.", ""),
    ],
)
def test_an_unstated_scale_says_why(text, reason):
    scale = parse_scale(text)
    assert (scale.kind, scale.reason) == ("unstated", reason)


ORDINARY = [
    "apple",
    "bridge",
    "candle",
    "desert",
    "engine",
    "forest",
    "glass",
    "harbor",
    "island",
    "jacket",
    "lamp",
]
ORDINARY += [
    "meadow",
    "ocean",
    "piano",
    "quarry",
    "river",
    "silver",
    "table",
    "valley",
    "window",
    "yellow",
    "zebra",
]
LABELS = st.lists(
    st.lists(st.sampled_from(ORDINARY), min_size=1, max_size=4).map(" ".join),
    min_size=10,
    max_size=10,
    unique=True,
)


@st.composite
def scales(draw):
    labels = draw(LABELS)
    kind = draw(st.sampled_from(["binary", "choice", "ordinal", "bounded", "open", "unstated"]))
    low = draw(st.integers(-50, 50))
    if kind == "unstated":
        return Scale(kind)
    if kind == "open":
        return Scale(kind, labels=((0, labels[0]),))
    if kind == "binary":
        return Scale(kind, low, low + 1, labels=((low, labels[0]), (low + 1, labels[1])))
    if kind == "choice":
        count = draw(st.integers(3, 9))
        pairs = tuple((low + n, labels[n]) for n in range(count))
        return Scale(kind, low, low + count - 1, labels=pairs)
    if kind == "ordinal":
        high = low + draw(st.integers(3, ORDINAL_POINTS - 1))
    else:
        high = low + draw(st.integers(ORDINAL_POINTS, 2_000_000))
    return Scale(kind, low, high, labels=((low, labels[0]), (high, labels[1])))


@given(scales())
def test_a_scale_that_is_rendered_is_parsed_back(scale):
    text = FILLER + "How much?\n\n" + scale.sentence()
    parsed = parse_scale(text)
    assert facts(parsed) == facts(scale)
    if parsed.span is not None:
        assert text.index("Only return") <= parsed.span[0] < parsed.span[1] <= len(text)


RENDERINGS = [
    "Only return an integer from {a} to {b}.",
    "Respond with a number between {a} and {b}, nothing else.",
    "Please rate it from {a} ({x}) to {b} ({y}).",
    "Answer with an integer from {a} to {b}, with {a} meaning {x} and {b} meaning {y}.",
    "Use a scale from {b} to {a} where {b} is {y}, {a} is {x}.",
    "Give an integer of at least {a} and at most {b}.",
]


@given(st.integers(-1000, 1000), st.integers(2, 5000), st.sampled_from(RENDERINGS), st.booleans())
def test_a_range_is_parsed_back_from_every_rendering(low, width, rendering, commas):
    shown = [f"{value:,}" if commas else str(value) for value in (low, low + width)]
    text = rendering.format(a=shown[0], b=shown[1], x="dull", y="bright")
    parsed = parse_scale(FILLER + text)
    assert (parsed.low, parsed.high) == (low, low + width)
    assert parsed.kind == ("ordinal" if width < ORDINAL_POINTS else "bounded")
    if "{x}" in rendering:
        assert parsed.labels == ((low, "dull"), (low + width, "bright"))


MANY = 100_000
SECONDS = 2.0  # it takes a few tenths of one
RUNS = [
    "1",
    " ",
    ",",
    "-",
    "=",
    "=-",
    ".",
    ". ",
    "1,",
    "1 ",
    "1, ",
    "1-",
    "(",
    "1 (",
    "'",
    "\n",
    "1. ",
    "one hundred ",
]
RUNS += [
    "Only return ",
    "Only return 1 or ",
    "1 to ",
    "1 = ",
    "1 = a, ",
    "| 1 ",
    "1 or 2 or ",
    "a'",
    "a.",
    "U.S. ",
]
RUNS += [
    "1 yes\n",
    "e.g. 1 ",
    "[1] ",
    "a (1) ",
    "minimum ",
    "rate 1 ",
    "on a scale ",
    "1 means ",
    "1/",
    "$1 000 ",
    "1 for '",
]


@pytest.mark.parametrize("run", RUNS)
@pytest.mark.parametrize("before", ["", "Only return an integer: ", "Only return one of the integers 0, 5, "])
def test_the_time_grows_no_faster_than_the_text(run, before):
    text = before + run * (MANY // len(run))
    start = time.process_time()
    parse_scale(text)
    assert time.process_time() - start < SECONDS


@pytest.mark.parametrize("alphabet", ["0123456789 ,-", "1 =a\n.", "(1)[]|/ '\"", "0–9 —…:;"])
def test_no_long_text_of_anything_takes_long(alphabet):
    text = "Only return " + "".join(random.Random(1).choices(alphabet, k=MANY))
    start = time.process_time()
    parse_scale(text)
    assert time.process_time() - start < SECONDS


@given(st.text(max_size=400))
def test_no_text_makes_the_parser_fail(text):
    scale = parse_scale(text)
    assert scale.low is None or scale.high is None or scale.low <= scale.high
