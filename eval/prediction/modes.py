"""What a prediction is in each mode: from the mass of answers, from replies, from a stated distribution."""

import json
import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

from common.scale import Scale
from eval.prediction.asking import LARGEST, Masses, Reply, is_bare, parse_answer

QUESTION = (
    "Do not answer with a single integer. State instead how likely each possible answer of this person is: "
    'one JSON object from answer to probability in percent, such as {"1": 20, "2": 80}, nothing else. '
    "The probabilities must add up to 100; leave out answers that are impossible."
)
# Each record has the fields of PREDICTION_SCHEMA but the keys.
NO_EXACT: dict[str, Any] = {
    "mode": "exact", "answers": [], "probs": [], "draws": [], "off_scale_mass": None, "unread_mass": None,
    "n_requested": 1, "n_parsed": 0, "n_bare": None,
}  # fmt: skip


def exact_record(answers: Sequence[int], masses: Masses | None) -> dict[str, Any]:
    """A prediction from the mass of each answer; none when the model gives all of them no probability."""
    if masses is None:
        return NO_EXACT
    total = float(masses.answers.sum())
    record = NO_EXACT | {
        "off_scale_mass": max(0.0, 1.0 - total),
        "unread_mass": min(masses.unread, max(0.0, 1.0 - total)),
    }
    if total > 0:
        record |= {"answers": list(answers), "probs": (masses.answers / total).tolist(), "n_parsed": 1}
    return record


def sampled_record(replies: Sequence[Reply]) -> dict[str, Any]:
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
        "unread_mass": None,
        "n_requested": len(replies),
        "n_parsed": len(draws),
        "n_bare": sum(is_bare(text) for text in texts),
    }


def verbalised_record(reply: Reply, scale: Scale) -> dict[str, Any]:
    """A prediction from a reply that states a distribution."""
    stated = parse_distribution(reply.text, scale) if reply.finished else None
    answers = sorted(stated or {})
    return {
        "mode": "verbalised",
        "answers": answers,
        "probs": [stated[answer] for answer in answers] if stated else [],
        "draws": [],
        "off_scale_mass": None,
        "unread_mass": None,
        "n_requested": 1,
        "n_parsed": int(stated is not None),
        "n_bare": int(stated is not None and reply.text.strip().startswith("{")),
    }


def parse_distribution(text: str, scale: Scale) -> dict[int, float] | None:
    """Answer -> probability, normalised to 1, from a JSON object (a code fence around it is taken off).

    None when it isn't one JSON object from admissible integers to non-negative numbers with a positive
    sum, or names an answer twice.
    """
    text = text.strip().removeprefix("```json").removeprefix("```").removesuffix("```").strip()
    try:
        pairs = json.loads(text, object_pairs_hook=list, parse_constant=lambda _: None)
        stated = {int(key): math.nan if isinstance(value, bool) else float(value) for key, value in pairs}
        total = math.fsum(stated.values())
    except (ValueError, TypeError, RecursionError, OverflowError):
        return None
    if not text.startswith("{") or len(stated) < len(pairs):
        return None
    if not 0 < total < math.inf or min(stated.values()) < 0:
        return None
    if not all(scale.contains(answer) and abs(answer) <= LARGEST for answer in stated):
        return None
    return {answer: value / total for answer, value in stated.items()}
