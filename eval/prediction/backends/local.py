"""The model in this process: each prompt is read once, however many replies it gets."""

from collections.abc import Collection, Iterator, Sequence

import numpy as np
import torch

from eval.prediction.asking import Masses, Reply, Request, Sampling
from eval.prediction.batches import plan_batches
from eval.prediction.exact import exact_masses, read_prompts, token_logprobs
from eval.prediction.local_model import LocalModel, State
from eval.prediction.trie import AnswerTrie, TrieBuilder
from eval.settings import ExactSettings


class LocalBackend:
    """`Backend` for a model in this process. Deterministic: a row's draws depend on its seed alone."""

    def __init__(self, model: LocalModel) -> None:
        self.model = model
        self.tries = TrieBuilder(model.tokenizer, model.encoder.answer_prefix)

    def can_enumerate(self, answers: Sequence[int]) -> bool:
        """See `Backend`: any finite scale."""
        return len(answers) > 0

    def masses(
        self, requests: Sequence[Request], exact: ExactSettings, done: Collection[int] = ()
    ) -> Iterator[tuple[int, Masses | None]]:
        """See `Backend`. Requests with the same texts and answers are computed once."""
        rows_of: dict[tuple[str | None, str, tuple[int, ...]], list[int]] = {}
        for row, request in enumerate(requests):
            key = (request.system, request.prompt, tuple(request.answers or ()))
            rows_of.setdefault(key, []).append(row)
        encoded = self.model.encoder.encode([key[0] for key in rows_of], [key[1] for key in rows_of])
        rows, prompts, tries = [], [], []
        for (key, same), prompt in zip(rows_of.items(), encoded, strict=True):
            trie = self.tries.build(key[2])
            if self.model.fits(prompt, int(trie.depths.max())):
                rows.append(same)
                prompts.append(prompt)
                tries.append(trie)
            else:
                yield from ((row, None) for row in same)
        settled = {number for number, same in enumerate(rows) if all(row in done for row in same)}
        for number, masses in exact_masses(self.model, prompts, tries, exact, settled):
            yield from ((row, masses) for row in rows[number])

    def replies(
        self, requests: Sequence[Request], sampling: Sampling, done: Collection[int] = ()
    ) -> Iterator[tuple[int, list[Reply]]]:
        """See `Backend`. A constrained reply takes only tokens that lead to an admissible answer."""
        model, settings = self.model, self.model.settings
        encoded = model.encoder.encode([r.system for r in requests], [r.prompt for r in requests])
        short = [row for row, prompt in enumerate(encoded) if model.fits(prompt, sampling.max_new_tokens)]
        for row in set(range(len(requests))).difference(short):
            yield row, [Reply("", finished=False)] * sampling.samples
        prompts = [encoded[row] for row in short]
        extra = [(len(p) + sampling.max_new_tokens) * sampling.samples - len(p) for p in prompts]
        for batch in plan_batches(prompts, extra, settings.batch_tokens, settings.reuse_prefixes):
            rows = [short[number] for number in batch.rows]
            if all(row in done for row in rows):
                continue
            with torch.inference_mode():
                state, hidden = read_prompts(model, prompts, batch)
                drawn = self._draw(state, hidden, [requests[row] for row in rows], sampling)
            yield from zip(rows, drawn, strict=True)

    def _draw(
        self, state: State, hidden: torch.Tensor, requests: Sequence[Request], sampling: Sampling
    ) -> list[list[Reply]]:
        """Draw all replies of a batch, token by token; finished ones leave the batch."""
        model, samples = self.model, sampling.samples
        owner = np.repeat(np.arange(len(requests)), samples)
        uniforms = np.concatenate([_uniforms(request, sampling) for request in requests])
        walks = [
            _Walk(self.tries.build(r.answers)) if r.answers else None
            for r in requests
            for _ in range(samples)
        ]
        tokens: list[list[int]] = [[] for _ in owner]
        finished = np.zeros(len(owner), dtype=bool)
        stops = set(model.stop_ids.tolist())
        logits = model.logits(hidden)[owner]
        state = model.select(state, owner.tolist())
        alive = np.arange(len(owner))  # the replies that are still being written, in the state's order
        for step in range(sampling.max_new_tokens):
            allowed = [walk.allowed(stops) if (walk := walks[reply]) else None for reply in alive]
            chosen = _choose(logits, allowed, uniforms[alive, step], sampling)
            for reply, token in zip(alive, chosen, strict=True):
                if token in stops:
                    finished[reply] = True
                    continue
                tokens[reply].append(token)
                if walk := walks[reply]:
                    walk.take(token)
            going = np.flatnonzero(~finished[alive])
            if not len(going) or step + 1 == sampling.max_new_tokens:
                break
            if len(going) < len(alive):
                state, alive = model.select(state, going.tolist()), alive[going]
            state, hidden = model.extend(state, [[tokens[reply][-1]] for reply in alive])
            logits = model.logits(hidden)
        texts = model.tokenizer.batch_decode(tokens, skip_special_tokens=True)
        replies = [Reply(text, bool(end)) for text, end in zip(texts, finished, strict=True)]
        return [replies[start : start + samples] for start in range(0, len(replies), samples)]


class _Walk:
    """Where a constrained reply stands in its trie."""

    def __init__(self, trie: AnswerTrie) -> None:
        self.trie, self.node = trie, -1

    def allowed(self, stops: set[int]) -> list[int]:
        tokens = [int(self.trie.tokens[child]) for child in self.trie.children.get(self.node, [])]
        return tokens + (list(stops) if self.node >= 0 and self.trie.ends[self.node] >= 0 else [])

    def take(self, token: int) -> None:
        self.node = next(n for n in self.trie.children[self.node] if self.trie.tokens[n] == token)


def _uniforms(request: Request, sampling: Sampling) -> np.ndarray:
    """float64 (samples, max_new_tokens) in [0, 1): the randomness of one row's replies."""
    shape = (sampling.samples, sampling.max_new_tokens)
    return np.random.default_rng(request.seed).random(shape)


def _choose(
    logits: torch.Tensor, allowed: Sequence[list[int] | None], uniforms: np.ndarray, sampling: Sampling
) -> list[int]:
    """One token a row by the inverse of the cumulative distribution; the most likely one when greedy."""
    for row, tokens in enumerate(allowed):
        if tokens is not None:
            logit_of_allowed = logits[row, tokens]
            logits[row] = -torch.inf
            logits[row, tokens] = logit_of_allowed
    if sampling.temperature == 0:
        return logits.argmax(dim=-1).tolist()
    cumulated = token_logprobs(logits, sampling.temperature, sampling.top_p).double().exp().cumsum(dim=-1)
    targets = torch.from_numpy(uniforms).to(logits.device) * cumulated[:, -1]
    chosen = torch.searchsorted(cumulated, targets[:, None], right=True)[:, 0]
    return chosen.clamp(max=logits.shape[-1] - 1).tolist()  # rounding may lead beyond the last token
