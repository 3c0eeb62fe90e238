"""The page of one simulation, its figures, and its summary on the command line."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup

from common.page import figures
from common.page import render as page
from eval.simulation.power import POWER, power_at

PAGE = "simulation.html"
MOST_LINES = 24  # in a figure of effects; the table has all
MOST_PANELS = 8  # arms in a figure of distributions
MOST_ANSWERS = 101
TEN_BINS = 21  # scales with more answers are drawn in ten bins
Json = dict[str, Any]


def summary(record: Json) -> Iterator[str]:
    """A few lines for the terminal: every effect (up to MOST_LINES), and how far to trust it."""
    for row in record["effects"][:MOST_LINES]:
        calibrated = ""
        if row["calibrated"] is not None:
            between = _between(row, "low_calibrated", "high_calibrated")
            calibrated = f"; calibrated {page.signed(row['calibrated'], 2)} ({between})"
        observed = f"; observed {page.signed(row['observed'], 2)}" if row["observed"] is not None else ""
        yield (
            f"{label(row)}: {page.signed(row['effect'], 2)} (sampling error only: "
            f"{_between(row, 'low_sampling', 'high_sampling')}){calibrated}{observed}"
        )
    yield trust_sentence(record["trust"])


def asked(row: Json) -> str:
    """The outcome, and for a choice which label's share."""
    return str(row["outcome"] if row["measure"] == "mean" else f"{row['outcome']}, {row['measure']}")


def label(row: Json) -> str:
    return f"{asked(row)}: {row['contrast']}"


def trust_sentence(trust: Json) -> str:
    """How far the effects can be trusted, in one sentence or three."""
    if trust["reason"]:
        return f"No calibrated interval: {trust['reason']}."
    fit, coverage = trust["fit"], trust["coverage"]
    text = (
        f"Learned from {trust['pairs']} pairs of arms in {trust['studies']} evaluated studies: true effects "
        f"are {page.num(fit['slope'], 2)} times the predicted ones, and miss that by a standard deviation of "
        f"{page.num(fit['discrepancy'], 2)} (in standard deviations of answers)."
    )
    if coverage is None:
        return f"{text} There are too few studies to measure the coverage of the intervals."
    return (
        f"{text} On held-out studies 95% calibrated intervals contained "
        f"{page.percent(coverage['calibrated'])} of the observed effects ({coverage['pairs']} in "
        f"{coverage['studies']} studies); intervals with sampling error alone contained "
        f"{page.percent(coverage['sampling'])}."
    )


def _between(row: Json, low: str, high: str) -> str:
    return f"{page.num(row[low], 2)} to {page.num(row[high], 2)}" if row[low] is not None else ""


def write(out: Path, record: Json) -> None:
    """Write the figures (PNG and SVG) and simulation.html into `out`."""
    drawn = {"effects": effects_figure(record), "power": power_figure(record)}
    for place, outcome in enumerate(dict.fromkeys(row["outcome"] for row in record["cells"]), 1):
        drawn[f"answers-{place}"] = answers_figure(record, outcome)
    shown: dict[str, Markup] = {}
    for name, figure in drawn.items():
        if figure is not None:
            figures.save(figure, out, name)
            shown[name] = figures.svg(figure, name)
    outcomes = dict.fromkeys(row["outcome"] for row in record["cells"])
    page.render(
        out / PAGE,
        Path(__file__).parent / "templates" / "simulation.html.j2",
        scripts=("tables.js",),
        title=record["title"],
        record=record,
        figures=shown,
        distributions=[(outcome, shown[f"answers-{place}"]) for place, outcome in enumerate(outcomes, 1)],
        headline=headline(record),
        trust=trust_sentence(record["trust"]),
        tables={"effects": effect_rows(record), "arms": arm_rows(record), "subgroups": subgroup_rows(record),
                "power": power_rows(record), "pilot": pilot_rows(record), "order": order_rows(record)},
    )  # fmt: skip


def headline(record: Json) -> str:
    """What the first effect says."""
    rows = record["effects"]
    if not rows:
        return "No arm got enough simulated people for an effect."
    row = rows[0]
    text = f"{label(row)}: a predicted effect of {page.signed(row['effect'], 2)}"
    if row["calibrated"] is None:
        return f"{text}. How wrong this model usually is isn't known here."
    return (
        f"{text}. Going by the model's errors in known experiments, a study of this size will find "
        f"{_between(row, 'low_calibrated', 'high_calibrated')} (95%)."
    )


def effects_figure(record: Json) -> Any:
    """Effects in standard deviations of answers: raw, calibrated, observed."""
    rows = [row for row in record["effects"] if row["sd"] > 0][:MOST_LINES]
    if not rows:
        return None
    lines = []
    for row in rows:
        sd = row["sd"]
        dots = [figures.Dot(row["effect"] / sd, row["low_sampling"] / sd, row["high_sampling"] / sd, 4)]
        if row["calibrated"] is not None:
            low, high = row["low_calibrated"] / sd, row["high_calibrated"] / sd
            dots.append(figures.Dot(row["calibrated"] / sd, low, high, 1))
        if row["observed"] is not None:
            reach = 1.96 * row["observed_se"]
            dots.append(
                figures.Dot(
                    row["observed"] / sd, (row["observed"] - reach) / sd, (row["observed"] + reach) / sd, 0
                )
            )
        lines.append(figures.Row(label(row), dots))
    return figures.dot_plot(lines, "effect (standard deviations of answers)", marks={0: ""}, width=7)


def answers_figure(record: Json, outcome: str) -> Any:
    """Predicted (and observed) distributions of an outcome by arm; long scales in ten bins."""
    cells = [row for row in record["cells"] if row["outcome"] == outcome]
    arms = list(dict.fromkeys(row["arm"] for row in cells))[:MOST_PANELS]
    answers = sorted({row["answer"] for row in cells})
    if len(answers) > TEN_BINS:
        low, width = answers[0], (answers[-1] - answers[0]) / 10
        place = {answer: min(int((answer - low) / width), 9) for answer in answers}
        names = [str(int(np.ceil(low + width * index))) for index in range(10)]
    else:
        place, names = (
            {answer: index for index, answer in enumerate(answers)},
            [str(answer) for answer in answers],
        )
    panels: dict[str, dict[str, Any]] = {}
    for arm in arms:
        own = [row for row in cells if row["arm"] == arm]
        series = {}
        if any(row["observed_share"] is not None for row in own):
            series["people"] = _binned(own, "observed_share", place, len(names))
        series["predicted"] = _binned(own, "share", place, len(names))
        panels[arm] = series
    if (
        len({tuple(series) for series in panels.values()}) > 1
    ):  # an arm without real answers has an empty series
        panels = {arm: {"people": [0.0] * len(names)} | series for arm, series in panels.items()}
    return figures.bar_plots(
        panels, names, "answer" if len(answers) <= TEN_BINS else "answer, in ten bins from"
    )


def _binned(rows: list[Json], key: str, place: dict[int, int], bins: int) -> list[float]:
    shares = [0.0] * bins
    for row in rows:
        shares[place[row["answer"]]] += row[key] or 0.0
    return shares


def power_figure(record: Json) -> Any:
    """Power against people, at the predicted and at the calibrated effect, of the first three effects."""
    within = record["design"]["kind"] == "within"
    planned = record["design"]["people"] if within else record["design"]["people_per_arm"]
    grid = np.unique(np.geomspace(10, 20 * planned, 36).astype(int))
    lines = []
    for row in record["effects"][:3]:
        spread = row["se_sampling"] ** 2 * planned
        if spread <= 0:
            continue
        for name, dashed in (("effect", False), ("calibrated", True)):
            if row[name] is not None:
                power = [power_at(row[name], spread, int(people), within) or 0.0 for people in grid]
                kind = "calibrated" if dashed else "predicted"
                lines.append(figures.Line(f"{kind}: {label(row)}", grid.tolist(), power, dashed=dashed))
    xlabel = "people" if within else "people per arm"
    return figures.line_plot(lines, xlabel, "power", level=POWER) if lines else None


def effect_rows(record: Json) -> list[Json]:
    rows = []
    for row in record["effects"]:
        observed = row["observed"] is not None
        rows.append(
            {
                "effect": {"text": label(row)},
                "raw": _cell(row["effect"], _between(row, "low_sampling", "high_sampling")),
                "se": page.num(row["se"], 3),
                "sd": page.signed(row["effect_sd"], 2),
                "calibrated": _cell(
                    row["calibrated"],
                    _between(row, "low_calibrated", "high_calibrated") or row["no_calibration"],
                ),
                "observed": _cell(
                    row["observed"], f"se {page.num(row['observed_se'], 2)}" if observed else ""
                ),
            }
        )
    return rows


def _cell(value: float | None, note: str | None) -> Json:
    return {"text": page.signed(value, 2), "note": note or "", "sort": value}


def arm_rows(record: Json) -> list[Json]:
    return [
        {
            "arm": {"text": f"{asked(row)}: {row['arm']}"},
            "mean": {
                "text": page.num(row["mean"], 2),
                "note": f"± {page.num(row['se_simulation'], 2)}",
                "sort": row["mean"],
            },
            "sd": page.num(row["sd"], 2),
            "observed": page.num(row["observed_mean"], 2),
            "n": page.count(row["observed_n"]),
        }
        for row in record["arms"]
    ]


def subgroup_rows(record: Json) -> list[Json]:
    rows = []
    for row in record["subgroups"]:
        error = row["difference_se"]
        rows.append(
            {
                "group": {
                    "text": f"{row['field']}: {row['group']}",
                    "note": f"{row['people']} simulated people",
                },
                "effect": {"text": label(row)},
                "value": _cell(
                    row["effect"], _between(row, "low_sampling", "high_sampling") or row["reason"]
                ),
                "difference": _cell(
                    row["difference"], f"se {page.num(error, 2)}" if error is not None else ""
                ),
            }
        )
    return rows


def power_rows(record: Json) -> list[Json]:
    return [
        {
            "effect": {"text": label(row)},
            "planned": page.percent(row["power_planned"]),
            "needed": {"text": _needed(row["people_needed"]), "sort": row["people_needed"]},
            "planned_calibrated": page.percent(row["power_planned_calibrated"]),
            "needed_calibrated": {
                "text": _needed(row["people_needed_calibrated"])
                if row["calibrated"] is not None
                else page.DASH,
                "sort": row["people_needed_calibrated"],
            },
            "smallest": page.num(row["smallest_effect"], 2),
        }
        for row in record["effects"]
    ]


def _needed(people: int | None) -> str:
    return "no number suffices" if people is None else page.count(people)


def pilot_rows(record: Json) -> list[Json]:
    rows = []
    for row in record["pilot"]:
        gain = row["effective_n"] / row["n"] - 1 if row["n"] else None
        rows.append(
            {
                "effect": {"text": label(row)},
                "pilot": _cell(
                    row["pilot"], f"se {page.num(row['pilot_se'], 3)}" if row["n"] else row["reason"]
                ),
                "combined": _cell(row["combined"], _between(row, "low", "high")),
                "se": page.num(row["combined_se"], 3),
                "n": page.count(row["n"]),
                "effective": {
                    "text": page.count(row["effective_n"]),
                    "note": f"{page.signed(100 * gain, 0)}%" if gain is not None else "",
                },
            }
        )
    return rows


def order_rows(record: Json) -> list[Json]:
    return [
        {
            "outcome": {"text": asked(row)},
            "difference": page.signed(row["difference"], 3),
            "se": page.num(row["se"], 3),
        }
        for row in record["order_effects"]
    ]
