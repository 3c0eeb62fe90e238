"""Survey weights count in every score: a person of weight two is two such persons."""

import numpy as np
import polars as pl
import pytest

from eval.scoring.metrics import METRICS
from eval.scoring.model import cell_scores, other_scores, work_on
from eval.settings import ScoreSettings
from tests.helpers.scored_samples import evaluated, exact, population

FEW = ScoreSettings(replicates=100, ceiling_splits=10, min_group=2)
OFFSET = 100_000


def scored(rows, probs):
    work = work_on(evaluated(rows, exact(rows, probs)), None, FEW, 0)
    others, frames = other_scores(work)
    return cell_scores(work), others, frames


@pytest.fixture(scope="module")
def both():
    """Scores with weights of one and two, and scores of the same people with the heavy ones there twice."""
    rows, true = population(studies=3, people=90, seed=2)
    heavy = rows["participant"].to_numpy() % 4 == 0
    twins = rows.filter(heavy).with_columns(pl.col("participant", "sample_id") + OFFSET)
    wrong = true ** np.where(heavy, 0.3, 2)[:, None]  # the model is better for some, so that weights matter
    wrong /= wrong.sum(1, keepdims=True)
    weighted = rows.with_columns(weight=pl.Series(np.where(heavy, 2.0, 1.0)))
    repeated = pl.concat([rows, twins])
    return (
        scored(weighted, wrong),
        scored(repeated, np.concatenate([wrong, wrong[heavy]])),
        scored(rows, wrong),
    )


@pytest.mark.parametrize("name", METRICS)
def test_metrics_of_cells_items_and_controls_are_weighted(both, name):
    (weighted, others, _), (repeated, other_repeated, _), _ = both
    assert weighted["metrics"][name].value == pytest.approx(repeated["metrics"][name].value)
    assert others["item_metrics"][name].value == pytest.approx(other_repeated["item_metrics"][name].value)
    for control, figures in weighted["controls"].items():
        expected = repeated["controls"][control][name].value
        assert figures[name].value == (None if expected is None else pytest.approx(expected)), control


def test_calibration_and_groups_are_weighted(both):
    (weighted, others, _), (repeated, other_repeated, _), _ = both
    assert weighted["calibration"].ece.value == pytest.approx(repeated["calibration"].ece.value, abs=1e-6)
    assert weighted["calibration"].pit == pytest.approx(repeated["calibration"].pit)
    for one, other in zip(
        others["subgroups"].fields["gender"].groups,
        other_repeated["subgroups"].fields["gender"].groups,
        strict=True,
    ):
        for name in ("wasserstein_observed", "accuracy_observed", "accuracy_stated"):
            assert getattr(one, name).value == pytest.approx(getattr(other, name).value), name
    gap, expected = (part["subgroups"].largest_gap.value for part in (others, other_repeated))
    assert gap == pytest.approx(expected)


def test_effects_are_weighted_and_their_errors_know_the_number_of_people(both):
    (_, _, weighted), (_, _, repeated), (_, _, plain) = (one for one in both)
    keys = ["study_id", "task_num", "condition_a", "condition_b"]
    tables = [part["contrasts"].sort(keys) for part in (weighted, repeated, plain)]
    for name in ("observed", "predicted"):
        assert tables[0][name].to_numpy() == pytest.approx(tables[1][name].to_numpy())
    # twins are no new people: errors are those of the people there are, a little larger for unequal weights
    ratio = (tables[0]["observed_se"] / tables[2]["observed_se"]).mean()
    assert 1 < ratio < 1.15 and (tables[0]["observed_se"] > tables[1]["observed_se"]).mean() > 0.9


def test_the_design_effect_is_kishs(both):
    weight = np.where(np.arange(90) % 4 == 0, 2.0, 1.0)
    weighting = both[0][0]["weights"]
    assert weighting.design_effect == pytest.approx(90 * (weight**2).sum() / weight.sum() ** 2)
    assert weighting.effective_rows == pytest.approx(3 * 90 * 2 / weighting.design_effect)
    assert both[2][0]["weights"] is None
