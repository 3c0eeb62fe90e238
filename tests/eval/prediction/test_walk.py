"""The walk over a remote model's answer trie gives the masses of reading the model in this process."""

from collections.abc import Sequence

import numpy as np
import pytest
import torch

from eval.prediction.local_model import LocalModel
from eval.prediction.trie import TrieBuilder
from eval.prediction.walk import Seen, walk
from tests.helpers.tiny_models import masses_of

SCALES = {"1-7": range(1, 8), "0-100": range(101), "-3..3": range(-3, 4), "steps": range(0, 1001, 50)}


class InProcess:
    """A reader that asks the model by its plain forward pass, and counts what it was asked."""

    def __init__(self, model: LocalModel) -> None:
        self.model, self.asked = model, 0

    def next_tokens(self, prompts: Sequence[list[int]], wanted: Sequence[Sequence[int]]) -> list[Seen | None]:
        seen: list[Seen | None] = []
        for prompt, tokens in zip(prompts, wanted, strict=True):
            with torch.inference_mode():
                logits = self.model.model(torch.tensor([prompt])).logits[0, -1]
            seen.append(Seen(torch.log_softmax(logits, -1)[list(tokens)].double().numpy()))
        self.asked += len(seen)
        return seen


def prompts_of(model: LocalModel, count: int) -> list[list[int]]:
    return model.encoder.encode(["a system"] * count, [f"person {row} question" for row in range(count)])


@pytest.mark.parametrize("scale", SCALES)
def test_it_equals_the_masses_read_in_process(model: LocalModel, scale: str) -> None:
    trie = TrieBuilder(model.tokenizer).build(SCALES[scale])
    prompts = prompts_of(model, 4)
    expected = masses_of(model, prompts, [trie] * 4)
    reader = InProcess(model)
    walked = walk(reader, prompts, [trie] * 4, model.encoder.stop_ids)
    for row, mass in zip(walked, expected, strict=True):
        assert row is not None
        np.testing.assert_allclose(row[0] / row[0].sum(), mass / mass.sum(), atol=1e-4)
        assert row[0].sum() <= mass.sum() + 1e-4 <= row[0].sum() + row[1] + 2e-4


def test_ends_that_are_alike_are_not_all_asked(model: LocalModel) -> None:
    class Certain(InProcess):
        """Every way is as likely as any other, and the turn always ends after an answer."""

        def next_tokens(self, prompts, wanted):
            self.asked += len(prompts)
            return [Seen(np.full(len(tokens), np.log(1 / 200))) for tokens in wanted]

    reader = Certain(model)
    trie = TrieBuilder(model.tokenizer).build(range(101))
    walk(reader, prompts_of(model, 1), [trie], model.encoder.stop_ids)
    assert reader.asked < len(trie) / 4


def test_a_row_that_the_reader_cannot_read_has_no_masses(model: LocalModel) -> None:
    class Short(InProcess):
        def next_tokens(self, prompts, wanted):
            seen = super().next_tokens(prompts, wanted)
            return [None if len(prompt) > 20 else row for prompt, row in zip(prompts, seen, strict=True)]

    trie = TrieBuilder(model.tokenizer).build(range(1, 8))
    short, long = [1, 2, 3], [1] * 30
    walked = walk(Short(model), [short, long], [trie, trie], model.encoder.stop_ids)
    assert walked[0] is not None and walked[1] is None


def test_ways_that_are_not_followed_are_bounded(model: LocalModel) -> None:
    trie = TrieBuilder(model.tokenizer).build(range(101))
    prompts = prompts_of(model, 2)
    rough = walk(InProcess(model), prompts, [trie] * 2, model.encoder.stop_ids, epsilon=0.2)
    exact = masses_of(model, prompts, [trie] * 2)
    for row, mass in zip(rough, exact, strict=True):
        assert row is not None and row[1] > 0
        assert abs(mass.sum() - row[0].sum()) <= row[1] + 1e-4
