"""Scores and comparisons as text for a terminal and as a table for a notebook."""

from collections.abc import Sequence
from html import escape

from eval.scoring.metrics import METRICS
from eval.scoring.record import Comparison, Estimate, Scores

SHOWN = ("wasserstein_observed", "wasserstein_stated", "accuracy_observed", "crps", "correlation")
TABLE_HEAD = ("", "Wasserstein (observed)", "Wasserstein (stated)", "accuracy (observed)", "skill")
TABLE_METRICS = ("wasserstein_observed", "wasserstein_stated", "accuracy_observed")


def text_table(lines: Sequence[Sequence[str]]) -> str:
    """Columns of equal width, the first to the left and all others to the right."""
    widths = [max(len(line[k]) for line in lines) for k in range(len(lines[0]))]
    return "\n".join(
        "  ".join(
            [line[0].ljust(widths[0]), *(part.rjust(w) for part, w in zip(line[1:], widths[1:], strict=True))]
        )
        for line in lines
    )


def html_table(lines: Sequence[Sequence[str]], notes: Sequence[str]) -> str:
    """The same as HTML, all texts escaped."""
    head = "".join(f"<th>{escape(part)}</th>" for part in lines[0])
    body = "".join(f"<tr>{''.join(f'<td>{escape(part)}</td>' for part in line)}</tr>" for line in lines[1:])
    return f"<table><tr>{head}</tr>{body}</table>" + "".join(f"<p>{escape(note)}</p>" for note in notes)


def leader_table(comparison: Comparison) -> str:
    """Distance, accuracy and skill of every model, control and ceiling; what brackets and rows are."""
    return "\n".join([text_table(_leaders(comparison)), *_notes(comparison)])


def leader_html(comparison: Comparison) -> str:
    """`leader_table` for a notebook."""
    return html_table(_leaders(comparison), _notes(comparison))


def scores_text(scores: Scores) -> str:
    """One model's main figures, a line each."""
    return "\n".join([text_table(_figures(scores)), *_model_notes(scores)])


def scores_html(scores: Scores) -> str:
    """`scores_text` for a notebook."""
    return html_table(_figures(scores), _model_notes(scores))


def _leaders(comparison: Comparison) -> list[tuple[str, ...]]:
    lines: list[tuple[str, ...]] = [TABLE_HEAD]
    for row in comparison.table:
        figures = [row.metrics.get(name) for name in TABLE_METRICS]
        skill = row.skill.get(comparison.primary)
        lines.append((row.name, *(str(one) if one else "-" for one in [*figures, skill and skill.corrected])))
    return lines


def _notes(comparison: Comparison) -> list[str]:
    figures = [row.metrics[name] for row in comparison.table for name in TABLE_METRICS if name in row.metrics]
    notes = [
        *_brackets(figures),
        f"{comparison.rows:,} rows, {comparison.cells} cells, {comparison.studies} studies",
    ]
    if comparison.limited_by:
        fewest = ", ".join(f"{name} ({rows:,})" for name, rows in comparison.limited_by.items())
        notes.append(f"only rows that all models predict are compared; those with fewer rows: {fewest}")
    if comparison.apart:
        few = ", ".join(f"{name} ({rows:,} rows)" for name, rows in comparison.apart.items())
        notes.append(f"compared apart, because they predict less than half of the rows: {few}")
    return notes


def _figures(scores: Scores) -> list[tuple[str, ...]]:
    lines: list[tuple[str, ...]] = [(scores.name, "value", "studies", "cells")]
    named = [(METRICS[name].name, scores.metrics[name]) for name in SHOWN if name in scores.metrics]
    named += [("Skill, corrected", scores.skill[name].corrected) for name in list(scores.skill)[:1]]
    if scores.effects:
        named.append(("Correlation of effects", scores.effects.model["correlation"]))
    lines += [(name, str(one), str(one.studies), str(one.cells)) for name, one in named]
    return lines


def _model_notes(scores: Scores) -> list[str]:
    counts = scores.row_counts
    rows = f"{counts.scored:,} of {counts.evaluation:,} evaluation rows, mode {scores.mode}"
    return [*_brackets(list(scores.metrics.values())), rows]


def _brackets(figures: Sequence[Estimate]) -> list[str]:
    over = sorted({one.over for one in figures if one.over}, reverse=True)
    return [f"brackets: 95% intervals over {' or '.join(over)}"] if over else []
