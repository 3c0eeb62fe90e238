"""Replies from any OpenAI-compatible server: vLLM, LLaMA-Factory's own API, a hosted model.

Requests run concurrently up to a limit, shared out over the addresses (see pool.py). When retries don't
help the run stops, and the same command goes on from what is saved.
"""

import asyncio
import os
import queue
import threading
from collections.abc import Collection, Coroutine, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import openai

from common.errors import Refusal
from eval.connection import words
from eval.prediction.asking import Masses, Reply, Request, Sampling
from eval.prediction.backends.completion import Completion
from eval.prediction.backends.pool import WRONG, Ask, Pool, no_completion
from eval.settings import ExactSettings, ServerSettings, Settings, urls_of

URL = "OPENAI_BASE_URL"
TOP_LOGPROBS = 20  # the most that OpenAI-compatible servers commonly allow
CHARACTERS_PER_TOKEN = 4  # English text, for estimates only
SECONDS_PER_REQUEST = 1.0  # likewise
# vLLM fills what a request leaves out from the checkpoint's generation_config: nothing is left out.
FREE_SAMPLING = {"top_k": -1, "min_p": 0.0, "repetition_penalty": 1.0}


class ServerBackend:
    """`Backend` for a server. `usage` counts the tokens that it said it read and wrote."""

    def __init__(self, model: str, settings: Settings) -> None:
        self.model, self.settings = model, settings.server
        self.urls = self.settings.urls or urls_of(os.environ.get(URL, ""))
        if not self.urls:
            raise Refusal(f"no server is named; give --url http://host:port/v1, or set {URL}")
        self.url = ", ".join(self.urls)
        if settings.sampled.constrained and settings.mode != "verbalised":
            raise Refusal(
                "a server can't constrain replies; set sampled.constrained to false, or use --backend vllm"
            )
        if settings.mode == "exact" and settings.exact != ExactSettings():
            raise Refusal("a server's probabilities have temperature 1 and top_p 1; set exact's to these")
        self.usage = {"prompt_tokens": 0, "completion_tokens": 0}
        self._loop = asyncio.new_event_loop()  # one for all shards: connections live in it
        threading.Thread(target=self._loop.run_forever, daemon=True).start()
        self._pool = Pool(self.urls, model, self.settings)
        self.served = self._served()
        self.free_sampling = FREE_SAMPLING if self.served.get("owned_by") == "vllm" else {}
        self.tokens: Any = None  # exact mode by token ids, see token_server.py

    def replies(
        self, requests: Sequence[Request], sampling: Sampling, done: Collection[int] = ()
    ) -> Iterator[tuple[int, list[Reply]]]:
        """See `Backend`. A request that the server calls wrong has unfinished, empty replies.

        Raises `Refusal` when the server can't be reached, wants another key or knows no such model,
        goes on failing after all retries, or calls every request wrong.
        """
        lost = [Reply("", finished=False)] * sampling.samples
        works = {row: self._replies(r, sampling) for row, r in enumerate(requests) if row not in done}
        for row, replies in self.stream(works):
            yield row, replies or lost

    def can_enumerate(self, answers: Sequence[int]) -> bool:
        """See `Backend`: without its tokenizer, if no answer can begin another or take a second token."""
        return self.tokens is not None or all(0 <= answer <= 9 for answer in answers)

    def masses(
        self, requests: Sequence[Request], exact: ExactSettings, done: Collection[int] = ()
    ) -> Iterator[tuple[int, Masses | None]]:
        """See `Backend`: by token ids where the server takes them, else from the first token's `logprobs`.

        Such a server shows the TOP_LOGPROBS likeliest tokens only. An answer that isn't among them has at
        most the last one's probability, and the end of the turn is taken for granted. None where the
        server calls a request wrong. Raises `Refusal` as `replies` does, and when there are no logprobs.
        """
        if self.tokens:
            yield from self.tokens.masses(requests, done)
            return
        asked = Sampling(1, 1.0, 1.0, 1)
        works = {row: self._first_token(r, asked) for row, r in enumerate(requests) if row not in done}
        for row, tokens in self.stream(works):
            if tokens is None:
                yield row, None
                continue
            seen = {text: float(np.exp(logprob)) for text, logprob in reversed(tokens)}
            mass = np.array([seen.get(str(answer), 0.0) for answer in requests[row].answers or ()])
            rest = max(0.0, 1.0 - sum(float(np.exp(logprob)) for _, logprob in tokens))
            unread = min(rest, float((mass == 0).sum() * np.exp(tokens[-1][1])))
            yield row, Masses(mass, unread)

    def stream(self, works: Mapping[int, Coroutine[Any, Any, Any]]) -> Iterator[tuple[int, Any]]:
        """(row, what its work gives) as it comes; None for one that the server calls wrong."""
        results: queue.Queue[tuple[int, Any] | None] = queue.Queue()
        running = asyncio.run_coroutine_threadsafe(self._all(works, results), self._loop)
        running.add_done_callback(lambda _: results.put(None))
        try:
            while (result := results.get()) is not None:
                yield result
            running.result()
        finally:
            running.cancel()

    async def _all(
        self, works: Mapping[int, Coroutine[Any, Any, Any]], results: queue.Queue[tuple[int, Any] | None]
    ) -> None:
        """Put each work's result into `results`; those called wrong once any other has succeeded."""
        wrong: dict[int, openai.APIStatusError] = {}
        succeeded = False

        async def tolerate(row: int, work: Coroutine[Any, Any, Any]) -> None:
            nonlocal succeeded
            try:
                results.put((row, await work))
                succeeded = True
            except openai.APIStatusError as error:
                if error.status_code not in WRONG:
                    raise
                wrong[row] = error

        tasks = [asyncio.ensure_future(tolerate(row, work)) for row, work in works.items()]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
        if wrong and not succeeded:
            raise Refusal(f"{self.url} calls every request wrong: {words(next(iter(wrong.values())))}")
        for row in wrong:
            results.put((row, None))

    async def _replies(self, request: Request, sampling: Sampling) -> list[Reply]:
        """All replies to one request. A server that gives fewer than asked for at once is asked again."""
        replies: list[Reply] = []
        while len(replies) < sampling.samples:
            answer = await self._ask(request, sampling, len(replies))
            if not answer.choices:
                break
            for choice in answer.choices:
                if choice.message is None:
                    raise Refusal(no_completion(self.url, "a choice without a message"))
                replies.append(Reply(choice.message.content or "", choice.finish_reason == "stop"))
        return replies[: sampling.samples]

    async def _first_token(self, request: Request, sampling: Sampling) -> list[tuple[str, float]]:
        """The likeliest first tokens of a reply and their log-probabilities, in falling order."""
        answer = await self._ask(request, sampling, logprobs=True, top_logprobs=TOP_LOGPROBS)
        content = (
            answer.choices[0].logprobs.content if answer.choices and answer.choices[0].logprobs else None
        )
        if not content:
            raise Refusal(f"{self.url} gives no logprobs, so exact mode can't be; use --mode sampled")
        return [(token.token, token.logprob) for token in content[0].top_logprobs]

    async def _ask(self, request: Request, sampling: Sampling, had: int = 0, **more: Any) -> Completion:
        messages: list[Any] = [{"role": "system", "content": request.system}] if request.system else []
        if sampling.temperature and not more:  # a seed is of no use elsewhere
            more["seed"] = (hash(request.seed) + had) & 0x7FFFFFFF
        return await self.post(
            lambda client: client.chat.completions.create(
                model=self.model,
                messages=[*messages, {"role": "user", "content": request.prompt}],
                n=sampling.samples - had,
                temperature=sampling.temperature,
                top_p=sampling.top_p,
                max_tokens=sampling.max_new_tokens,
                extra_body=self.free_sampling or None,
                **more,
            )
        )

    async def post(self, ask: Ask, prefer: int | None = None) -> Completion:
        """Send one request when there is room for it (see `Pool.send`), and count its tokens."""
        completion = await self._pool.send(ask, prefer)
        for kind in self.usage:
            self.usage[kind] += getattr(completion.usage, kind, None) or 0
        return completion

    def _served(self) -> dict[str, Any]:
        """What the first server that answers says of the model; {} where none has a list of models."""
        for server in self._pool.servers:
            asking = asyncio.run_coroutine_threadsafe(
                asyncio.wait_for(server.client.with_options(max_retries=0).models.list(), 10), self._loop
            )
            try:
                listed = {model.id: model.to_dict() for model in asking.result().data}
            except (openai.OpenAIError, TimeoutError, ValueError, AttributeError, TypeError):
                continue  # whoever can't list models may still answer
            return listed.get(self.model, {})
        return {}


def estimate(
    characters: int, requests: int, sampling: Sampling, settings: ServerSettings
) -> tuple[float, str]:
    """Cost, and a sentence with cost and time, of `requests` that hold `characters` in all.

    Tokens are estimated from characters and every reply is taken to be as long as it may be, so the
    cost is an upper bound as far as the first estimate holds.
    """
    tokens_in = characters / CHARACTERS_PER_TOKEN
    tokens_out = requests * sampling.samples * sampling.max_new_tokens
    cost = (tokens_in * settings.price_input + tokens_out * settings.price_output) / 1e6
    servers = max(1, len(settings.urls))
    minutes = requests * SECONDS_PER_REQUEST / settings.concurrency / servers / 60
    return cost, (
        f"{requests:,} requests, about {tokens_in / 1e6:.2f} million tokens in and at most "
        f"{tokens_out / 1e6:.2f} million out: at most about {cost:.2f} at the settings' prices, "
        f"about {minutes:.0f} min at {SECONDS_PER_REQUEST:g} s a request"
    )
