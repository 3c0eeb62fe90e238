"""A sketch is an experiment file that loads, and that a person completes."""

from pathlib import Path

import polars as pl
import pytest

from common.errors import Refusal
from common.experiment import load_experiment
from scripts.data.survey_import import import_survey
from scripts.data.survey_sketch import in_order, sketch
from tests.helpers.qualtrics import AGREE, answers, write_export


@pytest.mark.parametrize("ending", [".csv", ".xlsx", ".sav", ".dta"])
def test_a_sketch_of_an_export_loads_and_imports_every_answer(tmp_path, monkeypatch, ending):
    monkeypatch.chdir(tmp_path)
    survey = write_export(Path(f"my export{ending}"))
    text = sketch(survey)
    Path("draft.yaml").write_text(text)
    drafted = load_experiment("draft.yaml")
    assert len(drafted.arms) == 10 and list(drafted.scales) == ["q1", "q2_1", "q3"]
    labels = [label for _, label in drafted.scales["q1"].labels]
    assert labels == list(AGREE)
    assert drafted.file.outcomes["q3"].question == {"": ["Would you vote for it?"]}
    columns = drafted.file.columns
    assert columns.person == "PROLIFIC_PID" and columns.weight == "w"
    assert columns.demographics == {
        "age": "age",
        "gender": "gender",
        "party_id": "party",
        "religion": "faith",
    }
    assert "# not used: ResponseId, Finished, DistributionChannel" in text and "check" in text
    assert import_survey(survey, "draft.yaml").rows == 3 * 397 - 1


def test_a_poll_without_arms_or_labels_is_sketched_too(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    answers(60).select("age", "Q2_1", "Q1").write_csv("poll.csv")
    Path("poll.yaml").write_text(sketch("poll.csv"))
    drafted = load_experiment("poll.yaml")
    assert len(drafted.arms) == 1 and drafted.file.columns.person is None
    assert import_survey("poll.csv", "poll.yaml").rows == 120 - 1
    Path("empty.csv").write_text("a,b\n")
    with pytest.raises(Refusal, match="holds no answers"):
        sketch("empty.csv")


@pytest.mark.parametrize("chosen", ["text", "1"])
def test_a_select_all_question_is_sketched_and_imported(tmp_path, monkeypatch, chosen):
    monkeypatch.chdir(tmp_path)
    options = ("TV", "Radio, too", "Web")
    rows = [
        {f"Q5_{n + 1}": f"Which do you use? - Selected Choice - {text}" for n, text in enumerate(options)}
    ]
    rows += [dict.fromkeys(rows[0], '{"ImportId":"x"}')]
    for number in range(12):
        picks = [number % 2 == 0, number % 3 == 0, number % 2 == 1]
        cells = [
            (text if chosen == "text" else "1") if pick else None
            for text, pick in zip(options, picks, strict=True)
        ]
        rows.append(dict(zip(rows[0], cells, strict=True)))
    pl.DataFrame(rows).write_csv("media.csv")
    Path("media.yaml").write_text(sketch("media.csv"))
    drafted = load_experiment("media.yaml")
    assert list(drafted.scales) == ["q5: TV", "q5: Radio, too", "q5: Web"]
    assert drafted.file.outcomes["q5: TV"].question[""] == ['Which do you use? Does this apply: "TV"?']
    imported = import_survey("media.csv", "media.yaml")
    answered = imported.frame().filter(pl.col("task_num") == 1)["response"].to_list()
    assert answered == [int(number % 3 == 0) for number in range(12)]


def test_labels_are_put_in_order_where_their_words_tell():
    mixed = [AGREE[number] for number in (3, 0, 2, 4, 1)]
    assert in_order(mixed) == (list(AGREE), True)
    assert in_order(["Yes", "No"]) == (["No", "Yes"], True)
    assert in_order(["red", "blue"]) == (["red", "blue"], False)
