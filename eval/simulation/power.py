"""How many people the real study needs: power of a t-test of the predicted effect (statsmodels).

A contrast's estimate with n people per arm has variance S / n, where S = sum of weight^2 * variance over
the arms (between subjects), or the variance of a person's contrast (within). A two-sample t-test with
equal variances has S = 2 * variance; so the effect size that goes in is |effect| / sqrt(S / 2), or
|effect| / sqrt(S) for the paired test.
"""

import math
from dataclasses import dataclass

import numpy as np
from scipy.stats import norm
from scipy.stats import t as student
from statsmodels.stats.power import TTestIndPower, TTestPower

POWER, ALPHA = 0.8, 0.05
STEPS = 400  # equally likely true effects over which assurance averages
MOST = 10_000_000  # more people than that per arm is "none"


def _test(within: bool) -> TTestPower | TTestIndPower:
    return TTestPower() if within else TTestIndPower()


def effect_size(effect: float, spread: float, within: bool) -> float:
    """The effect in standard deviations; spread: S above, in squared answer units."""
    return abs(effect) / math.sqrt(spread if within else spread / 2)


def people_needed(effect: float, spread: float, within: bool = False, power: float = POWER) -> int | None:
    """People per arm (within: in all) for this power, two-sided at 5%; None for no effect or beyond MOST."""
    if not (effect and spread > 0 and math.isfinite(effect)):
        return None
    size = effect_size(effect, spread, within)
    # A t-test needs a few people more than a z-test, never fewer: the answer lies close above this.
    normal = (1 if within else 2) * ((norm.isf(ALPHA / 2) + norm.ppf(power)) / size) ** 2
    if normal > MOST:
        return None
    low, high = max(2, int(normal)), int(normal) + 10
    while low < high:  # power rises with n: bisection can't fail where a root finder does
        middle = (low + high) // 2
        low, high = (low, middle) if _power(size, middle, within) >= power else (middle + 1, high)
    return low


def power_at(effect: float, spread: float, people: float, within: bool = False) -> float | None:
    """The power with this many people per arm (within: in all); None where answers don't vary."""
    return _power(effect_size(effect, spread, within), people, within) if spread > 0 else None


def smallest_effect(spread: float, people: float, within: bool = False) -> float | None:
    """The effect (answer units) that this many people per arm detect with 80% power."""
    if spread <= 0:
        return None
    solved = _test(within).solve_power(None, **{_count(within): people}, alpha=ALPHA, power=POWER)
    return float(solved) * math.sqrt(spread if within else spread / 2)


@dataclass(frozen=True)
class Belief:
    """What is believed of a true effect: t-distributed around `centre` with `scale` and `df`."""

    centre: float
    scale: float
    df: float

    def quantiles(self) -> np.ndarray:
        """float64 (STEPS,): equally likely true effects, turned so that the centre is positive."""
        middle = (np.arange(STEPS) + 0.5) / STEPS
        return abs(self.centre) + self.scale * student.ppf(middle, self.df)


def assurance(belief: Belief, spread: float, people: float) -> float | None:
    """The chance that a study finds an effect in the believed direction (5%, two-sided): the mean power.

    It averages over what the true effect may be, so unlike power it can't be raised beyond the chance that
    the effect has this direction at all (O'Hagan, Stevens and Campbell 2005). spread: S above. people: per
    arm (within: in all). None where answers don't vary or there is no effect.
    """
    if spread <= 0 or not belief.centre:
        return None
    reached = norm.cdf(belief.quantiles() / math.sqrt(spread / people) - norm.isf(ALPHA / 2))
    return float(reached.mean())


def people_assured(belief: Belief, spread: float) -> int | None:
    """People per arm (within: in all) for 80% assurance; None if no number up to MOST suffices."""
    most = assurance(belief, spread, MOST)
    if most is None or most < POWER:
        return None
    low, high = 2, MOST
    while low < high:  # assurance rises with n
        middle = (low + high) // 2
        low, high = (low, middle) if (assurance(belief, spread, middle) or 0) >= POWER else (middle + 1, high)
    return low


def _count(within: bool) -> str:
    return "nobs" if within else "nobs1"


def _power(size: float, people: float, within: bool) -> float:
    if not size:
        return ALPHA
    power = float(_test(within).power(size, people, ALPHA))
    if math.isfinite(power):
        return power
    # scipy's noncentral t gives up far out; there the normal distribution is as good
    return float(norm.sf(norm.isf(ALPHA / 2) - size * math.sqrt(people if within else people / 2)))
