"""What vLLM is asked for, with a stand-in for it: vLLM pins other versions and can't be installed beside."""

import sys
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from common.chat import PromptEncoder
from common.errors import Refusal
from eval.prediction.run import predict
from eval.settings import ExactSettings, SampledSettings, Settings
from tests.helpers.fake_vllm import Engine, Record, install
from tests.helpers.rows import make_rows


@pytest.fixture
def vllm(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch)


def settings(**sampled: Any) -> Settings:
    return Settings(mode="sampled", backend="vllm", sampled=SampledSettings(**sampled))


def test_it_is_given_the_token_ids_of_training(vllm: None, model_folder: Path) -> None:
    rows = make_rows(7)
    table = predict(rows, str(model_folder), settings(samples=3)).table
    assert table["draws"].to_list() == [[5, 5, 5]] * 7
    encoder = PromptEncoder(AutoTokenizer.from_pretrained(model_folder), "tiny")
    asked = Engine.latest.asked
    assert [prompt["prompt_token_ids"] for prompt, _ in asked] == encoder.encode(
        rows["system"], rows["prompt"]
    )
    first = asked[0][1]
    assert (first.n, first.temperature, first.top_p, first.stop_token_ids) == (3, 0.6, 0.9, encoder.stop_ids)
    assert len({parameters.seed for _, parameters in asked}) == 7
    assert Engine.latest.options["enable_prefix_caching"] is True
    assert Engine.latest.options["generation_config"] == "vllm"  # the checkpoint's own plays no part


def test_a_constrained_reply_is_one_of_the_answers(vllm: None, model_folder: Path) -> None:
    predict(make_rows(7), str(model_folder), settings(constrained=True))
    choices = [getattr(p, "structured_outputs", Record(choice=None)).choice for _, p in Engine.latest.asked]
    assert choices[0] == ["1", "2", "3", "4", "5", "6", "7"]
    assert choices[2] == ["1", "2", "9"]
    assert choices[3] is None


def test_without_vllm_it_says_what_to_do(model_folder: Path) -> None:
    with pytest.raises(Refusal, match="environment of its own"):
        predict(make_rows(7), str(model_folder), settings())


def test_exact_mode_at_another_temperature_is_refused(vllm: None, model_folder: Path) -> None:
    warm = Settings(mode="exact", backend="vllm", exact=ExactSettings(temperature=0.6))
    with pytest.raises(Refusal, match="temperature 1"):
        predict(make_rows(7), str(model_folder), warm)


def test_an_engine_that_cannot_name_tokens_is_refused(vllm: None, model_folder: Path, monkeypatch) -> None:
    def old(**options: Any) -> None:
        raise TypeError("unexpected keyword argument 'logprob_token_ids'")

    monkeypatch.setattr(sys.modules["vllm"], "SamplingParams", old)
    with pytest.raises(Refusal, match="install vllm"):
        predict(make_rows(7), str(model_folder), Settings(mode="exact", backend="vllm"))
