"""A small experiment, a data set of one evaluated study, and a stand-in for the model that is asked."""

from pathlib import Path

import numpy as np
import polars as pl

from common.files import write_json
from common.prompts import SYSTEM_PROMPT
from eval.prediction.result import Counts, Predictions
from eval.settings import Settings
from tests.helpers.scored import MANIFEST

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
LISTS = {"answers": pl.List(pl.Int64), "probs": pl.List(pl.Float32)}


class StandIn:
    """A model that answers lower when the cost is named, more so for Republicans; in place of `predict`."""

    off_scale = 0.01

    def __init__(self) -> None:
        self.calls = 0

    def answer(self, row: dict) -> tuple[list[int], list[float]]:
        answers = np.arange(row["scale_low"], row["scale_high"] + 1)
        push = -0.4 * ("$300" in row["prompt"]) * (1 + ("Republican" in row["prompt"]))
        weight = np.exp(push * (answers - 4) / 2)
        return answers.tolist(), (weight / weight.sum()).tolist()

    def __call__(self, rows: pl.DataFrame, model: str, settings: Settings, **options) -> Predictions:
        self.calls += 1
        answers, probs = zip(*map(self.answer, rows.iter_rows(named=True)), strict=True)
        table = pl.DataFrame({"answers": answers, "probs": probs}, schema=LISTS)
        masses = {"off_scale_mass": pl.lit(self.off_scale, pl.Float32), "unread_mass": pl.lit(0, pl.Float32)}
        replies = dict.fromkeys(("n_requested", "n_parsed", "n_bare"), pl.lit(None, pl.Int32))
        table = table.with_columns(mode=pl.lit("exact"), **masses, **replies)
        counts = Counts.of(table)
        if options["folder"]:
            Path(options["folder"]).mkdir(parents=True, exist_ok=True)
            table.write_parquet(options["folder"] / "predictions.parquet")
        return Predictions(options["name"], counts, inputs="fixed", in_memory=table)


def write_study(home: Path) -> None:
    """data/sample/study/ of `home`: 240 people, two arms, two outcomes."""
    folder = home / "data/sample/study"
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
    write_json(folder / "manifest.json", MANIFEST)
