"""A survey's answers as an experiment file describes them: select-all questions, arms, weights."""

from dataclasses import replace

import polars as pl
import pytest

from common.errors import Refusal
from common.experiment import make_experiment
from common.survey.file import survey_of
from common.survey.read import SurveyAnswers, survey_answers

MEDIA = {
    "question": "Which do you use?",
    "scale": {"kind": "select-all", "labels": ["TV", "Print, daily", "Web"]},
}
YES_NO = {"question": "Would you?", "scale": {"labels": {0: "no", 1: "yes"}}}


def read(table: dict[str, list], columns: dict, **content) -> SurveyAnswers:
    file = {"outcomes": {"media": MEDIA}, "design": {"people_per_arm": 10}, "columns": columns} | content
    survey = survey_of(pl.DataFrame(table, strict=False))
    return survey_answers(survey, make_experiment(file, "poll"))


def chosen(answers: SurveyAnswers) -> dict[int, list[int]]:
    """{row: its answers, in the order of the options}."""
    groups = answers.frame.group_by("row", maintain_order=True).agg("response")
    return dict(groups.iter_rows())


@pytest.mark.parametrize(
    "columns",
    [
        [["TV", None, None, "TV"], [None, "Print, daily", None, "Print, daily"], [None, "Web", None, None]],
        [["1", None, None, "1"], [None, "1", None, "1"], [None, "1", None, None]],
        [["1", "0", None, "1"], ["0", "1", None, "1"], ["0", "1", None, "0"]],
        [["1", None, None, "1"], [None, "2", None, "2"], [None, "3", None, None]],
        [["Yes", "No", "-99", "yes "], ["no", "YES", "-99", "yes"], ["not selected", "Selected", "", "No"]],
        [["x", None, None, "x"], [None, "X", None, "x"], [None, "x", None, None]],
    ],
)
def test_a_column_an_option_says_yes_or_no_however_it_is_coded(columns):
    table = dict(zip("abc", columns, strict=True))
    answers = read(table, {"outcomes": {"media": ["a", "b", "c"]}})
    assert chosen(answers) == {0: [1, 0, 0], 1: [0, 1, 1], 3: [1, 1, 0]}
    named = {"outcomes": {"media": {"TV": "a", "Print, daily": "b", "Web": "c"}}}
    again = read(table, named)
    assert again.frame.equals(answers.frame) and not answers.unmapped


@pytest.mark.parametrize(
    "cells",
    [
        ["TV", "Print, daily,Web", None, "TV,Print, daily"],
        ["tv ", "Web; Print, daily", "", "Print, daily | TV"],
        ["1", "2,3", "-99", "1, 2"],
        ["['TV']", "['Print, daily', 'Web']", None, "['TV', 'Print, daily']"],
    ],
)
def test_one_column_that_lists_what_was_chosen_says_the_same(cells):
    assert chosen(read({"a": cells}, {"outcomes": {"media": "a"}})) == {
        0: [1, 0, 0],
        1: [0, 1, 1],
        3: [1, 1, 0],
    }


def test_what_is_no_option_is_counted_and_columns_in_another_order_are_noticed():
    listed = read({"a": ["TV", "Radio,TV", "Radio"]}, {"outcomes": {"media": "a"}})
    assert sorted(map(str, listed.unmapped)) == ["media: 'Radio' (1)", "media: 'Radio' (1)"]
    swapped = read(
        {"a": ["Web"], "b": ["Print, daily"], "c": ["TV"]}, {"outcomes": {"media": ["a", "b", "c"]}}
    )
    assert [each.value for each in swapped.unmapped] == ["Web", "TV"]
    with pytest.raises(Refusal, match="lists 2 columns for 3 options"):
        read({"a": ["TV"], "b": ["Web"]}, {"outcomes": {"media": ["a", "b"]}})


def test_a_column_an_arm_as_randomizers_write_it():
    table = {"c": ["1", None, None, "1"], "t": [None, "1", None, "1"], "q": ["yes", "no", "yes", "no"]}
    answers = read(
        table, {"arm": {"control": "c", "treated": "t"}, "outcomes": {"vote": "q"}},
        outcomes={"vote": YES_NO}, arms={"control": "", "treated": "It costs."},
    )  # fmt: skip
    assert answers.frame.select("row", "arm", "response").rows() == [(0, 0, 1), (1, 1, 0)]
    assert answers.dropped["no arm"] == 1 and str(answers.unmapped[0]) == "arm: 'in several arms at once' (1)"


def test_each_of_several_columns_is_read_by_its_own_labels_and_nobody_answers_two():
    columns = {"outcomes": {"vote": ["a", "b"]}}
    file = {"outcomes": {"vote": YES_NO}, "design": {"people_per_arm": 10}, "columns": columns}
    survey = survey_of(pl.DataFrame({"a": ["1", None, None], "b": [None, "1", None]}))
    survey = replace(survey, value_labels={"a": {"1": "Yes", "2": "No"}, "b": {"1": "No", "2": "Yes"}})
    answers = survey_answers(survey, make_experiment(file, "poll"))
    assert answers.frame["response"].to_list() == [1, 0] and answers.dropped == {"no answer": 1}
    with pytest.raises(Refusal, match="1 people answered several of a, b"):
        survey_answers(survey_of(pl.DataFrame({"a": ["1"], "b": ["0"]})), make_experiment(file, "poll"))


def test_weights_with_decimal_commas_ages_as_floats_and_codes_for_missing_values():
    answers = read(
        {"q": ["1", "0", "#NULL!", "."], "w": ["0,75", "1,2", "1", "2"], "old": [30.0, None, 41.5, 999.0]},
        {"outcomes": {"vote": "q"}, "weight": "w", "demographics": {"age": "old"}}, outcomes={"vote": YES_NO},
    )  # fmt: skip
    assert answers.frame.select("weight", "age").rows() == [(0.75, 30), (1.2, None)]
    assert any("ages run from 30 to 999" in note for note in answers.notes)


def test_a_long_file_that_names_no_outcome_is_refused():
    columns = {"person": "p", "outcome": "o", "answer": "a"}
    with pytest.raises(Refusal, match="no cell of o names an outcome; there are vote"):
        read({"p": ["x"], "o": ["votes"], "a": ["1"]}, columns, outcomes={"vote": YES_NO})
