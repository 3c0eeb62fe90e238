"""Power: against simulated studies, and its limits."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from eval.simulation.power import Belief, assurance, people_assured, people_needed, power_at, smallest_effect


def test_power_agrees_with_simulated_studies():
    rng = np.random.default_rng(0)
    effect, sd = 0.5, 1.3
    people = people_needed(effect, spread=2 * sd**2)
    a = rng.normal(0, sd, (4000, people))
    b = rng.normal(effect, sd, (4000, people))
    share = float((stats.ttest_ind(a, b, axis=1).pvalue < 0.05).mean())
    assert share == pytest.approx(0.8, abs=0.025)  # four standard errors of 4,000 studies
    assert power_at(effect, 2 * sd**2, people) == pytest.approx(share, abs=0.025)


def test_a_within_subject_study_uses_the_paired_test():
    rng = np.random.default_rng(1)
    people = people_needed(0.4, spread=1.0, within=True)
    drawn = rng.normal(0.4, 1.0, (4000, people))
    assert float((stats.ttest_1samp(drawn, 0, axis=1).pvalue < 0.05).mean()) == pytest.approx(0.8, abs=0.025)


@given(effect=st.floats(0.01, 5), spread=st.floats(0.05, 50), within=st.booleans())
def test_the_number_needed_is_the_smallest_that_suffices(effect, spread, within):
    people = people_needed(effect, spread, within)
    assert power_at(effect, spread, people, within) >= 0.8
    if people > 2:
        assert power_at(effect, spread, people - 1, within) < 0.8 + 1e-5  # scipy's own error far out


def test_no_effect_needs_no_number_and_no_variance_has_no_power():
    assert people_needed(0.0, 1.0) is None
    assert people_needed(1e-9, 1.0) is None
    assert power_at(0.3, 0.0, 50) is None
    assert power_at(0.0, 1.0, 50) == pytest.approx(0.05)


def test_the_smallest_detected_effect_has_80_percent_power():
    assert power_at(smallest_effect(2.0, 200), 2.0, 200) == pytest.approx(0.8, abs=1e-6)


def test_assurance_is_the_mean_power_over_what_the_effect_may_be():
    rng = np.random.default_rng(0)
    belief = Belief(0.3, 0.2, 8.0)
    effects = belief.centre + belief.scale * rng.standard_t(belief.df, 4000)
    n, variance = 150, 1.0
    observed = rng.normal(effects, np.sqrt(2 * variance / n))
    detected = (observed / np.sqrt(2 * variance / n) > 1.96).mean()
    assert assurance(belief, 2 * variance, n) == pytest.approx(detected, abs=0.02)
    assert assurance(belief, 2 * variance, n) < power_at(0.3, 2 * variance, n)


def test_people_assured_is_the_smallest_number_that_suffices_and_none_where_the_direction_is_in_doubt():
    belief = Belief(-0.5, 0.2, 12.0)
    people = people_assured(belief, 2.0)
    assert assurance(belief, 2.0, people) >= 0.8 > assurance(belief, 2.0, people - 1)
    assert people_assured(Belief(0.1, 0.2, 12.0), 2.0) is None
    assert people_assured(Belief(0.0, 0.2, 12.0), 2.0) is None
    assert assurance(belief, 0.0, 100) is None
