"""Exact mode against brute force, against sampling, and against itself in other batches."""

import numpy as np
import pytest
import torch

from eval.prediction.asking import Request, Sampling, is_bare, parse_answer
from eval.prediction.backends.local import LocalBackend
from eval.prediction.batches import Batch
from eval.prediction.exact import (
    read_nodes,
    read_prompts,
    start_steps,
    token_logprobs,
    weigh,
)
from eval.prediction.local_model import LocalModel
from eval.prediction.trie import AnswerTrie, TrieBuilder, spellings
from eval.settings import ExactSettings, LocalSettings
from tests.helpers.tiny_models import masses_of

SCALES = {
    "1-7": range(1, 8),
    "0-100": range(101),
    "negative": range(-12, 13),
    "steps": range(0, 1001, 50),
    "choice": (1, 2, 10, 99, 100, 1000),
}


def prompts_of(model: LocalModel, count: int) -> list[list[int]]:
    """Prompts of different lengths; four neighbours share a persona."""
    texts = [
        f"persona {row // 4} " * (3 + row // 4 % 3) + "question " * (1 + row % 4) for row in range(count)
    ]
    return model.encoder.encode(["a system"] * count, texts)


def brute_force(model: LocalModel, prompt: list[int], answer: int, temperature: float, top_p: float) -> float:
    """The mass of one answer: every spelling by itself, by the model's plain forward pass."""
    mass = 0.0
    for sequence in spellings(str(answer), TrieBuilder(model.tokenizer).pieces):
        with torch.inference_mode():
            logits = model.model(torch.tensor([[*prompt, *sequence]])).logits[0, len(prompt) - 1 :]
        logprobs = token_logprobs(logits, temperature, top_p)
        steps = sum(float(logprobs[position, token]) for position, token in enumerate(sequence))
        mass += float(np.exp(steps + float(logprobs[-1, model.stop_ids].logsumexp(0))))
    return mass


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize(("temperature", "top_p"), [(1.0, 1.0), (0.6, 0.9)])
def test_it_equals_brute_force_scoring_of_each_answer(
    model: LocalModel, scale: str, temperature: float, top_p: float
) -> None:
    trie = TrieBuilder(model.tokenizer).build(SCALES[scale])
    prompts = prompts_of(model, 3)
    of_prompts = masses_of(model, prompts, [trie] * 3, temperature, top_p)
    answers = trie.answers[:: 1 if len(trie.answers) < 10 else 11]
    for prompt, masses in zip(prompts[1:], of_prompts[1:], strict=True):
        wanted = [brute_force(model, prompt, answer, temperature, top_p) for answer in answers]
        got = [masses[trie.answers.index(answer)] for answer in answers]
        np.testing.assert_allclose(got, wanted, rtol=2e-4, atol=1e-9)
        np.testing.assert_allclose(got / masses.sum(), wanted / masses.sum(), atol=1e-5)
        assert 0.0005 < masses.sum() <= 1 + 1e-6


@pytest.mark.parametrize(("scale", "temperature", "top_p"), [("0-100", 1.0, 1.0), ("1-7", 0.6, 0.9)])
def test_it_is_the_limit_of_ten_thousand_free_samples(
    model: LocalModel, scale: str, temperature: float, top_p: float
) -> None:
    tries = TrieBuilder(model.tokenizer)
    trie = tries.build(SCALES[scale])
    request = Request("a system", "persona 1 question", seed=(1, 2, 3))
    prompt = model.encoder.encode([request.system], [request.prompt])
    (masses,) = masses_of(model, prompt, [trie], temperature, top_p)
    ((_, replies),) = LocalBackend(model).replies([request], Sampling(10_000, temperature, top_p, 6))
    drawn = [parse_answer(reply.text) for reply in replies if reply.finished and is_bare(reply.text)]
    shares = np.array([drawn.count(answer) for answer in trie.answers]) / len(replies)
    error = np.sqrt(masses * (1 - masses) / len(replies)) + 1 / len(replies)
    assert np.abs(shares - masses).max() > 0
    assert (np.abs(shares - masses) < 4.5 * error).all()


def test_a_row_gets_the_same_whatever_is_computed_beside_it(model: LocalModel) -> None:
    builder = TrieBuilder(model.tokenizer)
    tries: list[AnswerTrie] = [builder.build(SCALES[name]) for name in SCALES]
    prompts = prompts_of(model, 23)
    mixed = [tries[row % len(tries)] for row in range(len(prompts))]
    together = masses_of(model, prompts, mixed)
    for row in range(0, 23, 3):
        (alone,) = masses_of(model, [prompts[row]], [mixed[row]])
        np.testing.assert_allclose(together[row], alone, rtol=1e-4, atol=1e-9)
    before = model.settings
    try:
        for settings in (LocalSettings(reuse_prefixes=False), LocalSettings(batch_tokens=300)):
            model.settings = settings
            for one, other in zip(masses_of(model, prompts, mixed), together, strict=True):
                np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-9)
    finally:
        model.settings = before


def test_the_nucleus_keeps_the_fewest_tokens_that_hold_top_p() -> None:
    logits = torch.tensor([[0.5, 0.3, 0.15, 0.05]]).log()
    nucleus = token_logprobs(logits, 1.0, 0.8 - 1e-6).exp()
    np.testing.assert_allclose(nucleus.numpy(), [[0.625, 0.375, 0, 0]], rtol=1e-5)
    np.testing.assert_allclose(token_logprobs(logits, 1.0, 0.01).exp().numpy(), [[1, 0, 0, 0]])
    wanted = torch.softmax(logits / 0.5, dim=-1)
    np.testing.assert_allclose(token_logprobs(logits, 0.5, 1.0).exp().numpy(), wanted.numpy(), rtol=1e-6)


def test_what_unread_spellings_can_hold_is_never_underestimated(model: LocalModel) -> None:
    trie = TrieBuilder(model.tokenizer).build(range(-12, 101))
    batch = Batch([0, 1, 2], 0, [], [0, 0, 0], 0)
    with torch.inference_mode():
        state, hidden = read_prompts(model, prompts_of(model, 3), batch)
        first = token_logprobs(model.logits(hidden), 1.0, 1.0)
        part = model.select(state, [0, 1, 2])
        none, exact = np.arange(0), ExactSettings()
        nodes = (none, np.flatnonzero(trie.usual))
        steps = read_nodes(model, part, start_steps(first, trie), trie, nodes, exact)
        usual, most = weigh(steps, trie, trie.usual)
        steps = read_nodes(model, state, start_steps(first, trie), trie, (none, np.arange(len(trie))), exact)
        every, nothing = weigh(steps, trie, np.ones(len(trie), dtype=bool))
    unread = (every - usual).sum(axis=1)
    assert (nothing == 0).all()
    assert (unread <= most + 1e-9).all()
    assert (unread >= -1e-9).all()
    if not trie.usual.all():
        assert (unread > 1e-4).all()
