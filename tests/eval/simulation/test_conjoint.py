"""A forced-choice conjoint from file to page, with a stand-in for the model."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from common.errors import Refusal
from common.experiment import load_experiment, make_experiment
from eval.simulation import run
from eval.simulation.amce import amces
from eval.simulation.conjoint import assign, read_observed, texts
from eval.simulation.result import Simulation
from tests.helpers import small_home
from tests.helpers.simulated import StandIn

CONJOINT = """\
profiles: 2
vignette: "Two people apply:"
attributes:
  school: [none, degree]
  job: [janitor, nurse, doctor]
forbidden: [{school: none, job: doctor}]
outcomes:
  admit: {question: "Which of the two?"}
moderators: [party_id]
design: {people: 500, tasks: 4}
population: {people: 150}
"""


class Chooser(StandIn):
    """Prefers degrees by 0.8 in the log odds, and the first profile by `order_effect`."""

    order_effect = 0.0

    def answer(self, row: dict) -> tuple[list[int], list[float]]:
        first, second = row["prompt"].split("Profile 1")[1].split("Profile 2")[:2]
        odds = self.order_effect + 0.8 * (("degree" in first) - ("degree" in second))
        p = 1 / (1 + np.exp(-odds))
        return [1, 2], [p, 1 - p]


@pytest.fixture
def chooser(workplace, monkeypatch):
    monkeypatch.setattr(run, "predict", Chooser())
    Path("choice.yaml").write_text(CONJOINT)
    return run.predict


def simulated(**options) -> Simulation:
    return run.simulate("choice.yaml", "m", folder="out", **options)


def test_both_profiles_stand_in_one_prompt_and_nothing_forbidden_does(workplace, tmp_path):
    (tmp_path / "c.yaml").write_text(CONJOINT)
    experiment = load_experiment(tmp_path / "c.yaml")
    asked = assign(experiment, 50)
    assert len(asked) == 200 and asked.equals(assign(experiment, 50))
    for text in texts(experiment, asked):
        assert text.startswith("Two people apply:\n\nProfile 1\n- ") and "\n\nProfile 2\n- " in text
        assert text.endswith("Only return an integer: 1 = Profile 1, 2 = Profile 2, nothing else.")
        for profile in text.split("Profile 2"):
            assert not ("none" in profile.split("Which")[0] and "doctor" in profile)


def test_attributes_keep_one_order_for_a_person_and_differ_between_people(workplace, tmp_path):
    (tmp_path / "c.yaml").write_text(CONJOINT)
    asked = assign(load_experiment(tmp_path / "c.yaml"), 50)
    orders = asked.group_by("person").agg(pl.col("order").n_unique())["order"]
    assert orders.to_list() == [1] * 50 and asked["order"].n_unique() == 2


def test_the_amce_of_what_the_model_prefers_is_found_once_for_both_sides(chooser):
    record = simulated().record
    effects = {row.contrast: row for row in record.effects}
    assert list(effects) == ["school: degree - none", "job: nurse - janitor", "job: doctor - janitor"]
    odds = 1 / (1 + np.exp(-0.8)) - 0.5
    school, nurse = effects["school: degree - none"], effects["job: nurse - janitor"]
    assert school.estimate == pytest.approx(odds, abs=0.02) and school.kind == "amce"
    assert abs(nurse.estimate) < 2 * nurse.std_error_simulation + 1e-9
    assert school.calibrated is None and school.power > 0.99 and school.people_needed < 500
    means = {row.level: row.estimate for row in record.levels if row.statistic == "mm"}
    assert means["none"] < 0.5 < means["degree"]
    base = [row for row in record.levels if row.statistic == "amce" and row.std_error is None]
    assert [(row.level, row.estimate) for row in base] == [("none", 0.0), ("janitor", 0.0)]


def test_the_planned_study_s_error_is_what_studies_of_that_size_vary_by(chooser):
    simulation = simulated()
    predicted = simulation.record.effects[0].std_error_sampling
    experiment, rng, estimates = load_experiment("choice.yaml"), np.random.default_rng(5), []
    for seed in range(60):
        file = experiment.file.model_copy(update={"seed": seed})
        asked = assign(make_experiment(file.model_dump(exclude_unset=True), "c"), 500)
        pairs = [np.array(asked[name].to_list()) for name in ("first", "second")]
        odds = 0.8 * ((pairs[0][:, 0] == 1) * 1.0 - (pairs[1][:, 0] == 1))
        first = rng.random(len(odds)) < 1 / (1 + np.exp(-odds))
        shown = pl.concat(
            pl.DataFrame(
                {"person": asked["person"], "school": np.array(["none", "degree"])[pair[:, 0]],
                 "job": np.array(["janitor", "nurse", "doctor"])[pair[:, 1]], "chosen": chosen.astype(int)}
            )
            for pair, chosen in zip(pairs, (first, ~first), strict=True)
        )  # fmt: skip
        estimates.append(amces(read_observed(shown, experiment)["admit"], experiment.profiles)[0, 1].value)
    assert np.std(estimates) == pytest.approx(predicted, rel=0.25)


def test_groups_are_compared_by_marginal_means(chooser):
    rows = simulated().record.subgroups
    assert {row.group for row in rows} == {"Democrat", "Republican"}
    assert {row.contrast for row in rows} >= {"school: degree", "job: doctor"}
    assert all(abs(row.difference) < 4 * row.difference_std_error for row in rows)


def test_respondents_are_a_table_that_cregg_reads(chooser, real_figures):
    simulated()
    table = pl.read_csv("out/respondents.csv")
    assert len(table) == 150 * 4 * 2
    pairs = table.group_by("respondent", "task").agg(pl.col("chosen").sum(), pl.col("expected").sum())
    assert set(pairs["chosen"]) == {1} and pairs["expected"].to_numpy() == pytest.approx(1)
    assert set(table["attribute_job"]) == {"janitor", "nurse", "doctor"}
    observed = table.rename({"attribute_job": "job", "attribute_school": "school"})
    record = simulated(observed=observed).record
    row = record.effects[0]
    assert row.observed == pytest.approx(row.estimate, abs=4 * row.observed_std_error)
    levels = pl.read_csv("out/levels.csv")
    assert {"estimate", "std.error", "conf.low", "conf.high"} <= set(levels.columns)
    page = Path("out/simulation.html").read_text()
    assert "What makes a profile chosen" in page and "Observed AMCE" in page and "Profile 1" in page
    assert {"amces.png", "marginal-means.svg"} <= {path.name for path in Path("out").iterdir()}


@pytest.mark.whole
def test_a_tiny_model_chooses_between_profiles_through_the_command_line(workplace, model_folder):
    Path("choice.yaml").write_text(CONJOINT.replace("150", "30"))
    code, printed, errors = small_home.run(
        workplace, ["simulate", "run", "choice.yaml", "--model", str(model_folder)]
    )
    assert code == 0, errors
    assert "school: degree - none (admit)" in printed
    folder = Path("outputs/sample/study/simulations/choice")
    levels = pl.read_csv(folder / "levels.csv")
    assert levels.filter(statistic="mm").height == 5 and levels["estimate"].is_between(-1, 1).all()
    assert len(pl.read_csv(folder / "respondents.csv")) == 30 * 4 * 2
    assert "Profile 1" in (folder / "simulation.html").read_text()


def test_a_model_that_takes_the_first_profile_whatever_it_says_is_warned_of(chooser, monkeypatch):
    monkeypatch.setattr(Chooser, "order_effect", 2.0)
    assert "warning: the model chooses the profile that stands first 8" in str(simulated())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (pl.col("job").replace("nurse", "nurze"), "row 3: job can't be 'nurze'; did you mean `nurse`"),
        (pl.lit(2).alias("chosen"), "row 2: chosen is 2; write 0 or 1"),
        (pl.lit("x").alias("weight"), "row 2: weight is x; write a number above 0"),
        (pl.lit("vote").alias("outcome"), "outcome can't be 'vote'"),
    ],
)
def test_real_choices_that_cannot_be_read_are_refused_with_the_row(chooser, change, message):
    table = pl.DataFrame(
        {"person": [1, 1], "school": ["none", "degree"], "job": ["janitor", "nurse"], "chosen": [0, 1]}
    )
    with pytest.raises(Refusal, match=message):
        simulated(observed=table.with_columns(change))
    with pytest.raises(Refusal, match="no column job"):
        simulated(observed=table.drop("job"))
    assert chooser.calls == 0
    with pytest.raises(Refusal, match=r"pilot of choices .* can't be combined .* means of arms .*--observed"):
        simulated(pilot=table)
