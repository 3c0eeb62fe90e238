"""What is trained on is what the evaluator asks with, for four families; or it is refused with the remedy."""

import json

import pytest

from common.chat import PromptEncoder
from common.errors import Refusal
from common.prompts import SYSTEM_PROMPT
from eval.prediction.trie import TrieBuilder
from scripts.training import llamafactory, parity, tokens
from scripts.training.recipe import resolve
from tests.helpers.chat_families import family
from tests.helpers.training_data import RECIPE, make_workplace

PROMPT = "How fair is measure 3?\nOnly return an integer from 1 to 7, nothing else."
TURNS = [parity.Turn(SYSTEM_PROMPT, PROMPT, answer) for answer in ("7", "-12", "100")]
CHATML = "<|im_start|>system\n{0}<|im_end|>\n<|im_start|>user\n{1}<|im_end|>\n<|im_start|>assistant\n"
FITTING = {"qwen3": "qwen3_nothink", "smollm2": "smollm2", "gemma": "gemma", "mistral": "mistral"}


def encoder_of(name, template):
    """The family's encoder after LLaMA-Factory has fitted the template to its tokenizer, as in training."""
    tokenizer = family(name)
    fitted = llamafactory.fit_template(tokenizer, llamafactory.data_arguments({"template": template}))
    return fitted, PromptEncoder(tokenizer, name)


@pytest.mark.parametrize("name", FITTING)
def test_training_and_evaluation_render_the_same_tokens(name):
    template, encoder = encoder_of(name, FITTING[name])
    assert parity.first_difference(template, encoder, TURNS) is None


@pytest.mark.parametrize("name", FITTING)
def test_the_trie_holds_the_answer_as_it_was_trained(name):
    template, encoder = encoder_of(name, FITTING[name])
    trie = TrieBuilder(encoder.tokenizer, encoder.answer_prefix).build([-12, 7, 100])
    for turn in TURNS:
        _, ids = llamafactory.render(template, encoder.tokenizer, *turn)
        node = -1
        for token in ids[: next(i for i, token in enumerate(ids) if token in encoder.stop_ids)]:
            (node,) = [child for child in trie.children[node] if trie.tokens[child] == token]
        assert trie.answers[trie.ends[node]] == int(turn.answer)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("qwen3", CHATML),
        ("smollm2", CHATML),
        ("gemma", "<bos><start_of_turn>user\n{0}\n\n{1}<end_of_turn>\n<start_of_turn>model\n"),
        ("mistral", "<s>[INST] {0}\n\n{1}[/INST]"),
    ],
)  # fmt: skip
def test_the_prompts_text_is_golden(name, expected):
    _, encoder = encoder_of(name, FITTING[name])
    assert encoder.text(SYSTEM_PROMPT, PROMPT) == expected.format(SYSTEM_PROMPT, PROMPT)
    assert encoder.answer_prefix == (" " if name == "mistral" else "")


@pytest.mark.parametrize(
    ("name", "template", "part"),
    [
        ("qwen3", "qwen3", "the answer"),
        ("gemma", "mistral", "the prompt"),
        ("smollm2", "gemma", "the prompt"),
    ],
)
def test_another_template_is_found_out_and_the_one_that_fits_is_named(name, template, part):
    fitted, encoder = encoder_of(name, template)
    difference = parity.first_difference(fitted, encoder, TURNS)
    assert difference and difference.part == part
    assert parity.fitting_template(template, encoder, TURNS) == {
        "qwen3": "qwen3_nothink", "gemma": "gemma", "smollm2": "chatml",
    }[name]  # fmt: skip


def test_without_a_system_prompt_smollm2s_default_differs_by_a_full_stop():
    template, encoder = encoder_of("smollm2", "smollm2")
    difference = parity.first_difference(template, encoder, [parity.Turn(None, PROMPT, "7")])
    assert difference and difference.trained.startswith(".")


@pytest.fixture
def qwen3_workplace(tmp_path, monkeypatch):
    make_workplace(tmp_path)
    family("qwen3").save_pretrained(tmp_path / "outputs/models/tiny")
    monkeypatch.chdir(tmp_path)


def test_a_recipe_that_would_train_thoughts_is_refused_before_anything_is_written(qwen3_workplace, tmp_path):
    recipe = resolve({**RECIPE, "template": "qwen3"}, "sample", "study", "tiny", "sft")
    with pytest.raises(Refusal, match="set template: qwen3_nothink") as refused:
        tokens.tokenise(recipe, 1)
    assert "<think>" in str(refused.value) and "\n" not in str(refused.value)
    assert not list(tmp_path.glob("outputs/tokenised/[!.]*"))
    folder = tokens.tokenise({**recipe, "template": "qwen3_nothink"}, 1)
    assert json.loads((folder / "tokens.json").read_text())["train"]["rows"] == 160
