"""Means over studies."""

import numpy as np

from eval.scoring.estimates import study_means


def test_a_study_without_a_cell_has_no_mean_and_takes_none_of_its_neighbours() -> None:
    values, study = np.array([1.0, 3.0, np.nan, 5.0]), np.array([0, 0, 2, 3])
    means = study_means(values, study, 5)
    np.testing.assert_array_equal(means, [2.0, np.nan, np.nan, 5.0, np.nan])
    assert np.isnan(study_means(np.empty((2, 0)), np.empty(0, int), 3)).all()
