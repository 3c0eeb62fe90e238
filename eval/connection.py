"""How a server is reached: at the named address and no other, with the environment's key and no other."""

import os
import ssl
from typing import Any
from urllib.parse import urlsplit

import httpx
import openai

from common.errors import Refusal

KEY = "OPENAI_API_KEY"


def refuse_secret(url: str) -> None:
    """Refuse a server's address that holds a password or a key: addresses are recorded and shown."""
    try:
        parts = urlsplit(url)
        host = parts.hostname
    except ValueError:
        host = None
    if not host:
        raise Refusal("the server's address is none; write http://host:port/v1")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise Refusal(f"the address of {host} holds a user, password or key; leave that out and set {KEY}")


def client(kind: Any, url: str, **options: Any) -> Any:
    """An `openai.OpenAI` or `openai.AsyncOpenAI` (`kind`) for `url`, which follows no redirect.

    Raises `Refusal` for an address or key that can't be one, and for variables of the environment (proxies,
    certificates) that can't be used; none is shown, they may hold passwords.
    """
    refuse_secret(url)
    key = os.environ.get(KEY) or "none"
    if not (key.isascii() and key.isprintable()) or " " in key:
        raise Refusal(f"{KEY} holds a line break, a blank or a letter that no key has; copy the key again")
    http = openai.DefaultHttpxClient if kind is openai.OpenAI else openai.DefaultAsyncHttpxClient
    try:
        return kind(base_url=url, api_key=key, http_client=http(follow_redirects=False), **options)
    except (ValueError, ImportError, OSError, httpx.InvalidURL):
        raise Refusal(
            f"no connection to {url} can be set up: HTTP_PROXY, HTTPS_PROXY, ALL_PROXY or SSL_CERT_FILE "
            "isn't what it should be; fix it or unset it"
        ) from None


def words(refusal: object) -> str:
    """What a server or a library says, in one line and without the key."""
    text = " ".join(str(refusal).split())[:300]
    key = os.environ.get(KEY)
    return text.replace(key, "[key]") if key else text


def unreachable(url: str, error: BaseException) -> str:
    """Why no connection came about, and what helps."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError) or "CERTIFICATE_VERIFY" in str(cause):
            return (
                f"the certificate of {url} isn't trusted here; name its authority's file in SSL_CERT_FILE, "
                "or use http:// on a machine of your own"
            )
        cause = cause.__cause__ or cause.__context__
    return f"no server answers at {url}; start it or fix --url, and run the same command to go on"
