"""What a model is asked and replies: one interface for every back end, and a parser that never guesses."""

import re
import zlib
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np

from eval.settings import ExactSettings


@dataclass(frozen=True)
class Request:
    """One row's question. `seed` identifies the row, so that its draws depend on nothing else.

    answers: the admissible answers, if they are to be enumerated or the reply constrained to them.
    """

    system: str | None
    prompt: str
    seed: tuple[int, ...]
    answers: tuple[int, ...] | None = None


@dataclass(frozen=True)
class Sampling:
    """How to draw: `samples` replies a request; temperature 0 is greedy."""

    samples: int
    temperature: float
    top_p: float
    max_new_tokens: int


@dataclass(frozen=True)
class Reply:
    """A reply's text; `finished` is False when it was cut off or never came."""

    text: str
    finished: bool = True


class Masses(NamedTuple):
    """What exact mode learns about one request.

    answers: float64 (A,), the probability of a bare reply with each answer, in the request's order.
    unread: the most that answers may hold beyond that, because some of their token sequences weren't
    read. 1 - answers.sum() is at least the off-scale mass.
    """

    answers: np.ndarray
    unread: float


class Backend(Protocol):
    """Where a model runs. Results come as (index of the request, result), in any order, once each.

    done: indices whose results are known already; they may be left out. So whoever reads can save what
    has come at any time, stop, and go on later.
    """

    def replies(
        self, requests: Sequence[Request], sampling: Sampling, done: Collection[int] = ()
    ) -> Iterator[tuple[int, list[Reply]]]:
        """`sampling.samples` replies to each request; constrained to its `answers` where it has some."""
        ...

    def can_enumerate(self, answers: Sequence[int]) -> bool:
        """True if `masses` can give the probabilities of these answers."""
        ...

    def masses(
        self, requests: Sequence[Request], exact: ExactSettings, done: Collection[int] = ()
    ) -> Iterator[tuple[int, Masses | None]]:
        """The probability of each of a request's `answers`; None where the request can't be asked."""
        ...


def row_seed(seed: int, study_id: str, sample_id: int) -> tuple[int, int, int]:
    """A seed for one row: the same whatever rows are predicted beside it, and on every machine."""
    return seed, zlib.crc32(study_id.encode()), sample_id & 0xFFFFFFFF


_NUMBER = re.compile(r"([-+\u2212]?)([0-9]{1,30}|[0-9]{1,3}(?:,[0-9]{3}){1,9})(?:\.0+)?")
_LABELLED = re.compile(r"^[\s*_]*answer[\s*_]*:(.*)$", re.IGNORECASE)
_BARE = re.compile(r"0|-?[1-9][0-9]*")
LARGEST = 2**53  # beyond it a whole number isn't exact everywhere, and isn't read as an answer


def is_bare(text: str) -> bool:
    """True if the reply is the integer as it was asked for, and nothing else."""
    return bool(_BARE.fullmatch(text))


def parse_answer(text: str) -> int | None:
    """The integer that a reply states, or None when it states none, several, or only hints at one.

    Read: an integer alone, with white space, quotes, emphasis or a full stop around it, thousands
    separators (1,000) or a zero fraction (7.0); or such an integer after `Answer:` in the last line,
    as the reasoning data set writes it.
    """
    text = text.strip()
    if "\n" in text or ":" in text:
        *before, last = text.split("\n")
        label = _LABELLED.match(last)
        if not label or any(_LABELLED.match(line) for line in before):
            return None
        text = label[1]
    match = _NUMBER.fullmatch(text.strip(" \t\"'`*_").removesuffix(".").strip(" \t\"'`*_"))
    if not match:
        return None
    value = int(match[2].replace(",", "")) * (1 if match[1] in ("", "+") else -1)
    return value if abs(value) <= LARGEST else None
