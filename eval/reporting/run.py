"""One page that shows what the scores say, with the same figures as CSV, PNG and SVG, and model cards.

    from eval import report
    written = report("sample", "study"); written.tables["leaders"]

    make report

Reads what `make eval` wrote under outputs/<dataset>/<split>/eval/, the data set's manifest and the
training runs' records. Writes outputs/<dataset>/<split>/report.html (one file that loads nothing), a
folder `report/` beside it (CSV tables, figures), and README.md, the model card, beside each checkpoint.
"""

import contextlib
import hashlib
import html
import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import polars as pl
from matplotlib.figure import Figure

from common.errors import Refusal
from common.files import atomic_path, fingerprint, write_json
from common.page.figures import save
from common.page.render import TEMPLATES as PARTS
from common.page.render import count, render
from common.paths import output_dir
from common.readers import read_json
from common.step import Step, describe, reading
from eval.reporting import cell_browser, charts, sections
from eval.reporting.effects import effect_section
from eval.reporting.headline import headline
from eval.reporting.model_card import write_cards
from eval.reporting.results import Results, load
from eval.reporting.tables import tables, write_tables
from eval.reporting.words import shown
from eval.scoring import glossary
from eval.scoring.record import COMPARISON, SCORES

RECORD = "report.json"
BETTER = {
    "low": "Lower is better.",
    "high": "Higher is better.",
    "one": "Best at 1.",
    "zero": "Best at 0.",
    "": "",
}
TEMPLATES = Path(__file__).parent / "templates"


@dataclass(frozen=True)
class Report:
    """A report: its page, the folder of tables and figures, the model cards, and what it says at the top.

    `up_to_date`: True when the page showed these scores already and nothing was written.
    """

    page: Path
    folder: Path
    cards: list[Path]
    headline: list[str]
    results: Results
    up_to_date: bool = False

    @cached_property
    def tables(self) -> dict[str, pl.DataFrame]:
        """The figures as tidy frames: leaders, differences, studies, cells, effects, contrasts and others."""
        return tables(self.results)

    def __str__(self) -> str:
        if self.up_to_date:
            first = [f"nothing to do: {self.page} shows these scores"]
        else:
            size = self.page.stat().st_size / 1e6
            first = [f"{self.page} ({size:.1f} MB); tables and figures in {self.folder}/"]
            first += [f"model card: {path}" for path in self.cards]
        return "\n".join([*first, *(f"  {sentence}" for sentence in self.headline)])

    def _repr_html_(self) -> str:
        sentences = "".join(f"<p>{html.escape(sentence)}</p>" for sentence in self.headline)
        return f"{sentences}<p>{html.escape(str(self.page))}</p>"


def report(data: str = "sample", split: str = "study", *, page: str | Path | None = None) -> Report:
    """Write the report of everything that is scored for a data set and split.

    page: the page's path (default: report.html beside the scores); tables and figures go into the folder
    of the same name beside it. Does nothing when the page shows these scores already. Raises `Refusal`
    where nothing is scored, and for a folder that isn't a report's.
    """
    page = Path(page or output_dir(data, split) / "report.html")
    if page.suffix != ".html":
        raise Refusal(f"--out {page} must end in .html")
    folder = page.with_suffix("")
    if folder.exists() and not (folder / RECORD).is_file():
        raise Refusal(f"{folder} exists and is no report's folder; give another --out, or move it away")
    scored = output_dir(data, split) / "eval"
    with contextlib.ExitStack() as locks:
        locks.enter_context(reading(*scored.glob(f"*/{SCORES}"), scored / COMPARISON))
        results = load(data, split)
        inputs, top = fingerprint([results.inputs, _code()]), headline(results)
        step = locks.enter_context(Step(folder / RECORD, inputs, whole=True))
        if step.done:
            return Report(page, folder, _cards(step.record), top, results, up_to_date=True)
        _write(results, page)
        cards = write_cards(results)
        inside = [path.name for path in folder.iterdir() if path.name != RECORD]
        beside = [os.path.relpath(path, folder) for path in (page, *cards)]
        files = describe(folder, [*inside, *beside])
        write_json(step.record, {"inputs": inputs, "files": files, "cards": [str(path) for path in cards]})
        return Report(page, folder, cards, top, results)


def _cards(record: Path) -> list[Path]:
    """The model cards that a report wrote."""
    return [Path(path) for path in read_json(record, "delete it and run `make report` again")["cards"]]


def _write(results: Results, page: Path) -> None:
    """Write the folder of tables and figures, then the page beside it; its record isn't whole yet."""
    folder = page.with_suffix("")
    figures = charts.draw(results)
    with atomic_path(folder) as partial:
        partial.mkdir()
        write_json(partial / RECORD, {"inputs": None})
        write_tables(tables(results), partial)
        for name, figure in figures.items():
            save(figure, partial, name)
    cells, notes = cell_browser.payload(results)
    render(
        page,
        TEMPLATES / "report.html.j2",
        ("tables.js", "cells.js"),
        {"cell-data": cells},
        **context(results, figures),
        cell_notes=notes,
        folder=folder.name,
    )


def context(results: Results, figures: dict[str, Figure]) -> dict[str, Any]:
    """What `report.html.j2` names."""
    rows, best, comparison = sections.study_rows(results), results.best, results.comparison
    if comparison:
        studies, cells, answers = comparison.studies, comparison.cells, comparison.rows
    else:
        studies, cells, answers = len(best.studies), best.cell_counts.scored, best.row_counts.scored
    return {
        "title": "How well do these models predict people?",
        "kicker": f"{results.dataset}, split by {results.split}: {count(studies)} studies, "
        f"{count(cells)} cells, {count(answers)} answers",
        "rows_differ": any(scores.row_counts.scored != answers for scores in results.scores.values()),
        "headline": headline(results),
        "best": best.name,
        "models": results.models,
        "named": _columns,
        "shown": shown,
        "terms": glossary.METRICS,
        "skill": glossary.SKILL,
        "figure": charts.for_page(results, figures),
        "leaders": sections.leader_section(results),
        "studies": rows,
        "studies_hidden": len(rows) > charts.STUDIES_DRAWN,
        "studies_drawn": charts.STUDIES_DRAWN,
        "effects": effect_section(results),
        "times": sections.time_rows(results),
        "points_drawn": charts.POINTS_DRAWN,
        "worst": sections.worst_rows(results),
        "calibration": sections.calibration_rows(results),
        "subgroups": sections.subgroup_section(results),
        "problems": sections.problem_section(results),
        "manifest": sections.manifest_section(results),
        "predictions": sections.prediction_section(results),
        "runs": sections.run_section(results),
        "definitions": sections.definitions(),
        "better": BETTER,
        "source": results.folder,
    }


def _columns(names: list[str], before: str = "") -> list[dict[str, Any]]:
    """One column of numbers a model."""
    return [{"title": f"{before}{name}", "key": sections.column_of(name), "number": True} for name in names]


def _code() -> str:
    """Fingerprint of this report's own code: an older page is written anew by a newer version."""
    kit = [*PARTS.parent.glob("*.py"), *PARTS.iterdir()]
    files = [*Path(__file__).parent.glob("*.py"), *TEMPLATES.iterdir(), *kit]
    return hashlib.sha256(b"".join(sorted(file.read_bytes() for file in files))).hexdigest()
