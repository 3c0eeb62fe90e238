"""Simulations: with a stand-in for the model, and (marked whole) with a tiny one."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from common.errors import Refusal
from common.experiment import load_experiment
from eval.models import Model
from eval.settings import Settings
from eval.simulation import result, run
from eval.simulation.record import read_simulation
from eval.simulation.result import Simulation
from tests.helpers import evaluation
from tests.helpers.browser import HOSTILE, dom, harmed, needs_browser, without_policy
from tests.helpers.simulated import EXPERIMENT


def simulated(folder: str | None = "out", **options) -> Simulation:
    return run.simulate("tax.yaml", "m", folder=folder, **options)


def test_without_an_evaluation_no_calibrated_interval_is_shown(workplace):
    simulation = simulated()
    assert simulation.effects["calibrated"].null_count() == len(simulation.effects)
    page = Path("out/simulation.html").read_text()
    assert "No calibrated interval: there is no evaluation of m to learn from" in page
    assert "Needed for 80% assurance" not in page


def test_with_an_evaluation_effects_are_shrunken_and_intervals_wider_than_sampling_error(workplace):
    simulation = simulated(calibration=evaluation.overstating(Path("eval/m")))
    row = next(row for row in simulation.record.effects if row.outcome == "support")
    assert 0.3 < row.calibrated / row.estimate < 0.7
    assert row.calibrated_high - row.calibrated_low > row.conf_high - row.conf_low
    assert row.people_assured is None or row.people_assured > row.people_needed
    assert row.assurance < row.power
    share = next(row for row in simulation.record.effects if row.outcome == "reason")
    assert share.calibrated is None and "choice" in share.no_calibration
    assert simulation.record.trust.coverage.studies == 6
    assert "On held-out studies" in Path("out/simulation.html").read_text()


def test_an_evaluation_of_two_studies_is_not_enough_and_says_so(workplace):
    record = simulated(calibration=evaluation.overstating(Path("eval/m"), studies=2)).record
    assert record.effects[0].calibrated is None
    assert "in 2 of at least 3 studies" in record.trust.reason


def test_an_evaluation_that_is_missing_is_refused_before_any_work(workplace):
    with pytest.raises(Refusal, match=r"elsewhere has no scores.json"):
        simulated(calibration="elsewhere")
    assert run.predict.calls == 0


def test_effects_within_groups_follow_the_groups(workplace):
    rows = simulated().record.subgroups
    groups = {row.group: row.estimate for row in rows if row.outcome == "support"}
    assert groups["Republican"] < groups["Democrat"] < 0


def test_in_memory_a_simulation_writes_nothing_and_gives_the_same(workplace):
    before = sorted(Path().rglob("*"))
    simulation = simulated(folder=None)
    assert sorted(Path().rglob("*")) == before
    assert simulation.effects.equals(simulated().effects)
    assert "support: cost - control" in str(simulation)
    assert "<table" in simulation._repr_html_() or "estimate" in simulation._repr_html_()
    assert "Treatment effects" in simulation.page("elsewhere/page.html").read_text()


def test_an_experiment_and_people_may_be_in_memory(workplace):
    experiment = load_experiment("tax.yaml")
    people = pl.DataFrame({"age": range(20, 60), "party_id": ["Democrat"] * 40})
    record = run.simulate(experiment, "m", people=people).record
    assert record.people.source == "a table of people"
    assert record.people.pool == 40


def test_a_second_run_with_nothing_changed_does_nothing(workplace):
    first = simulated()
    stamp = Path("out/simulation.html").stat().st_mtime_ns
    again = simulated()
    assert again.up_to_date and not first.up_to_date
    assert "nothing to do" in str(again) and "nothing to do" not in str(first)
    assert again.effects.equals(first.effects) and again.respondents.equals(first.respondents)
    assert Path("out/simulation.html").stat().st_mtime_ns == stamp
    Path("tax.yaml").write_text(EXPERIMENT + "seed: 1\n")
    assert not simulated().up_to_date
    assert Path("out/simulation.html").stat().st_mtime_ns != stamp


def test_a_folder_is_replaced_as_a_whole_and_its_predictions_stay(workplace, monkeypatch):
    simulated()
    before = {path.name: path.read_bytes() for path in Path("out").iterdir() if path.is_file()}
    Path("tax.yaml").write_text(EXPERIMENT.replace("moderators: [party_id]", ""))
    with monkeypatch.context() as patch:
        patch.setattr(result, "write_record", lambda *_: 1 / 0)  # the last file of the folder
        with pytest.raises(ZeroDivisionError):
            simulated()
    after = {path.name: path.read_bytes() for path in Path("out").iterdir() if path.is_file()}
    assert after == before, "a run that broke off leaves the former results, none of them newer"
    simulated()
    assert not Path("out/subgroups.csv").exists(), "a table without rows this time is gone"
    assert Path("out/predictions/predictions.parquet").is_file()


def test_a_file_that_is_gone_or_changed_is_written_again(workplace):
    simulated()
    Path("out/effects.csv").unlink()
    assert not simulated().up_to_date and Path("out/effects.csv").is_file()
    Path("out/arms.csv").write_text("edited")
    assert not simulated().up_to_date and "edited" not in Path("out/arms.csv").read_text()
    assert simulated().up_to_date


def test_a_record_is_read_back_as_it_was_and_one_of_another_version_is_refused(workplace):
    simulation = simulated()
    assert read_simulation("out").effects == simulation.record.effects == simulated().record.effects
    path = Path("out/simulation.json")
    path.write_text(path.read_text().replace('"schema": 2', '"schema": 1'))
    with pytest.raises(Refusal, match="has schema 1, this version reads 2; run `make simulate` again"):
        read_simulation("out")


def test_a_pilot_is_combined_and_its_gain_is_told(workplace):
    rng = np.random.default_rng(1)
    lines = ["arm,outcome,answer,age,party_id"]
    for arm in ("control", "cost"):
        lines += [
            f"{arm},support,{rng.integers(2, 7)},40,{rng.choice(['Democrat', 'Republican'])}"
            for _ in range(40)
        ]
    Path("pilot.csv").write_text("\n".join(lines))
    (row,) = simulated(pilot="pilot.csv").record.pilot
    assert row.n == 80 and row.effective_n > 60
    assert row.conf_low < row.estimate < row.conf_high
    assert "Pilot and predictions together" in Path("out/simulation.html").read_text()


def test_weights_of_real_answers_move_them_and_their_design_effect_is_told(workplace):
    rows = [
        {"arm": arm, "outcome": "support", "answer": answer, "age": 40, "party_id": "Democrat", "weight": w}
        for arm, high in (("control", 3), ("cost", 6))
        for answer, w in ((high, 3.0), (high - 1, 1.0))
        for _ in range(20)
    ]
    real = pl.DataFrame(rows)
    weighted = simulated(pilot=real, observed=real)
    (row,) = (row for row in weighted.record.effects if row.outcome == "support")
    assert row.observed == pytest.approx(3)
    (arm,) = (a for a in weighted.record.arms if a.outcome == "support" and a.arm == "cost")
    assert arm.observed == pytest.approx(5.75)
    (cell,) = (
        c for c in weighted.record.cells if c.outcome == "support" and c.arm == "cost" and c.answer == 6
    )
    assert cell.observed_share == pytest.approx(0.75)
    assert weighted.record.pilot[0].pilot == pytest.approx(3)
    assert weighted.record.design_effects == pytest.approx({"pilot": 1.25, "observed": 1.25})
    said = "eal answers (pilot) are weighted: design effect 1.25, as if there were 80% as many people"
    assert f"r{said}" in str(weighted) and f"R{said}" in Path("out/simulation.html").read_text()
    plain = simulated(observed=real.drop("weight"), folder="plain")
    assert plain.record.design_effects == {}


def test_a_model_that_answers_by_the_number_whatever_its_label_is_warned_of(workplace):
    text = EXPERIMENT.replace("people_per_arm: 200", "people_per_arm: 200, counterbalance_labels: true")
    Path("tax.yaml").write_text(text)
    rows = simulated().record.order_effects
    row = next(row for row in rows if row.outcome == "support")
    assert row.estimate_sd > 0.2  # the stand-in never looks at labels
    assert "answers by the number" in Path("out/simulation.html").read_text()


def test_a_model_that_always_says_the_same_still_gets_a_page(workplace, monkeypatch):
    monkeypatch.setattr(run.predict, "answer", lambda row: ([1], [1.0]))
    row = simulated(calibration=evaluation.overstating(Path("eval/m"))).record.effects[0]
    assert row.estimate == 0 and row.people_needed is None
    assert row.std_error == pytest.approx(0, abs=1e-9)
    assert Path("out/simulation.html").is_file()


def test_several_answers_of_one_person_are_no_further_evidence(workplace):
    rng = np.random.default_rng(1)
    rows = [
        f"{arm},support,{rng.integers(2, 7)},40,{arm}{i}" for arm in ("control", "cost") for i in range(40)
    ]
    Path("once.csv").write_text("\n".join(["arm,outcome,answer,age,person", *rows]))
    Path("thrice.csv").write_text("\n".join(["arm,outcome,answer,age,person", *rows * 3]))
    (once,), (thrice,) = (simulated(pilot=f"{n}.csv").record.pilot for n in ("once", "thrice"))
    assert once.std_error == pytest.approx(thrice.std_error)
    assert once.n == thrice.n == 80


def test_the_tables_and_figures_are_plain_files_for_other_programs(workplace, real_figures):
    simulated()
    people = pl.read_csv("out/respondents.csv")
    assert people.columns == pl.read_parquet("out/respondents.parquet").columns
    assert len(people) == 150 * 2
    effects = pl.read_csv("out/effects.csv")
    assert set(effects["outcome"]) == {"support", "reason"}
    assert {"estimate", "std.error", "conf.low", "conf.high"} <= set(effects.columns)
    meanings = pl.read_csv("out/codebook.csv")
    for name in ("effects", "arms", "cells", "subgroups"):
        columns = meanings.filter(pl.col("table") == name)["column"].to_list()
        assert pl.read_csv(f"out/{name}.csv").columns == columns
    shares = pl.read_csv("out/cells.csv").group_by("outcome", "arm").agg(pl.col("share").sum())["share"]
    assert np.allclose(shares, 1, atol=1e-5)
    assert {path.stem for path in Path("out").glob("*.svg")} == {"effects", "power", "answers-1", "answers-2"}


POLL = """\
outcomes:
  news: {question: "Where?", scale: {kind: select-all, labels: [TV, Web]}}
  trust: {question: "How far?", scale: {labels: [not at all, a little, a lot]}}
design: {people: 800}
"""


def test_a_poll_of_one_group_gives_means_with_intervals_and_no_effects(workplace, real_figures):
    Path("tax.yaml").write_text(POLL)
    simulation = simulated()
    assert simulation.effects.is_empty() and simulation.arms["arm"].unique().to_list() == ["everybody"]
    assert simulation.arms["outcome"].to_list() == ["news: TV", "news: Web", "trust"]
    row = simulation.record.arms[2]
    planned = row.sd / np.sqrt(800)
    assert row.conf_high - row.conf_low == pytest.approx(
        2 * 1.96 * np.hypot(planned, row.std_error_simulation)
    )
    assert "news: TV: 0.50 is predicted" in str(simulation)
    page = Path("out/simulation.html").read_text()
    assert "Treatment effects" not in page and "Power" not in page and "a little" in page


def test_a_model_whose_mass_is_off_the_scale_is_warned_of_at_the_top_of_page_and_terminal(
    workplace, monkeypatch
):
    monkeypatch.setattr(run.predict, "off_scale", 0.78)
    simulation = simulated()
    first = str(simulation).splitlines()[1]
    assert first.startswith(
        "warning: 78.0% of the model's probability lies outside the answer scale of support"
    )
    masthead = Path("out/simulation.html").read_text().split("<nav")[0]
    assert "78.0% of the model&#39;s probability" in masthead and "hardly answers" in masthead
    assert simulation.record.off_scale == pytest.approx({"support": 0.78, "reason": 0.78})


@needs_browser
def test_markup_in_texts_does_no_harm(workplace, real_figures):
    text = HOSTILE.replace("{", "{{").replace("}", "}}")
    file = {
        "title": HOSTILE,
        "description": HOSTILE,
        "arms": {HOSTILE: text, "b": "plain"},
        "outcomes": {HOSTILE: {"question": text, "scale": {"labels": {"1": HOSTILE, "2": "x"}}}},
        "design": {"people_per_arm": 50},
    }
    Path("tax.yaml").write_text(json.dumps(file))  # JSON is YAML
    simulated()
    assert not harmed(dom(Path("out/simulation.html")))
    assert not harmed(dom(without_policy(Path("out/simulation.html"))))


@pytest.mark.parametrize(
    ("moderators", "words"),
    [
        ("[gender]", "nobody has the moderator 'gender'; the people have age, party_id"),
        ("{party_id: [Whig]}", "nobody's party_id is 'Whig'; there are 'Democrat', 'Republican'"),
        ("{age: [90+]}", "nobody's age is '90\\+'"),
    ],
)
def test_a_moderator_or_group_that_nobody_has_is_refused_before_any_work(workplace, moderators, words):
    Path("tax.yaml").write_text(EXPERIMENT.replace("[party_id]", moderators))
    with pytest.raises(Refusal, match=words):
        simulated()
    assert run.predict.calls == 0


def test_a_study_never_calibrates_itself(workplace):
    folder = evaluation.overstating(Path("eval/m"))
    job = run.Job(load_experiment("tax.yaml"), Model("m", "m"), Settings(), calibration=folder)
    with_it, without = run.run_job(job, None), run.run_job(replace(job, without="e0"), None)
    assert (with_it.record.trust.studies, without.record.trust.studies) == (6, 5)


@pytest.mark.whole
def test_a_tiny_model_simulates_an_experiment_from_file_to_page(workplace, monkeypatch, model_folder):
    monkeypatch.undo()
    monkeypatch.chdir(workplace)
    Path("small.yaml").write_text(EXPERIMENT.replace("150", "20"))
    simulation = run.simulate("small.yaml", str(model_folder), folder="new")
    assert "No calibrated interval" in str(simulation)
    assert len(pl.read_csv("new/respondents.csv")) == 40
