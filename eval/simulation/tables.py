"""All results of one simulation as plain tables: arms, distributions, effects, subgroups, order, pilot."""

from typing import Any

import numpy as np

from eval.simulation import ppi
from eval.simulation.effects import (
    Answers,
    Means,
    arm_means,
    contrast_weights,
    describe,
    effect,
    measures,
    observed_effect,
    order_effects,
    subgroup_effects,
)
from eval.simulation.experiment import Experiment
from eval.simulation.population import People
from eval.simulation.survey import RealAnswers, values_of
from eval.simulation.trust import Fit

Rows = list[dict[str, Any]]
TABLES = ("arms", "cells", "effects", "subgroups", "order_effects", "pilot")
LONGEST = 1001  # an outcome with more answers (an open one) has no table of distributions


def analyse(
    experiment: Experiment,
    answers: dict[str, Answers],
    people: People,
    fit: Fit | None,
    real: dict[str, RealAnswers],
    pilot_answers: dict[str, Answers],
) -> dict[str, Rows]:
    """Every table of TABLES, some without rows.

    real: `observed` and `pilot` answers where given; pilot_answers: predictions for the pilot's rows.
    """
    tables: dict[str, Rows] = {name: [] for name in TABLES}
    weight = people.frame["weight"].to_numpy()
    arms = [arm.name for arm in experiment.arms]
    design = experiment.file.design
    for outcome, found in answers.items():
        scale = experiment.scales[outcome]
        truth = _of_outcome(real.get("observed"), outcome)
        tables["cells"] += _cells(experiment, outcome, found, weight, truth)
        for measure, value in measures(scale, found.support):
            means = arm_means(found, value, weight, len(arms))
            place: dict[str, Any] = {"outcome": outcome, "measure": measure}
            observed = None
            if truth is not None:
                arm, answer, person = truth
                observed = (arm, values_of(scale, found.support, value, answer), person)
            tables["arms"] += [place | row for row in _arm_rows(arms, means, observed)]
            for contrast in experiment.contrasts:
                weights = contrast_weights(contrast, arms)
                if np.isnan(means.mean[np.flatnonzero(weights)]).any():
                    continue
                row = place | {"contrast": contrast.name, "kind": contrast.kind}
                row |= describe(effect(means, weights, design), contrast, design, fit, measure == "mean")
                seen = observed_effect(*observed, weights) if observed else None
                row |= {"observed": seen[0] if seen else None, "observed_se": seen[1] if seen else None}
                tables["effects"].append(row)
            moderators = experiment.file.moderators
            of_groups = subgroup_effects(
                found, value, people.frame, experiment.contrasts, arms, moderators, design
            )
            tables["subgroups"] += [place | row for row in of_groups]
            order = order_effects(found, value, weight, len(arms))
            if order:
                sd = float(np.nanmean(means.sd))
                row = {"difference": order[0], "se": order[1]}
                row |= {"difference_sd": order[0] / sd if sd > 0 else None}
                tables["order_effects"].append(place | row)
            if outcome in pilot_answers:
                pilot = _of_outcome(real["pilot"], outcome)
                tables["pilot"] += [
                    place | row
                    for row in _combined(
                        experiment, means, value, pilot_answers[outcome], pilot, scale, found.support
                    )
                ]
    return tables


def _of_outcome(real: RealAnswers | None, outcome: str) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """(arm, answer, person) of an outcome's real answers."""
    if real is None:
        return None
    rows = real.frame.filter(real.frame["outcome"] == outcome)
    return rows["arm"].to_numpy(), rows["answer"].to_numpy(), rows["person"].to_numpy()


def _arm_rows(
    arms: list[str], means: Means, observed: tuple[np.ndarray, np.ndarray, np.ndarray] | None
) -> Rows:
    rows = []
    for index, arm in enumerate(arms):
        known = np.isfinite(means.mean[index])
        row: dict[str, Any] = {
            "arm": arm,
            "mean": float(means.mean[index]) if known else None,
            "sd": float(means.sd[index]) if known else None,
            "se_simulation": float(np.sqrt((means.influence[:, index] ** 2).sum())) if known else None,
            "observed_n": None,
            "observed_mean": None,
            "observed_se": None,
        }
        if observed is not None and (observed[0] == index).sum() > 1:
            own = observed[1][observed[0] == index]
            error = own.std(ddof=1) / np.sqrt(len(own))
            row |= {"observed_n": len(own), "observed_mean": float(own.mean()), "observed_se": float(error)}
        rows.append(row)
    return rows


def _cells(
    experiment: Experiment,
    outcome: str,
    found: Answers,
    weight: np.ndarray,
    truth: tuple[np.ndarray, np.ndarray, np.ndarray] | None,
) -> Rows:
    """The distribution of answers by arm: one row an answer."""
    if len(found.support) > LONGEST:
        return []
    labels = dict(experiment.scales[outcome].labels)
    rows = []
    for index, arm in enumerate(experiment.arms):
        own = found.arm == index
        if not own.any():
            continue
        w = weight[found.person[own]]
        share = w @ found.probs[own] / w.sum()
        real = truth[1][truth[0] == index] if truth is not None else np.empty(0)
        for answer, part in zip(found.support.tolist(), share.tolist(), strict=True):
            rows.append(
                {
                    "outcome": outcome,
                    "arm": arm.name,
                    "answer": answer,
                    "label": labels.get(answer),
                    "share": part,
                    "observed_share": float((real == answer).mean()) if len(real) else None,
                }
            )
    return rows


def _combined(
    experiment: Experiment,
    means: Means,
    value: np.ndarray,
    predicted: Answers,
    pilot: tuple[np.ndarray, np.ndarray, np.ndarray] | None,
    scale: Any,
    support: np.ndarray,
) -> Rows:
    """Treatment effects of pilot and predictions together, for contrasts whose arms the pilot covers."""
    assert pilot is not None
    arm, answer, person = pilot
    truth = values_of(scale, support, value, answer)
    guess, _ = predicted.moments(values_of(scale, support, value, predicted.support))
    combined = {}
    for index, name in enumerate(a.name for a in experiment.arms):
        own, simulated = arm == index, np.isfinite(means.expected[:, index])
        answers, guesses = (_by_person(part[own], person[own]) for part in (truth, guess))
        if len(answers) >= ppi.SMALLEST and simulated.any():
            combined[name] = ppi.combine(
                answers, guesses, means.expected[simulated, index], means.weight[simulated]
            )
    rows = []
    empty = dict.fromkeys(
        ("pilot", "pilot_se", "combined", "combined_se", "low", "high", "n", "effective_n", "reason")
    )
    for contrast in experiment.contrasts:
        row: dict[str, Any] = {"contrast": contrast.name} | empty
        absent = [name for name in contrast.weights if name not in combined]
        if absent:
            row["reason"] = f"fewer than {ppi.SMALLEST} people of the pilot in arm {absent[0]}"
        else:
            whole = ppi.contrast(combined, contrast.weights)
            row |= {
                "pilot": whole.pilot_mean,
                "pilot_se": whole.pilot_se,
                "combined": whole.mean,
                "combined_se": whole.se,
            }
            row |= {"low": whole.mean - 1.96 * whole.se, "high": whole.mean + 1.96 * whole.se}
            row |= {"n": whole.n, "effective_n": whole.effective_n}
        rows.append(row)
    return rows


def _by_person(values: np.ndarray, person: np.ndarray) -> np.ndarray:
    """Each person's mean: several answers of one person are no independent evidence."""
    _, place, count = np.unique(person, return_inverse=True, return_counts=True)
    return np.bincount(place, values) / count
