"""Distances equal scipy's, and keep the laws of distances."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import jensenshannon
from scipy.stats import ks_2samp, wasserstein_distance

from common.distances import DISTANCES, clipped_wasserstein, distances, histograms

answers = st.lists(st.integers(-5, 105) | st.integers(-(10**6), 6 * 10**7), min_size=1, max_size=40)
scales = st.lists(st.integers(1, 7), min_size=1, max_size=40)


def measure(human: list[int], predicted: list[int], low: float, high: float) -> dict[str, float]:
    starts = np.array([0, len(human)]), np.array([0, len(predicted)])
    one = np.ones(len(human)), np.ones(len(predicted))
    table = histograms(np.array(human), starts[0], np.array(predicted), starts[1], *one)
    ranges = np.array([[low, high, np.nan, np.nan]], float)
    measured = distances(table.offsets, table.support, table.human, table.predicted, ranges)[0]
    return dict(zip(DISTANCES, measured, strict=True))


@settings(max_examples=150, deadline=None)
@given(answers, answers, st.integers(-10, 50), st.integers(1, 100))
def test_wasserstein_of_clipped_answers_equals_scipys(human, predicted, low, width):
    measured = measure(human, predicted, low, low + width)["wasserstein_observed"]
    theirs = (
        wasserstein_distance(np.clip(human, low, low + width), np.clip(predicted, low, low + width)) / width
    )
    assert abs(measured - theirs) < 1e-12


@settings(max_examples=150, deadline=None)
@given(scales, scales)
def test_the_other_distances_equal_scipys(human, predicted):
    measured = measure(human, predicted, 1, 7)
    p, q = (np.bincount(side, minlength=8) / len(side) for side in (human, predicted))
    assert abs(measured["total_variation"] - np.abs(p - q).sum() / 2) < 1e-12
    assert abs(measured["jensen_shannon"] - jensenshannon(p, q, 2) ** 2) < 1e-12
    assert abs(measured["kolmogorov_smirnov"] - ks_2samp(human, predicted, method="asymp").statistic) < 1e-12


@settings(max_examples=50, deadline=None)
@given(scales, scales)
def test_distances_are_symmetric_zero_for_equals_and_at_most_one(one, other):
    there, back, self_ = measure(one, other, 1, 7), measure(other, one, 1, 7), measure(one, one, 1, 7)
    for name in DISTANCES:
        if name != "wasserstein_stated":
            assert abs(there[name] - back[name]) < 1e-12
            assert abs(self_[name]) < 1e-12
            assert -1e-12 <= there[name] <= 1 + 1e-12


def test_probabilities_and_many_groups_at_once_equal_scipys():
    rng = np.random.default_rng(3)
    human, starts = rng.integers(0, 101, 5000), np.arange(0, 5001, 50)
    predicted = np.tile(np.arange(101), 100)
    probs = rng.dirichlet(np.full(101, 0.3), 100)
    table = histograms(human, starts, predicted, np.arange(101) * 101, np.ones(5000), probs.ravel())
    measured = distances(
        table.offsets, table.support, table.human, table.predicted, np.tile([0.0, 100, 0, 100], (100, 1))
    )
    for group in range(100):
        of_group = human[starts[group] : starts[group + 1]]
        theirs = wasserstein_distance(of_group, np.arange(101), v_weights=probs[group]) / 100
        assert abs(measured[group, 0] - theirs) < 1e-12


def test_a_range_without_width_gives_no_wasserstein_distance_but_the_others():
    measured = measure([3, 3], [2, 4], 3, 3)
    assert np.isnan(measured["wasserstein_observed"])
    assert measured["total_variation"] == 1


def test_a_distribution_without_mass_has_no_distance():
    """A resample's range can hold none of a uniform guess's answers."""
    points, people, nobody = np.array([0.0, 100.0, 1000.0]), np.array([1.0, 2.0, 0.0]), np.zeros(3)
    assert np.isnan(clipped_wasserstein(points, people, nobody, 3.0, 0.0, 0.0, 100.0))
