"""A stand-in for vLLM's offline engine: it pins other versions and can't be installed beside."""

import math
import sys
import types
from typing import Any

import pytest
from transformers import AutoTokenizer


class Record(types.SimpleNamespace):
    """Keeps whatever it is made with."""


class Engine:
    """The part of `vllm.LLM` that is used."""

    latest: "Engine"

    def __init__(self, **options: Any) -> None:
        self.options, self.asked = options, []
        self.llm_engine = Record(model_config=Record(max_model_len=512))
        Engine.latest = self

    def get_tokenizer(self) -> Any:
        return AutoTokenizer.from_pretrained(self.options["model"])

    def generate(self, prompts: list[Any], parameters: list[Any], use_tqdm: bool) -> list[Any]:
        self.asked = list(zip(prompts, parameters, strict=True))
        return [Record(outputs=[_output(each)] * getattr(each, "n", 1)) for each in parameters]


def _output(asked: Record) -> Record:
    """A reply, or named tokens that are all alike."""
    named = getattr(asked, "logprob_token_ids", [])
    logprobs = [{token: Record(logprob=math.log(1 / 200)) for token in named}]
    return Record(text="5", finish_reason="stop", logprobs=logprobs)


def install(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let `import vllm` find the stand-in."""
    module: Any = types.ModuleType("vllm")
    module.LLM, module.SamplingParams = Engine, Record
    module.sampling_params = types.SimpleNamespace(StructuredOutputsParams=Record)
    monkeypatch.setitem(sys.modules, "vllm", module)
