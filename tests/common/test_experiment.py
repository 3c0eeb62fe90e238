"""Experiment files: what they mean, and how mistakes in them are refused."""

from pathlib import Path

import pytest

from common.errors import Refusal
from common.experiment import fill, join_texts, load_experiment
from common.scale import Scale

GOOD = """\
vignette: "A proposal: a tax. {arm}"
arms:
  control: ""
  cost: It costs $300.
outcomes:
  vote:
    question: Would you vote for it?
    scale:
      labels: {0: no, 1: yes}
design:
  people_per_arm: 100
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "tax.yaml"
    path.write_text(text)
    return path


def refused(folder: Path, text: str) -> str:
    with pytest.raises(Refusal) as refusal:
        load_experiment(write(folder, text))
    assert "\n" not in str(refusal.value)
    return str(refusal.value)


@pytest.mark.parametrize("name", ["two-arm", "two-by-two", "rated-profiles"])
def test_the_worked_examples_are_accepted(name):
    experiment = load_experiment(Path(__file__).parents[2] / "configs/experiments" / f"{name}.yaml")
    assert experiment.contrasts
    for arm in experiment.arms:
        for outcome in experiment.scales:
            text = experiment.stimulus(arm, outcome)
            assert "{" not in text and "  " not in text
            assert text.endswith(", nothing else.")


def test_a_stimulus_ends_with_the_sentence_that_training_data_has(tmp_path):
    experiment = load_experiment(write(tmp_path, GOOD))
    assert experiment.stimulus(experiment.arms[1], "vote") == (
        "A proposal: a tax. It costs $300. Would you vote for it? "
        "Only return an integer: 0 = no, 1 = yes, nothing else."
    )
    assert experiment.stimulus(experiment.arms[0], "vote").startswith("A proposal: a tax. Would you")


def test_bare_no_and_yes_in_labels_stay_words(tmp_path):
    assert load_experiment(write(tmp_path, GOOD)).scales["vote"].labels == ((0, "no"), (1, "yes"))


def test_crossed_factors_make_every_combination_once_and_level_effects_that_add_up_to_zero(tmp_path):
    text = GOOD.replace("{arm}", "{who} {when}")
    text = text.replace(
        'arms:\n  control: ""\n  cost: It costs $300.', "factors:\n  who: [a, b, c]\n  when: [x, y]"
    )
    experiment = load_experiment(write(tmp_path, text))
    assert [arm.name for arm in experiment.arms] == ["a, x", "a, y", "b, x", "b, y", "c, x", "c, y"]
    for contrast in experiment.contrasts:
        assert sum(contrast.weights.values()) == pytest.approx(0)
    level = next(one for one in experiment.contrasts if one.name == "who: b - a")
    assert level.weights == {"a, x": -0.5, "a, y": -0.5, "b, x": 0.5, "b, y": 0.5}
    interaction = next(one for one in experiment.contrasts if one.kind == "interaction")
    assert interaction.weights == {"a, x": 1, "a, y": -1, "b, x": -1, "b, y": 1}


def test_reversing_labels_twice_gives_the_scale_back(tmp_path):
    experiment = load_experiment(write(tmp_path, GOOD.replace("{0: no, 1: yes}", "{1: never, 7: always}")))
    assert experiment.scale("vote", reverse=True).labels == ((1, "always"), (7, "never"))
    assert experiment.scale("vote") == Scale("ordinal", 1, 7, labels=((1, "never"), (7, "always")))


@pytest.mark.parametrize(
    ("old", "new", "line", "words"),
    [
        ("question: Would", "qestion: Would", 7, "did you mean `question`"),
        ("people_per_arm: 100", "people_per_arm: many", 11, "integer"),
        ("people_per_arm: 100", "people: 100", 10, "needs people_per_arm"),
        ("{arm}", "{amr}", 1, "did you mean `arm`"),
        ("{arm}", "{arm.__class__}", 1, "only a plain name"),
        ("{arm}", "{arm", 1, "write {{ and }}"),
        (" {arm}", "", 2, "change nothing"),
        ("{0: no, 1: yes}", "{0: no}", 8, "above low"),
        ("labels: {0: no, 1: yes}", "low: 1\n      high: 5\n      labels: {9: x}", 11, "outside the scale"),
        ("  cost: It", "  control: It", 4, "appears twice"),
        ("design:", "control: costs\ndesign:", 10, "did you mean `cost`"),
        ("design:", "design:\n  tasks: 1", 11, "kind: within"),
        ("design:", "arms2: {}\ndesign:", 10, "did you mean `arms`"),
        ("Would you vote for it?", "{cost: Would you.}", 7, "lacks the arm 'control'"),
        ("outcomes:", "factors: {a: [x, y]}\noutcomes:", 5, "either `arms`"),
        ('vignette: "A proposal: a tax. {arm}"', "vignette: {arm}", 1, "put the text in quotes"),
        ("question: Would you vote for it?", "question: {arm}", 7, "put the text in quotes"),
        ("question: Would you vote for it?", "question: {arm}?", 7, "put the text in double quotes"),
        ("labels: {0: no, 1: yes}", "kind: ranking", 9, "a scale of its own"),
        ("labels: {0: no, 1: yes}", "kind: free text", 9, "kind: choice"),
        ("labels: {0: no, 1: yes}", "kind: multiple choice", 9, "kind: select-all"),
        ("labels: {0: no, 1: yes}", "kind: slider", 9, "leave kind out"),
        ("labels: {0: no, 1: yes}", "low: 1\n      high: 3\n      labels: [a, b, c, d]", 11, "outside"),
        ("labels: {0: no, 1: yes}", "kind: select-all\n      labels: [a]", 8, "two or more options"),
        ("labels: {0: no, 1: yes}", "kind: select-all\n      labels: [a, a]", 10, "same label"),
    ],
)  # fmt: skip
def test_a_mistake_is_refused_with_its_line(tmp_path, old, new, line, words):
    assert old in GOOD
    message = refused(tmp_path, GOOD.replace(old, new, 1))
    assert f"tax.yaml line {line}" in message
    assert words in message


def test_what_is_no_yaml_and_what_is_missing_is_refused(tmp_path):
    assert "not valid YAML" in refused(tmp_path, "arms: [")
    assert "`key: value`" in refused(tmp_path, "- a\n- b\n")
    with pytest.raises(Refusal, match="is missing; give an experiment file such as"):
        load_experiment(tmp_path / "none.yaml")


def test_a_name_that_leaves_the_output_folder_is_refused(tmp_path):
    assert "can't name a file" in refused(tmp_path, "name: ../../etc\n" + GOOD)


def test_questions_can_differ_by_arm_and_have_several_wordings(tmp_path):
    text = GOOD.replace("question: Would you vote for it?", "question: {control: Yes, cost: [Now, Later]}")
    experiment = load_experiment(write(tmp_path, text))
    assert experiment.wordings(experiment.arms[1], "vote") == ["Now", "Later"]
    assert "Later" in experiment.stimulus(experiment.arms[1], "vote", 1)


def test_counterbalancing_needs_labels_that_can_be_reversed(tmp_path):
    text = (
        GOOD.replace("      labels: {0: no, 1: yes}", "      kind: open") + "  counterbalance_labels: true\n"
    )
    assert "no labels to reverse" in refused(tmp_path, text)
    uneven = GOOD.replace("labels: {0: no, 1: yes}", "kind: choice\n      labels: {1: a, 2: b, 9: c}")
    assert "line 10: labels can be reversed if" in refused(
        tmp_path, uneven + "  counterbalance_labels: true\n"
    )


def test_an_empty_placeholder_leaves_no_gap_and_doubled_braces_become_one():
    assert fill("A {x} b {{c}}.", {"x": ""}) == "A b {c}."
    assert join_texts(["First.\n\n", "", "Second."]) == "First.\n\nSecond."


POLL = """\
outcomes:
  channels:
    question: Where do you get your news?
    scale: {kind: select-all, labels: [TV, "The {Web}"]}
  trust:
    question: How far do you trust it?
    scale: {labels: [not at all, a little, a lot]}
design: {people: 800}
"""


def test_a_poll_asks_one_group_and_has_no_contrasts(tmp_path):
    experiment = load_experiment(write(tmp_path, POLL))
    assert [arm.name for arm in experiment.arms] == ["everybody"]
    assert experiment.contrasts == ()
    assert experiment.file.design.people_per_arm == 800
    assert experiment.stimulus(experiment.arms[0], "trust").startswith("How far do you trust it? Only return")


def test_labels_may_be_a_list_that_counts_from_one_or_from_low(tmp_path):
    assert load_experiment(write(tmp_path, POLL)).scales["trust"] == Scale(
        "ordinal", 1, 3, labels=((1, "not at all"), (2, "a little"), (3, "a lot"))
    )
    stepped = "{low: 0, step: 5, labels: [none, half, all]}"
    text = POLL.replace("{labels: [not at all, a little, a lot]}", stepped)
    scale = load_experiment(write(tmp_path, text)).scales["trust"]
    assert scale.labels == ((0, "none"), (5, "half"), (10, "all")) and scale.answers() == (0, 5, 10)


def test_select_all_that_apply_is_a_yes_or_no_question_for_each_option(tmp_path):
    experiment = load_experiment(write(tmp_path, POLL))
    assert list(experiment.scales) == ["channels: TV", "channels: The {Web}", "trust"]
    assert experiment.scales["channels: TV"] == Scale("binary", 0, 1, labels=((0, "no"), (1, "yes")))
    (arm,) = experiment.arms
    assert experiment.stimulus(arm, "channels: The {Web}") == (
        'Where do you get your news? Does this apply: "The {Web}"? '
        "Only return an integer: 0 = no, 1 = yes, nothing else."
    )
    text = POLL.replace("Where do you get your news?", '"Do you get news from {option}?"')
    experiment = load_experiment(write(tmp_path, text))
    assert experiment.stimulus(arm, "channels: TV").startswith("Do you get news from TV? Only")
