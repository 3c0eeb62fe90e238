"""Exact mode for every scale through a server that takes token ids, such as vLLM's.

The prompts' ids are those of training (`common.chat`), so the server's chat template plays no part. One
request asks for many prompts' next tokens by name (`logprob_token_ids`, of the whole vocabulary); a
server without that shows its likeliest tokens, and what they leave open is bounded and reported.
"""

import sys
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import openai

from common.chat import PromptEncoder
from common.errors import Refusal
from eval.prediction.asking import Masses, Request
from eval.prediction.backends.server import ServerBackend
from eval.prediction.trie import TrieBuilder
from eval.prediction.walk import Seen, parts_of, walk_requests

TOGETHER = 32  # prompts in one request
AT_ONCE = 256  # rows that are walked together, and saved together
LIKELIEST = 20  # tokens that servers without named ones commonly show


class TokenServer:
    """A `Reader` of a server's completions. tokenizer: the folder or hub id of the served model's."""

    def __init__(self, server: ServerBackend, tokenizer: str) -> None:
        self.server = server
        loaded = load_tokenizer(tokenizer)
        self.encoder = PromptEncoder(loaded, tokenizer)
        self.tries = TrieBuilder(loaded)
        self.named = self._names_tokens()

    def masses(
        self, requests: Sequence[Request], done: Collection[int] = ()
    ) -> Iterator[tuple[int, Masses | None]]:
        """(row, masses) of each request whose answers are enumerated; None where it can't be read.

        Each of several servers walks its own rows, as it has read their prompts.
        """
        lanes = [_Lane(self, number) for number in range(len(self.server.urls))]
        pool = ThreadPoolExecutor(len(lanes))
        walks = [
            pool.submit(walk_requests, lanes[number % len(lanes)], requests, rows)
            for number, rows in enumerate(parts_of(len(requests), AT_ONCE, done))
        ]
        try:
            for walked in as_completed(walks):
                yield from walked.result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)

    def next_tokens(
        self, prompts: Sequence[list[int]], wanted: Sequence[Sequence[int]], prefer: int = 0
    ) -> list[Seen | None]:
        """See `walk.Reader`, and for `prefer` `Pool.send`. Prompts that want the same share requests."""
        alike: dict[tuple[int, ...], list[int]] = {}
        for number, tokens in enumerate(wanted):
            alike.setdefault(tuple(tokens), []).append(number)
        parts = [
            (tokens, numbers[start : start + TOGETHER])
            for tokens, numbers in alike.items()
            for start in range(0, len(numbers), TOGETHER)
        ]
        works = {
            number: self._ask([prompts[row] for row in rows], tokens, prefer)
            for number, (tokens, rows) in enumerate(parts)
        }
        read: list[Seen | None] = [None] * len(prompts)
        for number, answers in self.server.stream(works):
            for row, seen in zip(parts[number][1], answers or [], strict=bool(answers)):
                read[row] = seen
        return read

    async def _ask(self, prompts: list[list[int]], tokens: tuple[int, ...], prefer: int) -> list[Seen | None]:
        """What the server shows after each prompt; halves a request that it calls wrong to find the row."""
        try:
            choices = await self._complete(prompts, tokens, prefer)
        except openai.BadRequestError:
            if len(prompts) == 1:
                return [None]
            half = len(prompts) // 2
            return [
                *await self._ask(prompts[:half], tokens, prefer),
                *await self._ask(prompts[half:], tokens, prefer),
            ]
        return [_seen(choice, tokens) for choice in choices]

    async def _complete(
        self, prompts: list[list[int]], tokens: Sequence[int], prefer: int = 0
    ) -> list[dict[str, float]]:
        """For each prompt the shown tokens (as `token_id:N`) and their log-probabilities."""
        more: dict[str, Any] = {"return_tokens_as_token_ids": True, **self.server.free_sampling}
        if self.named:
            more["logprob_token_ids"] = list(tokens)
        answer = await self.server.post(
            lambda client: client.completions.create(
                model=self.server.model, prompt=prompts, max_tokens=1, temperature=1, top_p=1,
                logprobs=1 if self.named else LIKELIEST, extra_body=more,
            ),
            prefer,
        )  # fmt: skip
        choices = sorted(answer.choices, key=lambda choice: choice.index or 0)
        tops = [choice.logprobs.top_logprobs if choice.logprobs else None for choice in choices]
        shown = [first for top in tops if top and (first := top[0])]
        if len(shown) != len(prompts):
            raise Refusal(
                f"{self.server.url} gives no log-probabilities of tokens, so exact mode can't be; "
                "use --mode sampled"
            )
        return shown

    def _names_tokens(self) -> bool:
        """True if the server shows any token that is asked for by its id."""
        self.named = True
        ids = sorted(self.tries.pieces.values())[:40]
        try:
            ((_, answer),) = self.server.stream({0: self._complete([[ids[0]]], ids)})
        except Refusal:
            return False
        return bool(answer) and {f"token_id:{token}" for token in ids} <= set(answer[0])


class _Lane(NamedTuple):
    """A `RequestReader` whose rows one of several servers reads."""

    reader: TokenServer
    number: int

    @property
    def encoder(self) -> PromptEncoder:
        return self.reader.encoder

    @property
    def tries(self) -> TrieBuilder:
        return self.reader.tries

    def next_tokens(self, prompts: Sequence[list[int]], wanted: Sequence[Sequence[int]]) -> list[Seen | None]:
        return self.reader.next_tokens(prompts, wanted, self.number)


def tokens_of(server: ServerBackend) -> TokenServer | None:
    """Exact mode by token ids, or None (and a line why) where the tokenizer can't be known."""
    root = str(server.served.get("root") or server.model)
    name = server.settings.tokenizer or (root if Path(root).is_dir() else None)
    if name is None:
        print(
            "exact mode through this server covers one-digit answers only; "
            "name the model's tokenizer in server.tokenizer for every scale",
            file=sys.stderr,
        )
        return None
    return TokenServer(server, name)


def _seen(shown: dict[str, float], tokens: Sequence[int]) -> Seen:
    """The wanted tokens among those shown, and what the others can hold at most."""
    logprobs = np.array([shown.get(f"token_id:{token}", -np.inf) for token in tokens])
    missing = int(np.isneginf(logprobs).sum())
    rest = max(0.0, 1.0 - float(np.exp(list(shown.values())).sum()))
    return Seen(logprobs, min(rest, missing * float(np.exp(min(shown.values())))))


def load_tokenizer(name: str) -> Any:
    """The tokenizer of a folder or hub id (`owner/name@revision`); code that comes with a model isn't run."""
    from transformers import AutoTokenizer

    path, _, revision = (name, "", "") if Path(name).is_dir() else name.partition("@")
    try:
        return AutoTokenizer.from_pretrained(path, revision=revision or "main")
    except (OSError, ValueError, KeyError) as error:
        reason = " ".join(str(error).split())[:200]
        kind = "the folder" if Path(name).is_dir() else "the hub id"
        raise Refusal(f"{kind} {name} gives no tokenizer ({reason}); set server.tokenizer") from None
