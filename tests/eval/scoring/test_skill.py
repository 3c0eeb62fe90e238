"""Skill is a ratio: it is given where its denominator is clearly above zero."""

import numpy as np
import pytest

from eval.scoring.estimates import Studies
from eval.scoring.skill import Distances, skill

STUDIES = Studies.of(["a", "b", "c", "d", "e", "f"], 200, 0)


def distances(zero: float, people: np.ndarray) -> Distances:
    """Six studies of a cell: the model 0.1 away, the ceiling 0.05. people: (R) moves of the uniform guess."""
    cells = np.linspace(0.98, 1.02, 6)
    moved = np.repeat(people[:, None], 6, axis=1)
    return Distances(0.1 * cells, zero * cells, 0.05 * cells, (np.full_like(moved, 0.1), zero + moved))


def test_skill_is_the_share_of_the_way_from_the_uniform_guess_to_the_ceiling():
    found = skill(distances(0.3, np.random.default_rng(0).normal(0, 0.01, 100)), STUDIES)
    assert found.value == pytest.approx((0.3 - 0.1) / (0.3 - 0.05))
    assert found.low < found.value < found.high and found.low_people < found.value < found.high_people
    assert found.dropped == 0


def test_a_denominator_that_may_be_zero_gives_no_skill_and_the_reason():
    found = skill(distances(0.06, np.random.default_rng(0).normal(0, 0.02, 100)), STUDIES)
    assert found.value is None and "not clearly worse than the ceiling" in found.reason


def test_resamples_without_a_skill_are_counted():
    moves = np.zeros(100)
    moves[0] = -1.0  # the uniform guess would be nearer than the ceiling
    assert skill(distances(0.3, moves), STUDIES).dropped == 1
