"""Random numbers keyed by what they are drawn for, so that they don't depend on the order of rows.

A draw is a hash of (seed, purpose, study, numbers): the same row gets the same number wherever it
stands, whatever else is in the data, with any number of workers. Mixing: the finaliser of SplitMix64
(Steele, Lea and Flood 2014).
"""

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np

INCREMENT = np.uint64(0x9E3779B97F4A7C15)  # between two states of SplitMix64


def study_keys(studies: Sequence[str]) -> np.ndarray:
    """A 64-bit key for each study's name."""
    digests = [hashlib.sha256(study.encode()).digest()[:8] for study in studies]
    return np.array([int.from_bytes(digest, "little") for digest in digests], np.uint64)


def draw(seed: int, purpose: str, *keys: np.ndarray) -> np.ndarray:
    """One uint64, uniform over its range, for each entry of the parallel arrays `keys`."""
    start = hashlib.sha256(f"{seed}:{purpose}".encode()).digest()[:8]
    state: np.ndarray = np.array(int.from_bytes(start, "little"), np.uint64)
    with np.errstate(over="ignore"):
        for key in keys:
            state = mix(state + INCREMENT ^ mix(key.astype(np.uint64)))
    return state


def mix(value: Any) -> Any:
    """The finaliser of SplitMix64: uint64 to uint64, a number or an array; compiled code compiles it."""
    value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return value ^ (value >> np.uint64(31))


def lowest(draws: np.ndarray, groups: np.ndarray, most: np.ndarray | int) -> np.ndarray:
    """True for the `most` entries of each group with the lowest draws (`most`: a number, or one a group).

    Keeping the lowest makes samples nested: a smaller one is part of a larger one.
    """
    order = np.lexsort((draws, groups))
    ordered = groups[order]
    starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]]) if len(order) else np.array([], int)
    rank = np.arange(len(order)) - np.repeat(starts, np.diff(np.r_[starts, len(order)]))
    keep = np.empty(len(order), bool)
    keep[order] = rank < (most[ordered] if isinstance(most, np.ndarray) else most)
    return keep
