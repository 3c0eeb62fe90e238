"""Model cards: what a checkpoint was trained on and how well it predicts people."""

import re
from dataclasses import replace

import pytest
import yaml

from common.contract import RunRecord
from common.page.render import num
from eval.reporting import model_card as card
from eval.reporting.results import MAIN, Results, load
from tests.helpers import scored

HOSTILE = "</td><script>x</script> | [a](javascript:x) `b` *c* _d_ \\\n# heading"


def text_of(results: Results, stage: str = "sft") -> str:
    return card.model_card(results, "tiny", stage, results.runs["tiny", stage])


def front(text: str) -> dict:
    return yaml.safe_load(text.split("---\n")[1])


def with_group(results: Results, name: str) -> Results:
    """The results with a group of the largest gap called `name`."""
    best = results.best
    gap = best.subgroups.largest_gap.model_copy(update={"highest": name})
    changed = best.model_copy(update={"subgroups": best.subgroups.model_copy(update={"largest_gap": gap})})
    return replace(results, scores=results.scores | {best.name: changed})


def test_a_card_holds_the_figures_beside_controls_and_ceiling(results):
    text = text_of(results)
    for name in ("tiny-sft", "tiny-base"):
        estimate = results.scores[name].metrics[MAIN]
        spread = f"{num(estimate.low)} to {num(estimate.high)}"
        assert f"| {name} | {num(estimate.value)} ({spread}) |" in text
    for name in (
        "Uniform guess, observed range",
        "People of the other arms",
        "Human ceiling, split halves (exact)",
    ):
        assert f"| {name} | 0." in text
    assert re.search(r"tiny-sft (goes \d+% of the way|can't be told from a perfect model)", text)
    assert re.search(r"\d\.\d percentage points between \S+ \(best\) and \S+ \(worst\)", text)


def test_a_card_tells_the_training_and_what_was_held_out(results):
    text = text_of(results, "dpo")
    assert "socrates train dpo --model tiny" in text and "/somewhere" not in text
    assert "- `learning_rate`: 0.001" in text
    assert "3.000 at the start, 0.158 at the end" in text
    assert "| studies | 10 | 4 | 0 | passed |" in text and "same fingerprint" in text


def test_every_table_has_as_many_cells_in_each_row(results):
    tables = re.findall(r"(?:^\|.*\|\n)+", text_of(with_group(results, HOSTILE)), re.MULTILINE)
    assert len(tables) == 3
    for table in tables:
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}) == 1, table


def test_the_metadata_is_what_the_hub_reads(results):
    metadata = front(text_of(results))
    assert metadata["library_name"] == "transformers" and metadata["pipeline_tag"] == "text-generation"
    value = metadata["model-index"][0]["results"][0]["metrics"][0]["value"]
    assert value == round(results.scores["tiny-sft"].metrics[MAIN].value, 4)
    assert "base_model" not in metadata, "a local folder is no model of the hub"
    record = scored.training("tiny", "sft")
    record["arguments"]["model_name_or_path"] = "meta-llama/Meta-Llama-3-8B-Instruct"
    run = RunRecord.model_validate(record)
    assert card.front_matter(results, "tiny-sft", run)["base_model"] == "meta-llama/Meta-Llama-3-8B-Instruct"


def test_a_checkpoint_without_scores_gets_a_card_that_says_so(results):
    others = {name: scores for name, scores in results.scores.items() if name == "tiny-base"}
    text = text_of(replace(results, scores=others, comparison=None))
    assert "It was not evaluated" in text and "model-index" not in front(text)


def test_a_run_on_another_data_set_is_named(results):
    assert "written anew since this run" in text_of(
        replace(results, manifest=results.manifest.model_copy(update={"inputs": "new"}))
    )


def test_texts_from_data_stay_texts(results):
    text = text_of(with_group(results, HOSTILE))
    assert "<script" not in text and "](javascript" not in text and "\n# heading" not in text


@pytest.mark.parametrize("plain", ["learning_rate", "people's", "Some college", "18-29", "0.1 (0.0 to 0.2)"])
def test_plain_texts_are_left_as_they_are(plain):
    assert card._line(plain) == plain


def test_the_trainers_own_card_is_replaced(workplace):
    path = scored.OUTPUTS / "tiny/sft/README.md"
    path.write_text("the trainer's card")
    card.write_cards(load("sample", "study"))
    assert "# tiny-sft" in path.read_text()
