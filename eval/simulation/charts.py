"""The charts of one simulation: effects, levels of a conjoint, answers by arm, power."""

import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from common.page import figures
from eval.simulation.power import POWER, power_at
from eval.simulation.record import CellRow, EffectRow, LevelRow, SimulationRecord
from eval.simulation.tables import Z95, planned_people

MOST_LINES = 24  # in a figure of effects; the table has all
MOST_PANELS = 8  # arms in a figure of distributions
MOST_LABELS = 5  # answers that are drawn with their labels
TEN_BINS = 21  # scales with more answers are drawn in ten bins


def asked(row: Any) -> str:
    """The outcome, and for a choice which label's share."""
    return str(row.outcome if row.measure in ("mean", "chosen") else f"{row.outcome}, {row.measure}")


def label(row: Any) -> str:
    """What an effect's row is about."""
    return f"{asked(row)}: {row.contrast}"


def draw(record: SimulationRecord) -> dict[str, Figure]:
    """Every figure that the results allow, by its file name: effects, power, answers-1 and so on."""
    conjoint = bool(record.levels)
    drawn = {
        "effects": None if conjoint else effects_figure(record),
        "power": power_figure(record),
        "amces": levels_figure(record, "amce") if conjoint else None,
        "marginal-means": levels_figure(record, "mm") if conjoint else None,
    }
    for number, outcome in enumerate(outcomes(record), 1):
        drawn[f"answers-{number}"] = answers_figure(record, outcome)
    return {name: figure for name, figure in drawn.items() if figure is not None}


def outcomes(record: SimulationRecord) -> list[str]:
    """Outcomes whose distributions are listed."""
    return list(dict.fromkeys(row.outcome for row in record.cells))


def effects_figure(record: SimulationRecord) -> Figure | None:
    """Effects in standard deviations of answers: raw, calibrated, observed."""
    rows = [row for row in record.effects if row.sd > 0][:MOST_LINES]
    lines = [figures.Row(label(row), list(_dots(row))) for row in rows]
    axis = "effect (standard deviations of answers)"
    return figures.dot_plot(lines, axis, marks={0: ""}, width=5.4) if lines else None


def _dots(row: EffectRow) -> Iterator[figures.Dot]:
    def dot(value: float, low: float, high: float, series: int) -> figures.Dot:
        return figures.Dot(value / row.sd, low / row.sd, high / row.sd, series)

    yield dot(row.estimate, row.conf_low, row.conf_high, 4)
    if row.calibrated is not None and row.calibrated_low is not None and row.calibrated_high is not None:
        yield dot(row.calibrated, row.calibrated_low, row.calibrated_high, 1)
    if row.observed is not None and row.observed_low is not None and row.observed_high is not None:
        yield dot(row.observed, row.observed_low, row.observed_high, 0)


STATISTICS: dict[str, tuple[str, float]] = {  # the axis, and where nothing matters
    "amce": ("chance to be chosen: change in points", 0),
    "mm": ("profiles with it are chosen (%)", 50),
}


def levels_figure(record: SimulationRecord, statistic: str) -> Figure:
    """AMCEs or marginal means of the first outcome by level, under the name of each attribute."""
    axis, neutral = STATISTICS[statistic]
    lines, attribute = [], ""
    for row in record.levels:
        if row.outcome == record.levels[0].outcome and row.statistic == statistic:
            if row.attribute != attribute:
                attribute = row.attribute
                lines.append(figures.Row(attribute, [], heading=True))
            lines.append(figures.Row(row.level, list(_percentages(row))))
    return figures.dot_plot(lines, axis, marks={neutral: ""}, width=5.4)


def _percentages(row: LevelRow) -> Iterator[figures.Dot]:
    if row.estimate is not None:
        low, high = (None if end is None else 100 * end for end in (row.conf_low, row.conf_high))
        yield figures.Dot(100 * row.estimate, low, high, 4)
    if row.observed is not None and row.observed_std_error is not None:
        reach = Z95 * row.observed_std_error
        low, high = 100 * (row.observed - reach), 100 * (row.observed + reach)
        yield figures.Dot(100 * row.observed, low, high, 0)


@dataclass(frozen=True)
class Distributions:
    """An outcome's distributions by arm: {arm: {series: shares on `answers`}}."""

    panels: dict[str, dict[str, list[float]]]
    answers: list[str]
    axis: str

    def figure(self) -> Figure:
        """All arms in one figure."""
        return figures.bar_plots(self.panels, self.answers, self.axis)

    def each(self) -> Iterator[Figure]:
        """One figure an arm on equal axes, which fits a phone."""
        for arm, series in self.panels.items():
            yield figures.bar_plots({arm: series}, self.answers, self.axis, beside=self.panels)


def distributions(record: SimulationRecord, outcome: str) -> Distributions:
    """Predicted (and observed) distributions of an outcome by arm; long scales in ten bins."""
    cells = [row for row in record.cells if row.outcome == outcome]
    answers = sorted({row.answer for row in cells})
    bins, names = _bins(answers)
    labels = {row.answer: row.label for row in cells if row.label}
    if labels and len(labels) <= MOST_LABELS and len(answers) <= TEN_BINS:
        names = [f"{answer}\n{_wrapped(labels.get(answer, ''))}" for answer in answers]
    panels: dict[str, dict[str, list[float]]] = {}
    for arm in list(dict.fromkeys(row.arm for row in cells))[:MOST_PANELS]:
        rows = [row for row in cells if row.arm == arm]
        series = {}
        if any(row.observed_share is not None for row in rows):
            series["people"] = _binned(rows, [row.observed_share for row in rows], bins, len(names))
        panels[arm] = series | {"predicted": _binned(rows, [row.share for row in rows], bins, len(names))}
    if len({tuple(series) for series in panels.values()}) > 1:
        # an arm without real answers gets an empty series
        panels = {arm: {"people": [0.0] * len(names)} | series for arm, series in panels.items()}
    axis = "answer" if len(answers) <= TEN_BINS else "answer, in ten bins from"
    return Distributions(panels, names, axis)


def _wrapped(text: str) -> str:
    """A label in two short lines at most."""
    return textwrap.fill(text, 11, max_lines=2, placeholder="…")


def _bins(answers: list[int]) -> tuple[dict[int, int], list[str]]:
    """The bin of each answer, and the bins' names: one an answer, or ten on a long scale."""
    if len(answers) <= TEN_BINS:
        return {answer: index for index, answer in enumerate(answers)}, [str(answer) for answer in answers]
    low, width = answers[0], (answers[-1] - answers[0]) / 10
    bins = {answer: min(int((answer - low) / width), 9) for answer in answers}
    return bins, [str(int(np.ceil(low + width * index))) for index in range(10)]


def _binned(
    rows: list[CellRow], shares: Sequence[float | None], bins: dict[int, int], count: int
) -> list[float]:
    sums = [0.0] * count
    for row, share in zip(rows, shares, strict=True):
        sums[bins[row.answer]] += share or 0.0
    return sums


def answers_figure(record: SimulationRecord, outcome: str) -> Figure:
    """The figure of `distributions`."""
    return distributions(record, outcome).figure()


def power_figure(record: SimulationRecord) -> Figure | None:
    """Power against people, at the predicted and at the calibrated effect, of the first three effects."""
    within, planned = record.design.kind == "within", planned_people(record.design)
    grid = np.unique(np.geomspace(10, 20 * planned, 36).astype(int))
    lines = []
    for row in record.effects[:3]:
        spread = (row.std_error_people or row.std_error_sampling) ** 2 * planned
        for kind, value in (("predicted", row.estimate), ("calibrated", row.calibrated)):
            if spread > 0 and value is not None:
                power = [power_at(value, spread, int(people), within) or 0.0 for people in grid]
                name, dashed = f"{kind}: {label(row)}", kind == "calibrated"
                lines.append(figures.Line(name, grid.tolist(), power, dashed=dashed))
    axis = "people" if within else "people per arm"
    return figures.line_plot(lines, axis, "power", level=POWER) if lines else None
