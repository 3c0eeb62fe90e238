"""Model cards: what a checkpoint was trained on and how well it predicts people."""

import re
import sys
from pathlib import Path

import pytest
import yaml

from eval.reporting import model_card as card
from eval.reporting import results
from tests.helpers import made_scores

HOSTILE = "</td><script>x</script> | [a](javascript:x) `b` *c* _d_ \\\n# heading"


def cards(monkeypatch, folder: Path, **options) -> dict[str, str]:
    """{stage: the card's text} of the made-up model `tiny`."""
    outputs = made_scores.make(folder, studies=2, **options)
    monkeypatch.chdir(folder)
    written = card.write_cards(results.load("made", "study"))
    assert [path.resolve() for path in written] == [
        (outputs / f"tiny/{stage}/README.md").resolve() for stage in ("sft", "dpo")
    ]
    return {path.parent.name: path.read_text() for path in written}


def front(text: str) -> dict:
    return yaml.safe_load(text.split("---\n")[1])


def test_a_card_holds_the_figures_beside_controls_and_ceiling(tmp_path, monkeypatch):
    text = cards(monkeypatch, tmp_path)["sft"]
    assert "| tiny-sft | 0.120 (0.100 to 0.140) |" in text
    assert "| tiny-base | 0.210 (0.190 to 0.230) |" in text
    for name in (
        "Uniform guess, observed range",
        "People of the other arms",
        "Human ceiling, split halves (exact)",
    ):
        assert f"| {name} | 0." in text
    assert "tiny-sft goes 65% of the way" in text
    assert "4.0 percentage points between Male (best) and Female (worst)" in text


def test_a_card_tells_the_training_and_what_was_held_out(tmp_path, monkeypatch):
    text = cards(monkeypatch, tmp_path)["dpo"]
    assert "python -m scripts.training.launch --stage dpo --model tiny" in text
    assert "- `learning_rate`: 0.001" in text
    assert "3.000 at the start, 0.158 at the end" in text
    assert "| studies | 10 | 4 | 0 | passed |" in text and "same fingerprint" in text


def test_every_table_has_as_many_cells_in_each_row(tmp_path, monkeypatch):
    text = cards(monkeypatch, tmp_path, group=HOSTILE)["sft"]
    tables = re.findall(r"(?:^\|.*\|\n)+", text, re.MULTILINE)
    assert len(tables) == 3
    for table in tables:
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}) == 1, table


def test_the_metadata_is_what_the_hub_reads(tmp_path, monkeypatch):
    made = front(cards(monkeypatch, tmp_path)["sft"])
    assert made["library_name"] == "transformers" and made["pipeline_tag"] == "text-generation"
    assert made["model-index"][0]["results"][0]["metrics"][0]["value"] == 0.12
    assert "base_model" not in made, "a local folder is no model of the hub"
    found = results.load("made", "study")
    run = made_scores.run("tiny", "sft")
    run["arguments"]["model_name_or_path"] = "meta-llama/Meta-Llama-3-8B-Instruct"
    assert card.front_matter(found, "tiny-sft", run)["base_model"] == "meta-llama/Meta-Llama-3-8B-Instruct"


def test_a_checkpoint_without_scores_gets_a_card_that_says_so(tmp_path, monkeypatch):
    text = cards(monkeypatch, tmp_path, models={"other": 0.2})["sft"]
    assert "It was not evaluated" in text and "model-index" not in front(text)


def test_a_run_on_another_data_set_is_named(tmp_path, monkeypatch):
    made_scores.make(tmp_path, studies=1)
    changed = made_scores.manifest() | {"inputs": "new"}
    made_scores.write(tmp_path / "data/made/study/manifest.json", changed)
    monkeypatch.chdir(tmp_path)
    found = results.load("made", "study")
    text = card.model_card(found, "tiny", "sft", found.runs["tiny", "sft"])
    assert "made anew since this run" in text


def test_texts_from_data_stay_texts(tmp_path, monkeypatch):
    text = cards(monkeypatch, tmp_path, group=HOSTILE)["sft"]
    assert "<script" not in text and "](javascript" not in text and "\n# heading" not in text


@pytest.mark.parametrize("plain", ["learning_rate", "people's", "Some college", "18-29", "0.1 (0.0 to 0.2)"])
def test_plain_texts_are_left_as_they_are(plain):
    assert card._line(plain) == plain


def test_the_trainers_own_card_is_replaced_by_the_command_line(tmp_path, monkeypatch, capsys):
    outputs = made_scores.make(tmp_path, studies=1)
    (outputs / "tiny/sft/README.md").write_text("the trainer's card")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["card", "--data", "made", "--split", "study"])
    card.main()
    assert "tiny/sft/README.md" in capsys.readouterr().out
    assert "# tiny-sft" in (outputs / "tiny/sft/README.md").read_text()
