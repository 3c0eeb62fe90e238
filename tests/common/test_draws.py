"""Keyed draws: the same for the same key wherever it stands, uniform, and nested when cut."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from common.draws import draw, lowest, study_keys


@given(st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=50), st.integers(0, 2**40))
def test_a_draw_depends_on_its_key_and_not_on_its_place(samples, seed):
    keys = np.array(samples)
    draws_of_keys = draw(seed, "x", keys)
    assert np.array_equal(draws_of_keys[::-1], draw(seed, "x", keys[::-1]))
    assert draws_of_keys[0] == draw(seed, "x", keys[:1])[0]


def test_seed_purpose_and_study_change_every_draw_and_draws_are_uniform():
    samples = np.arange(20_000)
    studies = study_keys(["a", "b"])
    base = draw(0, "x", np.full(20_000, studies[0]), samples)
    for other in (
        draw(1, "x", np.full(20_000, studies[0]), samples),
        draw(0, "y", np.full(20_000, studies[0]), samples),
        draw(0, "x", np.full(20_000, studies[1]), samples),
    ):
        assert np.mean(base == other) < 0.001
        assert abs(np.corrcoef(base.astype(float), other.astype(float))[0, 1]) < 0.03
    counts = np.histogram(base.astype(float), 20, (0, 2.0**64))[0]
    assert np.sum((counts - 1000) ** 2 / 1000) < 50  # chi-square, 19 degrees of freedom


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 10**6)), max_size=80), st.integers(0, 9))
def test_the_lowest_of_each_group_are_kept_and_fewer_are_part_of_more(entries, most):
    groups = np.array([group for group, _ in entries], np.int64)
    draws = np.array([value for _, value in entries], np.uint64)
    fewest, more = lowest(draws, groups, most), lowest(draws, groups, most + 1)
    assert not np.any(fewest & ~more)
    for group in set(groups.tolist()):
        here = groups == group
        assert fewest[here].sum() == min(most, here.sum())
        if fewest[here].any() and not fewest[here].all():
            assert draws[here & fewest].max() <= draws[here & ~fewest].min()
