"""Verbalised mode: the model is asked to state the distribution in words, as a JSON object."""

import json
import math
from collections.abc import Sequence
from typing import Any

from common.scale import Scale
from eval.prediction.asking import Generator, Request, Sampling

QUESTION = (
    "Do not answer with a single integer. State instead how likely each possible answer of this person is: "
    'one JSON object from answer to probability in percent, such as {"1": 20, "2": 80}, nothing else. '
    "The probabilities must add up to 100; leave out answers that are impossible."
)


def verbalised_records(
    generator: Generator, requests: Sequence[Request], scales: Sequence[Scale], sampling: Sampling
) -> list[dict[str, Any]]:
    """One prediction a request: the fields of `PREDICTION_SCHEMA` but the keys."""
    asked = [Request(request.system, f"{request.prompt}\n\n{QUESTION}", request.seed) for request in requests]
    replies = generator.replies(asked, sampling)
    records = []
    for (reply,), scale in zip(replies, scales, strict=True):
        stated = parse_distribution(reply.text, scale) if reply.finished else None
        answers = sorted(stated or {})
        records.append(
            {
                "mode": "verbalised",
                "answers": answers,
                "probs": [stated[answer] for answer in answers] if stated else [],
                "draws": [],
                "off_scale_mass": None,
                "n_requested": 1,
                "n_parsed": int(stated is not None),
                "n_bare": int(stated is not None and reply.text.strip().startswith("{")),
            }
        )
    return records


def parse_distribution(text: str, scale: Scale) -> dict[int, float] | None:
    """Answer -> probability, normalised to 1, from a JSON object (a code fence around it is taken off).

    None when it isn't one JSON object from admissible integers to non-negative numbers with a positive
    sum, or an answer stands in it twice.
    """
    text = text.strip().removeprefix("```json").removeprefix("```").removesuffix("```")
    try:
        pairs = json.loads(text, object_pairs_hook=list, parse_constant=lambda _: None)
        stated = {int(key): math.nan if isinstance(value, bool) else float(value) for key, value in pairs}
    except (ValueError, TypeError, RecursionError):
        return None
    total = math.fsum(stated.values()) if all(map(math.isfinite, stated.values())) else math.nan
    if len(stated) < len(pairs) or not total > 0 or min(stated.values()) < 0:
        return None
    if not all(scale.contains(answer) and abs(answer) < 2**63 for answer in stated):
        return None
    return {answer: value / total for answer, value in stated.items()}
