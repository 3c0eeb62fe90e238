"""Malformed predictions, settings and experiment files: one line each, and nothing half-done is left."""

import json
from pathlib import Path

import polars as pl
import pytest

from common.errors import Refusal
from common.experiment import load_experiment
from eval.scoring.predictions import load_predictions
from eval.scoring.run import import_predictions
from eval.settings import load_settings
from eval.simulation.population import draw_people
from tests.helpers.scored_samples import population, write_split

DIGITS = "9" * 5000
ONE = {"study_id": "study0", "sample_id": 1, "prediction": 1}
KEY = {"study_id": "study0", "sample_id": 1}


def row(**values: object) -> str:
    """A JSON list of one prediction."""
    return json.dumps([ONE | values])


def form(**values: object) -> str:
    """A JSON list of one row without `prediction`."""
    return json.dumps([KEY | values])


PREDICTIONS = {
    "a key above 63 bits": row(sample_id=2**63),
    "a key above 64 bits": row(sample_id=2**64),
    "a key below 64 bits": row(sample_id=-(2**63) - 1),
    "a key of 5,000 digits": f'[{{"study_id": "s", "sample_id": {DIGITS}, "prediction": 1}}]',
    "a key that is text": row(sample_id="1"),
    "a key that is no whole number": row(sample_id=1.5),
    "a key that is empty": row(sample_id=None),
    "a key that is true": row(sample_id=True),
    "a key that is a list": row(sample_id=[1]),
    "a key that is an object": row(sample_id={"a": 1}),
    "a key of 1e300": row(sample_id=1e300),
    "a study that is a list": row(study_id=["s"]),
    "a study that is an object": row(study_id={"a": 1}),
    "a study that is empty": row(study_id=None),
    "a study that is a fraction": row(study_id=1.5),
    "a study that is true": row(study_id=True),
    "a key twice": json.dumps([ONE, ONE]),
    "a list in a number column": row(prediction=[1]),
    "text in a number column": row(prediction="one"),
    "true in a number column": row(prediction=True),
    "an answer of 1e300": row(prediction=1e300),
    "an answer of 5,000 digits": f'[{{"study_id": "s", "sample_id": 1, "prediction": {DIGITS}}}]',
    "infinity": '[{"study_id": "s", "sample_id": 1, "prediction": Infinity}]',
    "not a number": '[{"study_id": "s", "sample_id": 1, "prediction": NaN}]',
    "an object": row(prediction={"a": 1}),
    "numbers and text": json.dumps([ONE, ONE | {"sample_id": 2, "prediction": "x"}]),
    "an answer that is text": form(answer="a", prob=1),
    "a probability that is text": form(answer=1, prob="x"),
    "a probability that is a list": form(answer=1, prob=[1]),
    "a probability below zero": form(answer=1, prob=-1),
    "a probability that is empty": form(answer=1, prob=None),
    "a probability of 1e300": form(answer=1, prob=1e300),
    "lists within lists": form(answers=[[1]], probs=[1]),
    "answers as text": form(answers=["a"], probs=[1]),
    "probabilities as text": form(answers=[1], probs=["1"]),
    "numbers for lists": form(answers=1, probs=1),
    "answers alone": form(answers=[1]),
    "more answers than probabilities": form(answers=[1, 2], probs=[1]),
    "an answer twice": form(answers=[1, 1], probs=[0.5, 0.5]),
    "an empty answer": form(answers=[None], probs=[1]),
    "an answer above 64 bits": form(answers=[2**64], probs=[1]),
    "draws as text": form(draws=["a"]),
    "one draw for a list": form(draws=3),
    "fractions drawn": form(draws=[1.5]),
    "shares as text": form(p_1="x"),
    "shares as lists": form(p_1=[1]),
    "an answer in two columns": form(p_1=0.5, p_01=0.5),
    "a mean that is text": form(mean="x"),
    "a mean of 1e300": form(mean=1e300),
    "a mode that is a number": row(mode=3),
    "a mode that is a list": row(mode=["exact"]),
    "an unknown mode": row(mode="guess"),
    "mass that is text": row(off_scale_mass="x"),
    "mass that is a list": row(off_scale_mass=[1]),
    "replies that are text": row(n_parsed="x"),
    "replies of 1e300": row(n_requested=1e300),
    "an object for a list": "{}",
    "a torn file": "[{",
    "a file nested too deep": "[" * 100_000,
    "an empty file": "",
}


@pytest.mark.parametrize("name", PREDICTIONS)
def test_malformed_predictions_are_one_line_and_leave_no_file(tmp_path: Path, monkeypatch, name: str):
    monkeypatch.chdir(tmp_path)
    write_split(population(studies=1, people=6)[0], tmp_path)
    Path("p.json").write_text(PREDICTIONS[name])
    with pytest.raises(Refusal) as refused:
        import_predictions("p.json", "sample", "study")
    assert "p.json" in str(refused.value)
    assert "\n" not in str(refused.value) and len(str(refused.value)) < 500
    assert not list(tmp_path.rglob("predictions.*"))


@pytest.mark.parametrize("name", [name for name, text in PREDICTIONS.items() if text.startswith('[{"')])
def test_malformed_lines_are_refused_as_lists_are(tmp_path: Path, name: str):
    path = tmp_path / "p.jsonl"
    path.write_text(PREDICTIONS[name][1:-1].replace("}, {", "}\n{"))
    with pytest.raises(Refusal) as refused:
        load_predictions(path)
    assert "\n" not in str(refused.value)


def test_a_key_twice_in_one_object_is_refused_with_its_line(tmp_path: Path):
    twice = '{"study_id": "study0", "sample_id": 1, "prediction": 1, "prediction": 7}'
    path = tmp_path / "p.jsonl"
    path.write_text(f"{json.dumps(ONE | {'sample_id': 2})}\n{twice}\n")
    with pytest.raises(Refusal, match=r"p\.jsonl line 2 .*'prediction' appears twice"):
        load_predictions(path)
    (tmp_path / "p.json").write_text(f"[{twice}]")
    with pytest.raises(Refusal, match=r"p\.json .*'prediction' appears twice"):
        load_predictions(tmp_path / "p.json")


def typed(name: str, values: list[object], dtype: pl.DataType) -> pl.DataFrame:
    return pl.DataFrame(ONE).with_columns(pl.Series(name, values).cast(dtype))


PARQUET = {
    "a key above 63 bits": typed("sample_id", [2**64 - 1], pl.UInt64),
    "a key of 70 bits": typed("sample_id", [2**70], pl.Int128),
    "an answer above 63 bits": typed("prediction", [2**64 - 1], pl.UInt64),
    "a date": typed("prediction", [1], pl.Date),
    "a duration": typed("sample_id", [1], pl.Duration),
    "bytes": typed("study_id", ["s"], pl.Binary),
    "a category": typed("study_id", ["s"], pl.Categorical),
    "draws above 63 bits": pl.DataFrame(KEY).with_columns(
        draws=pl.Series([[2**64 - 1]], dtype=pl.List(pl.UInt64))
    ),
    "objects drawn": pl.DataFrame(KEY).with_columns(draws=pl.Series([[{"a": 1}]])),
}


@pytest.mark.parametrize("name", PARQUET)
def test_columns_of_other_types_are_refused_in_one_line(tmp_path: Path, name: str):
    PARQUET[name].write_parquet(tmp_path / "p.parquet")
    with pytest.raises(Refusal) as refused:
        load_predictions(tmp_path / "p.parquet")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("dtype", [pl.Int8, pl.UInt8, pl.UInt64, pl.Float32, pl.Decimal(10, 0)])
def test_numbers_of_any_size_that_are_whole_are_read(tmp_path: Path, dtype: pl.DataType):
    frame = pl.DataFrame(ONE).with_columns(pl.col("sample_id", "prediction").cast(dtype))
    frame.write_parquet(tmp_path / "p.parquet")
    predictions = load_predictions(tmp_path / "p.parquet")
    assert predictions.rows["sample_id"].to_list() == predictions.predicted.answers.tolist() == [1]


SETTINGS = {
    "a seed below 0": "seed: -1",
    "a seed of 40 digits": f"seed: {DIGITS[:40]}",
    "a seed of 5,000 digits": f"seed: {DIGITS}",
    "a fraction for a seed": "seed: 1.5",
    "true for a seed": "seed: true",
    "nothing for a seed": "seed: null",
    "an infinite temperature": "sampled: {temperature: .inf}",
    "a temperature that is no number": "exact: {temperature: .nan}",
    "a list for a number": "sampled: {temperature: [1]}",
    "1e400": "sampled: {temperature: 1e400}",
    "a share above 1": "sampled: {top_p: 1.5}",
    "a key twice": "seed: 1\nseed: 2",
    "a key twice in a block": "exact: {top_p: 1, top_p: 0.5}",
    "an alias inside itself": "exact: &a {x: *a}",
    "a list for a key": "? [a, b]\n: 1",
    "a number for a key": "1: 2",
    "a tag on text": "mode: !!int exact",
    "a tag of python": "seed: !!python/object/apply:os.system [ls]",
    "a binary tag": "mode: !!binary aGVsbG8=",
    "a list": "- a",
    "a word": "abc",
    "two documents": "seed: 1\n---\nseed: 2",
    "a torn file": "exact: {",
    "an unknown key": "sede: 1",
    "too many resamples": "score: {replicates: 99999999999}",
    "no rows": "max_rows: 0",
    "an infinite time": "server: {timeout_s: .inf}",
    "a zero byte": 'mode: "\\0"',
    "nested too deep": "a: " + "[" * 5000,
}


@pytest.mark.parametrize("name", SETTINGS)
def test_malformed_settings_are_one_line_with_the_files_name(tmp_path: Path, name: str):
    path = tmp_path / "s.yaml"
    path.write_text(SETTINGS[name])
    with pytest.raises(Refusal) as refused:
        load_settings(path)
    assert "s.yaml" in str(refused.value)
    assert "\n" not in str(refused.value) and len(str(refused.value)) < 700


FILE = """arms: {control: "", cost: "It costs $300."}
outcomes: {support: {question: "Support?", scale: {low: 1, high: 7}}}
design: {people_per_arm: 50}
"""
EXPERIMENTS = {
    "a seed below 0": FILE + "seed: -1",
    "a seed of 40 digits": FILE + f"seed: {DIGITS[:40]}",
    "an end of 5,000 digits": FILE.replace("7", DIGITS),
    "an end of 1e300": FILE.replace("7", "1e300"),
    "an end below the start": FILE.replace("7", "0"),
    "a step of 0": FILE.replace("high: 7", "high: 7, step: 0"),
    "a label off the scale": FILE.replace("high: 7", "high: 7, labels: {9: b}"),
    "a label twice": FILE.replace("high: 7", "high: 7, labels: {1: b, 1: c}"),
    "no people": FILE.replace("50", "0"),
    "infinitely many people": FILE.replace("50", ".inf"),
    "no outcome": FILE.replace('{support: {question: "Support?", scale: {low: 1, high: 7}}}', "{}"),
    "an arm twice": FILE.replace("{control:", "{cost:"),
    "a margin that is a list": FILE + "population: {margins: {gender: [1]}}",
    "an infinite share": FILE + "population: {margins: {gender: {a: .inf}}}",
    "an empty margin": FILE + "population: {margins: {gender: {}}}",
    "shares of 0": FILE + "population: {margins: {gender: {a: 0, b: 0}}}",
    "a share below 0": FILE + "population: {margins: {gender: {a: -1, b: 2}}}",
    "shares that miss 1": FILE + "population: {margins: {gender: {a: 0.2, b: 0.2}}}",
    "nobody allowed": FILE + "population: {where: {gender: []}}",
    "quotas that are a number": FILE + "population: {quotas: 3}",
    "an alias inside itself": FILE + "title: &a [*a]",
    "a list for a key": FILE + "? [a]\n: 1",
    "a tag": FILE + "title: !!python/name:os.system x",
    "a number's tag on text": FILE + "title: !!float x",
    "an unknown placeholder": FILE + "vignette: '{zzz}'",
    "an attribute of a placeholder": FILE + "vignette: '{arm.__class__}'",
    "a width of a placeholder": FILE + "vignette: '{arm:>999999999}'",
    "a key twice": FILE + "seed: 1\nseed: 2",
    "a name outside its folder": FILE + "name: ../../x",
    "nothing": "",
}


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_malformed_experiments_are_one_line(tmp_path: Path, name: str):
    path = tmp_path / "e.yaml"
    path.write_text(EXPERIMENTS[name])
    pool = pl.DataFrame({"gender": ["a", "b"] * 20})
    with pytest.raises(Refusal) as refused:
        draw_people(pool, load_experiment(path).file.population, 0)
    assert "\n" not in str(refused.value)
