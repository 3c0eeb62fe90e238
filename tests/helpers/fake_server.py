"""A stand-in for an OpenAI-compatible server: its answers are what a test says, over real HTTP."""

import json
import math
import threading
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Answer = tuple[int, dict[str, Any]]  # status, body


def completion(*texts: str, reason: str = "stop") -> Answer:
    choices = [
        {"index": i, "finish_reason": reason, "message": {"role": "assistant", "content": text}}
        for i, text in enumerate(texts)
    ]
    usage = {"prompt_tokens": 10, "completion_tokens": len(texts), "total_tokens": 10 + len(texts)}
    body = {
        "id": "x",
        "object": "chat.completion",
        "created": 0,
        "model": "m",
        "choices": choices,
        "usage": usage,
    }
    return 200, body


class FakeServer:
    """Answers each request with what `behave(body, number of the request)` returns."""

    def __init__(self) -> None:
        self.behave: Callable[[dict[str, Any], int], Answer] = lambda body, number: completion(
            *["5"] * body["n"]
        )
        self.listed: list[dict[str, Any]] = []  # the models that it says it serves
        self.seen: list[dict[str, Any]] = []
        self.keys: set[str | None] = set()
        self.busy = self.most_busy = 0
        lock, outer = threading.Lock(), self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                with lock:
                    outer.seen.append(body)
                    outer.keys.add(self.headers["authorization"])
                    outer.busy += 1
                    outer.most_busy = max(outer.most_busy, outer.busy)
                    number = len(outer.seen)
                status, answer = outer.behave(body, number)
                with lock:
                    outer.busy -= 1
                self.reply(status, answer)

            def do_GET(self) -> None:
                self.reply(200, {"object": "list", "data": outer.listed})

            def reply(self, status: int, answer: dict[str, Any]) -> None:
                data = json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *args: Any) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}/v1"
        threading.Thread(target=self.http.serve_forever, daemon=True).start()


def shown(shares: Mapping[str, float], text: str = "5") -> Answer:
    """A chat's reply with the likeliest first tokens and their probabilities."""
    status, answer = completion(text)
    top = [{"token": token, "logprob": math.log(share), "bytes": None} for token, share in shares.items()]
    answer["choices"][0]["logprobs"] = {"content": [{**top[0], "top_logprobs": top}]}
    return status, answer


def tokens_shown(body: dict[str, Any], shares: Callable[[list[int], list[int]], dict[int, float]]) -> Answer:
    """A completion of token-id prompts: `shares(prompt, named tokens)` are the tokens that it shows."""
    named = body.get("logprob_token_ids") or []
    choices = [
        {"index": number, "finish_reason": "length", "text": "", "logprobs": {"top_logprobs": [
            {f"token_id:{token}": math.log(share) for token, share in shares(prompt, named).items()}
        ]}}
        for number, prompt in enumerate(body["prompt"])
    ]  # fmt: skip
    usage = {"prompt_tokens": 10, "completion_tokens": len(choices), "total_tokens": 10 + len(choices)}
    return 200, {"id": "x", "object": "text_completion", "created": 0, "choices": choices, "usage": usage}


def answer_all(body: dict[str, Any], number: int) -> Answer:
    """What a server with named tokens answers that finds all of them alike, and always says 5."""
    if "prompt" in body:
        return tokens_shown(body, lambda prompt, named: dict.fromkeys(named, 1 / 200))
    if body.get("logprobs"):
        return shown({str(digit): 0.1 for digit in range(10)})
    return completion(*["5"] * body["n"])
