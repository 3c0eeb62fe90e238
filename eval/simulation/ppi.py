"""Prediction-powered inference: a pilot's real answers and many predicted ones, in one estimate.

The mean of an arm is estimated by `ppi_py` (PPI++, Angelopoulos, Duchi and Zrnic 2023):

    lambda * mean(predictions for the simulated people) + mean(answer - lambda * prediction in the pilot)

lambda is tuned from the pilot: useless predictions get 0, and the estimate is then the pilot's own mean.
It is unbiased for the pilot's population only if the simulated people are that population.
"""

from dataclasses import dataclass

import numpy as np
from scipy.stats import norm

SMALLEST = 10  # answers of an arm below which the normal interval isn't to be trusted


@dataclass(frozen=True)
class Combined:
    """mean, se: of the combination. pilot_mean, pilot_se: of the pilot alone. n: the pilot's answers.

    effective_n: how many pilot answers alone would be as precise; gain = effective_n / n.
    """

    mean: float
    se: float
    pilot_mean: float
    pilot_se: float
    n: int

    @property
    def effective_n(self) -> float:
        return self.n * self.gain

    @property
    def gain(self) -> float:
        return (self.pilot_se / self.se) ** 2 if self.se > 0 else 1.0


def combine(
    answers: np.ndarray, predicted: np.ndarray, simulated: np.ndarray, weight: np.ndarray
) -> Combined:
    """One arm's mean. answers, predicted: (n,), the pilot's; simulated, weight: (N,), expected values."""
    from ppi_py import ppi_mean_ci, ppi_mean_pointestimate  # 1.4 s to import: only when there is a pilot

    answers, predicted = np.asarray(answers, float), np.asarray(predicted, float)
    pilot_se = float(answers.std() / np.sqrt(len(answers)))
    if predicted.std() == 0 or pilot_se == 0:  # nothing to learn from: lambda would be 0 / 0
        return Combined(float(answers.mean()), pilot_se, float(answers.mean()), pilot_se, len(answers))
    weights = {"w_unlabeled": weight / weight.mean()}
    mean = ppi_mean_pointestimate(answers, predicted, np.asarray(simulated, float), **weights)
    low, high = ppi_mean_ci(answers, predicted, np.asarray(simulated, float), alpha=0.05, **weights)
    se = (float(np.squeeze(high)) - float(np.squeeze(low))) / 2 / norm.ppf(0.975)
    return Combined(float(np.squeeze(mean)), se, float(answers.mean()), pilot_se, len(answers))


def contrast(arms: dict[str, Combined], weights: dict[str, float]) -> Combined:
    """A treatment effect: the weighted sum of arms that have different people."""
    parts = [(arms[arm], weight) for arm, weight in weights.items()]
    spread = [
        float(np.sqrt(sum((w * getattr(part, se)) ** 2 for part, w in parts))) for se in ("se", "pilot_se")
    ]
    total = [float(sum(w * getattr(part, mean) for part, w in parts)) for mean in ("mean", "pilot_mean")]
    return Combined(total[0], spread[0], total[1], spread[1], sum(part.n for part, _ in parts))
