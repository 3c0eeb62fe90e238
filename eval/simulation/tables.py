"""All results of one simulation as typed rows: arms, distributions, effects, subgroups, order, pilot."""

from collections.abc import Iterator

import numpy as np
import polars as pl

from common.experiment import Contrast
from common.experiment_file import Design
from eval.simulation.effects import (
    Effect,
    RealEffect,
    arm_means,
    contrast_weights,
    effect,
    measures,
    observed_effect,
    order_effects,
)
from eval.simulation.measured import Asked, Measured, Simulated
from eval.simulation.pilot import pilot_rows
from eval.simulation.population import in_category
from eval.simulation.power import (
    Belief,
    assurance,
    people_assured,
    people_needed,
    power_at,
    smallest_effect,
)
from eval.simulation.real_answers import Observed
from eval.simulation.record import ArmRow, CellRow, EffectRow, OrderRow, SubgroupRow, Tables
from eval.simulation.trust import Fit

LONGEST = 1001  # an outcome with more answers (an open one) has no table of distributions
SMALLEST_GROUP = 30  # a subgroup with fewer simulated people gets no effect
Z95 = 1.96


def analyse(simulated: Simulated, fit: Fit | None) -> Tables:
    """Every table of a simulation, some without rows. fit: what calibration has learned."""
    arms, cells, effects, subgroups, order, pilot = [], [], [], [], [], []
    for outcome, answers in simulated.answers.items():
        cells += list(cell_rows(simulated, outcome))
        for measure, value in measures(simulated.experiment.scales[outcome], answers.support):
            means = arm_means(answers, value, simulated.weight, len(simulated.arms))
            measured = Measured(simulated, outcome, measure, value, means)
            arms += list(_arms(measured))
            effects += list(_effects(measured, fit))
            subgroups += list(_subgroups(measured))
            order += list(_order(measured))
            pilot += list(pilot_rows(measured))
    return Tables(
        arms=arms, cells=cells, effects=effects, subgroups=subgroups, order_effects=order, pilot=pilot
    )


def _arms(measured: Measured) -> Iterator[ArmRow]:
    means, observed = measured.means, measured.observed
    people = people_by_arm(measured.simulated.experiment.file.design, len(measured.simulated.arms))
    for index, arm in enumerate(measured.simulated.arms):
        asked = np.isfinite(means.mean[index])
        mean, simulation = float(means.mean[index]), float(np.sqrt((means.influence[:, index] ** 2).sum()))
        error = float(np.hypot(simulation, np.sqrt(means.variance[index] / people)))
        real = _mean_of(observed, index) if observed else None
        yield ArmRow(
            outcome=measured.outcome,
            measure=measured.measure,
            arm=arm,
            estimate=mean if asked else None,
            std_error=error if asked else None,
            std_error_simulation=simulation if asked else None,
            conf_low=mean - Z95 * error if asked else None,
            conf_high=mean + Z95 * error if asked else None,
            sd=float(means.sd[index]) if asked else None,
            observed_n=real[2] if real else None,
            observed=real[0] if real else None,
            observed_std_error=real[1] if real else None,
        )


def _mean_of(observed: Observed, arm: int) -> tuple[float, float, int] | None:
    """The weighted mean of an arm's real answers, its standard error and their number; None of fewer than
    two."""
    chosen = observed.arm == arm
    n, answer = int(chosen.sum()), observed.answer[chosen]
    if n < 2:
        return None
    share = observed.weight[chosen] / observed.weight[chosen].sum()
    mean = float(share @ answer)
    return mean, float(np.sqrt((share**2 @ (answer - mean) ** 2) * n / (n - 1))), n


def cell_rows(simulated: Simulated, outcome: str) -> Iterator[CellRow]:
    """The distribution of answers by arm: one row an answer."""
    answers = simulated.answers[outcome]
    if len(answers.support) > LONGEST:
        return
    labels = dict(simulated.experiment.scales[outcome].labels)
    real = simulated.observed.of(outcome) if simulated.observed else None
    for index, arm in enumerate(simulated.arms):
        asked = answers.arm == index
        if not asked.any():
            continue
        w = simulated.weight[answers.person[asked]]
        share = w @ answers.probs[asked] / w.sum()
        given = real.where(real.arm == index) if real else None
        for answer, part in zip(answers.support.tolist(), share.tolist(), strict=True):
            yield CellRow(
                outcome=outcome,
                arm=arm,
                answer=answer,
                label=labels.get(answer),
                share=part,
                observed_share=given.share(answer) if given and len(given.answer) else None,
            )


def _effects(measured: Measured, fit: Fit | None) -> Iterator[EffectRow]:
    observed = measured.observed
    for contrast in measured.simulated.experiment.contrasts:
        weights = measured.weights(contrast)
        if weights is not None:
            estimate = effect(measured.means, weights, measured.simulated.experiment.file.design)
            real = observed_effect(observed, weights) if observed else None
            yield effect_row(measured, contrast, estimate, fit, real)


def effect_row(
    measured: Asked,
    contrast: Contrast,
    estimate: Effect,
    fit: Fit | None,
    observed: RealEffect | None = None,
) -> EffectRow:
    """An effect's row: estimate, errors, calibrated interval (or why not), power, and the real effect."""
    design = measured.simulated.experiment.file.design
    within, people = design.kind == "within", planned_people(design)
    reason = _uncalibrated(measured.measure, contrast, fit)
    calibrated = low = high = belief = None
    ratio = fit.spread_ratio if fit is not None and measured.measure == "mean" else None
    if fit is not None and reason is None:
        error = fit.error(estimate.se_sampling, estimate.se_simulation)
        calibrated, low, high = (float(end) for end in fit.interval(estimate.value, estimate.sd, error))
        belief = Belief(calibrated, float(fit.spread(estimate.value, estimate.sd)), fit.df)
    spread = estimate.spread * (ratio or 1.0) ** 2
    return EffectRow(
        outcome=measured.outcome,
        measure=measured.measure,
        contrast=contrast.name,
        kind=contrast.kind,
        estimate=estimate.value,
        std_error=estimate.se,
        std_error_sampling=estimate.se_sampling,
        std_error_simulation=estimate.se_simulation,
        std_error_people=None if ratio is None else ratio * estimate.se_sampling,
        conf_low=estimate.value - Z95 * estimate.se,
        conf_high=estimate.value + Z95 * estimate.se,
        sd=estimate.sd,
        estimate_sd=estimate.value / estimate.sd if estimate.sd > 0 else None,
        calibrated=calibrated,
        calibrated_low=low,
        calibrated_high=high,
        no_calibration=reason,
        power=power_at(estimate.value, spread, people, within),
        people_needed=people_needed(estimate.value, spread, within),
        assurance=assurance(belief, spread, people) if belief else None,
        people_assured=people_assured(belief, spread) if belief else None,
        smallest_effect=smallest_effect(spread, people, within),
        observed=observed.value if observed else None,
        observed_std_error=observed.se if observed else None,
        observed_low=observed.low if observed else None,
        observed_high=observed.high if observed else None,
    )


def planned_people(design: Design) -> int:
    """People of the planned study: per arm between subjects, in all within subjects."""
    people = design.people if design.kind == "within" else design.people_per_arm
    assert people is not None  # checked when the file was read
    return people


def people_by_arm(design: Design, arms: int) -> float:
    """People of the planned study who see an arm."""
    people = planned_people(design)
    return people * (design.tasks or arms) / arms if design.kind == "within" else people


def _uncalibrated(measure: str, contrast: Contrast, fit: Fit | None) -> str | None:
    if fit is None:
        return "no evaluation of this model to learn from"
    if contrast.kind == "amce":
        return "calibration is learned on differences of arms, not on choices between profiles"
    if contrast.kind == "interaction":
        return "calibration is learned on differences of arms, not on interactions"
    if measure != "mean":
        return "calibration is learned on means, not on shares of a choice"
    return None


def _subgroups(measured: Measured) -> Iterator[SubgroupRow]:
    """Effects within groups of people, and how each differs from that of the field's other people.

    Sampling errors are those of the group's share of the planned people. Groups with fewer than
    SMALLEST_GROUP simulated people are named without an effect.
    """
    people = measured.simulated.people.frame
    for field, groups in measured.simulated.experiment.file.moderators.items():
        for group in groups or groups_of(people, field):
            inside = in_category(people[field], group)
            outside = people[field].is_not_null().to_numpy() & ~inside
            for contrast in measured.simulated.experiment.contrasts:
                parts = [_effect_among(measured, mask, contrast) for mask in (inside, outside)]
                yield SubgroupRow(
                    outcome=measured.outcome,
                    measure=measured.measure,
                    field=field,
                    group=group,
                    people=int(inside.sum()),
                    contrast=contrast.name,
                    **_compared(*parts),
                )


def groups_of(people: pl.DataFrame, field: str) -> list[str]:
    """Every value of a field that somebody has."""
    return people[field].drop_nulls().cast(pl.String).unique().sort().to_list()


def _effect_among(measured: Measured, mask: np.ndarray, contrast: Contrast) -> Effect | None:
    if mask.sum() < SMALLEST_GROUP:
        return None
    simulated, answers = measured.simulated, measured.answers
    weights = contrast_weights(contrast, simulated.arms)
    among = answers.where(mask[answers.person])
    means = arm_means(among, measured.value, simulated.weight, len(simulated.arms))
    if np.isnan(means.mean[np.flatnonzero(weights)]).any():
        return None
    share = float(simulated.weight[mask].sum() / simulated.weight.sum())
    return effect(means, weights, simulated.experiment.file.design, share=share)


def _compared(inside: Effect | None, outside: Effect | None) -> dict[str, float | str]:
    """The fields of a subgroup's row that depend on its effect."""
    if inside is None:
        return {"reason": f"fewer than {SMALLEST_GROUP} simulated people, or an arm without any"}
    reach = Z95 * inside.se
    row: dict[str, float | str] = {
        "estimate": inside.value,
        "std_error": inside.se,
        "conf_low": inside.value - reach,
        "conf_high": inside.value + reach,
    }
    if outside is not None:
        row["difference"] = inside.value - outside.value
        row["difference_std_error"] = float(np.hypot(inside.se, outside.se))
    return row


def _order(measured: Measured) -> Iterator[OrderRow]:
    means, simulated = measured.means, measured.simulated
    order = order_effects(measured.answers, measured.value, simulated.weight, len(simulated.arms))
    if order:
        sd = float(np.nanmean(means.sd))
        yield OrderRow(
            outcome=measured.outcome,
            measure=measured.measure,
            estimate=order[0],
            std_error=order[1],
            estimate_sd=order[0] / sd if sd > 0 else None,
        )
