"""Lists of different lengths, laid end to end: predicted distributions, and the controls' answers."""

from typing import NamedTuple

import numpy as np


class Ragged(NamedTuple):
    """Distributions of N rows (or cells): the i-th is `answers[offsets[i]:offsets[i + 1]]` with its weights.

    A NamedTuple, because compiled functions take one whole.
    """

    offsets: np.ndarray
    """int64 (N + 1)."""
    answers: np.ndarray
    """int64, ascending within a distribution."""
    weights: np.ndarray
    """float64, one an answer: probabilities, or counts."""

    @property
    def lengths(self) -> np.ndarray:
        """Answers of each distribution: int64 (N)."""
        return np.diff(self.offsets)

    @property
    def owner(self) -> np.ndarray:
        """Which distribution each answer belongs to: int64."""
        return np.repeat(np.arange(len(self.offsets) - 1), self.lengths)

    def take(self, which: np.ndarray) -> "Ragged":
        """The distributions with these indices (int64), in this order; one may be taken several times."""
        lengths = self.lengths[which]
        offsets = starts_of(lengths)
        at = np.arange(offsets[-1]) + np.repeat(self.offsets[which] - offsets[:-1], lengths)
        return Ragged(offsets, self.answers[at], self.weights[at])


def starts_of(lengths: np.ndarray) -> np.ndarray:
    """Where lists of these lengths start, and where the last one ends: int64 (N + 1)."""
    return np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)


def ragged(owner: np.ndarray, answers: np.ndarray, weights: np.ndarray, count: int) -> Ragged:
    """Distributions from entries in any order: `owner` says which of `count` each belongs to."""
    order = np.lexsort((answers, owner))
    offsets = starts_of(np.bincount(owner, minlength=count))
    return Ragged(offsets, answers[order].astype(np.int64), weights[order].astype(np.float64))
