"""Are two models different? p-values over studies, each with what it takes for granted."""

import numpy as np
from scipy import stats
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.weightstats import ttost_paired

from eval.scoring.estimates import FEWEST_STUDIES

ALPHA = 0.05


def smallest_sign_flip_p(studies: int) -> float:
    """The smallest p that flipping the signs of so many differences can give."""
    return float(2.0 ** (1 - studies))


def sign_flip_p(differences: np.ndarray, permutations: int, seed: int) -> float | None:
    """Two-sided p of "the two are alike" by flipping signs of studies' paired differences.

    It assumes that differences are symmetric about zero if the two are alike; where they are skewed it
    rejects too often (10 to 15 times in 100 instead of 5). None where no p could be below ALPHA: fewer than 6
    studies.
    """
    finite = differences[np.isfinite(differences)]
    if smallest_sign_flip_p(len(finite)) > ALPHA:
        return None
    if not finite.any():
        return 1.0
    test = stats.permutation_test(
        (finite,), np.mean, permutation_type="samples", n_resamples=permutations, vectorized=True, axis=-1,
        rng=np.random.default_rng([seed, len(finite)]),
    )  # fmt: skip
    return float(test.pvalue)


def bootstrap_p(differences: np.ndarray, replicates: int, seed: int) -> float | None:
    """Two-sided p of "the mean difference is zero" from a studentised bootstrap of studies.

    It assumes no symmetry (Davison and Hinkley 1997, section 4.4). None with fewer than FEWEST_STUDIES.
    """
    finite = differences[np.isfinite(differences)]
    n = len(finite)
    if n < FEWEST_STUDIES:
        return None
    error = finite.std(ddof=1) / np.sqrt(n)
    if error == 0:
        return 1.0 if finite.mean() == 0 else 1 / (replicates + 1)
    drawn = finite[np.random.default_rng([seed, n, 1]).integers(0, n, (replicates, n))]
    spread = drawn.std(1, ddof=1) / np.sqrt(n)
    with np.errstate(divide="ignore", invalid="ignore"):
        t = np.where(spread > 0, (drawn.mean(1) - finite.mean()) / spread, np.inf)
    return float((1 + (np.abs(t) >= abs(finite.mean() / error)).sum()) / (1 + replicates))


def equivalence_p(differences: np.ndarray, margin: float) -> float | None:
    """p of "the mean difference is `margin` or more, in either direction", by two one-sided paired t-tests.

    A small one says that the two are alike, which a large p of a difference never does (Schuirmann 1987).
    None with fewer than FEWEST_STUDIES.
    """
    finite = differences[np.isfinite(differences)]
    if len(finite) < FEWEST_STUDIES:
        return None
    if np.ptp(finite) == 0:  # a t-test would divide by zero
        return float(abs(finite[0]) >= margin)
    return float(ttost_paired(finite, np.zeros(len(finite)), -margin, margin)[0])


def holm(p_values: list[float | None]) -> list[float | None]:
    """Holm's correction over the comparisons that have a p."""
    given = [p for p in p_values if p is not None]
    if not given:
        return list(p_values)
    corrected = iter(multipletests(given, method="holm")[1])
    return [None if p is None else float(next(corrected)) for p in p_values]
