"""Charts for pages and papers: drawn once with matplotlib, put into a page as SVG, saved as PNG and SVG.

    figure = dot_plot([Row("ab12c", [Dot(0.6, 0.5, 0.7)])], "skill", marks={0: "uniform", 1: "people"})
    svg(figure, "studies")                       # markup for a page: text is text, follows dark mode
    save(figure, Path("report"), "studies")      # report/studies.png (200 dpi) and report/studies.svg

Colours are Okabe and Ito's, which colour-blind readers can tell apart; series differ in their markers
too. Text from data is never read as mathematics ("$"), and is escaped in the SVG.
"""

import io
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import matplotlib
import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text

from common.files import atomic_path
from common.text import printable

INK, GREY = "#1d2430", "#7d8694"  # in a page INK becomes the page's own text colour
PEOPLE, MODEL = "#0072b2", "#e69f00"
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
MARKERS = "osD^vP"
STYLE: Any = {  # matplotlib types its keys one by one
    "svg.fonttype": "none",
    "svg.hashsalt": "socrates",  # the same figure gives the same bytes
    "text.parse_math": False,
    "font.family": "sans-serif",
    "font.size": 10,
    "text.color": INK,
    "axes.edgecolor": GREY,
    "axes.labelcolor": INK,
    "axes.facecolor": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.unicode_minus": True,
    "axes.titlesize": 10.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "grid.color": GREY,
    "grid.alpha": 0.25,
    "grid.linewidth": 0.6,
    "xtick.color": GREY,
    "ytick.color": GREY,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "legend.frameon": False,
    "figure.facecolor": "none",
}
MOST_VALUES = 22  # bars of a panel that carry their values
_SVG, _XLINK = "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"


@dataclass(frozen=True)
class Dot:
    """A value with its interval; `series` picks colour and marker (0 to 5)."""

    value: float
    low: float | None = None
    high: float | None = None
    series: int = 0


@dataclass(frozen=True)
class Row:
    """One line of a dot plot. heading: it names the lines beneath it and has no dots."""

    label: str
    dots: Sequence[Dot]
    heading: bool = False


@dataclass(frozen=True)
class Line:
    """A curve, with a band between `low` and `high` where they are given."""

    label: str
    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float] | None = None
    high: Sequence[float] | None = None
    dashed: bool = False


@dataclass(frozen=True)
class Cloud:
    """Points of a scatter plot; `strong` ones are drawn full, the others pale."""

    title: str
    x: Sequence[float]
    y: Sequence[float]
    strong: Sequence[bool]
    slope: float | None = None  # of the line through the origin that shrinks predictions best


@matplotlib.rc_context(STYLE)
def dot_plot(
    rows: Sequence[Row],
    xlabel: str,
    series: Sequence[str] = (),
    marks: Mapping[float, str] | None = None,
    width: float = 4.9,
    limits: tuple[float, float] | None = None,
) -> Figure:
    """Values with intervals, one labelled line each, the first on top.

    series: names for a legend. marks: {x: word} draws vertical lines, such as the uniform guess and
    people themselves. width in inches; the height follows the number of rows. limits of the axis: a
    value beyond is an open triangle on the edge that points to it.
    """
    most = max((len(row.dots) for row in rows), default=1)
    height = 0.9 + (0.15 + 0.12 * most) * max(len(rows), 2)
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.add_subplot()
    for value, word in (marks or {}).items():
        axes.axvline(value, color=GREY, linewidth=1, linestyle=(0, (4, 3)))
        axes.annotate(
            word, (value, 1), xycoords=("data", "axes fraction"), xytext=(0, 3), textcoords="offset points",
            ha="center", va="bottom", fontsize=9,
        )  # fmt: skip
    for line, row in enumerate(rows):
        for index, dot in enumerate(row.dots):
            y = line + (index - (len(row.dots) - 1) / 2) * 0.7 / max(most, 1)
            _dot(axes, dot, y, limits or (-np.inf, np.inf))
    axes.set_yticks(range(len(rows)), [_short(row.label) for row in rows])
    for row, label in zip(rows, axes.get_yticklabels(), strict=True):
        label.set_fontweight("bold" if row.heading else "normal")
    axes.set_ylim(len(rows) - 0.4, -0.6)
    if limits:
        axes.set_xlim(limits)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x")
    axes.spines["left"].set_visible(False)
    axes.set_xlabel(xlabel)
    _legend(figure, series)
    return _laid_out(figure)


def _dot(axes: Axes, dot: Dot, y: float, limits: tuple[float, float]) -> None:
    colour, marker = COLOURS[dot.series % 6], MARKERS[dot.series % 6]
    if dot.low is not None and dot.high is not None:
        ends = np.clip([dot.low, dot.high], *limits)
        axes.plot(ends, [y, y], color=colour, linewidth=2, alpha=0.55, solid_capstyle="round")
    beyond = "<" if dot.value < limits[0] else ">" if dot.value > limits[1] else ""
    value, fill = np.clip(dot.value, *limits), "none" if beyond else colour
    axes.plot(
        [value], [y], beyond or marker, color=colour, markerfacecolor=fill, markersize=5.5, clip_on=not beyond
    )


def _legend(figure: Figure, series: Sequence[str]) -> None:
    if len(series) < 2:
        return
    handles = [
        matplotlib.lines.Line2D([], [], color=COLOURS[index % 6], marker=MARKERS[index % 6], linestyle="")
        for index in range(len(series))
    ]
    names = [_short(name, 28) for name in series]
    figure.legend(
        handles, names, loc="outside upper left", ncols=min(3, len(series)), fontsize=9, handletextpad=0.2
    )


@matplotlib.rc_context(STYLE)
def scatter_plots(clouds: Sequence[Cloud], xlabel: str, ylabel: str, beside: Sequence[Cloud] = ()) -> Figure:
    """Clouds side by side (two in a row) on equal axes, with the 45-degree line and the shrinkage line.

    beside: all clouds that the axes must hold, where each is a figure of its own. The groups of points
    have the ids `cloud-0`, `cloud-1`, ... for the titles of `svg`.
    """
    across = min(2, len(clouds))
    down = -(-len(clouds) // across)
    figure = Figure(figsize=(3.3 * across + 0.2, 3.3 * down + 0.4), layout="constrained")
    grid = figure.subplots(down, across, squeeze=False, sharex=True, sharey=True)
    values = np.concatenate([np.concatenate([cloud.x, cloud.y]) for cloud in [*clouds, *beside]])
    reach = 1.08 * max(float(np.quantile(np.abs(values), 0.998)), 1e-6)
    for index, axes in enumerate(grid.flat):
        if index >= len(clouds):
            axes.set_visible(False)
            continue
        _cloud(axes, clouds[index], reach, f"cloud-{index}")
    figure.supxlabel(xlabel, fontsize=10)
    figure.supylabel(ylabel, fontsize=10)
    return _laid_out(figure)


def _cloud(axes: Axes, cloud: Cloud, reach: float, gid: str) -> None:
    ends = np.array([-reach, reach])
    axes.axhline(0, color=GREY, linewidth=0.7, alpha=0.6)
    axes.axvline(0, color=GREY, linewidth=0.7, alpha=0.6)
    axes.plot(ends, ends, color=INK, linewidth=1, linestyle=(0, (4, 3)))
    if cloud.slope is not None:
        axes.plot(ends, ends * cloud.slope, color=COLOURS[1], linewidth=1.6)
    colours = [(PEOPLE, 0.75 if strong else 0.25) for strong in cloud.strong]
    # what lies outside is drawn on the edge rather than left out
    x, y = np.clip(cloud.x, -reach, reach), np.clip(cloud.y, -reach, reach)
    axes.scatter(x, y, s=16, c=colours, linewidths=0, gid=gid, clip_on=False)
    axes.set(xlim=ends, ylim=ends, aspect="equal")
    axes.set_title(_short(cloud.title, 34))


@matplotlib.rc_context(STYLE)
def line_plot(
    lines: Sequence[Line], xlabel: str, ylabel: str, level: float | None = None, width: float = 5.2
) -> Figure:
    """Curves with bands, such as losses or power. level: a horizontal line to read off against."""
    legend = 0.19 * len(lines) if len(lines) > 1 else 0
    figure = Figure(figsize=(width, 3.1 + legend), layout="constrained")
    axes = figure.add_subplot()
    if level is not None:
        axes.axhline(level, color=GREY, linewidth=1, linestyle=(0, (4, 3)))
    for index, line in enumerate(lines):
        colour = COLOURS[index % 6]
        few = len(line.x) <= 40
        axes.plot(
            line.x, line.y, color=colour, linewidth=1.6, linestyle="--" if line.dashed else "-",
            marker=MARKERS[index % 6] if few else None, markersize=3.5, label=_short(line.label, 56),
        )  # fmt: skip
        if line.low is not None and line.high is not None:
            axes.fill_between(line.x, line.low, line.high, color=colour, alpha=0.18, linewidth=0)
    axes.grid()
    whole = all(float(x).is_integer() for line in lines for x in line.x)
    axes.xaxis.set_major_locator(matplotlib.ticker.MaxNLocator(nbins="auto", integer=whole))
    axes.set(xlabel=xlabel, ylabel=ylabel)
    if len(lines) > 1:
        figure.legend(loc="outside lower left", fontsize=9)
    return _laid_out(figure)


@matplotlib.rc_context(STYLE)
def reliability_plot(curves: Mapping[str, Sequence[tuple[float, float, float]]]) -> Figure:
    """How often an answer is right against how sure the model was of it (shares of 1).

    curves: {model: [(confidence, frequency, number of answers)]}; larger points stand on more answers.
    """
    figure = Figure(figsize=(4.4, 4.2), layout="constrained")
    axes = figure.add_subplot()
    axes.plot([0, 100], [0, 100], color=INK, linewidth=1, linestyle=(0, (4, 3)))
    most = max((point[2] for points in curves.values() for point in points), default=1) or 1
    for index, (name, points) in enumerate(curves.items()):
        x, y, size = (np.asarray(values, float) for values in zip(*points, strict=True))
        colour, marker = COLOURS[index % 6], MARKERS[index % 6]
        axes.plot(100 * x, 100 * y, color=colour, linewidth=1, alpha=0.6)
        axes.scatter(100 * x, 100 * y, 14 + 90 * size / most, color=colour, marker=marker, alpha=0.85)
        axes.plot([], [], marker, color=colour, label=_short(name, 28))
    axes.grid()
    axes.set(xlim=(0, 100), ylim=(0, 100), aspect="equal")
    axes.set(
        xlabel="how sure the model is of its likeliest answer (%)",
        ylabel="how often that answer is right (%)",
    )
    axes.legend(fontsize=9, loc="upper left")
    return _laid_out(figure)


@matplotlib.rc_context(STYLE)
def bar_plots(
    panels: Mapping[str, Mapping[str, Sequence[float]]],
    answers: Sequence[str],
    xlabel: str,
    beside: Mapping[str, Mapping[str, Sequence[float]]] | None = None,
) -> Figure:
    """Distributions side by side: {panel: {series: shares on `answers`}}, two panels in a row, in percent.

    beside: all panels that the axes must hold, where each is a figure of its own.
    """
    across = min(2, len(panels))
    down = -(-len(panels) // across)
    figure = Figure(figsize=(3.2 * across + 0.2, 1.9 * down + 0.6), layout="constrained")
    grid = figure.subplots(down, across, squeeze=False, sharex=True, sharey=True)
    middles = np.arange(len(answers))
    drawn = [shares for series in (beside or panels).values() for shares in series.values()]
    top = 1.12 * max(itertools.chain(*drawn), default=0) or 1
    names = list(dict.fromkeys(name for shares in panels.values() for name in shares))
    colours = [PEOPLE if name == "people" else MODEL for name in names]
    for axes, (title, series) in zip(grid.flat, panels.items(), strict=False):
        for name, shares in series.items():
            index = names.index(name)
            offset = (index - (len(names) - 1) / 2) * 0.8 / len(names)
            bars = axes.bar(
                middles + offset, 100 * np.asarray(shares), 0.8 / len(names), color=colours[index]
            )
            if len(answers) * len(names) <= MOST_VALUES:
                axes.bar_label(bars, fmt="%.0f", fontsize=8, padding=1)
        axes.set_ylim(0, 100 * top)
        axes.set_title(_short(title, 34))
        step = -(-len(answers) // 11)
        axes.set_xticks(
            middles[::step], [name if "\n" in name else _short(name, 12) for name in answers[::step]]
        )
    for axes in list(grid.flat)[len(panels) :]:
        axes.set_visible(False)
    patches = [matplotlib.patches.Patch(color=colours[index]) for index in range(len(names))]
    if len(names) > 1:
        figure.legend(patches, names, loc="outside upper left", ncols=len(names), fontsize=9)
    figure.supxlabel(xlabel, fontsize=10)
    figure.supylabel("share of answers (%)", fontsize=10)
    return _laid_out(figure)


def _laid_out(figure: Figure) -> Figure:
    """The figure with its layout done once: else every saving would do it again, twice as slow."""
    for text in figure.findobj(Text):
        text.set_text(printable(text.get_text()))
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    return figure


def svg(
    figure: Figure, name: str, label: str = "", titles: Mapping[str, Sequence[str]] | None = None
) -> Markup:
    """The figure as markup for a page.

    name: unique on the page; all ids of the SVG start with it. label: what a screen reader says.
    titles: {id of a group of points: a text for each point}, shown when the pointer rests on it.
    """
    buffer = io.BytesIO()
    with matplotlib.rc_context(STYLE):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    ElementTree.register_namespace("", _SVG)
    ElementTree.register_namespace("xlink", _XLINK)
    root = ElementTree.fromstring(buffer.getvalue())
    for metadata in root.findall(f"{{{_SVG}}}metadata"):
        root.remove(metadata)
    for defs in root.findall(f"{{{_SVG}}}defs"):
        for rule in defs.findall(f"{{{_SVG}}}style"):
            defs.remove(rule)  # it would reach the whole page; style.css holds the same for charts
    for gid, texts in (titles or {}).items():
        group = root.find(f".//*[@id='{gid}']")
        points = [] if group is None else group.findall(f".//{{{_SVG}}}use")
        for point, text in zip(points, texts, strict=True):
            ElementTree.SubElement(point, f"{{{_SVG}}}title").text = printable(text)
    for element in root.iter():
        for key, value in element.attrib.items():
            if key == "id":
                value = f"{name}-{value}"
            elif key == f"{{{_XLINK}}}href":
                value = value.replace("#", f"#{name}-", 1)
            element.set(key, value.replace("url(#", f"url(#{name}-").replace(INK, "currentColor"))
    root.set("role", "img")
    root.set("aria-label", printable(label or name))
    return Markup(ElementTree.tostring(root, encoding="unicode"))


def save(figure: Figure, folder: Path, name: str) -> None:
    """Write `name`.png (200 dpi, white) and `name`.svg into `folder`."""
    with matplotlib.rc_context(STYLE):
        with atomic_path(folder / f"{name}.png") as partial:
            figure.savefig(partial, format="png", dpi=200, facecolor="white")
        with atomic_path(folder / f"{name}.svg") as partial:
            figure.savefig(partial, format="svg", metadata={"Date": None})


def _short(text: str, limit: int = 40) -> str:
    """`text` on one line of at most `limit` characters."""
    line = printable(" ".join(str(text).split()))
    return line if len(line) <= limit else f"{line[: limit - 1]}…"
