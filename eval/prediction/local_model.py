"""A causal language model in this process: loading it, and forward passes that reuse what rows share.

A `State` is what the model has read so far for each row of a batch (the key-value cache). Rows are
selected from it and extended by more tokens; so a text that many rows share is computed once.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from transformers import AutoModelForCausalLM, AutoTokenizer, DynamicCache

from common.chat import PromptEncoder
from common.errors import Refusal
from common.readers import read_json
from eval.settings import LocalSettings

# Logits held at once (positions x vocabulary), in float32: 256 MiB on a GPU; what a CPU's cache holds.
GPU_LOGITS, CPU_LOGITS = 1 << 26, 1 << 20


@dataclass
class State:
    """What B rows have read: `cache` (K slots a row), which slots hold a token, how many tokens."""

    cache: DynamicCache
    valid: torch.Tensor  # bool (B, K): False where a shorter row was padded
    lengths: torch.Tensor  # int (B,)

    @property
    def all_valid(self) -> bool:
        return bool(self.valid.all())


class LocalModel:
    """Tokenizer, prompt encoder and model, on the best device there is."""

    def __init__(self, path: str, settings: LocalSettings) -> None:
        self.name, self.settings = path, settings
        tokenizer, self.model = _load(path, settings)
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
        self._check_head()

    def _check_head(self) -> None:
        """Refuse a model that does more to its logits than its output layer: they would come out wrong."""
        ids = torch.tensor([self.encoder.encode([None], ["1"])[0]], device=self.device)
        with torch.inference_mode():
            fast = self.head(self.body(input_ids=ids).last_hidden_state)
            if not torch.allclose(fast.float(), self.model(input_ids=ids).logits.float(), atol=1e-2):
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


def _load(path: str, settings: LocalSettings) -> tuple[Any, Any]:
    """Tokenizer and model. CPU: float32; GPU: bfloat16 unless the settings say otherwise.

    A folder that holds a LoRA adapter is merged into the base model that it names.
    """
    local = Path(path)
    if path.startswith((".", "/", "outputs/")) and not local.is_dir():
        makers = {
            "dpo": "`make train-dpo`",
            "tiny": "`socrates data tiny`",
            "tiny-qwen": "`socrates data tiny`",
        }
        maker = makers.get(local.name, "`make train-sft`")
        raise Refusal(f"the model folder {path} is missing; {maker} makes it, or give another --model")
    cuda = torch.cuda.is_available()
    device = settings.device if settings.device != "auto" else "cuda" if cuda else "cpu"
    dtype = (
        settings.dtype if settings.dtype != "auto" else "bfloat16" if device.startswith("cuda") else "float32"
    )
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    adapter = local / "adapter_config.json"
    remedy = "train it again, or give another --model"
    base = read_json(adapter, remedy)["base_model_name_or_path"] if adapter.is_file() else path
    try:
        tokenizer = AutoTokenizer.from_pretrained(path)
        model: Any = AutoModelForCausalLM.from_pretrained(
            base, dtype=getattr(torch, dtype), attn_implementation="sdpa"
        )
        if adapter.is_file():
            from peft import PeftModel

            model = PeftModel.from_pretrained(model, path).merge_and_unload()
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise Refusal(
            f"can't load the model {path}: {reason}; give a checkpoint folder or a hub id"
        ) from None
    return tokenizer, model.to(torch.device(device)).eval()
