"""One page that shows what the scores say, with the same figures as CSV, PNG and SVG, and model cards.

    python -m eval.reporting.run --data sample --split study
    python -m eval.reporting.run --data sample --split study --out elsewhere/page.html

Reads what `make eval` wrote under outputs/<dataset>/<split>/eval/, the data set's manifest and the
training runs' records. Writes outputs/<dataset>/<split>/report.html (one file that loads nothing), a
folder `report/` beside it (CSV tables, figures), and README.md, the model card, beside each checkpoint.
"""

import argparse
import hashlib
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from common.errors import Refusal, run_cli
from common.files import atomic_path, file_stamp, fingerprint, up_to_date, write_json
from common.page.figures import save
from common.page.render import TEMPLATES as PARTS
from common.page.render import count, render
from common.paths import output_dir
from eval.reporting import cell_browser as report_cells
from eval.reporting import charts as report_figures
from eval.reporting import model_card as card
from eval.reporting import results
from eval.reporting import sections as report_sections
from eval.reporting.headline import headline
from eval.reporting.tables import write_tables
from eval.scoring import glossary

RECORD = "report.json"
MANIFEST = ("dataset", "split", "seed", "rows", "pairs")  # what of a data set's manifest is shown at once
BETTER = {
    "low": "Lower is better.",
    "high": "Higher is better.",
    "one": "Best at 1.",
    "zero": "Best at 0.",
    "": "",
}

TEMPLATES = Path(__file__).parent / "templates"


def write_report(found: results.Results, page: Path) -> None:
    """Write the page, and the folder of tables and figures beside it (its record last)."""
    folder = page.with_suffix("")
    if folder.exists() and not (folder / RECORD).is_file():
        raise Refusal(f"{folder} exists and is no report's folder; give another --out, or move it away")
    figures = report_figures.draw(found)
    with atomic_path(folder) as partial:
        partial.mkdir()
        write_json(partial / RECORD, {"inputs": None})  # not whole before the page is
        write_tables(found, partial)
        for name, figure in figures.items():
            save(figure, partial, name)
    cells, notes = report_cells.payload(found)
    render(
        page, TEMPLATES / "report.html.j2", ("tables.js", "cells.js"), {"cell-data": cells},
        **context(found, figures), cell_notes=notes, folder=folder.name,
    )  # fmt: skip


def context(found: results.Results, figures: dict[str, Figure]) -> dict[str, Any]:
    """What `report.html.j2` names."""
    rows = report_sections.study_rows(found)
    effects = report_sections.effect_section(found)
    best = found.best
    alone = {
        "rows": best["rows"]["scored"],
        "cells": best["cells"]["scored"],
        "studies": len(best["studies"]),
    }
    size = {key: (found.comparison or alone)[key] for key in alone}
    return {
        "title": "How well do these models predict people?",
        "kicker": f"{found.dataset}, split by {found.split}: {count(size['studies'])} studies, "
        f"{count(size['cells'])} cells, {count(size['rows'])} answers",
        "own_rows": any(scores["rows"]["scored"] != size["rows"] for scores in found.scores.values()),
        "headline": headline(found),
        "best": best["name"],
        "models": list(found.scores),
        "named": _columns,
        "terms": glossary.METRICS,
        "skill": glossary.SKILL,
        "figure": report_figures.for_page(found, figures),
        "leaders": report_sections.leader_section(found),
        "studies": rows,
        "studies_hidden": len(rows) > report_figures.STUDIES_DRAWN,
        "studies_drawn": report_figures.STUDIES_DRAWN,
        "effects": effects,
        "points_drawn": report_figures.POINTS_DRAWN,
        "effects_left_out": report_sections.left_out_words(effects["left_out"]),
        "worst": report_sections.worst_rows(found),
        "calibration": report_sections.calibration_rows(found),
        "subgroups": report_sections.subgroup_section(found),
        "problems": report_sections.problem_section(found),
        "firewall": found.manifest.get("firewall", []),
        "manifest_core": {key: found.manifest[key] for key in MANIFEST if key in found.manifest},
        "manifest": {
            key: value for key, value in found.manifest.items() if key not in (*MANIFEST, "firewall")
        },
        "predictions": {
            name: {"predictions": _without_stamps(found.predictions[name]) or "made elsewhere"}
            | {"scoring": scores["settings"], "versions": scores["versions"]}
            for name, scores in found.scores.items()
        },
        "runs": report_sections.run_section(found),
        "definitions": report_sections.definitions(),
        "better": BETTER,
        "place": found.folder,
    }


def _without_stamps(record: results.Json) -> results.Json:
    """A record without what only tells whether it is up to date."""
    return {key: value for key, value in record.items() if key not in ("inputs", "depends_on")}


def _columns(names: list[str], before: str = "") -> list[dict[str, Any]]:
    """One column of numbers a model."""
    return [
        {"title": f"{before}{name}", "key": report_sections.column_of(name), "number": True} for name in names
    ]


def _code() -> str:
    """Fingerprint of this report's own code: an older page is made anew by a newer version."""
    kit = [*PARTS.parent.glob("*.py"), *PARTS.iterdir()]
    files = [*Path(__file__).parent.glob("*.py"), *TEMPLATES.iterdir(), *kit]
    return hashlib.sha256(b"".join(sorted(file.read_bytes() for file in files))).hexdigest()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", default="sample", help="sample, socsci210, or a folder in the hub's layout")
    parser.add_argument("--split", default="study", help="study, task, condition or participant")
    parser.add_argument("--out", type=Path, help="the page (default: report.html beside the scores)")
    options = parser.parse_args()
    page = options.out or output_dir(options.data, options.split) / "report.html"
    if page.suffix != ".html":
        raise Refusal(f"--out {page} must end in .html")
    found = results.load(options.data, options.split)
    record = page.with_suffix("") / RECORD
    inputs = fingerprint([found.inputs, _code()])
    if up_to_date(record, inputs) and page.is_file():
        print(f"nothing to do: {page} shows these scores")
        return
    write_report(found, page)
    cards = card.write_cards(found)
    write_json(
        record, {"inputs": inputs, "page": file_stamp(page)[:2], "cards": [str(path) for path in cards]}
    )
    print(f"{page} ({page.stat().st_size / 1e6:.1f} MB); tables and figures in {record.parent}/")
    for path in cards:
        print(f"model card: {path}")
    for sentence in headline(found):
        print(f"  {sentence}")


if __name__ == "__main__":
    run_cli(main)
