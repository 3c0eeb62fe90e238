"""What a simulation analyses: simulated answers, real ones, and one measure of them at a time."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from common.experiment import Contrast, Experiment
from eval.simulation.effects import Answers, Means, contrast_weights
from eval.simulation.population import People
from eval.simulation.real_answers import Observed, RealAnswers, values_of


@dataclass(frozen=True)
class Simulated:
    """What there is to analyse: the experiment, its people, their answers, and real ones where given.

    answers: {outcome: simulated answers}. pilot_answers: {outcome: predictions for the pilot's rows}.
    """

    experiment: Experiment
    people: People
    answers: dict[str, Answers]
    observed: RealAnswers | None = None
    pilot: RealAnswers | None = None
    pilot_answers: dict[str, Answers] | None = None

    @property
    def arms(self) -> list[str]:
        """Names of the arms."""
        return [arm.name for arm in self.experiment.arms]

    @property
    def weight(self) -> np.ndarray:
        """float64 (N,), of the people."""
        return self.people.frame["weight"].to_numpy()


class Asked(Protocol):
    """What effects are estimated of: an outcome and a measure of it."""

    @property
    def simulated(self) -> Simulated:
        """All that there is to analyse."""

    @property
    def outcome(self) -> str:
        """The outcome's name."""

    @property
    def measure(self) -> str:
        """The measure's name."""


@dataclass(frozen=True)
class Measured:
    """One measure of one outcome: its value of each answer of the support, and its means by arm."""

    simulated: Simulated
    outcome: str
    measure: str
    value: np.ndarray
    means: Means

    @property
    def answers(self) -> Answers:
        """The outcome's simulated answers."""
        return self.simulated.answers[self.outcome]

    @property
    def observed(self) -> Observed | None:
        """The real answers to the outcome, as values of the measure."""
        real = self.simulated.observed
        return None if real is None else self.valued(real.of(self.outcome))

    def valued(self, real: Observed) -> Observed:
        """Real answers as values of the measure."""
        scale = self.simulated.experiment.scales[self.outcome]
        return real._replace(answer=values_of(scale, self.answers.support, self.value, real.answer))

    def weights(self, contrast: Contrast) -> np.ndarray | None:
        """The contrast's weights; None if one of its arms has no simulated answers."""
        weights = contrast_weights(contrast, self.simulated.arms)
        return None if np.isnan(self.means.mean[np.flatnonzero(weights)]).any() else weights
