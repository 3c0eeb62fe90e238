"""An invented Qualtrics export: a 2x5 factorial survey with text labels, in every format that is read."""

import json
from pathlib import Path

import numpy as np
import polars as pl
import pyreadstat

FRAMES = ("gain", "loss")
SOURCES = ("nobody", "scientists", "neighbours", "a newspaper", "the government")
AGREE = ("Strongly disagree", "Disagree", "Neither agree nor disagree", "Agree", "Strongly agree")
QUESTIONS = {
    "ResponseId": "Response ID",
    "Finished": "Finished",
    "DistributionChannel": "Distribution Channel",
    "PROLIFIC_PID": "What is your Prolific ID?\nPlease note that it fills in by itself.",
    "frame": "frame",
    "source": "source",
    "Q1": "How much do you agree that the city should build the line?",
    "Q2_1": "How likely are you to use it? - Chance in per cent",
    "Q3": "Would you vote for it?",
    "age": "How old are you?",
    "gender": "Are you ...?",
    "party": "Which party do you lean to?",
    "faith": "What is your religion, if any?",
    "w": "Weight",
}
EXPERIMENT = """
name: tram
title: A tram line
vignette: "The city plans a tram line. {frame} {source}"
factors:
  frame:
    gain: It would save an hour a week.
    loss: Without it people lose an hour a week.
  source:
    nobody: ""
    scientists: Scientists support it.
    neighbours: Your neighbours support it.
    a newspaper: A newspaper supports it.
    the government: The government supports it.
outcomes:
  support:
    question: The city should build it.
    scale:
      labels: {1: strongly disagree, 2: disagree, 3: neither agree nor disagree, 4: agree, 5: strongly agree}
  use:
    question: How likely are you to use it?
    scale: {low: 0, high: 100, labels: {0: certainly not, 100: certainly}}
  vote:
    question: Would you vote for it?
    scale: {labels: {0: no, 1: yes}}
design: {people_per_arm: 40}
population: {people: 40}
columns:
  person: PROLIFIC_PID
  arm: {frame: frame, source: source}
  outcomes: {support: Q1, use: Q2_1, vote: Q3}
  weight: w
  demographics: {age: age, gender: gender, party_id: party, religion: faith}
"""


def answers(people: int = 400, seed: int = 0) -> pl.DataFrame:
    """One row a person, cells as Qualtrics writes choice texts; with a preview, and two unfinished ones."""
    rng = np.random.default_rng(seed)
    rows = []
    for number in range(people):
        loss, source = number % 2, number // 2 % 5
        support = int(np.clip(np.round(rng.normal(3 + 0.6 * loss + 0.2 * (source == 1), 1)), 1, 5))
        rows.append(
            {
                "ResponseId": f"R_{number:05d}",
                "Finished": "False" if number in (7, 8) else "True",
                "DistributionChannel": "preview" if number == 5 else "anonymous",
                "PROLIFIC_PID": f"{number * 7919:024x}",
                "frame": FRAMES[loss],
                "source": SOURCES[source].upper() if number % 3 else f" {SOURCES[source]} ",
                "Q1": "-99" if number == 11 else AGREE[support - 1],
                "Q2_1": str(int(np.clip(20 * support + rng.integers(-15, 15), 0, 100))),
                "Q3": "Yes" if rng.random() < support / 6 else "No",
                "age": str(18 + number % 60),
                "gender": ("Female", "Male")[number % 2],
                "party": ("Democrat", "Republican", "Independent")[number % 3],
                "faith": ("Protestant", "none", "Catholic, mostly")[number // 3 % 3],
                "w": str(round(0.5 + rng.random(), 3)),
            }
        )
    return pl.DataFrame(rows)


def write_export(path: Path, people: int = 400) -> Path:
    """The survey as a file of the format that `path` ends with."""
    frame = answers(people)
    if path.suffix in (".csv", ".xlsx"):
        imports = {name: json.dumps({"ImportId": f"QID{n}"}) for n, name in enumerate(frame.columns)}
        frame = pl.concat([pl.DataFrame([QUESTIONS, imports]), frame])
        if path.suffix == ".csv":
            frame.write_csv(path, include_bom=True)
        else:
            frame.write_excel(path)
    elif path.suffix == ".parquet":
        frame.write_parquet(path)
    else:
        _write_labelled(path, frame)
    return path


def _write_labelled(path: Path, frame: pl.DataFrame) -> None:
    """SPSS and Stata: codes with value labels, in an order of their own; 11 for "strongly disagree"."""
    codes = {
        "Q1": {11 + number: label for number, label in enumerate(AGREE)},
        "Q3": {1: "Yes", 2: "No"},
        "Finished": {0: "False", 1: "True"},
        "frame": dict(enumerate(FRAMES, 1)),
        "source": dict(enumerate(SOURCES, 1)),
    }
    frame = frame.with_columns(pl.col("source").str.strip_chars().str.to_lowercase())
    for name, labels in codes.items():
        code_of = {label.lower(): float(code) for code, label in labels.items()}
        column = [code_of.get(cell.lower()) for cell in frame[name]]
        frame = frame.with_columns(pl.Series(name, column, pl.Float64))
    frame = frame.with_columns(pl.col("age", "Q2_1", "w").cast(pl.Float64))
    if path.suffix == ".sav":
        missing = {"Q1": [-99]}
        frame = frame.with_columns(pl.col("Q1").fill_null(-99.0))
        pyreadstat.write_sav(frame, str(path), column_labels=list(QUESTIONS.values()),
                             variable_value_labels=codes, missing_ranges=missing)  # fmt: skip
    else:
        pyreadstat.write_dta(frame, str(path), column_labels=[text[:80] for text in QUESTIONS.values()],
                             variable_value_labels=codes)  # fmt: skip
