"""Whole simulations: with a stand-in for the model, and (marked whole) with a tiny one."""

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from markupsafe import Markup

from common.errors import Refusal
from common.files import write_json
from common.page import figures
from common.prompts import SYSTEM_PROMPT
from eval.prediction import run as predict
from eval.simulation import check as simulate_check
from eval.simulation import page as simulation_page
from eval.simulation import run as simulate
from eval.simulation.run import Job
from tests.helpers.browser import HOSTILE, dom, harmed, needs_browser, without_policy

EXPERIMENT = """\
vignette: "A tax. {arm}"
arms: {control: "", cost: It costs $300.}
outcomes:
  support:
    question: Do you support it?
    scale: {low: 1, high: 7, labels: {1: no, 7: yes}}
  reason:
    question: What matters most?
    scale: {kind: choice, labels: {1: cost, 2: jobs, 3: climate}}
moderators: [party_id]
design: {people_per_arm: 200}
population: {people: 150}
"""


SENTENCE = "Only return an integer from 1 to 7, nothing else."


def stand_in(calls: list[str]):
    """A model that answers lower when the cost is named, more so for Republicans."""

    def main(arguments: list[str]) -> None:
        options = dict(zip(arguments[::2], arguments[1::2], strict=False))
        rows, out = pl.read_parquet(options["--rows"]), Path(options["--out"])
        calls.append(options["--model"])
        records = []
        for row in rows.iter_rows(named=True):
            answers = np.arange(row["scale_low"], row["scale_high"] + 1)
            push = -0.4 * ("$300" in row["prompt"]) * (1 + ("Republican" in row["prompt"]))
            weight = np.exp(push * (answers - 4) / 2)
            record = {"answers": answers.tolist(), "probs": (weight / weight.sum()).tolist(), "mode": "exact"}
            records.append(record | {"off_scale_mass": 0.01})
        pl.DataFrame(records).write_parquet(out / "predictions.parquet")
        write_json(out / "predictions.json", {"inputs": "fixed"})

    return main


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A working folder with a data set of one study, and the stand-in for the model."""
    monkeypatch.chdir(tmp_path)
    calls: list[str] = []
    monkeypatch.setattr(predict, "main", stand_in(calls))
    folder = tmp_path / "data/sample/study"
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    rows = []
    for participant in range(240):
        arm, party = participant % 2, ("Democrat", "Republican")[participant % 3 == 0]
        for task in (0, 1):
            text = f"A tax{' that costs $300' * arm}. Question {task}? {SENTENCE}"
            rows.append(
                {
                    "study_id": "held1", "sample_id": len(rows), "participant": participant,
                    "condition_num": arm,
                    "task_num": task, "item_num": 0, "system": SYSTEM_PROMPT, "prompt": text, "stimuli": text,
                    "response": int(np.clip(4 - arm + rng.integers(-2, 3), 1, 7)), "scale_kind": "ordinal",
                    "scale_low": 1, "scale_high": 7, "scale_step": 1, "scale_labels": [], "off_scale": False,
                    "demographic": {"age": 20 + participant % 50, "gender": None, "party_id": party},
                }
            )  # fmt: skip
    labels = pl.List(pl.Struct({"value": pl.Int64, "label": pl.String}))
    pl.DataFrame(rows, schema_overrides={"scale_labels": labels}).write_parquet(folder / "eval.parquet")
    write_json(folder / "manifest.json", {"config": {"order": "persona-first"}})
    (tmp_path / "made.yaml").write_text(EXPERIMENT)
    return tmp_path, calls


@pytest.fixture
def real_figures():
    """Ask for figures to be drawn: they take most of a test's time."""


@pytest.fixture(autouse=True)
def no_figures(request, monkeypatch):
    if "real_figures" not in request.fixturenames:
        for kind in ("effects", "power", "answers"):
            monkeypatch.setattr(simulation_page, f"{kind}_figure", lambda *_: figures.Figure())
        monkeypatch.setattr(figures, "save", lambda *_: None)
        monkeypatch.setattr(figures, "svg", lambda *_: Markup(""))


def job(**changes) -> Job:
    base = {"experiment": Path("made.yaml"), "model": "m", "name": "m", "data": "sample", "split": "study"}
    return Job(**(base | {"out": Path("out")} | changes))


def evaluation(folder: Path, studies: int = 6) -> Path:
    """An evaluation whose model overstates effects twice."""
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True)
    pairs, cells = [], []
    for study in range(studies):
        for task in range(5):
            cell = {"study_id": f"e{study}", "task_num": task}
            true = rng.normal(0, 0.5)
            effect = {"observed": 0.5 * true + rng.normal(0, 0.2), "predicted": true, "observed_se": 0.1}
            pairs.append(cell | {"condition_a": 0, "condition_b": 1} | effect)
            for arm in (0, 1):
                text = "A tax question? Only return an integer."
                cells.append(
                    cell
                    | {"condition_num": arm, "predicted_sd": 1.5, "scale_kind": "ordinal", "stimuli": text}
                )
    write_json(folder / "scores.json", {"name": "m", "effects": {"pairs": pairs}})
    pl.DataFrame(cells).write_parquet(folder / "cells.parquet")
    return folder


def test_without_an_evaluation_no_calibrated_interval_is_shown(place):
    record = simulate.simulate(job())
    assert all(row["calibrated"] is None and row["low_calibrated"] is None for row in record["effects"])
    page = Path("out/simulation.html").read_text()
    assert "No calibrated interval: there is no evaluation of m to learn from" in page
    assert "Needed at calibrated effect" not in page


def test_with_an_evaluation_effects_are_shrunken_and_intervals_wider_than_sampling_error(place):
    record = simulate.simulate(job(calibration=evaluation(Path("eval/m"))))
    row = next(row for row in record["effects"] if row["outcome"] == "support")
    assert 0.3 < row["calibrated"] / row["effect"] < 0.7
    assert row["high_calibrated"] - row["low_calibrated"] > row["high_sampling"] - row["low_sampling"]
    assert row["people_needed_calibrated"] > row["people_needed"]
    share = next(row for row in record["effects"] if row["outcome"] == "reason")
    assert share["calibrated"] is None and "choice" in share["no_calibration"]
    assert record["trust"]["coverage"]["studies"] == 6
    assert "On held-out studies" in Path("out/simulation.html").read_text()


def test_an_evaluation_of_two_studies_is_not_enough_and_says_so(place):
    record = simulate.simulate(job(calibration=evaluation(Path("eval/m"), studies=2)))
    assert record["effects"][0]["calibrated"] is None
    assert "in 2 of at least 3 studies" in record["trust"]["reason"]


def test_subgroup_effects_are_found(place):
    record = simulate.simulate(job())
    groups = {row["group"]: row["effect"] for row in record["subgroups"] if row["outcome"] == "support"}
    assert groups["Republican"] < groups["Democrat"] < 0


def test_a_second_run_with_nothing_changed_does_nothing(place, capsys):
    first = simulate.simulate(job())
    stamp = Path("out/simulation.html").stat().st_mtime_ns
    assert simulate.simulate(job())["effects"] == first["effects"]
    assert "nothing to do" in capsys.readouterr().out
    assert Path("out/simulation.html").stat().st_mtime_ns == stamp
    Path("made.yaml").write_text(EXPERIMENT + "seed: 1\n")
    simulate.simulate(job())
    assert Path("out/simulation.html").stat().st_mtime_ns != stamp


def test_a_pilot_is_combined_and_its_gain_is_told(place):
    rng = np.random.default_rng(1)
    lines = ["arm,outcome,answer,age,party_id"]
    for arm in ("control", "cost"):
        lines += [
            f"{arm},support,{rng.integers(2, 7)},40,{rng.choice(['Democrat', 'Republican'])}"
            for _ in range(40)
        ]
    Path("pilot.csv").write_text("\n".join(lines))
    record = simulate.simulate(job(pilot=Path("pilot.csv")))
    (row,) = record["pilot"]
    assert row["n"] == 80 and row["effective_n"] > 60
    assert row["low"] < row["combined"] < row["high"]
    assert "Pilot and predictions together" in Path("out/simulation.html").read_text()


def test_a_model_that_answers_by_the_number_whatever_its_label_is_warned_of(place):
    text = EXPERIMENT.replace("people_per_arm: 200", "people_per_arm: 200, counterbalance_labels: true")
    Path("made.yaml").write_text(text)
    record = simulate.simulate(job())
    row = next(row for row in record["order_effects"] if row["outcome"] == "support")
    assert row["difference_sd"] > 0.2  # the stand-in never looks at labels
    assert "answers by the number" in Path("out/simulation.html").read_text()


def test_a_model_that_always_says_the_same_still_gets_a_page(place, monkeypatch):
    def always_one(arguments: list[str]) -> None:
        out = Path(arguments[arguments.index("--out") + 1])
        rows = pl.read_parquet(out / "rows.parquet")
        one = {"answers": [1], "probs": [1.0], "mode": "exact", "off_scale_mass": 0.0}
        pl.DataFrame([one] * len(rows)).write_parquet(out / "predictions.parquet")
        write_json(out / "predictions.json", {"inputs": "same"})

    monkeypatch.setattr(predict, "main", always_one)
    record = simulate.simulate(job(calibration=evaluation(Path("eval/m"))))
    row = record["effects"][0]
    assert row["effect"] == 0 and row["people_needed"] is None
    assert row["se"] == pytest.approx(0, abs=1e-9)
    assert Path("out/simulation.html").is_file()


def test_several_answers_of_one_person_are_no_further_evidence(place):
    rng = np.random.default_rng(1)
    rows = [
        f"{arm},support,{rng.integers(2, 7)},40,{arm}{i}" for arm in ("control", "cost") for i in range(40)
    ]
    Path("once.csv").write_text("\n".join(["arm,outcome,answer,age,person", *rows]))
    Path("thrice.csv").write_text("\n".join(["arm,outcome,answer,age,person", *rows * 3]))
    (once,), (thrice,) = (simulate.simulate(job(pilot=Path(f"{n}.csv")))["pilot"] for n in ("once", "thrice"))
    assert once["combined_se"] == pytest.approx(thrice["combined_se"])
    assert once["n"] == thrice["n"] == 80


def test_the_tables_and_figures_are_plain_files_for_other_programs(place, real_figures):
    simulate.simulate(job())
    people = pl.read_csv("out/respondents.csv")
    assert people.columns == pl.read_parquet("out/respondents.parquet").columns
    assert len(people) == 150 * 2
    effects = pl.read_csv("out/effects.csv")
    assert set(effects["outcome"]) == {"support", "reason"}
    shares = pl.read_csv("out/cells.csv").group_by("outcome", "arm").agg(pl.col("share").sum())["share"]
    assert np.allclose(shares, 1, atol=1e-5)
    assert json.loads(Path("out/simulation.json").read_text())["schema"] == 1
    assert {path.stem for path in Path("out").glob("*.svg")} == {"effects", "power", "answers-1", "answers-2"}


@needs_browser
def test_markup_in_texts_does_no_harm(place, real_figures):
    text = HOSTILE.replace("{", "{{").replace("}", "}}")
    file = {
        "title": HOSTILE,
        "description": HOSTILE,
        "arms": {HOSTILE: text, "b": "plain"},
        "outcomes": {HOSTILE: {"question": text, "scale": {"labels": {"1": HOSTILE, "2": "x"}}}},
        "design": {"people_per_arm": 50},
    }
    Path("made.yaml").write_text(json.dumps(file))  # JSON is YAML
    simulate.simulate(job())
    assert not harmed(dom(Path("out/simulation.html")))
    assert not harmed(dom(without_policy(Path("out/simulation.html"))))


def test_a_moderator_that_nobody_has_is_refused(place):
    Path("made.yaml").write_text(EXPERIMENT.replace("[party_id]", "[gender]"))
    with pytest.raises(Refusal, match="nobody has the moderator 'gender'; the people have age, party_id"):
        simulate.simulate(job())


def test_a_held_out_study_is_described_simulated_and_set_beside_its_answers(place, monkeypatch, capsys):
    monkeypatch.setattr(simulate_check, "resolve_model", lambda *_: ("m", "m", ()))
    monkeypatch.setattr("sys.argv", ["check", "--model", "m"])
    evaluation(Path("outputs/sample/study/eval/m"))
    simulate_check.main()
    folder = Path("outputs/sample/study/simulations/held1")
    record = json.loads((folder / "simulation.json").read_text())
    assert "A tax that costs $300. Question 1?" in (folder / "input/held1.yaml").read_text()
    assert record["stimuli"][0]["text"].endswith(SENTENCE)
    for row in record["effects"]:
        assert row["contrast"] == "arm 1 - arm 0"
        assert row["observed"] == pytest.approx(-1, abs=0.5)
    assert record["people"]["simulated"] == 240
    inside = [row["low_calibrated"] <= row["observed"] <= row["high_calibrated"] for row in record["effects"]]
    assert f"coverage calibrated: {np.mean(inside):.1%}" in capsys.readouterr().out
    assert (
        json.loads(Path("outputs/sample/study/simulations/check.json").read_text())["observed"]["effects"]
        == 2
    )


def test_a_study_never_calibrates_itself(place):
    folder = evaluation(Path("eval/m"))
    all_of_them = simulate.simulate(job(calibration=folder))["trust"]
    without = simulate.simulate(job(calibration=folder, without="e0"))["trust"]
    assert (all_of_them["studies"], without["studies"]) == (6, 5)


def test_a_model_is_named_as_its_evaluation_is(place):
    Path("configs/tiny").mkdir(parents=True)
    Path("configs/tiny/sft.yaml").write_text("model_name_or_path: outputs/models/tiny")
    for stage in ("sft", "dpo"):
        write_json(f"outputs/sample/study/tiny/{stage}/run.json", {})
    trained = "outputs/sample/study/tiny/sft"
    resolve = simulate.resolve_model
    assert resolve("tiny", "sample", "study") == (trained, "tiny-sft", ())
    assert resolve(trained, "sample", "study") == (trained, "tiny-sft", ())
    assert resolve("tiny-base", "sample", "study") == ("outputs/models/tiny", "tiny-base", ())
    assert resolve("owner/some-8b", "sample", "study") == ("owner/some-8b", "some-8b", ())
    with pytest.raises(Refusal, match="there are tiny-base, tiny-sft, tiny-dpo"):
        resolve("tiny-rlhf", "sample", "study")
    with pytest.raises(Refusal, match="doesn't say what it serves"):
        resolve("http://127.0.0.1:9/v1", "sample", "study")


@pytest.mark.whole
def test_a_tiny_model_simulates_an_experiment_from_file_to_page(place, monkeypatch, model_folder, capsys):
    monkeypatch.undo()
    monkeypatch.chdir(place[0])
    Path("small.yaml").write_text(EXPERIMENT.replace("150", "20"))
    config = Path(__file__).parents[3] / "configs/eval/default.yaml"
    monkeypatch.setattr(
        "sys.argv",
        [
            "simulate",
            "--experiment",
            "small.yaml",
            "--model",
            str(model_folder),
            "--config",
            str(config),
            "--out",
            "new",
        ],
    )
    simulate.main()
    assert "No calibrated interval" in capsys.readouterr().out
    assert len(pl.read_csv("new/respondents.csv")) == 40
