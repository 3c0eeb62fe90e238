"""Sampled mode, the published way: k answers a row, parsed strictly; the shares of the parsed ones."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from eval.prediction.asking import Generator, Reply, Request, Sampling, is_bare, parse_answer


def sampled_records(
    generator: Generator, requests: Sequence[Request], sampling: Sampling
) -> list[dict[str, Any]]:
    """One prediction a request: the fields of `PREDICTION_SCHEMA` but the keys."""
    return [summarise(replies) for replies in generator.replies(requests, sampling)]


def summarise(replies: Sequence[Reply]) -> dict[str, Any]:
    """Shares of the parsed answers. A reply that was cut off counts as unparsed, whatever it holds."""
    texts = [reply.text for reply in replies if reply.finished]
    draws = [answer for text in texts if (answer := parse_answer(text)) is not None]
    counts = sorted(Counter(draws).items())
    return {
        "mode": "sampled",
        "answers": [answer for answer, _ in counts],
        "probs": [count / len(draws) for _, count in counts],
        "draws": draws,
        "off_scale_mass": None,
        "n_requested": len(replies),
        "n_parsed": len(draws),
        "n_bare": sum(is_bare(text) for text in texts),
    }
