"""Prediction-powered inference: a pilot's real answers and many predicted ones, in one estimate.

The mean of an arm, or of each person's own contrast of arms, is estimated by PPI++ (Angelopoulos, Duchi and
Zrnic 2023):

    lambda * mean(predictions for the simulated people) + mean(answer - lambda * prediction in the pilot)

lambda is tuned from the pilot: useless predictions get 0, and the estimate is then the pilot's own mean.
It is unbiased for the pilot's population only if the simulated people are that population. Our own formula,
because the library `ppi_py` divides by n where small pilots need n - 1, has no t, and adds the spread of
weights to the error; with equal weights and many answers it gives the same (a test compares them).

People who answered in all arms of a contrast are compared with themselves, if most did. Otherwise arms are
estimated apart, and the errors of a person who is in two of them are added up.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.stats import t as student

SMALLEST = 10  # people of an arm (or in all arms), below which there is no estimate
PAIRED = 0.5  # share of a contrast's people who are in all of its arms, from which pairs alone are compared
TAIL = 0.025


class Answered(NamedTuple):
    """Means of people's answers to one measure: n people of a pilot, N simulated, A arms; NaN: not asked."""

    real: np.ndarray
    """float64 (n, A): answers of the pilot's people."""
    guessed: np.ndarray
    """float64 (n, A): what was predicted for them."""
    real_weight: np.ndarray
    """float64 (n): survey weights of the pilot's people."""
    simulated: np.ndarray
    """float64 (N, A): what is expected of simulated people."""
    weight: np.ndarray
    """float64 (N)."""


@dataclass(frozen=True)
class Part:
    """One mean, of the combination and of the pilot alone, and each person's part in its error.

    error, pilot_error: float64 (n), 0 for people who aren't asked. simulated: float64 (N). free: degrees of
    freedom of the pilot's part.
    """

    mean: float
    pilot_mean: float
    error: np.ndarray
    pilot_error: np.ndarray
    simulated: np.ndarray
    free: float


@dataclass(frozen=True)
class Combined:
    """mean, se: of the combination, with df degrees of freedom. pilot_mean, pilot_se: of the pilot alone.

    n: the pilot's people. paired: whether they are compared with themselves. effective_n: how many pilot
    people alone would be as precise; gain = effective_n / n.
    """

    mean: float
    se: float
    df: float
    pilot_mean: float
    pilot_se: float
    n: int
    paired: bool

    @property
    def effective_n(self) -> float:
        return self.n * self.gain

    @property
    def gain(self) -> float:
        return (self.pilot_se / self.se) ** 2 if self.se > 0 else 1.0

    @property
    def interval(self) -> tuple[float, float]:
        """The 95% interval, by Student's t."""
        reach = float(student.isf(TAIL, self.df)) * self.se
        return self.mean - reach, self.mean + reach


def part(
    real: np.ndarray, guessed: np.ndarray, real_weight: np.ndarray, simulated: np.ndarray, weight: np.ndarray
) -> Part:
    """One mean. real, guessed (NaN where not asked), real_weight: float64 (n); simulated, weight: (N)."""
    asked, finite = np.isfinite(real), np.isfinite(simulated)
    n, answers, guesses = int(asked.sum()), real[asked], guessed[asked]
    own = real_weight[asked] / real_weight[asked].sum()
    share = np.where(finite, weight, 0.0) / weight[finite].sum()
    away = np.where(finite, simulated, 0.0) - share[finite] @ simulated[finite]
    size = 1 / (share**2).sum()  # Kish's effective number of simulated people
    spread = float(share @ away**2 * size / max(size - 1, 1))
    tuned = 0.0
    if spread > 0 and guesses.std() > 0:
        together = float(np.cov(answers, guesses, aweights=own)[0, 1])
        tuned = together / spread / (1 + 1 / (own**2).sum() / size)
        tuned = min(max(tuned, 0.0), 1.0)
    rest = answers - tuned * guesses
    pilot_error, error = np.zeros(len(real)), np.zeros(len(real))
    pilot_mean, rest_mean = float(own @ answers), float(own @ rest)
    pilot_error[asked] = own * (answers - pilot_mean) * np.sqrt(n / (n - 1))
    free = n - 1 - (tuned > 0)  # tuning takes a degree of freedom, as a regression's slope does
    error[asked] = own * (rest - rest_mean) * np.sqrt(n / free)
    mean = rest_mean + tuned * float(share[finite] @ simulated[finite])
    return Part(mean, pilot_mean, error, pilot_error, tuned * share * away * finite, free)


def contrast(people: Answered, weights: np.ndarray) -> Combined | None:
    """A contrast of arms; weights: float64 (A). None where an arm has fewer than SMALLEST of the pilot's
    people."""
    used = np.flatnonzero(weights)
    c = weights[used]
    real, guessed, simulated = people.real[:, used], people.guessed[:, used], people.simulated[:, used]
    asked = np.isfinite(real)
    everywhere, somewhere = int(asked.all(1).sum()), int(asked.any(1).sum())
    paired = len(used) > 1 and everywhere >= PAIRED * somewhere and everywhere >= SMALLEST
    enough = paired or bool((asked.sum(0) >= SMALLEST).all())
    if not enough or not np.isfinite(simulated).any(0).all():
        return None
    if paired and np.isfinite(simulated).all(1).any():
        parts = [part(real @ c, guessed @ c, people.real_weight, simulated @ c, people.weight)]
        return _sum(parts, np.ones(1), everywhere, paired=True)
    columns = zip(real.T, guessed.T, simulated.T, strict=True)
    parts = [part(r, g, people.real_weight, s, people.weight) for r, g, s in columns]
    return _sum(parts, c, somewhere, paired=False)


def _sum(parts: list[Part], c: np.ndarray, n: int, paired: bool) -> Combined:
    """The weighted sum of means; people who are in several of them count with all of their errors."""
    pilot_variance = float((sum(w * one.pilot_error for one, w in zip(parts, c, strict=True)) ** 2).sum())
    real = float((sum(w * one.error for one, w in zip(parts, c, strict=True)) ** 2).sum())
    predicted = float((sum(w * one.simulated for one, w in zip(parts, c, strict=True)) ** 2).sum())
    variances = [float(w**2 * (one.error**2).sum()) for one, w in zip(parts, c, strict=True)]
    apart = sum(variance**2 / one.free for variance, one in zip(variances, parts, strict=True))
    df = (real + predicted) ** 2 / apart if apart > 0 else np.inf
    fewest = min(one.free for one in parts)
    return Combined(
        mean=float(sum(w * one.mean for one, w in zip(parts, c, strict=True))),
        se=float(np.sqrt(real + predicted)), df=max(float(df), float(fewest)),
        pilot_mean=float(sum(w * one.pilot_mean for one, w in zip(parts, c, strict=True))),
        pilot_se=float(np.sqrt(pilot_variance)), n=n, paired=paired,
    )  # fmt: skip
