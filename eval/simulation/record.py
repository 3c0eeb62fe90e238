"""What a simulation writes and others read: simulation.json, its tables, and what their columns mean.

    simulation = read_simulation("outputs/sample/study/simulations/two-arm")
    simulation.effects[0].estimate

Every table is a list of rows of one type; the same fields are the columns of the CSV files, and their
docstrings are the codebook. A record of another version is refused.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import polars as pl
from pydantic import ConfigDict, Field

from common import contract
from common.contract import read_record
from common.experiment_file import Design
from common.tables import BROOM
from eval.simulation.likeness import Likeness
from eval.simulation.trust import Coverage, Fit

RECORD = "simulation.json"
REMEDY = "run `make simulate` again"
POLARS = {str: pl.String, int: pl.Int64, float: pl.Float64, bool: pl.Boolean}


class Record(contract.Record):
    """A part of a record whose fields' docstrings are their meanings."""

    model_config = ConfigDict(use_attribute_docstrings=True)


class ArmRow(Record):
    """The mean of one measure in one arm."""

    outcome: str
    """name of the outcome in the experiment file"""
    measure: str
    """mean: the answer itself; share: <label>: of a choice, how many choose this option"""
    arm: str
    """name of the arm"""
    estimate: float | None
    """predicted mean, in points of the answer scale (or share, 0 to 1)"""
    std_error: float | None
    """of the study as planned and of having simulated only so many people"""
    std_error_simulation: float | None
    """of having simulated only so many people"""
    conf_low: float | None
    """95% interval that holds sampling error alone"""
    conf_high: float | None
    """95% interval that holds sampling error alone"""
    sd: float | None
    """predicted standard deviation of answers"""
    observed_n: int | None
    """real answers (--observed) in this arm"""
    observed: float | None
    """their mean"""
    observed_std_error: float | None
    """its standard error"""


class CellRow(Record):
    """One answer's share in one arm."""

    outcome: str
    """name of the outcome"""
    arm: str
    """name of the arm"""
    answer: int
    """the answer's number"""
    label: str | None
    """its label, where it has one"""
    share: float
    """predicted share, 0 to 1"""
    observed_share: float | None
    """share among real answers (--observed)"""


class EffectRow(Record):
    """One treatment effect: a contrast of one measure's means."""

    outcome: str
    """name of the outcome"""
    measure: str
    """mean: the answer; share: <label>: how many choose this option; chosen: how often a profile is chosen"""
    contrast: str
    """the arms or levels that are compared: first minus second"""
    kind: Literal["arm", "level", "interaction", "amce"]
    """arm: two arms; level: two levels of a factor, averaged over the others; interaction: of two factors;
    amce: of a conjoint, a level against the attribute's first
    """
    estimate: float
    """predicted effect, in points of the answer scale (or share, -1 to 1)"""
    std_error: float
    """of the study as planned and of having simulated only so many people"""
    std_error_sampling: float
    """of the study as planned"""
    std_error_simulation: float
    """of having simulated only so many people"""
    std_error_people: float | None = None
    """of the study as planned, by people's spread of answers as learned: power stands on it"""
    conf_low: float
    """95% interval that holds sampling error alone"""
    conf_high: float
    """95% interval that holds sampling error alone"""
    sd: float
    """predicted standard deviation of answers (root mean square of the arms)"""
    estimate_sd: float | None
    """estimate / sd"""
    calibrated: float | None
    """estimate shrunken by what the model got wrong in evaluated studies"""
    calibrated_low: float | None
    """95% interval that also holds the model's own errors"""
    calibrated_high: float | None
    """95% interval that also holds the model's own errors"""
    no_calibration: str | None
    """why there is no calibrated effect"""
    power: float | None
    """power of the study as planned to find the estimate (two-sided, 5%)"""
    people_needed: int | None
    """people per arm (within subjects: in all) for 80% power; empty: no number suffices"""
    assurance: float | None
    """chance that the study as planned finds an effect in the calibrated direction, whatever its true size"""
    people_assured: int | None
    """people per arm (within subjects: in all) for 80% assurance; empty: no number suffices"""
    smallest_effect: float | None
    """the effect that the study as planned detects with 80% power"""
    observed: float | None
    """effect among real answers (--observed)"""
    observed_std_error: float | None
    """its standard error, clustered by person"""
    observed_low: float | None = None
    """its 95% interval, by Student's t"""
    observed_high: float | None = None
    """its 95% interval, by Student's t"""


class LevelRow(Record):
    """Of a conjoint: one statistic of one level of an attribute."""

    outcome: str
    """name of the outcome"""
    statistic: Literal["mm", "amce"]
    """mm: marginal mean, how often profiles with the level are chosen; amce: against the first level"""
    attribute: str
    """name of the attribute"""
    level: str
    """name of the level"""
    estimate: float | None = None
    """predicted, as a share (0 to 1, differences -1 to 1); 0 for the amce of the first level"""
    std_error: float | None = None
    """of the study as planned and of having simulated only so many people, clustered by person"""
    conf_low: float | None = None
    """95% interval that holds sampling error alone"""
    conf_high: float | None = None
    """95% interval that holds sampling error alone"""
    observed: float | None = None
    """the same among real choices (--observed)"""
    observed_std_error: float | None = None
    """its standard error, clustered by person"""
    reason: str | None = None
    """why there is no estimate"""


class SubgroupRow(Record):
    """One treatment effect within a group of people, with sampling error only."""

    outcome: str
    """name of the outcome"""
    measure: str
    """as in effects"""
    field: str
    """demographic field"""
    group: str
    """its value or range"""
    people: int
    """simulated people in the group"""
    contrast: str
    """as in effects; of a conjoint the level whose marginal mean it is"""
    estimate: float | None = None
    """predicted effect in the group; of a conjoint the marginal mean"""
    std_error: float | None = None
    """of the group's share of the planned people, and of having simulated only so many"""
    conf_low: float | None = None
    """95% interval that holds sampling error alone"""
    conf_high: float | None = None
    """95% interval that holds sampling error alone"""
    difference: float | None = None
    """the group's effect minus that of everybody else of the field"""
    difference_std_error: float | None = None
    """its standard error"""
    reason: str | None = None
    """why there is no effect"""


class OrderRow(Record):
    """What reversing the labels does to the recoded answers."""

    outcome: str
    """name of the outcome"""
    measure: str
    """as in effects"""
    estimate: float
    """mean with reversed labels minus mean with the usual ones, averaged over arms"""
    std_error: float
    """its standard error"""
    estimate_sd: float | None
    """estimate in standard deviations of answers"""


class PilotRow(Record):
    """One treatment effect from a pilot and the predictions together (prediction-powered inference)."""

    outcome: str
    """name of the outcome"""
    measure: str
    """as in effects"""
    contrast: str
    """as in effects"""
    pilot: float | None = None
    """effect in the pilot alone"""
    pilot_std_error: float | None = None
    """its standard error"""
    estimate: float | None = None
    """effect from pilot and predictions together"""
    std_error: float | None = None
    """its standard error"""
    conf_low: float | None = None
    """its 95% interval, by Student's t"""
    conf_high: float | None = None
    """its 95% interval, by Student's t"""
    n: int | None = None
    """people of the pilot in these arms (paired: in all of them)"""
    paired: bool | None = None
    """whether people are compared with themselves, because most saw all of these arms"""
    effective_n: float | None = None
    """how many pilot people alone would be as precise"""
    reason: str | None = None
    """why there is no estimate"""


class Tables(Record):
    """The results of a simulation, a list of rows each; some may have no rows."""

    arms: list[ArmRow] = Field(default_factory=list)
    cells: list[CellRow] = Field(default_factory=list)
    effects: list[EffectRow] = Field(default_factory=list)
    levels: list[LevelRow] = Field(default_factory=list)
    subgroups: list[SubgroupRow] = Field(default_factory=list)
    order_effects: list[OrderRow] = Field(default_factory=list)
    pilot: list[PilotRow] = Field(default_factory=list)


ROWS: dict[str, type[Record]] = {
    name: get_args(field.annotation)[0] for name, field in Tables.model_fields.items()
}


class Trust(Record):
    """What an evaluation of the same model says about a simulation; `reason` where it says nothing."""

    fit: Fit | None = None
    coverage: Coverage | None = None
    likeness: Likeness | None = None
    pairs: int = 0
    studies: int = 0
    folder: str | None = None
    reason: str | None = None


class PeopleSummary(Record):
    """Who was simulated. pool: how many there were to draw from; effective: Kish's effective size."""

    simulated: int
    pool: int
    effective: float
    source: str
    fields: list[str]
    notes: list[str]


class Stimulus(Record):
    """What the simulated people of an arm read."""

    arm: str
    outcome: str
    text: str


class SimulationRecord(Tables):
    """simulation.json: what was run, on whom, the results, and how far to trust them."""

    schema_version: Literal[2] = Field(2, alias="schema")
    inputs: str | None = None
    files: dict[str, dict[str, Any]] = Field(default_factory=dict)
    experiment: str
    title: str
    description: str
    model: str
    dataset: str
    split: str
    modes: dict[str, int]
    predicted: int
    failed: int
    off_scale_mass: float | None
    off_scale: dict[str, float] = Field(default_factory=dict)
    """mean probability outside the answer scale, by outcome"""
    design: Design
    every_arm: bool
    seed: int
    people: PeopleSummary
    stimuli: list[Stimulus]
    arm_count: int
    trust: Trust
    has_observed: bool
    design_effects: dict[str, float] = Field(default_factory=dict)
    """Of real answers with survey weights (pilot, observed): Kish's design effect."""
    versions: dict[str, str]
    seconds: float


def read_simulation(folder: str | Path) -> SimulationRecord:
    """The record in a simulation's folder; raises `Refusal` for none, or one of another version."""
    return read_record(Path(folder) / RECORD, SimulationRecord, REMEDY)


def frame(rows: Sequence[Record], kind: type[Record]) -> pl.DataFrame:
    """Rows as a polars frame with the fields of `kind` as columns, also where there are none."""
    schema = {name: _dtype(field.annotation) for name, field in kind.model_fields.items()}
    return pl.DataFrame([row.model_dump() for row in rows], schema=schema)


def _dtype(annotation: Any) -> Any:
    kinds = [kind for kind in get_args(annotation) or [annotation] if kind is not type(None)]
    return POLARS.get(kinds[0], pl.String)  # a Literal's values are words


def codebook() -> pl.DataFrame:
    """What every column of every CSV file means: table, column, type, meaning."""
    rows = [
        (table, BROOM.get(name, name), str(_dtype(field.annotation)), field.description)
        for table, kind in ROWS.items()
        for name, field in kind.model_fields.items()
    ]
    rows += [("respondents", *row) for row in RESPONDENTS]
    return pl.DataFrame(rows, schema=["table", "column", "type", "meaning"], orient="row")


RESPONDENTS = (
    ("respondent", "Int64", "number of the simulated respondent, from 1"),
    ("person", "String", "the person whose profile it is: study/participant, or as in --people"),
    ("arm", "String", "the arm that the respondent was assigned to"),
    ("factor_<name>", "String", "of factors: the arm's level of each"),
    ("outcome", "String", "name of the outcome"),
    ("wording", "Int64", "which of the question's texts was asked, from 1"),
    ("answer", "Int64", "an answer drawn from the respondent's predicted distribution"),
    ("task", "Int64", "of a conjoint: number of the person's choice, from 1"),
    ("profile", "Int64", "of a conjoint: 1 for the profile that stands first, else 2"),
    ("attribute_<name>", "String", "of a conjoint: the profile's level of each attribute"),
    ("chosen", "Int64", "of a conjoint: 1 if the profile is chosen, drawn from the predicted probability"),
    ("expected", "Float64", "the mean of the predicted distribution; of a conjoint the chance to be chosen"),
    ("sd", "Float64", "its standard deviation"),
    ("labels_reversed", "Boolean", "whether the labels ran the other way; answers are recoded"),
    ("weight", "Float64", "the respondent's weight, 1 on average"),
    ("<demographic field>", "String", "the person's profile, as in the data"),
)
