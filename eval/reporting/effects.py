"""The report's section of treatment effects: statistics, slopes of studies, the clearest contrasts."""

from common.page.render import count, num, signed
from eval.reporting.results import Results
from eval.reporting.sections import EMPTY, column_of
from eval.reporting.words import Json, brackets, cell_of, interval
from eval.scoring import glossary
from eval.scoring.record import Effects, Estimate

NO_EFFECTS = Effects(contrasts=0, outcomes=0, studies=0, clear=0, left_out={}, model={}, half_sample={})


def effect_section(results: Results) -> Json:
    """One row a statistic of treatment effects: every model, and one half of the people."""
    best = results.best.effects or NO_EFFECTS
    rows = []
    for key, term in glossary.EFFECTS.items():
        half = best.half_sample.get(key)
        row: Json = {"name": {"text": term.name, "note": ""}, "half": cell_of(half, 2) if half else EMPTY}
        for name, scores in results.scores.items():
            row[column_of(name)] = cell_of((scores.effects or NO_EFFECTS).model.get(key), 2)
        rows.append(row)
    return {
        "rows": rows + _slopes_of_studies(results),
        "models": results.models,
        "contrasts": best.contrasts,
        "clear": best.clear,
        "left_out": "; ".join(f"{count(number)} {reason}" for reason, number in best.left_out.items()),
        "brackets": brackets(best.model.values()),
        "in_training": _in_training(results),
        "clearest": clearest(results),
    }


def _slopes_of_studies(results: Results) -> list[Json]:
    """The meta-analysis: the mean slope of studies, and what the slope of a new study may be."""
    effects = {name: scores.effects or NO_EFFECTS for name, scores in results.scores.items()}
    metas = {name: one.meta for name, one in effects.items() if one.meta}
    if all(meta.slope is None for meta in metas.values()):
        return []
    mean: Json = {"name": {"text": "Mean slope of studies", "note": "random effects"}, "half": EMPTY}
    new: Json = {"name": {"text": "Slope of a new study", "note": "95% prediction interval"}, "half": EMPTY}
    for name, meta in metas.items():
        slope = Estimate(value=meta.slope, low=meta.low, high=meta.high, reason=meta.reason)
        mean[column_of(name)] = cell_of(slope, 2)
        ends = interval(Estimate(value=meta.slope, low=meta.new_low, high=meta.new_high), 2)
        new[column_of(name)] = {"text": ends, "note": ""}
    return [mean, new]


def _in_training(results: Results) -> int:
    """Contrasts of the closest model of which an arm has training answers."""
    contrasts = results.best.contrasts
    return 0 if contrasts.is_empty() else int((contrasts["arms_in_training"] > 0).sum())


def clearest(results: Results, number: int = 20) -> list[Json]:
    """The contrasts that are clearest in people, by name, and which of their arms were trained on."""
    if results.best.contrasts.is_empty():
        return []
    rows = []
    for row in results.best.contrasts.head(number).iter_rows(named=True):
        study, trained = row["study_id"], row["arms_in_training"]
        arm, control = (results.arm(study, row[f"condition_{which}"]) for which in "ba")
        outcome = results.outcome(study, row["task_num"])
        rows.append(
            {
                "contrast": {"text": f"{arm} - {control}", "note": ""},
                "study": study,
                "outcome": f"{outcome}: {row['option']}" if row.get("option") else outcome,
                "observed": _with_error(row["observed"], row["observed_se"]),
                "predicted": _with_error(row["predicted"], row["predicted_se"]),
                "trained": {0: "no", 1: "one arm", 2: "both arms"}[trained],
            }
        )
    return rows


def _with_error(value: float | None, error: float | None) -> Json:
    note = "" if error is None else f"se {num(error, 2)}"
    return {"text": signed(value, 2), "note": note, "sort": value}
