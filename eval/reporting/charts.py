"""The report's charts: for its folder as PNG and SVG, and for the page itself."""

from collections.abc import Sequence
from typing import Any

from markupsafe import Markup
from matplotlib.figure import Figure

from common.page import figures
from common.page.render import signed
from eval.reporting.results import MAIN, Results, leaders
from eval.reporting.sections import study_rows, title_of
from eval.reporting.words import over_people
from eval.scoring.record import Estimate, Scores

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
    "pit": "Where people's answers fall in their predicted distributions",
    "subgroups": "Accuracy by group",
    "losses_sft": "Losses of supervised fine-tuning by step",
    "losses_dpo": "Losses of preference optimisation by step",
}


def draw(results: Results) -> dict[str, Figure]:
    """Every figure that the scores allow, by its name in `LABELS`."""
    clouds, _ = _clouds(results)
    drawn = {
        "leaders": _leaders(results),
        "studies": _studies(results),
        "effects": figures.scatter_plots(clouds, *EFFECT_AXES) if clouds else None,
        "calibration": _calibration(results),
        "pit": _pit(results),
        "subgroups": _subgroups(results),
        "losses_sft": _losses(results, "sft", "loss (nats a token)"),
        "losses_dpo": _losses(results, "dpo", "DPO loss"),
    }
    return {name: figure for name, figure in drawn.items() if figure is not None}


def for_page(results: Results, drawn: dict[str, Figure]) -> dict[str, Markup | None]:
    """The same as markup, None where there is no figure; effects are one chart a model, to fit a phone."""
    markup: dict[str, Markup | None] = dict.fromkeys(LABELS)
    for name in drawn.keys() - {"effects"}:
        markup[name] = figures.svg(drawn[name], name, LABELS[name])
    if "effects" in drawn:
        clouds, titles = _clouds(results)
        markup["effects"] = Markup("").join(
            figures.svg(
                figures.scatter_plots([cloud], *EFFECT_AXES, beside=clouds),
                f"effects-{index}",
                f"{LABELS['effects']}: {cloud.title}",
                {"cloud-0": titles[index]},
            )
            for index, cloud in enumerate(clouds)
        )
    return markup


def _models(results: Results) -> list[tuple[str, Scores]]:
    """The models that are drawn: as many as there are colours."""
    return list(results.scores.items())[:MODELS_DRAWN]


def _dot(estimate: Estimate, series: int = 0, factor: float = 1) -> figures.Dot | None:
    """An estimate with its interval; None where there is no value."""
    if estimate.value is None:
        return None
    low, high = estimate.interval or (None, None)
    low, high = (None if end is None else factor * end for end in (low, high))
    return figures.Dot(factor * estimate.value, low, high, series)


def _leaders(results: Results) -> Figure | None:
    """Every model's corrected skill between a uniform guess (0) and a perfect model (1)."""
    skills = {row.name: row.skill[MAIN].corrected for row in leaders(results)[0] if MAIN in row.skill}
    rows = [figures.Row(name, [dot]) for name, skill in skills.items() if (dot := _dot(skill))]
    people = any(skill.over == "people" for skill in skills.values())
    return _skills(rows, f"skill (corrected; 95% interval over {'people' if people else 'studies'})")


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
    """Skill by study and model, with intervals over people where scores hold them."""
    models = _models(results)
    studies = [row["study"] for row in study_rows(results)]
    if len(studies) > STUDIES_DRAWN:
        studies = studies[: STUDIES_DRAWN // 2] + studies[-STUDIES_DRAWN // 2 :]
    rows = []
    for study in studies:
        dots = []
        for series, (_, scores) in enumerate(models):
            if study in scores.studies:
                one = scores.studies[study]
                skill = over_people(one.skill.get(MAIN), one.skill_people.get(MAIN))
                dots += [dot] if (dot := _dot(skill, series)) else []
        if dots:
            rows.append(figures.Row(study, dots))
    return _skills(rows, "skill", [name for name, _ in models])


def _clouds(results: Results) -> tuple[list[figures.Cloud], list[list[str]]]:
    """Observed and predicted effects of each model, the clearest first, and a title for each point."""
    clouds: list[figures.Cloud] = []
    titles: list[list[str]] = []
    for name, scores in _models(results):
        if scores.effects is None or scores.contrasts.is_empty():
            continue
        pairs = scores.contrasts.drop_nulls(["predicted_std", "observed_std"]).head(POINTS_DRAWN)
        if pairs.is_empty():
            continue
        titles.append([_title(results, pair) for pair in pairs.iter_rows(named=True)])
        slope = scores.effects.model.get("slope", Estimate(value=None)).value
        x, y, clear = (pairs[column].to_list() for column in ("predicted_std", "observed_std", "clear"))
        clouds.append(figures.Cloud(name, x, y, clear, slope))
    return clouds, titles


def _title(results: Results, pair: dict[str, Any]) -> str:
    study = pair["study_id"]
    arm, control = (results.arm(study, pair[f"condition_{which}"]) for which in "ba")
    return (
        f"study {study}, outcome {results.outcome(study, pair['task_num'])}, arm {arm} against "
        f"{control}: predicted {signed(pair['predicted_std'], 2)}, observed "
        f"{signed(pair['observed_std'], 2)}{', an arm in training' * bool(pair['arms_in_training'])}"
    )


def _calibration(results: Results) -> Figure | None:
    curves = {}
    for name, scores in _models(results):
        points = [
            (one.confidence, one.frequency, one.count)
            for one in scores.calibration.bins
            if one.count and one.confidence is not None and one.frequency is not None
        ]
        if points:
            curves[name] = points
    return figures.reliability_plot(curves) if curves else None


def _pit(results: Results) -> Figure | None:
    """Shares of people's answers in equal parts of their predicted distributions, by model."""
    lines = []
    for name, scores in _models(results):
        shares = scores.calibration.pit
        if shares:
            middle = [(at + 0.5) / len(shares) for at in range(len(shares))]
            lines.append(figures.Line(name, middle, [100 * share for share in shares]))
    parts = max((len(line.x) for line in lines), default=0)
    axes = ("place in the predicted distribution", "people's answers (%)")
    return figures.line_plot(lines, *axes, level=100 / parts, width=4.4) if lines else None


def _subgroups(results: Results) -> Figure | None:
    """Accuracy by group, for the fields with the largest gaps."""
    if results.best.subgroups is None:
        return None
    fields = results.best.subgroups.fields
    gaps = [(one.parity_accuracy.value, field) for field, one in fields.items()]
    largest = sorted(((gap, field) for gap, field in gaps if gap is not None), reverse=True)[:FIELDS_DRAWN]
    rows = [
        figures.Row(f"{title_of(field)}: {group.group}", [dot])
        for _, field in largest
        for group in fields[field].groups
        if (dot := _dot(group.accuracy_observed, factor=100))
    ]
    return figures.dot_plot(rows, "accuracy, observed range (%)") if rows else None


def _losses(results: Results, stage: str, ylabel: str) -> Figure | None:
    lines = []
    for (model, folder), run in results.runs.items():
        for key, words in (("loss", "training"), ("eval_loss", "validation")):
            points = [(entry["step"], entry[key]) for entry in run.losses if entry.get(key) is not None]
            if points and run.arguments["stage"] == stage:
                x, y = zip(*points, strict=True)
                lines.append(figures.Line(f"{model} {folder}, {words}", x, y, dashed=key == "eval_loss"))
    return figures.line_plot(lines[:MODELS_DRAWN], "step", ylabel) if lines else None
