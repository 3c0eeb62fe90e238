"""Scores and comparisons as tables with notes: text for a terminal, HTML for a notebook.

Works on the parts of the records, which print themselves with it (`record.py`).
"""

from collections.abc import Sequence
from typing import NamedTuple

from common.tables import html_table, text_table
from eval.scoring.metrics import METRICS
from eval.scoring.record_parts import Effects, Estimate, Estimates, Skill, TableRow

SHOWN = ("wasserstein_observed", "wasserstein_stated", "accuracy_observed", "crps", "correlation")
TABLE_HEAD = ("", "Wasserstein (observed)", "Wasserstein (stated)", "accuracy (observed)", "skill")
TABLE_METRICS = ("wasserstein_observed", "wasserstein_stated", "accuracy_observed")


class NotedTable(NamedTuple):
    """A table and the lines below it."""

    columns: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]
    notes: list[str]

    def text(self) -> str:
        """For a terminal."""
        return "\n".join([text_table(self.columns, self.rows), *self.notes])

    def html(self) -> str:
        """For a notebook."""
        return html_table(self.columns, self.rows, self.notes)


def leader_table(table: Sequence[TableRow], primary: str, notes: list[str]) -> NotedTable:
    """Distance, accuracy and skill (by the metric `primary`) of every model, control and ceiling."""
    rows, empty = [], []
    for row in table:
        if row.kind == "control" and not any(one.value is not None for one in row.metrics.values()):
            empty.append(row.name)
            continue
        figures = [row.metrics.get(name) for name in TABLE_METRICS]
        skill = row.skill.get(primary)
        rows.append((row.name, *(str(one) if one else "-" for one in [*figures, skill and skill.corrected])))
    brackets = [row.metrics[name] for row in table for name in TABLE_METRICS if name in row.metrics]
    if empty:
        notes = [*notes, f"left out, because no cell has the answers that it takes: {', '.join(empty)}"]
    return NotedTable(TABLE_HEAD, rows, [*_brackets(brackets), *notes])


def model_table(
    name: str, metrics: Estimates, skill: dict[str, Skill], effects: Effects | None, note: str
) -> NotedTable:
    """One model's main figures, a row each."""
    named = [(METRICS[metric].name, metrics[metric]) for metric in SHOWN if metric in metrics]
    named += [("Skill, corrected", skill[metric].corrected) for metric in list(skill)[:1]]
    if effects:
        named.append(("Correlation of effects", effects.model["correlation"]))
    rows = [(words, str(one), str(one.studies), str(one.cells)) for words, one in named]
    return NotedTable((name, "value", "studies", "cells"), rows, [*_brackets(list(metrics.values())), note])


def _brackets(figures: Sequence[Estimate]) -> list[str]:
    over = sorted({one.over for one in figures if one.over}, reverse=True)
    return [f"brackets: 95% intervals over {' or '.join(over)}"] if over else []
