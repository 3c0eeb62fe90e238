"""One OpenAI-compatible server, or several that serve the same model: requests go to the least busy one.

The openai client retries what a moment's wait can fix (rate limits, 5xx, time-outs, lost connections) with
growing pauses, or as long as the server asks for. One of several that goes on failing is left out, and what
it was asked is asked of the others; when the last one fails, the run stops with a line that says why.
"""

import asyncio
import sys
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import openai
from pydantic import ValidationError

from common.errors import Refusal
from eval.connection import KEY, client, unreachable, words
from eval.prediction.backends.completion import Completion
from eval.settings import ServerSettings

WRONG = (400, 413, 422)  # answers that condemn one request and say nothing of the others
LONGEST_PAUSE_S = 60.0  # what the client waits at most between two tries
Ask = Callable[[openai.AsyncOpenAI], Awaitable[Any]]


@dataclass
class Server:
    """An address, its connections, and how many requests it has in hand."""

    url: str
    client: openai.AsyncOpenAI
    busy: int = 0


class Failing(Exception):
    """A server went on failing; the words say how, and what to do if there is no other."""


class Pool:
    """Servers of one model; `model` as the messages name it."""

    def __init__(self, urls: Sequence[str], model: str, settings: ServerSettings) -> None:
        self.settings, self.model, self._first = settings, model, list(urls)
        self.servers = [
            Server(url, client(openai.AsyncOpenAI, url, timeout=settings.timeout_s)) for url in urls
        ]
        self._changed = asyncio.Condition()

    async def send(self, ask: Ask, prefer: int | None = None) -> Completion:
        """The answer to one request, which is a completion, when a server has room for it.

        prefer: the number of the server that has read the request's beginning; others where it's left out.
        Raises `openai.APIStatusError` for a request that is called wrong, `Refusal` for all else.
        """
        while True:
            server = await self._free(prefer)
            try:
                return await self._ask(server, ask)
            except Failing as failure:
                if server in self.servers and len(self.servers) > 1:
                    self.servers.remove(server)
                    words = str(failure).partition(";")[0]
                    print(f"{words}; going on with {len(self.servers)} other(s)", file=sys.stderr)
                elif server in self.servers:
                    raise Refusal(str(failure)) from None
            finally:
                async with self._changed:
                    server.busy -= 1
                    self._changed.notify_all()

    async def _free(self, prefer: int | None) -> Server:
        """A server with room, now one request busier."""
        preferred = self._first[prefer % len(self._first)] if prefer is not None else ""

        def rooms() -> list[Server]:
            wanted = [server for server in self.servers if server.url == preferred] or self.servers
            return [server for server in wanted if server.busy < self.settings.concurrency]

        async with self._changed:
            await self._changed.wait_for(rooms)
            server = min(rooms(), key=lambda server: server.busy)
            server.busy += 1
        return server

    async def _ask(self, server: Server, ask: Ask) -> Completion:
        # One of several is given up sooner. One that sends a byte now and then never runs into the client's
        # own time-out.
        tries = self.settings.retries if len(self.servers) == 1 else min(self.settings.retries, 1)
        deadline = self.settings.timeout_s * (tries + 1) + LONGEST_PAUSE_S * tries
        try:
            answer = await asyncio.wait_for(ask(server.client.with_options(max_retries=tries)), deadline)
        except TimeoutError:
            raise Failing(self._too_slow(server, tries)) from None
        except (ValueError, RecursionError) as error:  # half a JSON, one without end
            raise Failing(no_completion(server.url, error)) from None
        except openai.OpenAIError as error:
            if getattr(error, "status_code", 0) in WRONG:
                raise
            raise self._failure(server, error, tries) from None
        try:
            return Completion.model_validate(answer)
        except ValidationError:
            raise Failing(no_completion(server.url, getattr(answer, "error", None) or answer)) from None

    def _failure(self, server: Server, error: openai.OpenAIError, tries: int) -> Failing | Refusal:
        """A server that fails, or a mistake of whoever named it, which no other server makes good."""
        url = server.url
        if isinstance(error, openai.AuthenticationError | openai.PermissionDeniedError):
            return Refusal(f"{url} doesn't accept the key; set {KEY} to one that may use {self.model}")
        if isinstance(error, openai.NotFoundError):
            return Refusal(f"{url} knows no model {self.model}, or no such address; {url}/models lists them")
        if isinstance(error, openai.APITimeoutError):
            return Failing(self._too_slow(server, tries))
        if isinstance(error, openai.APIResponseValidationError):
            return Failing(no_completion(server.url, error))
        status = getattr(error, "status_code", 0)
        if 300 <= status < 400:
            target = urlsplit(error.response.headers.get("location", "")).netloc  # type: ignore[attr-defined]
            return Refusal(f"{url} sends requests on to {target or 'nowhere'}; to trust it give it as --url")
        if isinstance(error, openai.APIConnectionError):
            said = unreachable(url, error)
            return Refusal(said) if "certificate" in said else Failing(said)
        return Failing(
            f"{url} went on failing after {tries} retries: {words(error)}; "
            "lower server.concurrency or wait, and run the same command to go on"
        )

    def _too_slow(self, server: Server, tries: int) -> str:
        return (
            f"{server.url} took over {self.settings.timeout_s:g} s each of {tries + 1} "
            "times; raise server.timeout_s or lower server.concurrency, and run the same command to go on"
        )


def no_completion(url: str, what: object) -> str:
    """The line for an answer that can't be read."""
    return (
        f"{url} answered with something that is no completion ({words(what)[:120]}); "
        "look at the server, then run the same command to go on"
    )
