"""Curves of a sweep: one metric along one key, with intervals, as a page, a CSV and figures."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from common.errors import Refusal
from common.files import atomic_path
from common.page.figures import Line, line_plot, save, svg
from common.page.render import render
from common.tables import text_table, write_csv
from eval.scoring.metrics import METRICS
from eval.scoring.record import read_scores

TEMPLATE = Path(__file__).parent / "templates" / "curves.html.j2"
Values = Mapping[str, int | float | str | bool]


@dataclass(frozen=True)
class Curves:
    """A sweep's table (one row a point and metric: what varied, estimate, conf_low, conf_high) and page."""

    table: pl.DataFrame
    page: Path

    def __str__(self) -> str:
        rows = [[f"{v:.4g}" if isinstance(v, float) else v for v in row] for row in self.table.iter_rows()]
        return f"{text_table(self.table.columns, rows)}\n{self.page}"


def curves(
    title: str, along: str, points: Sequence[tuple[Values, Path]], metrics: Sequence[str], folder: Path
) -> Curves:
    """Draw the points of a sweep into `folder`/curves, which is replaced as a whole.

    points: (what varies in it, the folder of its scores).
    Points that differ in `seed` alone are averaged; the interval shown is then the widest of theirs.
    Raises `Refusal` for a metric that scores don't have.
    """
    table = pl.DataFrame([row for values, scores in points for row in _rows(values, scores, metrics)])
    others = [key for key in points[0][0] if key not in (along, "seed")]
    table = (
        table.group_by([along, *others, "metric"], maintain_order=True)
        .agg(
            pl.col("estimate").mean(),
            pl.col("conf_low").min(),
            pl.col("conf_high").max(),
            runs=pl.len(),
        )
        .sort("metric", along, maintain_order=True)
    )
    named = table.with_columns(pl.col("metric").replace({key: METRICS[key].name for key in metrics}))
    rows = [{key: _cell(value) for key, value in row.items()} for row in named.iter_rows(named=True)]
    columns = [{"title": name, "key": name, "number": name != "metric"} for name in table.columns]
    with atomic_path(folder / "curves") as partial:
        partial.mkdir()
        write_csv(table, partial / "curves.csv")
        drawn = {}
        for metric in metrics:
            figure = line_plot(_lines(table, metric, along, others), along, METRICS[metric].name)
            save(figure, partial, metric)
            drawn[METRICS[metric].name] = svg(figure, metric, METRICS[metric].name)
        render(
            partial / "curves.html", TEMPLATE, ("tables.js",), title=title, kicker="Sweep", figures=drawn,
            rows=rows, columns=columns,
        )  # fmt: skip
    return Curves(table, folder / "curves" / "curves.html")


def _cell(value: object) -> object:
    return f"{value:.3f}" if isinstance(value, float) and not float(value).is_integer() else value


def _rows(values: Values, folder: Path, metrics: Sequence[str]) -> list[dict[str, int | float | str | None]]:
    scores = read_scores(folder)
    if unknown := [metric for metric in metrics if metric not in scores.metrics]:
        raise Refusal(f"scores have no metric {unknown[0]}; there are {', '.join(sorted(scores.metrics))}")
    rows = []
    for metric in metrics:
        estimate = scores.metrics[metric]
        few = estimate.low is None  # one study: the interval over people
        rows.append(
            {
                **values,
                "metric": metric,
                "estimate": estimate.value,
                "conf_low": estimate.low_people if few else estimate.low,
                "conf_high": estimate.high_people if few else estimate.high,
            }
        )
    return rows


def _lines(table: pl.DataFrame, metric: str, along: str, others: list[str]) -> list[Line]:
    chosen = table.filter(pl.col("metric") == metric)
    groups = chosen.partition_by(others, maintain_order=True) if others else [chosen]
    lines = []
    for group in groups:
        label = ", ".join(f"{key} {group[key][0]}" for key in others) or metric
        whole = group.drop_nulls(["conf_low", "conf_high"])
        low, high = (
            whole[end].to_list() if len(whole) == len(group) else None for end in ("conf_low", "conf_high")
        )
        lines.append(Line(label, group[along].to_list(), group["estimate"].to_list(), low, high))
    return lines
