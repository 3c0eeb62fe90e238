"""The published prompt, byte for byte."""

from common.prompts import DEMOGRAPHIC_FIELDS, SYSTEM_PROMPT, user_prompt

PERSON = {
    "age": 45,
    "gender": "Male",
    "ethnicity": "hidden",
    "housing_type": None,
    "party_id": "Democrat",
    "household_size": 2,
}
QUESTION = "Do you agree? Only return an integer: 0 = no, 1 = yes, nothing else."


def test_the_prompt_has_the_published_wording_and_order():
    assert user_prompt(PERSON, QUESTION) == (
        "You are a survey respondent with the following demographic profile:\n"
        "- Age: 45\n- Gender: Male\n- Household Size: 2\n- Party Id: Democrat\n\n"
        "Read the question below and answer exactly as this person would. "
        "Follow the response instructions precisely.\n\n" + QUESTION
    )


def test_the_system_prompt_is_the_published_one():
    assert SYSTEM_PROMPT == (
        "You are simulating a survey respondent. Answer exactly as instructed, following the specified "
        "response format without additional commentary."
    )


def test_stimulus_first_puts_what_people_share_before_what_is_personal():
    one = user_prompt(PERSON, QUESTION, "stimulus-first")
    other = user_prompt({"age": 20}, QUESTION, "stimulus-first")
    shared = one[: one.index("Age: 45")]
    assert QUESTION in shared and other.startswith(shared)


def test_there_are_sixteen_demographic_fields():
    assert len(set(DEMOGRAPHIC_FIELDS)) == 16
