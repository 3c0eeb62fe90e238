"""What an experiment is like, and warnings where no evaluated study was like it."""

import numpy as np

from eval.simulation.likeness import compare
from eval.simulation.trust import Pairs
from tests.helpers.evaluation import CELLS

NONE = Pairs(np.array([], dtype=str), *(np.empty(0) for _ in range(7)))


def test_the_nearest_study_is_the_one_about_the_same_thing():
    likeness = compare(["Would you pay a carbon tax?"], ["ordinal"], True, NONE, CELLS)
    assert likeness.nearest[0].study == "tax"
    assert likeness.nearest[0].similarity > likeness.nearest[1].similarity


def test_an_experiment_unlike_all_that_was_evaluated_is_warned_of():
    likeness = compare(["Zebra " * 40], ["bounded"], False, NONE, CELLS)
    text = " ".join(likeness.warnings)
    assert "characters" in text and "kind bounded" in text and "no demographic profile" in text
    assert not compare(["a carbon tax today"], ["ordinal"], True, NONE, CELLS).warnings
