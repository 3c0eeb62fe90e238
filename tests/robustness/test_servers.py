"""What servers do to a client, as a table: each is one line, and replies that were finished are kept."""

import datetime
import json
import os
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from common.errors import Refusal
from eval.models import find_model
from eval.prediction.run import predict
from eval.settings import SampledSettings, ServerSettings, Settings
from tests.helpers.rows import make_rows

ROWS, ANSWERED = 8, 3  # rows, and how many are answered before the server misbehaves
GOOD = {
    "id": "x", "object": "chat.completion", "created": 0, "model": "m",
    "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "5"}}],
    "usage": {"prompt_tokens": 10, "completion_tokens": 1, "total_tokens": 11},
}  # fmt: skip
KEY = "sk-canary-5f2a"


def send(
    handler: BaseHTTPRequestHandler, body: bytes, status: int = 200, kind: str = "application/json", **more
):
    handler.send_response(status)
    headers = {"content-type": kind, "content-length": str(len(body)), **more}
    for name, value in headers.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.end_headers()
    handler.wfile.write(body)


def good(handler: BaseHTTPRequestHandler) -> None:
    send(handler, json.dumps(GOOD).encode())


class Server:
    """Answers well, and from request KEPT + 1 on as `behave` says."""

    def __init__(self, behave: Callable[[BaseHTTPRequestHandler], None]) -> None:
        self.behave: Callable[[BaseHTTPRequestHandler], None] = behave
        self.asked = 0
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                send(self, b"{}", 404)

            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["content-length"]))
                outer.asked += 1
                (good if outer.asked <= ANSWERED else outer.behave)(self)

            def log_message(self, *_: Any) -> None:
                pass

        class Quiet(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_: Any) -> None:  # the client has gone
                pass

        self.http = Quiet(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}/v1"
        threading.Thread(target=self.http.serve_forever, daemon=True).start()


def settings(url: str, **more: Any) -> Settings:
    server = {"retries": 0, "timeout_s": 0.5, "concurrency": 1} | more
    sampled = SampledSettings(samples=1)
    return Settings(
        mode="sampled", backend="server", sampled=sampled, server=ServerSettings(url=url, **server)
    )


def drip(handler: BaseHTTPRequestHandler) -> None:
    """A byte now and then, for ever."""
    handler.send_response(200)
    handler.send_header("content-type", "application/json")
    handler.send_header("content-length", "100000")
    handler.end_headers()
    for _ in range(600):
        handler.wfile.write(b" ")
        handler.wfile.flush()
        time.sleep(0.1)


def no_http(handler: BaseHTTPRequestHandler) -> None:
    handler.wfile.write(b"\x00\x01 this is no HTTP at all\r\n\r\n")
    handler.close_connection = True


def cut(handler: BaseHTTPRequestHandler) -> None:
    send(handler, json.dumps(GOOD).encode()[:60], content_length="5000")
    handler.close_connection = True


def reset(handler: BaseHTTPRequestHandler) -> None:
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    handler.close_connection = True
    os.close(handler.connection.detach())


def body(value: Any, status: int = 200, **more: str) -> Callable[[BaseHTTPRequestHandler], None]:
    data = value if isinstance(value, bytes) else json.dumps(value).encode()
    return lambda handler: send(handler, data, status, **more)


STOPS = {
    "a page": (body(b"<html><body>Welcome</body></html>", kind="text/html"), "no completion"),
    "nothing": (body(b""), "no completion"),
    "half a JSON": (body(json.dumps(GOOD).encode()[:80]), "no completion"),
    "a list": (body([]), "no completion"),
    "an error in a 200": (body({"error": {"message": "overloaded"}}), "no completion"),
    "no choices": (body({**GOOD, "choices": None}), "no completion"),
    "choices of text": (body({**GOOD, "choices": ["5"]}), "no completion"),
    "choices without message": (body({**GOOD, "choices": [{"index": 0}]}), "no completion"),
    "a message of text": (body({**GOOD, "choices": [{"message": "5"}]}), "no completion"),
    "a reply that is a list": (body({**GOOD, "choices": [{"message": {"content": [5]}}]}), "no completion"),
    "tokens counted in words": (body({**GOOD, "usage": {"prompt_tokens": "ten"}}), "no completion"),
    "bytes that aren't UTF-8": (body(b'{"choices": "\xff\xfe"}'), "no completion"),
    "another encoding than named": (body(b"plain", content_encoding="gzip"), "completion|no server answers"),
    "a depth without end": (body(b"[" * 100_000), "no completion"),
    "a rate limit for ever": (body({"error": "busy"}, 429, retry_after="0"), "went on failing"),
    "a failure for ever": (body({"error": "broken"}, 500), "went on failing"),
    "an echo of the key": (body({"error": f"bad key {KEY}"}, 500), "went on failing"),
    "a gateway's page": (body(b"<html>502</html>", 502, kind="text/html"), "went on failing"),
    "another key wanted": (body({"error": "no"}, 401), "OPENAI_API_KEY"),
    "another key wanted here": (body({"error": "no"}, 403), "OPENAI_API_KEY"),
    "no such model": (body({"error": "no"}, 404), "knows no model"),
    "a redirect": (body({}, 307, location="http://elsewhere.invalid/v1"), "sends requests on to elsewhere"),
    "a redirect to nowhere": (body({}, 302), "sends requests on to nowhere"),
    "a pause": (lambda handler: time.sleep(3), "timeout_s"),
    "a slow drip": (drip, "timeout_s"),
    "no HTTP": (no_http, "no server answers"),
    "half an answer": (cut, "no server answers|no completion"),
    "a reset": (reset, "no server answers"),
}  # fmt: skip


@pytest.mark.parametrize("name", STOPS)
def test_a_server_that_misbehaves_is_one_line_and_finished_replies_are_kept(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    behave, says = STOPS[name]
    server, rows = Server(behave), make_rows(ROWS)
    begun = time.monotonic()
    with pytest.raises(Refusal, match=says) as refused:
        predict(rows, "m", settings(server.url), folder=tmp_path)
    assert time.monotonic() - begun < 8
    assert "\n" not in str(refused.value) and KEY not in str(refused.value)
    server.behave, asked = good, server.asked
    table = predict(rows, "m", settings(server.url), folder=tmp_path).table
    assert server.asked - asked == ROWS - ANSWERED
    assert table["draws"].to_list() == [[5]] * ROWS
    server.http.shutdown()


COSTS_ITS_ROW = {
    "no text": body({**GOOD, "choices": [{"finish_reason": "stop", "message": {"content": None}}]}),
    "no replies": body({**GOOD, "choices": []}),
    "too long": body({"error": "too long"}, 413),
    "not understood": body({"error": "no"}, 422),
    "words": body({**GOOD, "choices": [{"finish_reason": "stop", "message": {"content": "no\x1b[2J idea"}}]}),
    "a huge number": body({**GOOD, "choices": [{"finish_reason": "stop", "message": {"content": "9" * 99}}]}),
}  # fmt: skip


@pytest.mark.parametrize("name", COSTS_ITS_ROW)
def test_an_answer_without_a_number_costs_its_row_alone(name: str, tmp_path: Path) -> None:
    server = Server(COSTS_ITS_ROW[name])
    table = predict(make_rows(ROWS), "m", settings(server.url), folder=tmp_path).table
    assert sorted(table["n_parsed"].to_list()) == [0] * (ROWS - ANSWERED) + [1] * ANSWERED
    server.http.shutdown()


def test_an_answer_without_usage_is_an_answer(tmp_path: Path) -> None:
    server = Server(body({**GOOD, "usage": None}))
    assert predict(make_rows(ROWS), "m", settings(server.url)).table["n_parsed"].to_list() == [1] * ROWS


def test_a_server_that_dies_in_the_middle_costs_what_was_on_its_way(tmp_path: Path) -> None:
    server, rows = Server(good), make_rows(ROWS)

    def die(handler: BaseHTTPRequestHandler) -> None:
        server.http.socket.close()
        reset(handler)

    server.behave = die
    with pytest.raises(Refusal, match="no server answers"):
        predict(rows, "m", settings(server.url, retries=1), folder=tmp_path)
    assert server.asked == ANSWERED + 1
    saved = list(tmp_path.rglob("*.parquet"))
    assert len(saved) == 1


@pytest.fixture
def certificate(tmp_path: Path) -> Iterator[Path]:
    """A certificate that nobody but itself has signed, with its key."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.datetime.now(datetime.UTC)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    signed = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
        .serial_number(1).not_valid_before(now).not_valid_after(now + datetime.timedelta(days=1))
        .sign(key, hashes.SHA256())
    )  # fmt: skip
    pem, plain = serialization.Encoding.PEM, serialization.NoEncryption()
    file = tmp_path / "server.pem"
    file.write_bytes(
        key.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain) + signed.public_bytes(pem)
    )
    yield file


def test_a_certificate_that_nobody_vouches_for_is_named_with_its_remedy(certificate: Path) -> None:
    server = Server(good)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    server.http.socket = context.wrap_socket(server.http.socket, server_side=True)
    url = server.url.replace("http://", "https://")
    with pytest.raises(Refusal, match=r"certificate of .* isn't trusted here; .*SSL_CERT_FILE"):
        predict(make_rows(2), "m", settings(url))
    with pytest.raises(Refusal, match=r"certificate"):
        find_model(url, "sample", "study")
    assert server.asked == 0


@pytest.mark.parametrize(
    ("variable", "value", "says"),
    [
        ("HTTP_PROXY", "foo://user:canary@127.0.0.1:9", "HTTP_PROXY"),
        ("HTTP_PROXY", "http://user:canary@127.0.0.1:9", "no server answers"),
        ("SSL_CERT_FILE", "/nowhere/canary.pem", "SSL_CERT_FILE"),
        ("OPENAI_API_KEY", "sk-canary\n", "OPENAI_API_KEY"),
        ("OPENAI_API_KEY", "sk-canary-é", "OPENAI_API_KEY"),
        ("OPENAI_BASE_URL", "http://me:canary@127.0.0.1:9/v1", "holds a user, password or key"),
        ("OPENAI_BASE_URL", "http://[canary", "address is none"),
        ("OPENAI_BASE_URL", "canary", "address is none"),
    ],
)
def test_a_variable_that_can_not_be_used_is_one_line_that_does_not_show_it(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, says: str
) -> None:
    for name in ("NO_PROXY", "no_proxy", "ALL_PROXY", "HTTP_PROXY", "http_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(variable, value)
    url = None if variable == "OPENAI_BASE_URL" else "http://nowhere.invalid:9/v1"
    with pytest.raises(Refusal, match=says) as refused:
        predict(make_rows(2), "m", settings(url))  # type: ignore[arg-type]
    assert "canary" not in str(refused.value) and "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "answer", [b"<html>", b"[]", b'{"data": 3}', b'{"data": [3]}', b'{"data": [{}]}', b""]
)
def test_a_list_of_models_that_is_none_is_one_line(answer: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    server = Server(good)
    handler = server.http.RequestHandlerClass
    monkeypatch.setattr(handler, "do_GET", lambda self: send(self, answer), raising=False)
    with pytest.raises(Refusal, match=r"the server .* (doesn't say what it serves|serves)"):
        find_model(server.url, "sample", "study")
