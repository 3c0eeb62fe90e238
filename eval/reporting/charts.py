"""The report's charts: for its folder as PNG and SVG, and for the page itself."""

from collections.abc import Sequence
from typing import Any

from markupsafe import Markup
from matplotlib.figure import Figure

from common.page import figures
from common.page.render import signed
from eval.reporting.results import MAIN, Results, leaders
from eval.reporting.sections import study_rows, title_of

FIELDS_DRAWN = 4  # demographic fields with the largest gaps
STUDIES_DRAWN = 60
SKILLS_DRAWN = (-1.0, 1.75)  # where a study's people hardly differ from a uniform guess, skill runs wild
MODELS_DRAWN = 6  # as many as there are colours
POINTS_DRAWN = 2000  # contrasts of a model, the clearest first: a page must stay small
EFFECT_AXES = ("predicted effect (standard deviations)", "observed effect (standard deviations)")
LABELS = {
    "leaders": "Skill of each model between a uniform guess and a perfect model",
    "studies": "Skill of each model in each study",
    "effects": "Observed against predicted treatment effects",
    "calibration": "How often answers are right against how sure the model is",
    "subgroups": "Accuracy by group",
    "losses_sft": "Losses of supervised fine-tuning by step",
    "losses_dpo": "Losses of preference optimisation by step",
}


def draw(results: Results) -> dict[str, Figure]:
    """Every figure that the scores allow, by its name in `LABELS`."""
    clouds, _ = _clouds(results)
    made = {
        "leaders": _leaders(results),
        "studies": _studies(results),
        "effects": figures.scatter_plots(clouds, *EFFECT_AXES) if clouds else None,
        "calibration": _calibration(results),
        "subgroups": _subgroups(results),
        "losses_sft": _losses(results, "sft", "loss (nats a token)"),
        "losses_dpo": _losses(results, "dpo", "DPO loss"),
    }
    return {name: figure for name, figure in made.items() if figure is not None}


def for_page(results: Results, drawn: dict[str, Figure]) -> dict[str, Markup | None]:
    """The same as markup, None where there is no figure; effects are one chart a model, to fit a phone."""
    made: dict[str, Markup | None] = dict.fromkeys(LABELS)
    for name in drawn.keys() - {"effects"}:
        made[name] = figures.svg(drawn[name], name, LABELS[name])
    if "effects" in drawn:
        clouds, titles = _clouds(results)
        made["effects"] = Markup("").join(
            figures.svg(
                figures.scatter_plots([cloud], *EFFECT_AXES, beside=clouds),
                f"effects-{place}",
                f"{LABELS['effects']}: {cloud.title}",
                {"cloud-0": titles[place]},
            )
            for place, cloud in enumerate(clouds)
        )
    return made


def _leaders(results: Results) -> Figure | None:
    """Every model's corrected skill between a uniform guess (0) and a perfect model (1)."""
    rows = []
    for row in leaders(results)[0]:
        skill = row["skill"].get(MAIN, {}).get("corrected") or {}
        if row["kind"] == "model" and skill.get("value") is not None:
            rows.append(figures.Row(row["name"], [figures.Dot(skill["value"], skill["low"], skill["high"])]))
    return _skills(rows, "skill (corrected; 95% interval over studies)")


def _skills(rows: list[figures.Row], xlabel: str, series: Sequence[str] = ()) -> Figure | None:
    """A dot plot of skills between a uniform guess and a perfect model."""
    dots = [dot for row in rows for dot in row.dots]
    ends = [end for dot in dots for end in (dot.value, dot.low, dot.high) if end is not None]
    if not ends:
        return None
    limits = SKILLS_DRAWN if min(ends) < SKILLS_DRAWN[0] or max(ends) > SKILLS_DRAWN[1] else None
    marks = {0.0: "uniform guess", 1.0: "perfect model"}
    return figures.dot_plot(rows, xlabel, series, marks, limits=limits)


def _studies(results: Results) -> Figure | None:
    """Skill by study and model (at most six models), with intervals over people where scores hold them."""
    names = list(results.scores)[:MODELS_DRAWN]
    studies = [row["study"] for row in study_rows(results)]
    if len(studies) > STUDIES_DRAWN:
        studies = studies[: STUDIES_DRAWN // 2] + studies[-STUDIES_DRAWN // 2 :]
    rows = []
    for study in studies:
        dots = []
        for series, name in enumerate(names):
            made = results.scores[name]["studies"].get(study, {})
            value = made.get("skill", {}).get(MAIN)
            if value is not None:
                low, high = made["skill_people"].get(MAIN) or (None, None)
                dots.append(figures.Dot(value, low, high, series))
        if dots:
            rows.append(figures.Row(study, dots))
    return _skills(rows, "skill", names)


def _clouds(results: Results) -> tuple[list[figures.Cloud], list[list[str]]]:
    """Observed and predicted effects of up to six models, and a title for each point."""
    clouds: list[figures.Cloud] = []
    titles: list[list[str]] = []
    for name, scores in list(results.scores.items())[:MODELS_DRAWN]:
        pairs = [
            pair
            for pair in scores["effects"]["pairs"][:POINTS_DRAWN]
            if pair["predicted_std"] is not None and pair["observed_std"] is not None
        ]
        if not pairs:
            continue
        titles.append(
            [
                f"study {pair['study_id']}, outcome {pair['task_num']}, arm {pair['condition_b']} against "
                f"{pair['condition_a']}: predicted {signed(pair['predicted_std'], 2)}, observed "
                f"{signed(pair['observed_std'], 2)}"
                for pair in pairs
            ]
        )
        slope = (scores["effects"]["model"].get("slope") or {}).get("value")
        clouds.append(
            figures.Cloud(
                name,
                [pair["predicted_std"] for pair in pairs],
                [pair["observed_std"] for pair in pairs],
                [pair["clear"] for pair in pairs],
                slope,
            )
        )
    return clouds, titles


def _calibration(results: Results) -> Figure | None:
    curves = {}
    for name, scores in list(results.scores.items())[:MODELS_DRAWN]:
        points = [
            (one["confidence"], one["frequency"], one["count"])
            for one in scores["calibration"]["bins"]
            if one["count"] and one["confidence"] is not None and one["frequency"] is not None
        ]
        if points:
            curves[name] = points
    return figures.reliability_plot(curves) if curves else None


def _subgroups(results: Results) -> Figure | None:
    """Accuracy by group, for the fields with the largest gaps."""
    gaps = [
        (one["parity_accuracy"]["value"], field)
        for field, one in results.best["subgroups"]["fields"].items()
        if one["parity_accuracy"]["value"] is not None
    ]
    rows = []
    for _, field in sorted(gaps, reverse=True)[:FIELDS_DRAWN]:
        for group in results.best["subgroups"]["fields"][field]["groups"]:
            value = group["accuracy_observed"] or {}
            if value.get("value") is not None:
                low, high = (_times(value[end], 100) for end in ("low", "high"))
                dot = figures.Dot(100 * value["value"], low, high)
                rows.append(figures.Row(f"{title_of(field)}: {group['group']}", [dot]))
    return figures.dot_plot(rows, "accuracy, observed range (%)") if rows else None


def _losses(results: Results, stage: str, ylabel: str) -> Figure | None:
    lines = []
    for (model, folder), run in results.runs.items():
        for key, words in (("loss", "training"), ("eval_loss", "validation")):
            points = [(entry["step"], entry[key]) for entry in run["losses"] if entry.get(key) is not None]
            if points and run["arguments"]["stage"] == stage:
                x, y = zip(*points, strict=True)
                lines.append(figures.Line(f"{model} {folder}, {words}", x, y, dashed=key == "eval_loss"))
    return figures.line_plot(lines[:MODELS_DRAWN], "step", ylabel) if lines else None


def _times(value: Any, factor: float) -> float | None:
    return None if value is None else factor * value
