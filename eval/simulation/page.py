"""The page of one simulation, and its summary on the command line."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from markupsafe import Markup
from matplotlib.figure import Figure

from common.page import figures
from common.page import render as page
from eval.simulation.charts import MOST_LINES, asked, distributions, label, outcomes
from eval.simulation.record import SimulationRecord, Trust

TEMPLATE = Path(__file__).parent / "templates" / "simulation.html.j2"
MUCH = 0.1  # share of probability off the scale, or of unread answers, from which a warning is due
LARGE_ORDER = 0.2  # standard deviations that reversing labels may move answers without a warning
OTHER_SPREAD = 0.05  # from 1: a ratio of people's to the model's spread that is told
Json = dict[str, Any]


def summary(record: SimulationRecord) -> Iterator[str]:
    """A few lines for the terminal: warnings, every effect (up to MOST_LINES), and how far to trust it."""
    for warning in warnings(record):
        yield f"warning: {warning}"
    for row in record.effects[:MOST_LINES]:
        calibrated = observed = ""
        if row.calibrated is not None:
            ends = _between(row.calibrated_low, row.calibrated_high)
            calibrated = f"; calibrated {page.signed(row.calibrated, 2)} ({ends})"
        if row.observed is not None:
            observed = f"; observed {page.signed(row.observed, 2)}"
        yield (
            f"{label(row)}: {page.signed(row.estimate, 2)} (sampling error only: "
            f"{_between(row.conf_low, row.conf_high)}){calibrated}{observed}"
        )
    for arm in () if record.effects else record.arms[:MOST_LINES]:
        ends = _between(arm.conf_low, arm.conf_high)
        yield f"{asked(arm)}: {page.num(arm.estimate, 2)} (sampling error only: {ends})"
    yield from weighting_sentences(record)
    yield trust_sentence(record.trust)


def weighting_sentences(record: SimulationRecord) -> list[str]:
    """That real answers were weighted, and what it costs."""
    return [
        f"real answers ({name}) are weighted: design effect {page.num(effect, 2)}, as if there were "
        f"{page.percent(1 / effect)} as many people"
        for name, effect in record.design_effects.items()
    ]


def warnings(record: SimulationRecord) -> list[str]:
    """What must be known before any number is believed: for the top of the page and of the terminal."""
    sentences = []
    for outcome, mass in record.off_scale.items():
        if mass > MUCH:
            hardly = ": this model hardly answers such questions, and the rest says little" * (mass > 0.5)
            sentences.append(
                f"{page.percent(mass, 1)} of the model's probability lies outside the answer scale of "
                f"{outcome}; that part was left out{hardly}"
            )
    if record.failed > MUCH * record.predicted:
        share = page.percent(record.failed / record.predicted)
        sentences.append(f"{share} of the model's answers couldn't be read and were left out")
    if record.trust.likeness:
        sentences += [f"unlike what was evaluated: {text}" for text in record.trust.likeness.warnings]
    for first in (row for row in record.cells if record.levels and row.answer == 1):
        if abs(first.share - 0.5) > MUCH:
            sentences.append(
                f"the model chooses the profile that stands first {page.percent(first.share)} of the time "
                f"({first.outcome}): what the profiles say counts for less, and effects come out too small"
            )
    for row in record.order_effects:
        if abs(row.estimate_sd or 0) > LARGE_ORDER:
            sentences.append(
                f"reversing the labels of {row.outcome} moves its recoded answers by "
                f"{page.signed(row.estimate_sd, 1)} standard deviations: this model answers by the number "
                "more than by its label, and effects averaged over both orders come out too small"
            )
    return sentences


def trust_sentence(trust: Trust) -> str:
    """How far the effects can be trusted, in one sentence or three."""
    if trust.fit is None:
        return f"No calibrated interval: {trust.reason}."
    text = (
        f"Learned from {trust.pairs} pairs of arms in {trust.studies} evaluated studies: true effects "
        f"are {page.num(trust.fit.slope, 2)} times the predicted ones, and miss that by a standard deviation "
        f"of {page.num(trust.fit.discrepancy, 2)} (in standard deviations of answers)."
    )
    if abs(trust.fit.spread_ratio - 1) > OTHER_SPREAD:
        text += (
            f" People's answers spread {page.num(trust.fit.spread_ratio, 2)} times as widely as the model's, "
            "which sampling errors of calibrated effects and sample sizes allow for."
        )
    coverage = trust.coverage
    if coverage is None:
        return f"{text} There are too few studies to measure the coverage of the intervals."
    return (
        f"{text} On held-out studies 95% calibrated intervals contained "
        f"{page.percent(coverage.calibrated)} of the observed effects ({coverage.pairs} in "
        f"{coverage.studies} studies); intervals with sampling error alone contained "
        f"{page.percent(coverage.sampling)}."
    )


def _between(low: float | None, high: float | None) -> str:
    return f"{page.num(low, 2)} to {page.num(high, 2)}" if low is not None else ""


def headline(record: SimulationRecord) -> str:
    """What the first effect says; of a conjoint the largest one, of a poll what the first outcome says."""
    if record.levels:
        row = max(record.effects, key=lambda row: abs(row.estimate))
        ends = f"{page.signed(100 * row.conf_low, 0)} to {page.signed(100 * row.conf_high, 0)}"
        return (
            f"What matters most is {row.contrast}: predicted to move the chance to be chosen by "
            f"{page.signed(100 * row.estimate, 0)} percentage points ({ends} with sampling error alone). "
            "How wrong this model is about such choices isn't known."
        )
    if record.effects:
        row = record.effects[0]
        text = f"{label(row)}: a predicted effect of {page.signed(row.estimate, 2)}"
        if row.calibrated is None:
            return f"{text}. How wrong this model usually is isn't known here."
        careful = ", if it is like these experiments: see the warnings" * bool(warnings(record))
        return (
            f"{text}. Going by the model's errors in evaluated experiments, a study of this size will find "
            f"{_between(row.calibrated_low, row.calibrated_high)} (95%){careful}."
        )
    if record.arm_count > 1 or not record.arms:
        return "No arm got enough simulated people for an effect."
    arms = [arm for arm in record.arms if arm.outcome == record.arms[0].outcome]
    most = max(arms, key=lambda arm: arm.estimate or 0)
    ends = _between(most.conf_low, most.conf_high)
    return f"{asked(most)}: {page.num(most.estimate, 2)} is predicted ({ends} with sampling error alone)."


def write(path: Path, record: SimulationRecord, drawn: dict[str, Figure]) -> None:
    """Write the page, one file that loads nothing, to `path`."""
    shown: dict[str, Markup] = {name: figures.svg(figure, name) for name, figure in drawn.items()}
    page.render(
        path,
        TEMPLATE,
        scripts=("tables.js",),
        title=record.title,
        record=record,
        figures=shown,
        distributions=[(outcome, _arms(record, outcome, at)) for at, outcome in enumerate(outcomes(record))],
        headline=headline(record),
        warnings=warnings(record),
        weighting=weighting_sentences(record),
        trust=trust_sentence(record.trust),
        tables={
            "effects": [] if record.levels else effect_rows(record),
            "levels": level_rows(record),
            "arms": arm_rows(record),
            "subgroups": subgroup_rows(record),
            "power": power_rows(record),
            "pilot": pilot_rows(record),
            "order": order_rows(record),
            "nearest": nearest_rows(record),
        },
    )


def _arms(record: SimulationRecord, outcome: str, at: int) -> Markup:
    """An outcome's charts, one an arm."""
    drawn = enumerate(distributions(record, outcome).each())
    return Markup("").join(
        figures.svg(figure, f"answers-{at}-{arm}", f"Answers to {outcome}") for arm, figure in drawn
    )


def effect_rows(record: SimulationRecord) -> list[Json]:
    """The table of effects."""
    return [
        {
            "effect": {"text": label(row)},
            "raw": _cell(row.estimate, _between(row.conf_low, row.conf_high)),
            "se": page.num(row.std_error, 3),
            "sd": page.signed(row.estimate_sd, 2),
            "calibrated": _cell(
                row.calibrated, _between(row.calibrated_low, row.calibrated_high) or row.no_calibration
            ),
            "observed": _cell(row.observed, _error(row.observed_std_error)),
        }
        for row in record.effects
    ]


def level_rows(record: SimulationRecord) -> list[Json]:
    """The table of a conjoint: marginal mean and AMCE of each level, in percent."""
    rows: dict[tuple[str, str, str], Json] = {}
    for row in record.levels:
        key = (row.outcome, row.attribute, row.level)
        several = len({one.outcome for one in record.levels}) > 1
        name = f"{row.attribute}: {row.level}"
        cells = rows.setdefault(key, {"level": {"text": f"{row.outcome}, {name}" if several else name}})
        base = row.statistic == "amce" and row.std_error is None and row.estimate == 0
        note = "compared with" if base else row.reason or _percents(row.conf_low, row.conf_high)
        written = page.signed if row.statistic == "amce" else page.num
        cells[row.statistic] = {
            "text": written(_hundredfold(row.estimate), 1), "note": note, "sort": row.estimate,
        }  # fmt: skip
        cells[f"observed {row.statistic}"] = {
            "text": written(_hundredfold(row.observed), 1), "sort": row.observed,
            "note": _error(_hundredfold(row.observed_std_error), 1),
        }  # fmt: skip
    return list(rows.values())


def _hundredfold(value: float | None) -> float | None:
    return None if value is None else 100 * value


def _percents(low: float | None, high: float | None) -> str:
    return "" if low is None or high is None else f"{page.num(100 * low, 1)} to {page.num(100 * high, 1)}"


def _cell(value: float | None, note: str | None) -> Json:
    return {"text": page.signed(value, 2), "note": note or "", "sort": value}


def _error(std_error: float | None, digits: int = 2) -> str:
    return "" if std_error is None else f"se {page.num(std_error, digits)}"


def arm_rows(record: SimulationRecord) -> list[Json]:
    """The table of means by arm."""
    return [
        {
            "arm": {"text": f"{asked(row)}: {row.arm}"},
            "mean": {
                "text": page.num(row.estimate, 2),
                "note": _between(row.conf_low, row.conf_high),
                "sort": row.estimate,
            },
            "sd": page.num(row.sd, 2),
            "observed": page.num(row.observed, 2),
            "n": page.count(row.observed_n),
        }
        for row in record.arms
    ]


def subgroup_rows(record: SimulationRecord) -> list[Json]:
    """The table of effects within groups."""
    return [
        {
            "group": {"text": f"{row.field}: {row.group}", "note": f"{row.people} simulated people"},
            "effect": {"text": label(row)},
            "value": _cell(row.estimate, _between(row.conf_low, row.conf_high) or row.reason)
            | ({"text": page.num(row.estimate, 2)} if record.levels else {}),
            "difference": _cell(row.difference, _error(row.difference_std_error)),
        }
        for row in record.subgroups
    ]


def power_rows(record: SimulationRecord) -> list[Json]:
    """The table of sample sizes."""
    return [
        {
            "effect": {"text": label(row)},
            "planned": page.percent(row.power),
            "needed": {"text": _needed(row.people_needed), "sort": row.people_needed},
            "assurance": page.percent(row.assurance),
            "assured": {
                "text": page.DASH if row.calibrated is None else _needed(row.people_assured),
                "sort": row.people_assured,
            },
            "smallest": page.num(row.smallest_effect, 2),
        }
        for row in record.effects
    ]


def _needed(people: int | None) -> str:
    return "no number suffices" if people is None else page.count(people)


def pilot_rows(record: SimulationRecord) -> list[Json]:
    """The table of pilot and predictions together."""
    rows = []
    for row in record.pilot:
        gain = row.effective_n / row.n - 1 if row.n and row.effective_n is not None else None
        note = "" if gain is None else f"{page.signed(100 * gain, 0)}%"
        rows.append(
            {
                "effect": {"text": label(row)},
                "pilot": _cell(row.pilot, _error(row.pilot_std_error, 3) or row.reason),
                "combined": _cell(row.estimate, _between(row.conf_low, row.conf_high)),
                "se": page.num(row.std_error, 3),
                "n": page.count(row.n),
                "effective": {"text": page.count(row.effective_n), "note": note},
            }
        )
    return rows


def order_rows(record: SimulationRecord) -> list[Json]:
    """The table of what reversed labels do."""
    return [
        {
            "outcome": {"text": asked(row)},
            "difference": page.signed(row.estimate, 3),
            "se": page.num(row.std_error, 3),
        }
        for row in record.order_effects
    ]


def nearest_rows(record: SimulationRecord) -> list[Json]:
    """The table of the evaluated studies whose words are most alike."""
    return [
        {
            "study": study.study,
            "similarity": page.num(study.similarity, 2),
            "pairs": study.pairs,
            "sign": page.percent(study.sign_agreement),
        }
        for study in (record.trust.likeness.nearest if record.trust.likeness else ())
    ]
