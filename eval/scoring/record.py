"""What scoring writes and others read: scores.json and comparison.json as typed, versioned records.

    scores = read_scores("outputs/sample/study/eval/tiny-sft")
    scores.metrics["wasserstein_observed"].value
    scores.cells                                  # polars frame, one row a cell

`Scores` is one model's scores, read from a folder or just computed. `Comparison` is what comparing
several models gave. A record of another version is refused, not guessed at.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import polars as pl
from pydantic import Field, PrivateAttr

from common.contract import Record, read_record
from common.errors import Refusal
from eval.scoring.printing import NotedTable, leader_table, model_table
from eval.scoring.record_parts import (
    ByTime,
    Calibration,
    Ceilings,
    CellCounts,
    ConfidenceBin,
    Effects,
    Era,
    Estimate,
    Estimates,
    FieldScores,
    Gap,
    Group,
    GroupEffects,
    Interactions,
    KindScores,
    LargestGap,
    MetaAnalysis,
    Parity,
    Parsing,
    RowCounts,
    Skill,
    StudyScores,
    Subgroups,
    TableRow,
    Weighting,
)

__all__ = [
    "COMPARISON",
    "FRAMES",
    "SCORES",
    "ByTime",
    "Calibration",
    "Ceilings",
    "CellCounts",
    "Comparison",
    "ConfidenceBin",
    "Difference",
    "Effects",
    "Era",
    "Estimate",
    "Estimates",
    "FieldScores",
    "Gap",
    "Group",
    "GroupEffects",
    "Interactions",
    "KindScores",
    "LargestGap",
    "MetaAnalysis",
    "Parity",
    "Parsing",
    "RowCounts",
    "Scores",
    "Skill",
    "StudyScores",
    "Subgroups",
    "TableRow",
    "Weighting",
    "read_comparison",
    "read_scores",
]
SCORES, COMPARISON = "scores.json", "comparison.json"
FRAMES = ("cells", "items", "contrasts")
REMEDY = "run `make eval` again"

Mode = Literal["exact", "sampled", "verbalised", "cells", "means", "cell means", "mixed"]


class Scores(Record):
    """One model's scores: scores.json, and the tables beside it.

    Frames: `cells`, `items` (one row each, with both distributions) and `contrasts` (pairs of arms).
    """

    schema_version: Literal[2] = Field(2, alias="schema")
    inputs: str | None = None
    files: dict[str, dict[str, Any]] = Field(default_factory=dict)
    name: str
    dataset: str | None = None
    split: str | None = None
    foreign: bool = False
    mode: Mode
    modes: dict[str, int]
    samples: float | None
    settings: dict[str, Any]
    versions: dict[str, str]
    parsing: Parsing
    weights: Weighting | None = None
    row_counts: RowCounts = Field(alias="rows")
    cell_counts: CellCounts = Field(alias="cells")
    metrics: Estimates
    item_metrics: Estimates = Field(default_factory=dict)
    controls: dict[str, Estimates]
    ceiling: Ceilings
    skill: dict[str, Skill]
    scale_kinds: dict[str, KindScores] = Field(default_factory=dict)
    studies: dict[str, StudyScores]
    by_time: ByTime | None = None
    calibration: Calibration
    effects: Effects | None = None
    subgroups: Subgroups | None = None

    _folder: Path | None = PrivateAttr(None)
    _frames: dict[str, pl.DataFrame] = PrivateAttr(default_factory=dict)
    _work: Any = PrivateAttr(None)
    _read: bool = PrivateAttr(False)

    @property
    def cells(self) -> pl.DataFrame:
        """One row a cell: its figures, and both distributions as lists."""
        return self._frame("cells")

    @property
    def items(self) -> pl.DataFrame:
        """One row an item (a cell and its stimulus), columns as `cells`."""
        return self._frame("items")

    @property
    def contrasts(self) -> pl.DataFrame:
        """One row a pair of arms of an outcome: observed and predicted difference, with standard errors."""
        return self._frame("contrasts")

    def __str__(self) -> str:
        return self._printed().text()

    def _repr_html_(self) -> str:
        return self._printed().html()

    def _printed(self) -> NotedTable:
        counts = self.row_counts
        rows = f"{counts.scored:,} of {counts.evaluation:,} evaluation rows, mode {self.mode}"
        return model_table(self.name, self.metrics, self.skill, self.effects, rows)

    def _frame(self, name: str) -> pl.DataFrame:
        if name not in self._frames:
            if self._folder is None:
                return pl.DataFrame()
            self._frames[name] = _read_frame(self._folder / f"{name}.parquet")
        return self._frames[name]


class Difference(Estimate):
    """`a` minus `b`, paired by cell and study."""

    a: str
    b: str
    metric: str
    of: Literal["score", "excess"] = "score"
    """`excess`: of each distance over its own ceiling, because the two were asked in different ways."""
    p: float | None
    """By sign flips: assumes that differences are symmetric. Null where it couldn't be below 0.05."""
    p_bootstrap: float | None = None
    """By a studentised bootstrap of studies, which assumes no symmetry."""
    p_holm: float | None = None
    """`p_bootstrap` corrected for the number of comparisons; of the primary metric only."""
    smallest_p: float | None = None
    """The smallest `p` that so many studies can give."""
    p_equivalent: float | None = None
    """Of "the two differ by `margin` or more" (two one-sided t-tests over studies): small, they are alike."""
    margin: float | None = None


class Comparison(Record):
    """Several models on the rows that all of them predict: comparison.json."""

    schema_version: Literal[2] = Field(2, alias="schema")
    inputs: str | None = None
    dataset: str | None = None
    split: str | None = None
    settings: dict[str, Any]
    rows: int
    """Evaluation rows that all of these models predict: what the table stands on."""
    limited_by: dict[str, int] = Field(default_factory=dict)
    """Models that predict fewer rows than others, and how many: the reason why `rows` isn't larger."""
    apart: dict[str, int] = Field(default_factory=dict)
    """Models with too few rows to be compared here, and how many they have; see their own folders."""
    primary: str = "wasserstein_observed"
    """The one metric whose p-values are corrected for the number of comparisons."""
    studies: int
    cells: int
    table: list[TableRow]
    differences: list[Difference]

    _nothing_to_do: bool = PrivateAttr(False)

    def __str__(self) -> str:
        first = "nothing to do: scores and comparison are up to date\n" if self._nothing_to_do else ""
        return first + self._printed().text()

    def _repr_html_(self) -> str:
        return self._printed().html()

    def _printed(self) -> NotedTable:
        notes = [f"{self.rows:,} rows, {self.cells} cells, {self.studies} studies", *self.notes()]
        return leader_table(self.table, self.primary, notes)

    def notes(self, number: Callable[[int], str] = "{:,}".format) -> list[str]:
        """Why the table stands on fewer rows than some model predicts, and who is compared apart."""

        def named(models: dict[str, int]) -> str:
            return ", ".join(f"{name} ({number(rows)})" for name, rows in models.items())

        notes = []
        if self.limited_by:
            those = (
                "only rows that all of these models predict are compared; fewer than others are predicted by"
            )
            notes.append(f"{those} {named(self.limited_by)}")
        if self.apart:
            those = "compared apart, because they predict less than half as many rows"
            notes.append(f"{those}: {named(self.apart)}")
        return notes

    def of_kind(self, kind: str) -> Iterator[TableRow]:
        """The table's rows of one kind: "model", "control" or "ceiling"."""
        return (row for row in self.table if row.kind == kind)


def read_scores(folder: str | Path) -> Scores:
    """The scores in a folder such as outputs/sample/study/eval/tiny-sft.

    Raises `Refusal` where there are none, or where they are broken or of another version.
    """
    folder = Path(folder)
    scores = read_record(folder / SCORES, Scores, REMEDY)
    scores._read = True
    scores._folder = folder
    return scores


def read_comparison(folder: str | Path) -> Comparison:
    """The comparison in a folder such as outputs/sample/study/eval; raises `Refusal` as `read_scores`."""
    return read_record(Path(folder) / COMPARISON, Comparison, REMEDY)


def _read_frame(path: Path) -> pl.DataFrame:
    if not path.is_file():
        raise Refusal(f"{path} is missing; {REMEDY}")
    try:
        return pl.read_parquet(path)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise Refusal(f"{path} can't be read ({' '.join(str(error).split())[:120]}); {REMEDY}") from None
