"""The evaluator's prompts have the token ids that LLaMA-Factory trained on."""

from pathlib import Path

import pytest
from transformers import AutoTokenizer

from common.chat import PromptEncoder
from common.errors import Refusal
from common.prompts import SYSTEM_PROMPT

PROMPTS = [
    "You are a survey respondent.\n- Age: 37\n\nOnly return an integer from 1 to 7, nothing else.",
    "  white space before",
    "white space behind \n\n",
    "\n\ttabs\u00a0and others\u2028\x85",
    "Zażółć gęślą jaźń 你好 🙂 100,000 -5 <b>markup</b> {{ content }} {% raw %}",
    "a special token <|eot_id|> <|im_end|> in the text",
    "SystemPlaceHolder UserPlaceHolder",
]


@pytest.fixture(params=[SYSTEM_PROMPT, " padded ", "", None])
def system(request: pytest.FixtureRequest) -> str | None:
    return request.param


def test_prompt_and_answer_ids_equal_those_of_training(model_folder: Path, system: str | None) -> None:
    from llamafactory.data.template import TEMPLATES

    tokenizer = AutoTokenizer.from_pretrained(model_folder)
    template = TEMPLATES["llama3" if "<|eot_id|>" in tokenizer.get_vocab() else "qwen"]
    encoder = PromptEncoder(AutoTokenizer.from_pretrained(model_folder), "tiny")
    template.fix_special_tokens(tokenizer)
    template.fix_jinja_template(tokenizer)
    ours = encoder.encode([system] * len(PROMPTS), PROMPTS)
    for prompt, ids in zip(PROMPTS, ours, strict=True):
        for answer in ["7", "-100", "1000000"]:
            turns = [{"role": "user", "content": prompt}, {"role": "assistant", "content": answer}]
            prompt_ids, answer_ids = template.encode_oneturn(tokenizer, turns, system)
            assert ids == prompt_ids
            spelled = encoder.tokenizer.encode(answer, add_special_tokens=False)
            assert answer_ids[: len(spelled)] == spelled
            assert answer_ids[len(spelled)] in encoder.stop_ids


def test_a_chat_template_that_trims_does_not_trim_here(model_folder: Path) -> None:
    encoder = PromptEncoder(AutoTokenizer.from_pretrained(model_folder), "tiny")
    text = encoder.text(" a system ", " a prompt\n")
    assert " a system " in text
    assert " a prompt\n" in text


def test_the_ids_of_a_prompt_stay_as_they_are(model_folder: Path) -> None:
    """Golden: a change of tokenizer library or template handling must not pass unseen."""
    encoder = PromptEncoder(AutoTokenizer.from_pretrained(model_folder), "tiny")
    text = encoder.text(SYSTEM_PROMPT, "How old are you?")
    if "<|start_header_id|>" in text:
        assert text == (
            f"<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\n{SYSTEM_PROMPT}<|eot_id|>"
            "<|start_header_id|>user<|end_header_id|>\n\nHow old are you?<|eot_id|>"
            "<|start_header_id|>assistant<|end_header_id|>\n\n"
        )
    else:
        assert text == (
            f"<|im_start|>system\n{SYSTEM_PROMPT}<|im_end|>\n<|im_start|>user\nHow old are you?<|im_end|>\n"
            "<|im_start|>assistant\n"
        )


def test_a_model_without_a_chat_template_is_refused(model_folder: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(model_folder)
    tokenizer.chat_template = None
    with pytest.raises(Refusal, match="no chat template"):
        PromptEncoder(tokenizer, "base-model")


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        ("{{ raise_exception('System role not supported') }}", "System role not supported"),
        ("{% for m in messages %}{{ m.content | upper }}<|x|>{% endfor %}", "exactly once"),
        ("{% for m in messages %}{{ m.content }} {% endfor %}", "special token"),
    ],
)
def test_a_template_that_cannot_carry_the_prompt_is_refused(
    model_folder: Path, template: str, reason: str
) -> None:
    tokenizer = AutoTokenizer.from_pretrained(model_folder)
    tokenizer.chat_template = template
    with pytest.raises(Refusal, match=reason):
        PromptEncoder(tokenizer, "odd-model")
