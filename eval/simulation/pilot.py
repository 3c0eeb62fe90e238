"""Treatment effects of a pilot and the predictions together, as rows."""

from collections.abc import Iterator

import numpy as np

from eval.simulation import ppi
from eval.simulation.effects import contrast_weights
from eval.simulation.measured import Measured
from eval.simulation.real_answers import values_of
from eval.simulation.record import PilotRow


def pilot_rows(measured: Measured) -> Iterator[PilotRow]:
    """One row a contrast; its reason where the pilot has too few people."""
    simulated = measured.simulated
    if simulated.pilot is None or measured.outcome not in (simulated.pilot_answers or {}):
        return
    people = _answered(measured)
    for contrast in simulated.experiment.contrasts:
        row = PilotRow(outcome=measured.outcome, measure=measured.measure, contrast=contrast.name)
        weights = contrast_weights(contrast, simulated.arms)
        combined = ppi.contrast(people, weights)
        if combined is None:
            asked = np.isfinite(people.real).sum(0)
            few = min(np.flatnonzero(weights), key=lambda arm: asked[arm])
            reason = f"fewer than {ppi.SMALLEST} people of the pilot in arm {simulated.arms[few]}"
            yield row.model_copy(update={"reason": reason})
            continue
        low, high = combined.interval
        yield row.model_copy(
            update={
                "pilot": combined.pilot_mean,
                "pilot_std_error": combined.pilot_se,
                "estimate": combined.mean,
                "std_error": combined.se,
                "conf_low": low,
                "conf_high": high,
                "n": combined.n,
                "paired": combined.paired,
                "effective_n": combined.effective_n,
            }
        )


def _answered(measured: Measured) -> ppi.Answered:
    """Every person's mean answer in each arm: of the pilot, predicted for it, and simulated."""
    simulated = measured.simulated
    assert simulated.pilot is not None and simulated.pilot_answers is not None
    real = measured.valued(simulated.pilot.of(measured.outcome))
    predicted = simulated.pilot_answers[measured.outcome]
    scale = simulated.experiment.scales[measured.outcome]
    value = values_of(scale, measured.answers.support, measured.value, predicted.support)
    guess, _ = predicted.moments(value)
    _, person = np.unique(real.person, return_inverse=True)
    shape = (int(person.max()) + 1, len(simulated.arms))
    answers, guesses = (_by_person(person, real.arm, part, shape) for part in (real.answer, guess))
    weight = np.bincount(person, real.weight) / np.bincount(person)
    return ppi.Answered(answers, guesses, weight, measured.means.expected, measured.means.weight)


def _by_person(person: np.ndarray, arm: np.ndarray, values: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Each person's mean in each arm, NaN where not asked: several answers are no independent evidence."""
    cell = person * shape[1] + arm
    count = np.bincount(cell, minlength=shape[0] * shape[1])
    with np.errstate(invalid="ignore"):
        return (np.bincount(cell, values, minlength=len(count)) / count).reshape(shape)
