"""A causal language model in this process: loading it, and forward passes that reuse what rows share.

A `State` is what the model has read so far for each row of a batch (the key-value cache). Rows are
selected from it and extended by more tokens; so a text that many rows share is computed once.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from transformers import DynamicCache

from common.chat import PromptEncoder
from common.errors import Refusal
from eval.prediction.checkpoint import load
from eval.settings import LocalSettings

# Logits held at once (positions x vocabulary), in float32: 256 MiB on a GPU; what a CPU's cache holds.
GPU_LOGITS, CPU_LOGITS = 1 << 26, 1 << 20


@dataclass
class State:
    """What B rows have read: `cache` (K slots a row), which slots hold a token, how many tokens."""

    cache: DynamicCache
    valid: torch.Tensor  # bool (B, K): False where a shorter row was padded
    lengths: torch.Tensor  # int (B,)


class LocalModel:
    """Tokenizer, prompt encoder and model, on the best device there is."""

    def __init__(self, path: str, settings: LocalSettings) -> None:
        self.name, self.settings = path, settings
        tokenizer, self.model = load(path, settings)
        self.encoder = PromptEncoder(tokenizer, path)
        self.tokenizer = tokenizer
        self.device = self.model.device
        self.logit_budget = CPU_LOGITS if self.device.type == "cpu" else GPU_LOGITS
        self.body = self.model.base_model
        self.head = self.model.get_output_embeddings()
        self.context = getattr(self.model.config, "max_position_embeddings", None) or 1 << 30
        stops = self.model.generation_config.eos_token_id
        extra = stops if isinstance(stops, list) else [] if stops is None else [stops]
        self.stop_ids = torch.tensor(sorted({*self.encoder.stop_ids, *extra}), device=self.device)
        self._check_reading()

    def _check_reading(self) -> None:
        """Read one prompt: refuse ids without an embedding, damaged weights, and logits of another kind.

        Logits come from the output layer alone; a model that does more to them would be read wrongly.
        """
        prompt = self.encoder.encode([None], ["1"])[0]
        size = self.model.get_input_embeddings().weight.shape[0]
        outside = [token for token in (*prompt, *self.stop_ids.tolist()) if not 0 <= token < size]
        if outside:
            raise Refusal(
                f"{self.name}: its chat template or generation_config.json uses token {outside[0]}, and the "
                f"model has {size} embeddings; copy tokenizer and settings of the base model"
            )
        ids = torch.tensor([prompt], device=self.device)
        with torch.inference_mode():
            fast = self.head(self.body(input_ids=ids).last_hidden_state).float()
            full = self.model(input_ids=ids).logits.float()
        if not full.isfinite().all():
            raise Refusal(
                f"{self.name} computes values that aren't numbers; its weights diverged: train again"
            )
        if not torch.allclose(fast, full, atol=1e-2):
            raise Refusal(f"{self.name}: logits of this architecture can't be read; use --backend server")

    def fits(self, prompt: Sequence[int], more: int) -> bool:
        """True if the prompt and `more` tokens lie within what the model can read."""
        return len(prompt) + more <= self.context

    def empty(self) -> State:
        """One row that has read nothing."""
        none = torch.zeros(1, 0, dtype=torch.bool, device=self.device)
        return State(DynamicCache(), none, torch.zeros(1, dtype=torch.long, device=self.device))

    def select(self, state: State, rows: Sequence[int]) -> State:
        """A state whose i-th row is row `rows[i]` of `state`; `state` itself stays as it is."""
        index = torch.tensor(rows, device=self.device)
        cache = DynamicCache()
        layers: list[Any] = state.cache.layers
        for number, layer in enumerate(layers):
            cache.update(layer.keys[index], layer.values[index], number)
        return State(cache, state.valid[index], state.lengths[index])

    def extend(self, state: State, texts: Sequence[Sequence[int]]) -> tuple[State, torch.Tensor]:
        """Let each row read its own further tokens (at least one a row); `state` is used up.

        Returns the new state and the hidden state at each row's last token, (B, hidden).
        """
        sizes = torch.tensor([len(text) for text in texts], device=self.device)
        width = max(len(text) for text in texts)
        tokens = np.zeros((len(texts), width), dtype=np.int64)
        for row, text in enumerate(texts):
            tokens[row, : len(text)] = text
        steps = torch.arange(width, device=self.device)
        mask = None
        if state.valid.shape[1]:
            causal = torch.ones(width, width, dtype=torch.bool, device=self.device).tril()
            mask = _mask(state.valid, causal)
        hidden = self._forward(state, tokens, mask, state.lengths[:, None] + steps)
        valid = torch.cat([state.valid, steps < sizes[:, None]], dim=1)
        last = hidden[torch.arange(len(texts), device=self.device), sizes - 1]
        return State(state.cache, valid, state.lengths + sizes), last

    def read_tree(
        self, state: State, tokens: np.ndarray, depths: np.ndarray, ancestors: np.ndarray
    ) -> torch.Tensor:
        """Hidden states (B, N, hidden) of N tree nodes after every row, in one pass; `state` is used up.

        Each node sees the row's text, its ancestors and itself, at the position its depth gives it.
        """
        rows = len(state.lengths)
        depth = torch.from_numpy(depths).to(self.device)
        mask = _mask(state.valid, torch.from_numpy(ancestors).to(self.device))
        return self._forward(state, np.tile(tokens, (rows, 1)), mask, state.lengths[:, None] + depth - 1)

    def _forward(
        self, state: State, tokens: np.ndarray, mask: torch.Tensor | None, positions: torch.Tensor
    ) -> torch.Tensor:
        return self.body(
            input_ids=torch.from_numpy(tokens).to(self.device),
            attention_mask=mask,
            position_ids=positions,
            past_key_values=state.cache,
            use_cache=True,
        ).last_hidden_state

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """Logits in float32: (..., vocabulary)."""
        return self.head(hidden).float()


def _mask(valid: torch.Tensor, new: torch.Tensor) -> torch.Tensor:
    """bool (B, 1, Q, K + Q): every new token sees the valid past, and of the new ones what `new` says."""
    rows, width = len(valid), len(new)
    past = valid[:, None, None, :].expand(-1, 1, width, -1)
    return torch.cat([past, new[None, None].expand(rows, -1, -1, -1)], dim=3)
