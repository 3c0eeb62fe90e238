"""Models side by side on the rows that all of them predict, and how sure their differences are."""

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np

from eval.scoring.controls import CONTROLS
from eval.scoring.estimates import Estimate, Studies, study_estimate
from eval.scoring.model import ModelScores
from eval.scoring.resampling import holm, people_interval, permutation_p

COMPARED = (
    "wasserstein_observed",
    "wasserstein_stated",
    "total_variation",
    "accuracy_observed",
    "accuracy_stated",
)
REFERENCES = ("uniform_observed", "pooled_others")
NO_CELL = "no cell has a value of both"


def comparison_table(models: Mapping[str, ModelScores]) -> list[dict[str, Any]]:
    """Leader table: models, then controls, then the human ceiling for each prediction mode among them."""
    table = [
        {
            "name": name,
            "kind": "model",
            "mode": scores.mode,
            "metrics": scores.report["metrics"],
            "skill": scores.report["skill"],
        }
        for name, scores in models.items()
    ]
    any_model = next(iter(models.values()))
    table += [
        {
            "name": name,
            "kind": "control",
            "mode": None,
            "metrics": any_model.report["controls"][name],
            "skill": {},
        }
        for name in CONTROLS
    ]
    listed = set()
    for scores in models.values():
        samples = scores.report["samples"]
        mode = scores.mode if samples is None else f"{scores.mode}, {samples:g} a row"
        if mode not in listed:
            listed.add(mode)
            table.append(_ceiling_row(f"split_half ({mode})", scores, "split_half_corrected"))
            table.append(_ceiling_row(f"bootstrap ({mode})", scores, "bootstrap_corrected"))
    table.append(_ceiling_row("split_half (raw)", any_model, "split_half_raw"))
    return table


def _ceiling_row(name: str, scores: ModelScores, kind: str) -> dict[str, Any]:
    ceiling = scores.report["ceiling"]
    return {
        "name": name,
        "kind": "ceiling",
        "mode": scores.mode if kind != "split_half_raw" else None,
        "metrics": ceiling[kind] | ceiling["another_person"],
        "skill": {},
    }


def differences(models: Mapping[str, ModelScores], permutations: int, seed: int) -> list[dict[str, Any]]:
    """Every pair of models, and each model against REFERENCES: a minus b, paired by cell and study.

    p: sign flips of the studies' differences; p_holm: Holm-corrected over this whole list. The interval
    over people is given for pairs of models: the same people were drawn for both.
    """
    any_model = next(iter(models.values()))
    pairs: list[tuple[str, str]] = list(combinations(models, 2))
    pairs += [(name, reference) for name in models for reference in REFERENCES]
    out: list[dict[str, Any]] = []
    for a, b in pairs:
        for metric in COMPARED:
            of_a = models[a].cells.values[metric]
            of_b = (models[b].cells if b in models else any_model.controls[b]).values[metric]
            people = None
            if b in models and metric in models[a].people:
                people = models[a].people[metric] - models[b].people[metric]
            out.append(
                {"a": a, "b": b, "metric": metric}
                | _difference(of_a - of_b, any_model.studies, people, permutations, seed)
            )
    for row, corrected in zip(out, holm([row["p"] for row in out]), strict=True):
        row["p_holm"] = corrected
    return out


def _difference(
    cells: np.ndarray, studies: Studies, people: np.ndarray | None, permutations: int, seed: int
) -> Estimate:
    per_study = studies.means(cells)
    found = study_estimate(per_study, studies, NO_CELL, int(np.isfinite(cells).sum()))
    if people is not None and found["value"] is not None:
        known = np.isfinite(per_study)
        interval = people_interval(found["value"], np.nanmean(people[:, known], axis=1))
        found["low_people"], found["high_people"] = interval or (None, None)
    return found | {"p": permutation_p(per_study, permutations, seed)}


def printed_table(table: Sequence[dict[str, Any]]) -> str:
    """The table for a terminal: Wasserstein distance and accuracy with intervals, and skill."""
    head = ("", "Wasserstein (observed)", "Wasserstein (stated)", "accuracy (observed)", "skill")
    shown = ("wasserstein_observed", "wasserstein_stated", "accuracy_observed")
    lines: list[tuple[str, ...]] = [head]
    for row in table:
        skill = row["skill"].get("wasserstein_observed", {}).get("corrected")
        figures = [row["metrics"].get(name) for name in shown] + [skill]
        lines.append((row["name"], *(_cell(found) for found in figures)))
    widths = [max(len(line[k]) for line in lines) for k in range(len(head))]
    return "\n".join(
        "  ".join(
            [line[0].ljust(widths[0]), *(part.rjust(w) for part, w in zip(line[1:], widths[1:], strict=True))]
        )
        for line in lines
    )


def _cell(found: Estimate | None) -> str:
    if not found or found["value"] is None:
        return "-"
    over = "" if found["low"] is not None else "_people"
    low, high = found[f"low{over}"], found[f"high{over}"]
    return f"{found['value']:.3f}" + (f" [{low:.3f}, {high:.3f}]" if low is not None else "")
