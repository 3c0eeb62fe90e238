"""Gaps between groups of people, judged knowing that the largest of many was looked for.

The largest of several gaps is above zero even where no group differs, and its plain interval excludes zero
far more often than one time in twenty. Intervals here are simultaneous: gap +- c * standard error, c the 95%
quantile of the largest studentised deviation over all pairs of groups (of all fields, for the largest gap of
all), from resampled people or studies (Westfall and Young 1993). `by_chance` is the gap that would be
expected if no group differed: the mean over resamples of the largest deviation.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import permutations

import numpy as np

from eval.scoring.estimates import FEWEST_STUDIES, LEVEL, Studies, few_studies, mean_of_finite, stretch
from eval.scoring.record import Gap, LargestGap, Parity

NO_GAP = "no study has two groups with enough people"


@dataclass(frozen=True)
class Compared:
    """All ordered pairs of groups of a field: gaps of one figure.

    names: (higher, lower). values: float64 (P), the mean over studies that have both. studies: int64 (P).
    people: float64 (R, P), when people are drawn again. over_studies: float64 (R, P), when studies are.
    """

    names: list[tuple[str, str]]
    values: np.ndarray
    studies: np.ndarray
    people: np.ndarray
    over_studies: np.ndarray

    @property
    def largest(self) -> int:
        """The pair with the largest gap."""
        return int(np.nanargmax(self.values))


def compare_groups(
    names: list[str], means: np.ndarray, resampled: np.ndarray, studies: Studies
) -> Compared | None:
    """Gaps between groups from their means by study (S, G) and those of resampled people (R, S, G).

    None where no study has two groups.
    """
    pairs = [
        pair
        for pair in permutations(range(len(names)), 2)
        if np.isfinite(means[:, pair[0]] - means[:, pair[1]]).any()
    ]
    if not pairs:
        return None
    differences = [means[:, a] - means[:, b] for a, b in pairs]
    shared = [np.isfinite(part) for part in differences]
    return Compared(
        [(names[a], names[b]) for a, b in pairs],
        np.array([part[both].mean() for part, both in zip(differences, shared, strict=True)]),
        np.array([both.sum() for both in shared]),
        np.stack(
            [
                mean_of_finite(np.where(both, resampled[..., a] - resampled[..., b], np.nan))
                for (a, b), both in zip(pairs, shared, strict=True)
            ],
            1,
        ),
        np.stack([_mean_over(part, studies.weights) for part in differences], 1),
    )


def _mean_over(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    finite = np.isfinite(values)
    total = weights @ finite
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(total > 0, weights @ np.where(finite, values, 0.0) / total, np.nan)


def largest_deviation(fields: list[Compared], over: str) -> np.ndarray:
    """(R): the largest studentised deviation from the mean over all pairs of these fields."""
    largest = []
    for field in fields:
        drawn = getattr(field, over)
        error = np.nanstd(drawn, 0)
        usable = error > 1e-12
        if usable.any():
            part = drawn[:, usable]
            largest.append(_largest_finite(np.abs(part - np.nanmean(part, 0)) / error[usable]))
    return np.max(largest, 0) if largest else np.zeros(len(fields[0].people))


def gap(field: Compared, pair: int, judged: list[Compared]) -> Gap:
    """The gap of one pair of a field with intervals that hold for all pairs of `judged` at once."""
    value, count = float(field.values[pair]), int(field.studies[pair])
    ends: dict[str, float | None] = {}
    for over, suffix in (("people", "_people"), ("over_studies", "")):
        if suffix == "" and count < FEWEST_STUDIES:
            ends |= {"low": None, "high": None}
            continue
        drawn = getattr(field, over)[:, pair]
        deviation = largest_deviation(judged, over)
        width = float(np.quantile(deviation[np.isfinite(deviation)], LEVEL) * np.nanstd(drawn))
        width *= stretch(count) if suffix == "" else 1.0
        ends |= {f"low{suffix}": max(value - width, -1.0), f"high{suffix}": min(value + width, 1.0)}
    chance = _finite(chance_gaps(field))
    return Gap(
        value=value, studies=count, reason=None if count >= FEWEST_STUDIES else few_studies(count),
        highest=field.names[pair][0], lowest=field.names[pair][1], by_chance=float(chance.mean()),
        p=float((1 + (chance >= value).sum()) / (1 + len(chance))), **ends,
    )  # fmt: skip


def chance_gaps(field: Compared) -> np.ndarray:
    """(R): the largest gap of a field as it would be if no group differed; NaN where a draw holds no pair."""
    return _largest_finite(field.people - np.nanmean(field.people, 0))


def _largest_finite(values: np.ndarray) -> np.ndarray:
    """(R, K) to (R): each row's largest value, NaN for a row without any."""
    most = np.where(np.isfinite(values), values, -np.inf).max(1)
    return np.where(np.isfinite(most), most, np.nan)


def _finite(values: np.ndarray) -> np.ndarray:
    return values[np.isfinite(values)]


def parity(fields: Mapping[str, Compared]) -> Parity:
    """Mean over fields of the largest gap, beside what it would be if no group differed."""
    if not fields:
        return Parity(value=None, reason=NO_GAP)
    chance = _finite(np.mean([chance_gaps(field) for field in fields.values()], 0))
    value = float(np.mean([field.values[field.largest] for field in fields.values()]))
    return Parity(
        value=value, reason="no interval: a mean of chosen maxima, to be read beside `by_chance`",
        by_chance=float(chance.mean()), chance_high=float(np.quantile(chance, LEVEL)),
        p=float((1 + (chance >= value).sum()) / (1 + len(chance))),
    )  # fmt: skip


def largest_gap(fields: Mapping[str, Compared]) -> LargestGap:
    """The largest gap of all fields, judged among all their pairs of groups."""
    if not fields:
        return LargestGap(value=None, reason=NO_GAP)
    name = max(fields, key=lambda key: fields[key].values[fields[key].largest])
    every = list(fields.values())
    one = gap(fields[name], fields[name].largest, every)
    chance = _finite(np.max([chance_gaps(field) for field in every], 0))
    beyond = float((1 + (chance >= one.value).sum()) / (1 + len(chance)))
    judged = {"by_chance": float(chance.mean()), "p": beyond, "field": name}
    return LargestGap(**(one.model_dump() | judged))
