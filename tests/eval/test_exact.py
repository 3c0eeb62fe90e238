"""Exact mode against brute force, against sampling, and against itself in other batches."""

import numpy as np
import pytest
import torch

from eval.batches import plan_batches
from eval.exact import exact_distributions, token_logprobs
from eval.local_model import LocalModel
from eval.settings import LocalSettings
from eval.trie import TrieBuilder, spellings

SCALES = {
    "1-7": range(1, 8),
    "0-100": range(101),
    "negative": range(-12, 13),
    "steps": range(0, 1001, 50),
    "choice": (1, 2, 10, 99, 100, 1000),
}


def prompts_of(model: LocalModel, count: int) -> list[list[int]]:
    """Prompts of different lengths; neighbours share a persona."""
    texts = [f"persona {row // 4} " * (3 + row // 4 % 3) + f"question {row % 4}" * (1 + row % 4) for row in range(count)]
    return model.encoder.encode(["a system"] * count, texts)


def brute_force(model: LocalModel, prompt: list[int], answer: int, temperature: float, top_p: float) -> float:
    """The mass of one answer: every spelling by itself, by the model's plain forward pass."""
    pieces = TrieBuilder(model.tokenizer).pieces
    mass = 0.0
    for sequence in spellings(str(answer), pieces):
        with torch.inference_mode():
            logits = model.model(torch.tensor([[*prompt, *sequence]])).logits[0, len(prompt) - 1 :]
        logprobs = token_logprobs(logits, temperature, top_p)
        steps = sum(float(logprobs[place, token]) for place, token in enumerate(sequence))
        mass += float(np.exp(steps + float(logprobs[-1, model.stop_ids].logsumexp(0))))
    return mass


@pytest.mark.parametrize("scale", SCALES)
def test_it_equals_brute_force_scoring_of_each_answer(model: LocalModel, scale: str) -> None:
    trie = TrieBuilder(model.tokenizer).build(SCALES[scale])
    prompts = prompts_of(model, 3)
    for temperature, top_p in [(1.0, 1.0), (0.6, 0.9)]:
        found = exact_distributions(model, prompts, [trie] * 3, temperature, top_p)
        for prompt, masses in zip(prompts[::2], found[::2], strict=True):
            answers = list(trie.answers)[:: 1 if len(trie.answers) < 30 else 9]
            wanted = [brute_force(model, prompt, answer, temperature, top_p) for answer in answers]
            got = [masses[trie.answers.index(answer)] for answer in answers]
            np.testing.assert_allclose(got, wanted, atol=1e-5, rtol=1e-3)
