"""Models side by side: what differs only by how a model was asked is no difference."""

import numpy as np

from eval.scoring.comparison import PRIMARY, differences
from eval.scoring.model import cell_scores, work_on
from eval.scoring.record import Scores
from eval.settings import ScoreSettings
from tests.helpers.scored_samples import evaluated, exact, population, sampled

FEW = ScoreSettings(replicates=100, ceiling_splits=40)


def compared(draw, **models):
    """Differences of models, {name: (mode, probabilities of the true ones)}."""
    rows, true = population(studies=10, arms=2, people=60, seed=1, draw=draw)
    works = {}
    for name, (mode, change) in models.items():
        predictions = mode(rows, change(true), *([100 + draw] if mode is sampled else []))
        works[name] = work_on(evaluated(rows, predictions), None, FEW, draw)
    scores = {
        name: Scores(**cell_scores(work), settings={}, versions={}, parsing={})
        for name, work in works.items()
    }
    pairs = differences(scores, works)
    return {(one.a, one.b): one for one in pairs if one.metric == PRIMARY}


def test_one_perfect_model_asked_in_two_ways_is_no_better_than_itself():
    """Plainly, its distance is 1.4 times as large when it is sampled: significant in every data set."""
    draws = [compared(draw, exact=(exact, np.array), sampled=(sampled, np.array)) for draw in range(10)]
    pairs = [one["exact", "sampled"] for one in draws]
    assert {one.of for one in pairs} == {"excess"}
    values = np.array([one.value for one in pairs])
    assert abs(values.mean()) < 3 * values.std() / np.sqrt(10)
    assert np.mean([one.p_bootstrap <= 0.05 for one in pairs]) <= 0.2  # more than 2 of 10: 1 time in 87


def test_models_asked_alike_are_compared_plainly_and_one_primary_metric_is_corrected():
    def sure(true):
        return true**3 / (true**3).sum(1, keepdims=True)

    pairs = compared(0, right=(exact, np.array), sure=(exact, sure))
    one = pairs["right", "sure"]
    assert one.of == "score" and one.value < 0 and one.p_holm >= one.p_bootstrap
    assert one.smallest_p == 2**-9
    assert one.p_equivalent > 0.5 and one.margin == 0.01


def test_a_sampled_model_is_compared_with_exact_controls_by_what_exceeds_each_ones_ceiling():
    pairs = compared(0, sampled=(sampled, np.array))
    assert pairs["sampled", "pooled_others"].of == "excess"
    assert pairs["sampled", "pooled_others"].value < 0
    assert pairs["sampled", "uniform_observed"].value < -0.05
