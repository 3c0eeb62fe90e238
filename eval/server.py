"""Replies from any OpenAI-compatible server: vLLM, LLaMA-Factory's own API, a hosted model.

Requests run concurrently up to a limit. The openai client retries what a moment's wait can mend (rate
limits, 5xx, time-outs, lost connections) with growing pauses, or as long as the server asks for. When
that doesn't help the run stops, and the same command goes on from the last saved shard.
"""

import asyncio
import os
import threading
from collections.abc import Sequence
from typing import Any

import openai

from common.files import Refusal
from eval.replies import Reply, Request, Sampling
from eval.settings import ServerSettings, Settings

KEY, URL = "OPENAI_API_KEY", "OPENAI_BASE_URL"
CHARACTERS_PER_TOKEN = 4  # English text, for estimates only
SECONDS_PER_REQUEST = 1.0  # likewise


class ServerGenerator:
    """`Generator` for a server. `usage` counts the tokens that it said it read and wrote."""

    def __init__(self, model: str, settings: Settings) -> None:
        self.model, self.settings = model, settings.server
        self.url = self.settings.url or os.environ.get(URL)
        if not self.url:
            raise Refusal(f"no server is named; give --url http://host:port/v1, or set {URL}")
        if settings.sampled.constrained and settings.mode != "verbalised":
            raise Refusal(
                "a server can't constrain replies; set sampled.constrained to false, or use --backend vllm"
            )
        self.usage = {"prompt_tokens": 0, "completion_tokens": 0}
        self._loop = asyncio.new_event_loop()  # one for all shards: connections live in it
        threading.Thread(target=self._loop.run_forever, daemon=True).start()
        self._client = openai.AsyncOpenAI(
            base_url=self.url,
            api_key=os.environ.get(KEY) or "none",
            timeout=self.settings.timeout_s,
            max_retries=self.settings.retries,
        )
        self._slots = asyncio.Semaphore(self.settings.concurrency)

    def replies(self, requests: Sequence[Request], sampling: Sampling) -> list[list[Reply]]:
        """See `Generator`. A request that the server calls wrong has unfinished, empty replies.

        Raises `Refusal` when the server can't be reached, wants another key or knows no such model,
        goes on failing after all retries, or calls every request wrong.
        """
        return asyncio.run_coroutine_threadsafe(self._all(requests, sampling), self._loop).result()

    async def _all(self, requests: Sequence[Request], sampling: Sampling) -> list[list[Reply]]:
        tasks = [asyncio.ensure_future(self._one(request, sampling)) for request in requests]
        try:
            found = await asyncio.gather(*tasks)
        except openai.OpenAIError as error:
            raise Refusal(self._remedy(error)) from None
        finally:
            for task in tasks:
                task.cancel()
        wrong = [answer for answer in found if isinstance(answer, openai.BadRequestError)]
        if wrong and len(wrong) == len(found):
            raise Refusal(f"{self.url} calls every request wrong: {_message(wrong[0])}")
        lost = [Reply("", finished=False)] * sampling.samples
        return [lost if isinstance(answer, openai.BadRequestError) else answer for answer in found]

    async def _one(self, request: Request, sampling: Sampling) -> list[Reply] | openai.BadRequestError:
        """All replies to one request. A server that gives fewer than asked for at once is asked again."""
        messages = [{"role": "system", "content": request.system}] if request.system else []
        messages.append({"role": "user", "content": request.prompt})
        replies: list[Reply] = []
        while len(replies) < sampling.samples:
            try:
                async with self._slots:
                    answer = await self._ask(messages, request, sampling, len(replies))
            except openai.BadRequestError as error:
                return error
            if not answer.choices:
                return [Reply("", finished=False)] * sampling.samples
            for choice in answer.choices:
                replies.append(Reply(choice.message.content or "", choice.finish_reason == "stop"))
            if answer.usage:
                self.usage["prompt_tokens"] += answer.usage.prompt_tokens
                self.usage["completion_tokens"] += answer.usage.completion_tokens
        return replies[: sampling.samples]

    async def _ask(self, messages: Any, request: Request, sampling: Sampling, had: int) -> Any:
        return await self._client.chat.completions.create(
            model=self.model,
            messages=messages,
            n=sampling.samples - had,
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            max_tokens=sampling.max_new_tokens,
            seed=(hash(request.seed) + had) & 0x7FFFFFFF,
        )

    def _remedy(self, error: openai.OpenAIError) -> str:
        if isinstance(error, openai.AuthenticationError | openai.PermissionDeniedError):
            return f"{self.url} doesn't accept the key; set {KEY} to one that may use {self.model}"
        if isinstance(error, openai.NotFoundError):
            return f"{self.url} knows no model {self.model}, or no such address; {self.url}/models lists them"
        if isinstance(error, openai.APITimeoutError):
            return (
                f"{self.url} took over {self.settings.timeout_s:g} s each of {self.settings.retries + 1} "
                "times; raise server.timeout_s or lower server.concurrency, and run the same command to go on"
            )
        if isinstance(error, openai.APIConnectionError):
            return (
                f"no server answers at {self.url}; start it or mend --url, and run the same command to go on"
            )
        return (
            f"{self.url} went on failing after {self.settings.retries} retries: {_message(error)}; "
            "lower server.concurrency or wait, and run the same command to go on"
        )


def _message(error: openai.OpenAIError) -> str:
    return " ".join(str(error).split())[:300]


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
    minutes = requests * SECONDS_PER_REQUEST / settings.concurrency / 60
    return cost, (
        f"{requests:,} requests, about {tokens_in / 1e6:.2f} million tokens in and at most "
        f"{tokens_out / 1e6:.2f} million out: at most about {cost:.2f} at the settings' prices, "
        f"about {minutes:.0f} min at {SECONDS_PER_REQUEST:g} s a request"
    )
