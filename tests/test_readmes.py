"""The READMEs' tables of records are those of the code: every key, and no other."""

import re
from pathlib import Path

import pytest
from pydantic import BaseModel

from common.contract import RunRecord
from eval import score
from eval.scoring.metrics import METRICS
from eval.scoring.record import Comparison, Difference, Estimate, Scores, TableRow
from eval.scoring.record_parts import (
    Calibration,
    Ceilings,
    CellCounts,
    Effects,
    FieldScores,
    Group,
    GroupEffects,
    Interactions,
    Parsing,
    RowCounts,
    Skill,
    StudyScores,
    Subgroups,
    Weighting,
)
from eval.settings import ScoreSettings, Settings
from eval.simulation.record import SimulationRecord
from tests.helpers.scored_samples import exact, population

ROOT = Path(__file__).parents[1]
SCORING, SIMULATION = ROOT / "eval/scoring/README.md", ROOT / "eval/simulation/README.md"
TRAINING = ROOT / "scripts/training/README.md"


def table(readme: Path, heading: str) -> dict[str, str]:
    """{key: the rest of its row} of the first table after a heading; a row may hold several keys."""
    text = readme.read_text()
    rows = re.search(r"\|---.*\n((?:\|.*\n?)+)", text[text.index(heading) :])[1].splitlines()
    cells = [re.split(r"(?<!\\)\|", row.strip("|"), maxsplit=1) for row in rows]
    return {key.strip(" `"): rest for keys, rest in cells for key in keys.split(",")}


def keys(record: type[BaseModel]) -> set[str]:
    return {field.alias or name for name, field in record.model_fields.items()}


@pytest.mark.parametrize(
    ("readme", "heading", "record"),
    [
        (SCORING, "## scores.json", Scores),
        (SCORING, "\n`effects`:", Effects),
        (SCORING, "\n`subgroups`:", Subgroups),
        (SCORING, "## comparison.json", Comparison),
        (SIMULATION, "## simulation.json", SimulationRecord),
        (TRAINING, "## run.json", RunRecord),
    ],
)
def test_a_table_lists_every_key_of_its_record(readme, heading, record):
    assert set(table(readme, heading)) == keys(record)


@pytest.mark.parametrize(
    ("heading", "key", "record"),
    [
        ("## scores.json", "rows", RowCounts),
        ("## scores.json", "parsing", Parsing),
        ("## scores.json", "cells", CellCounts),
        ("## scores.json", "ceiling", Ceilings),
        ("## scores.json", "skill", Skill),
        ("## scores.json", "studies", StudyScores),
        ("## scores.json", "calibration", Calibration),
        ("## scores.json", "weights", Weighting),
        ("\n`subgroups`:", "fields", FieldScores),
        ("\n`subgroups`:", "fields", Group),
        ("\n`subgroups`:", "effects", GroupEffects),
        ("\n`subgroups`:", "interactions", Interactions),
        ("## comparison.json", "table", TableRow),
    ],
)
def test_a_row_names_every_key_of_the_record_in_it(heading, key, record):
    named = set(re.findall(r"`(\w+)`", table(SCORING, heading)[key]))
    assert keys(record) <= named


def test_a_difference_adds_its_keys_to_those_of_an_estimate():
    named = set(re.findall(r"`(\w+)`", table(SCORING, "## comparison.json")["differences"]))
    assert keys(Difference) - keys(Estimate) <= named


def test_the_shown_estimate_has_keys_of_an_estimate_only():
    shown = re.search(r"```json\n(.*?)```", SCORING.read_text(), re.DOTALL)[1]
    assert set(re.findall(r'"(\w+)":', shown)) == keys(Estimate) - {"dropped"}


def test_the_tables_of_cells_and_items_list_every_column_and_every_metric():
    rows, true = population(studies=2, people=24)
    quick = Settings(score=ScoreSettings(replicates=100, ceiling_splits=10, permutations=500))
    scores = score(rows, exact(rows, true), settings=quick)
    listed = set(table(SCORING, "## cells.parquet"))
    of_items = {"item_num", *scores.items.columns}
    assert listed - {"(item_num)"} | {"item_num"} == set(scores.cells.columns) | of_items
    assert set(METRICS) <= listed
