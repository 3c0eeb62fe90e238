"""What a simulation gives back: the record, its tables as frames, the respondents, and where it lies."""

import html
import os
import shutil
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from common.contract import write_record
from common.errors import Refusal
from common.files import atomic_path
from common.page import figures
from common.step import describe
from common.tables import write_csv
from common.text import printable
from eval.simulation import charts, page
from eval.simulation.record import (
    RECORD,
    ROWS,
    SimulationRecord,
    codebook,
    frame,
    read_simulation,
)

PAGE = "simulation.html"
RESPONDENTS = "respondents.parquet"


@dataclass(frozen=True)
class Simulation:
    """A simulated experiment.

    respondents: one row a simulated respondent, arm, outcome and wording (columns: see `codebook`).
    folder: where it is kept; None when it exists in memory only. up_to_date: True when nothing was to do.
    Frames of results, with the columns of `eval.simulation.record`: `effects`, `arms`, `cells`,
    `subgroups`, `order_effects`, `pilot`.
    """

    record: SimulationRecord
    respondents: pl.DataFrame = field(repr=False)
    folder: Path | None = None
    up_to_date: bool = False

    @property
    def effects(self) -> pl.DataFrame:
        """One row a treatment effect: estimate, errors, calibrated interval, power."""
        return self._frame("effects")

    @property
    def arms(self) -> pl.DataFrame:
        """One row an arm and measure: its predicted mean."""
        return self._frame("arms")

    @property
    def cells(self) -> pl.DataFrame:
        """One row an arm and answer: its predicted share."""
        return self._frame("cells")

    @property
    def subgroups(self) -> pl.DataFrame:
        """One row a group and treatment effect."""
        return self._frame("subgroups")

    @property
    def order_effects(self) -> pl.DataFrame:
        """One row an outcome whose labels were reversed for half of the people."""
        return self._frame("order_effects")

    @property
    def pilot(self) -> pl.DataFrame:
        """One row a treatment effect from pilot and predictions together."""
        return self._frame("pilot")

    def _frame(self, name: str) -> pl.DataFrame:
        return frame(getattr(self.record, name), ROWS[name])

    def page(self, path: str | Path) -> Path:
        """Write the page, one file that loads nothing, and return its path."""
        page.write(Path(path), self.record, charts.draw(self.record))
        return Path(path)

    def __str__(self) -> str:
        first = [f"nothing to do: {self.folder} holds this simulation"] if self.up_to_date else []
        lines = [*first, page.headline(self.record), *page.summary(self.record)]
        return "\n".join(map(printable, lines))

    def _repr_html_(self) -> str:
        sentences = (page.headline(self.record), page.trust_sentence(self.record.trust))
        text = "".join(f"<p>{html.escape(sentence)}</p>" for sentence in sentences)
        return f"<h3>{html.escape(self.record.title)}</h3>{text}{self.effects._repr_html_()}"


def load_simulation(folder: str | Path) -> Simulation:
    """A simulation that was kept in a folder; raises `Refusal` where there is none."""
    folder = Path(folder)
    record = read_simulation(folder)
    try:
        return Simulation(record, pl.read_parquet(folder / RESPONDENTS), folder)
    except (OSError, pl.exceptions.PolarsError):
        raise Refusal(
            f"{folder / RESPONDENTS} is missing or broken; delete {folder / RECORD}, simulate again"
        ) from None


def save(simulation: Simulation, folder: Path) -> None:
    """Write a simulation's folder: page, tables, figures, and the record last.

    The folder is replaced as a whole, so that a kill leaves the old results or the new ones; its
    subfolders (predictions, a described study's input) stay.
    """
    record = simulation.record
    with atomic_path(folder) as partial:
        partial.mkdir()
        for name, kind in ROWS.items():
            if rows := getattr(record, name):
                write_csv(frame(rows, kind), partial / f"{name}.csv")
        write_csv(codebook(), partial / "codebook.csv")
        simulation.respondents.write_parquet(partial / RESPONDENTS)
        write_csv(simulation.respondents, partial / "respondents.csv")
        drawn = charts.draw(record)
        for name, figure in drawn.items():
            figures.save(figure, partial, name)
        page.write(partial / PAGE, record, drawn)
        files = describe(partial, sorted(path.name for path in partial.iterdir()))
        write_record(partial / RECORD, record.model_copy(update={"files": files}))
        _take_over(folder, partial)


def _take_over(folder: Path, partial: Path) -> None:
    """Put the subfolders of `folder` into `partial`, too: as links, which cost nothing."""
    for inner in folder.iterdir() if folder.is_dir() else ():
        if inner.is_dir():
            shutil.copytree(inner, partial / inner.name, copy_function=_link)


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # a file system without links
        shutil.copy2(source, target)
