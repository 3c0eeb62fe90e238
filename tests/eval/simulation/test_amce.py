"""AMCEs and marginal means: against published figures, and against least squares of statsmodels.

`immigration.parquet` holds the choices of Hainmueller, Hopkins and Yamamoto (2014), doi 10.1093/pan/mpt024,
as they come with the R package cregg 0.3.7 (MIT licence, Copyright 2018 Thomas J. Leeper).
"""

from pathlib import Path

import numpy as np
import polars as pl
import pytest
import statsmodels.api as sm

from common.experiment import Experiment, make_experiment
from eval.simulation.amce import Shown, amces, marginal_means
from eval.simulation.conjoint import read_observed

TRAINED = ["Financial Analyst", "Computer Programmer", "Research Scientist", "Doctor"]
UNTRAINED = ["No Formal", "4th Grade", "8th Grade", "High School"]
SAFE = ["India", "Germany", "France", "Mexico", "Philippines", "Poland"]
# cregg's vignette "Introduction", cj(immigration, f1, id = ~CaseID), and mm(..., id = ~ CaseID)
PUBLISHED_AMCES = {
    ("Gender", "Male"): (-0.026023159, 0.008012413),
    ("LanguageSkills", "Broken English"): (-0.056319723, 0.011312971),
    ("LanguageSkills", "Used Interpreter"): (-0.159740917, 0.011589128),
    ("PriorEntry", "Once w/o Authorization"): (-0.110084275, 0.013026767),
    ("Education", "4th Grade"): (0.033068508, 0.014957991),
    ("Education", "High School"): (0.119483476, 0.015101284),
    ("Education", "Graduate Degree"): (0.176068029, 0.016690780),
    ("Job", "Waiter"): (-0.006814709, 0.016856109),
}
PUBLISHED_MEANS = {
    ("Gender", "Female"): (0.5117812, 0.004176882),
    ("Education", "No Formal"): (0.3895112, 0.010396937),
    ("LanguageSkills", "Used Interpreter"): (0.4243392, 0.007564513),
}


def conjoint(attributes: dict, forbidden: list | None = None) -> Experiment:
    return make_experiment(
        {
            "profiles": 2, "attributes": attributes, "forbidden": forbidden or [],
            "outcomes": {"choice": {"question": "Which?"}}, "design": {"people": 100},
        },
        "conjoint",
    )  # fmt: skip


@pytest.fixture(scope="module")
def immigration() -> tuple[Experiment, Shown]:
    table = pl.read_parquet(Path(__file__).with_name("immigration.parquet"))
    names = [name for name in table.columns if name not in ("person", "chosen")]
    forbidden = [
        {"Education": UNTRAINED, "Job": TRAINED},
        {"CountryOfOrigin": SAFE, "ReasonForApplication": "Escape Persecution"},
    ]
    experiment = conjoint({name: list(table.schema[name].categories) for name in names}, forbidden)
    return experiment, read_observed(table, experiment)["choice"]


def named(experiment: Experiment, estimates: dict) -> dict:
    return {experiment.profiles.level(*level): estimate for level, estimate in estimates.items()}


def test_amces_and_their_clustered_errors_are_those_that_cregg_prints(immigration):
    experiment, shown = immigration
    estimates = named(experiment, amces(shown, experiment.profiles))
    for level, (value, error) in PUBLISHED_AMCES.items():
        assert estimates[level].value == pytest.approx(value, abs=1e-8)
        assert np.sqrt(estimates[level].variance(shown.person)) == pytest.approx(error, abs=1e-8)


def test_an_amce_averages_only_over_what_both_levels_can_have(immigration):
    """cregg 0.3.7 also adds jobs that nobody without schooling can have, so its figure (0.163) differs."""
    experiment, shown = immigration
    estimate = named(experiment, amces(shown, experiment.profiles))["Education", "Two-Year College"]
    job, education = (list(experiment.profiles.attributes).index(name) for name in ("Job", "Education"))
    low, high = (shown.levels[:, education] == level for level in (0, 4))
    jobs = sorted(set(shown.levels[low, job]))
    assert len(jobs) == 7
    differences = [
        shown.chosen[high & (shown.levels[:, job] == at)].mean()
        - shown.chosen[low & (shown.levels[:, job] == at)].mean()
        for at in jobs
    ]
    assert estimate.value == pytest.approx(np.mean(differences), abs=0.01)  # others only add precision


def test_marginal_means_and_their_clustered_errors_are_those_that_cregg_prints(immigration):
    experiment, shown = immigration
    means = named(experiment, marginal_means(shown, experiment.profiles))
    for level, (value, error) in PUBLISHED_MEANS.items():
        assert means[level].value == pytest.approx(value, abs=1e-7)
        assert np.sqrt(means[level].variance(shown.person)) == pytest.approx(error, abs=1e-8)


@pytest.mark.parametrize("together", [False, True])
def test_without_restrictions_amces_are_weighted_least_squares_with_clustered_errors(together):
    """Also where one attribute mostly follows from another, as a tax plan's revenue does from its rates."""
    rng = np.random.default_rng(3)
    experiment = conjoint({"a": ["x", "y", "z"], "b": ["u", "v"]})
    levels, person = experiment.profiles.draw(rng, (600,)), np.repeat(np.arange(60), 10)
    if together:
        levels[:, 1] = np.where(rng.random(600) < 0.8, levels[:, 0] == 2, levels[:, 1])
    chosen = (rng.random(600) < 0.3 + 0.2 * levels[:, 1] + 0.1 * (person % 3)).astype(float)
    weight = rng.uniform(0.5, 2, 60)[person]
    ours = amces(Shown(levels, chosen, person, weight), experiment.profiles)
    columns = [levels[:, 0] == 1, levels[:, 0] == 2, levels[:, 1] == 1]
    fitted = sm.WLS(chosen, sm.add_constant(np.stack(columns, 1).astype(float)), weights=weight).fit(
        cov_type="cluster", cov_kwds={"groups": person, "use_correction": False}
    )
    for at, level in enumerate([(0, 1), (0, 2), (1, 1)], 1):
        assert ours[level].value == pytest.approx(fitted.params[at])
        assert ours[level].variance(person) == pytest.approx(60 / 59 * fitted.bse[at] ** 2)


def test_a_level_that_shares_no_combination_with_the_first_one_has_no_amce():
    forbidden = [{"a": "x", "b": "v"}, {"a": "y", "b": "u"}]
    experiment = conjoint({"a": ["x", "y"], "b": ["u", "v"], "c": ["p", "q"]}, forbidden)
    levels = experiment.profiles.draw(np.random.default_rng(0), (100,))
    shown = Shown(levels, levels[:, 2].astype(float), np.arange(100), np.ones(100))
    assert list(amces(shown, experiment.profiles)) == [(2, 1)]
    assert amces(shown, experiment.profiles)[2, 1].value == pytest.approx(1)
