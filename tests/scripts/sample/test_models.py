"""The tiny models: the real families' tokens, templates and ends of turn, in very few weights."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer

from common.files import sha256_file
from common.prompts import SYSTEM_PROMPT, user_prompt
from scripts.sample.models import FAMILIES, make_model, training_texts

TEMPLATES = {"llama": "llama3", "qwen": "qwen"}
STIMULUS = "Do you agree? Only return an integer from 0 to 100, nothing else."
PROMPT = user_prompt({"age": 45, "gender": "Female", "ideology": "Very liberal"}, STIMULUS)


@pytest.fixture(scope="module", params=list(FAMILIES))
def family(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def folder(family: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / FAMILIES[family].folder
    make_model(FAMILIES[family], folder)
    return folder


@pytest.fixture(scope="module")
def tokenizer(folder: Path) -> Iterator[Any]:
    yield AutoTokenizer.from_pretrained(folder)


def ids(tokenizer: Any, text: str) -> list[int]:
    return tokenizer.encode(text, add_special_tokens=False)


def test_numbers_split_as_in_the_real_family(family: str, tokenizer: Any) -> None:
    for number in range(1000):
        assert len(ids(tokenizer, str(number))) == (1 if family == "llama" else len(str(number)))
    pieces = tokenizer.tokenize("-45 1234")
    spaced = ["-", "45", "Ġ", "123", "4"] if family == "llama" else ["-", "4", "5", "Ġ", "1", "2", "3", "4"]
    assert pieces == spaced


def test_the_first_ids_are_the_bytes_and_the_last_ones_the_special_tokens(
    family: str, tokenizer: Any
) -> None:
    assert ids(tokenizer, "!") == [0]
    assert ids(tokenizer, "7") == [22]
    assert ids(tokenizer, "99") == ([345] if family == "llama" else [24, 24])
    special = FAMILIES[family].special
    assert tokenizer.convert_tokens_to_ids(list(special)) == list(
        range(len(tokenizer) - len(special), len(tokenizer))
    )


def test_every_text_survives_tokenising(tokenizer: Any) -> None:
    for text in (PROMPT, "  two  spaces\n\n\nä 漢字 🙂 \u2028 it's 3.14159 <|not_special|>", "\t\r\n"):
        assert tokenizer.decode(ids(tokenizer, text)) == text


def test_a_sample_prompt_is_short(tokenizer: Any) -> None:
    turns = [{"role": "system", "content": SYSTEM_PROMPT}, {"role": "user", "content": PROMPT}]
    assert len(tokenizer.apply_chat_template(turns, add_generation_prompt=True)["input_ids"]) < 120
    words = [len(tokenizer.tokenize(text)) / len(text.split()) for text in training_texts()[100:200]]
    assert sum(words) / len(words) < 1.6


@pytest.mark.parametrize("system", [SYSTEM_PROMPT, None])
def test_the_chat_template_gives_the_ids_that_llama_factory_trains_on(
    family: str, tokenizer: Any, folder: Path, system: str | None
) -> None:
    data = pytest.importorskip("llamafactory.data.template")
    from llamafactory.hparams import DataArguments

    trained = AutoTokenizer.from_pretrained(folder)  # its copy: LLaMA-Factory changes what it is given
    size = len(trained)
    template = data.get_template_and_fix_tokenizer(trained, DataArguments(template=TEMPLATES[family]))
    assert len(trained) == size, "no token is added, so no embedding is resized"
    turns = [{"role": "user", "content": PROMPT}, {"role": "assistant", "content": "45"}]
    prompt, answer = template.encode_oneturn(trained, turns, system)
    told = [{"role": "system", "content": system}] if system else []
    asked = tokenizer.apply_chat_template([*told, turns[0]], add_generation_prompt=True)["input_ids"]
    whole = tokenizer.apply_chat_template([*told, *turns])["input_ids"]
    assert asked == prompt
    assert whole == prompt + answer
    end = tokenizer.convert_tokens_to_ids(FAMILIES[family].ends[0])
    assert answer == ids(tokenizer, "45") + [end] + (ids(tokenizer, "\n") if family == "qwen" else [])
    assert trained.eos_token_id == tokenizer.eos_token_id == end


def test_the_model_loads_as_the_family_and_stops_at_its_ends(
    family: str, folder: Path, tokenizer: Any
) -> None:
    model = AutoModelForCausalLM.from_pretrained(folder)
    assert type(model).__name__ == {"llama": "LlamaForCausalLM", "qwen": "Qwen2ForCausalLM"}[family]
    assert model.num_parameters() < 2_000_000
    assert model.config.vocab_size == len(tokenizer)
    ends = tokenizer.convert_tokens_to_ids(list(FAMILIES[family].ends))
    assert model.generation_config.eos_token_id == ends
    inputs = tokenizer(PROMPT, return_tensors="pt")
    assert model(**inputs).logits.shape[-1] == len(tokenizer)


def test_the_same_versions_give_the_same_bytes(family: str, folder: Path, tmp_path: Path) -> None:
    make_model(FAMILIES[family], tmp_path / "again")
    for path in folder.iterdir():
        assert sha256_file(path) == sha256_file(tmp_path / "again" / path.name), path.name
