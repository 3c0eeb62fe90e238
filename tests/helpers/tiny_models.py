"""Small models with the tokenizers of the project's two tiny families, made in seconds for tests.

They are trained for a moment to answer with numbers in all their spellings, so that much of their
probability lies on answers, and each answer's probability differs from row to row.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import (
    GenerationConfig,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from common.chat import PromptEncoder
from common.prompts import SYSTEM_PROMPT
from eval.prediction.exact import exact_masses
from eval.prediction.local_model import LocalModel
from eval.prediction.trie import AnswerTrie, TrieBuilder, spellings
from eval.settings import ExactSettings
from scripts.sample.models import FAMILIES, train_tokenizer


def make(family: str, folder: Path, head_size: int = 8, positions: int = 512) -> Path:
    """Write a small model of `family` (llama or qwen) into `folder`; its width is four heads.

    positions: the most tokens that it reads.
    """
    torch.manual_seed(0)
    kind = FAMILIES[family]
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=train_tokenizer(kind, [SYSTEM_PROMPT] * 3),
        bos_token=kind.bos,
        eos_token=kind.ends[0],
        pad_token=kind.pad,
        clean_up_tokenization_spaces=False,
    )
    tokenizer.chat_template = kind.chat
    shape = {
        "vocab_size": len(tokenizer) + 4,  # as in real models, a few rows of the output layer have no token
        "hidden_size": 4 * head_size,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": positions,
        "initializer_range": 0.3,
    }
    model = (
        LlamaForCausalLM(LlamaConfig(**shape))
        if family == "llama"
        else Qwen2ForCausalLM(Qwen2Config(**shape))
    )
    model.generation_config = GenerationConfig(
        do_sample=True, eos_token_id=tokenizer.convert_tokens_to_ids(list(kind.ends))
    )
    _learn_numbers(model, tokenizer)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def _learn_numbers(model: Any, tokenizer: Any, steps: int = 60) -> None:
    """A few steps towards numbers, each spelled at random, and the end of the turn."""
    encoder, pieces = PromptEncoder(tokenizer, "tiny"), TrieBuilder(tokenizer).pieces
    numbers = [*range(-12, 13), *range(101), *range(0, 1001, 50)] + [*range(1, 8)] * 20
    draw = np.random.default_rng(0)
    optimiser = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(steps):
        for prompt in encoder.encode([None], [f"question {draw.integers(100)}"]):
            texts = [spellings(str(draw.choice(numbers)), pieces) for _ in range(32)]
            answers = [[*texts[i][draw.integers(len(texts[i]))], encoder.stop_ids[0]] for i in range(32)]
            width = max(map(len, answers))
            ids = torch.tensor([[*prompt, *answer, *[0] * (width - len(answer))] for answer in answers])
            labels = torch.full_like(ids, -100)
            for row, answer in enumerate(answers):
                labels[row, len(prompt) : len(prompt) + len(answer)] = torch.tensor(answer)
            optimiser.zero_grad()
            model(input_ids=ids, labels=labels).loss.backward()
            optimiser.step()


def masses_of(
    model: LocalModel,
    prompts: list[list[int]],
    tries: list[AnswerTrie],
    temperature: float = 1,
    top_p: float = 1,
) -> list[np.ndarray]:
    """The mass of each prompt's answers, in the order of the prompts."""
    exact = ExactSettings(temperature=temperature, top_p=top_p)
    return [masses.answers for _, masses in sorted(exact_masses(model, prompts, tries, exact))]
