"""Models side by side on the rows that all of them predict, and how sure their differences are.

PRIMARY is the one figure whose comparisons are corrected for their number; the others are shown with a plain
p. A distance depends on how a model was asked: one sampled answer a person brings noise that exact
probabilities don't have. So models that were asked in different ways are compared by the *excess* of each
one's distance over its own ceiling, which is zero for a perfect model in either way. A control is exact; its
ceiling is what the draw of people alone leaves.

That two models can't be told apart doesn't say that they are alike: `p_equivalent` does, of differences below
`margin`.
"""

from collections.abc import Mapping
from itertools import combinations

import numpy as np

from common.distances import DISTANCES
from eval.scoring.controls import CONTROLS
from eval.scoring.estimates import mean_of_finite, study_estimate
from eval.scoring.model import Work
from eval.scoring.record import Difference, Estimate, Scores, TableRow
from eval.scoring.significance import bootstrap_p, equivalence_p, holm, sign_flip_p, smallest_sign_flip_p

PRIMARY = "wasserstein_observed"
COMPARED = (
    PRIMARY, "wasserstein_stated", "total_variation", "accuracy_observed", "accuracy_stated", "crps",
)  # fmt: skip
REFERENCES = ("uniform_observed", "pooled_others")
EXACT = "exact"
NO_CELL = "no cell has a value of both"


def comparison_table(models: Mapping[str, Scores]) -> list[TableRow]:
    """Leader table: models, then controls, then the human ceiling for each prediction mode among them."""
    table = [
        TableRow(name=name, kind="model", mode=one.mode, metrics=one.metrics, skill=one.skill)
        for name, one in models.items()
    ]
    any_model = next(iter(models.values()))
    table += [
        TableRow(name=name, kind="control", mode=None, metrics=any_model.controls[name], skill={})
        for name in CONTROLS
    ]
    listed = set()
    for one in models.values():
        mode = asked(one)
        if mode not in listed:
            listed.add(mode)
            table.append(_ceiling_row(f"split_half ({mode})", one, "split_half_corrected"))
            table.append(_ceiling_row(f"bootstrap ({mode})", one, "bootstrap_corrected"))
    table.append(_ceiling_row("split_half (raw)", any_model, "split_half_raw"))
    return table


def asked(scores: Scores) -> str:
    """How a model was asked: its mode, and the answers a row if they were sampled."""
    return scores.mode if scores.samples is None else f"{scores.mode}, {scores.samples:g} a row"


def _ceiling_row(name: str, scores: Scores, kind: str) -> TableRow:
    return TableRow(
        name=name, kind="ceiling", mode=scores.mode if kind != "split_half_raw" else None,
        metrics=getattr(scores.ceiling, kind) | scores.ceiling.another_person, skill={},
    )  # fmt: skip


def differences(models: Mapping[str, Scores], works: Mapping[str, Work]) -> list[Difference]:
    """Every pair of models, and each model against REFERENCES: a minus b, paired by cell and study."""
    pairs: list[tuple[str, str]] = list(combinations(models, 2))
    pairs += [(name, reference) for name in models for reference in REFERENCES]
    out = []
    for a, b in pairs:
        for metric in COMPARED:
            ways = {asked(models[name]) if name in models else EXACT for name in (a, b)}
            out.append(_difference(works, (a, b), metric, metric in DISTANCES and len(ways) > 1))
    primary = [one for one in out if one.metric == PRIMARY]
    corrected = iter(holm([one.p_bootstrap for one in primary]))
    return [
        one.model_copy(update={"p_holm": next(corrected)}) if one.metric == PRIMARY else one for one in out
    ]


def _difference(works: Mapping[str, Work], names: tuple[str, str], metric: str, excess: bool) -> Difference:
    work, other = works[names[0]], works.get(names[1])
    of_b = other.cells if other else work.controls[names[1]]
    cells = work.cells.values[metric] - of_b.values[metric]
    if excess:
        column = DISTANCES.index(metric)
        of_other = other.ceiling.paired if other else _of_people(work)
        cells = cells - (work.ceiling.paired[:, column] - of_other[:, column])
    per_study = work.studies.means(cells)
    of_people = other.people.studies[metric] if other else work.control_people[names[1]][metric]
    moved = work.people.studies[metric][: len(of_people)] - of_people
    people = moved - mean_of_finite(moved.T)[None] + per_study
    one: Estimate = study_estimate(per_study, work.studies, NO_CELL, int(np.isfinite(cells).sum()), people)
    draws, seed = work.settings.permutations, work.seed
    return Difference(
        **one.model_dump(), a=names[0], b=names[1], metric=metric, of="excess" if excess else "score",
        p=sign_flip_p(per_study, draws, seed), p_bootstrap=bootstrap_p(per_study, draws, seed),
        smallest_p=smallest_sign_flip_p(int(np.isfinite(per_study).sum())),
        p_equivalent=equivalence_p(per_study, work.settings.margin), margin=work.settings.margin,
    )  # fmt: skip


def _of_people(work: Work) -> np.ndarray:
    """float64 (C, 5): the distance of a right and exact distribution, that of resampled people."""
    people = work.cells.frame["people"].to_numpy().astype(float)
    with np.errstate(divide="ignore", invalid="ignore"):
        return work.ceiling.bootstrap_raw * np.sqrt(people / (people - 1))[:, None]
