"""The sentences at the top: where the model is, how sure that is, and what fine-tuning did."""

from dataclasses import replace

import pytest

from eval.reporting.headline import headline
from eval.reporting.results import MAIN, Results, leaders
from eval.scoring.record import Difference, Estimate


def with_skill(results: Results, estimate: Estimate) -> Results:
    """The closest model alone, with this corrected skill."""
    best = results.best
    skill = best.skill | {MAIN: best.skill[MAIN].model_copy(update={"corrected": estimate})}
    scores = {best.name: best.model_copy(update={"skill": skill})}
    return replace(results, scores=scores, comparison=None)


@pytest.mark.parametrize(
    ("value", "low", "high", "words"),
    [
        (
            0.62,
            0.5,
            0.7,
            "goes 62% of the way from a uniform guess to a perfect model (skill 0.62; 95% int",
        ),
        (0.2, -0.1, 0.4, "it may be no better than a guess"),
        (-0.3, -0.5, -0.1, "does no better than a uniform guess (skill −0.30"),
        (0.97, 0.9, 1.05, "can't be told from a perfect model"),
        (0.62, None, None, "a perfect model (skill 0.62)."),
        (None, None, None, "No skill can be given for tiny-sft: fewer than 2 studies."),
    ],
)
def test_the_headline_says_where_the_model_is(results, value, low, high, words):
    estimate = Estimate(value=value, low=low, high=high, studies=9, reason="fewer than 2 studies")
    assert words in headline(with_skill(results, estimate))[0]


def test_one_study_has_an_interval_over_its_people_and_says_so(results):
    estimate = Estimate(value=0.5, low_people=0.4, high_people=0.6, studies=1, reason="one study")
    sentence = headline(with_skill(results, estimate))[0]
    assert "95% interval 0.40 to 0.60 over the people of 1 study" in sentence


@pytest.mark.parametrize(("a", "b", "word"), [("tiny-base", "tiny-sft", "nearer to"),
                                              ("tiny-sft", "tiny-base", "farther from")])  # fmt: skip
def test_the_headline_tells_gain_from_loss_whichever_model_is_named_first(results, a, b, word):
    one = Difference(a=a, b=b, metric=MAIN, value=0.02, low=0.01, high=0.03, p=0.01)
    compared = results.comparison.model_copy(update={"differences": [one]})
    sentences = headline(replace(results, comparison=compared))
    assert f"0.020 {word} people than tiny-base (95% interval 0.010 to 0.030)" in sentences[-1]


def test_a_model_outside_the_comparison_is_in_the_table_and_is_said_to(results):
    table = [row for row in results.comparison.table if row.name != "tiny-dpo"]
    compared = results.comparison.model_copy(update={"table": table})
    rows, basis = leaders(replace(results, comparison=compared))
    assert "tiny-dpo" in [row.name for row in rows] and "tiny-dpo: on the answers that it" in basis


def changed(results: Results, **update) -> Results:
    """The closest model alone, with other parts of its scores."""
    best = results.best
    return replace(results, scores={best.name: best.model_copy(update=update)}, comparison=None)


def test_a_model_that_mostly_does_not_answer_is_said_to(results):
    parsing = results.best.parsing.model_copy(update={"off_scale_mass": 0.997})
    sentence = headline(changed(results, parsing=parsing))[1]
    assert sentence.startswith("But 99.7% of its probability lies off the answer scales")
    assert not any("off the answer" in sentence for sentence in headline(results))


def test_effects_of_a_few_clear_contrasts_are_not_put_into_a_sentence(results):
    few, many = (results.best.effects.model_copy(update={"clear": number}) for number in (1, 20))
    assert not any("direction" in sentence for sentence in headline(changed(results, effects=few)))
    assert any("direction" in sentence for sentence in headline(changed(results, effects=many)))
