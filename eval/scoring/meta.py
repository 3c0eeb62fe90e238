"""Effects as a meta-analysis: each study's slope of observed on predicted effects, and that of a new study.

Pairs of arms of one outcome share arms, so their errors are correlated. A study's slope is therefore taken
over arms, each outcome with a level of its own and each arm weighted by its precision: that is generalised
least squares over all pairs with the covariance of shared arms. The noise of the predictions is taken off the
sums (Fuller 1987, section 1.2). Slopes are combined with random effects (Paule and Mandel 1982), their mean
has the interval of Hartung, Knapp, Sidik and Jonkman, and a new study's slope a prediction interval (IntHout
et al. 2016): statsmodels.
"""

from typing import NamedTuple

import numpy as np
import polars as pl
from scipy import stats
from statsmodels.stats.meta_analysis import combine_effects

from eval.scoring.contrasts import Design, arm_statistics
from eval.scoring.estimates import FEWEST_STUDIES, LEVEL
from eval.scoring.record import MetaAnalysis

ROUNDS = 10
BEYOND_NOISE = 1.645  # standard errors that predicted effects must exceed their noise by
FEW = f"fewer than {FEWEST_STUDIES} studies predict effects that are larger than their noise"


class Arms(NamedTuple):
    """A arms of one study, in standard deviations of people's answers: float64 (A) each; outcome: int64 (A).

    covariance: of the errors of observed and predicted mean.
    """

    outcome: np.ndarray
    observed: np.ndarray
    predicted: np.ndarray
    observed_variance: np.ndarray
    predicted_variance: np.ndarray
    covariance: np.ndarray


class Slope(NamedTuple):
    """A study's slope, and what its variance is made of, as sums over arms weighted by precision.

    effects: of squared predicted effects, less noise. noise: what noise alone gives. blur: of squared error
    covariances (Fuller 1987, section 1.2). size: of the weights that outcomes' levels leave. luck: the
    sampling variance of `effects`.
    """

    slope: float
    effects: float
    noise: float
    blur: float
    size: float
    luck: float


def meta_analysis(design: Design, pairs: pl.DataFrame) -> MetaAnalysis:
    """Slopes of all studies, combined. pairs: `contrasts.contrasts(design)`."""
    return of_studies(_studies(design, pairs))


def of_studies(studies: list[Arms]) -> MetaAnalysis:
    """Slopes of studies, combined; all are weighted at one slope, that of their mean.

    Weighted each at its own slope, studies with a large one would count less: it multiplies the noise of
    predictions.
    """
    slope = 1.0
    for _ in range(ROUNDS):
        slopes = [study_slope(arms, slope) for arms in studies]
        combined = combine([one for one in slopes if one is not None], sum(one is None for one in slopes))
        if combined.slope is None or abs(combined.slope - slope) < 1e-4:
            break
        slope = combined.slope
    return combined


def combine(slopes: list[Slope], without_effect: int = 0) -> MetaAnalysis:
    """From the studies' slopes; without_effect: studies that predict none."""
    count = len(slopes)
    if count < FEWEST_STUDIES:
        return MetaAnalysis(studies=count, without_effect=without_effect, reason=FEW)
    values = np.array([one.slope for one in slopes])
    combined = combine_effects(values, variances(slopes), method_re="iterated", use_t=True)
    mean, tau = float(combined.mean_effect_re), float(np.sqrt(max(combined.tau2, 0.0)))
    error = float(combined.sd_eff_w_re_hksj)
    tail = (1 + LEVEL) / 2
    reach = float(stats.t.ppf(tail, count - 1)) * error
    new = float(stats.t.ppf(tail, count - 2)) * float(np.hypot(tau, error))
    return MetaAnalysis(
        studies=count, without_effect=without_effect, slope=mean, low=mean - reach, high=mean + reach,
        new_low=mean - new, new_high=mean + new, tau=tau, i2=max(0.0, float(combined.i2)),
    )  # fmt: skip


def variances(slopes: list[Slope]) -> np.ndarray:
    """Sampling variances of the slopes: float64 (S).

    Noise that makes a study's predicted effects look small makes its slope large: weights that followed it
    would favour small slopes. So the size of effects is shrunken towards the studies' mean as far as it is
    noise (empirical Bayes); exact predictions have none.
    """
    effects, noise, blur, size, luck = np.array([one[1:] for one in slopes]).T
    level, by_luck = effects / size, luck / size**2
    between = max(float(level.var(ddof=1) - by_luck.mean()), 0.0)
    by_study = np.where(by_luck > 0, between / np.maximum(between + by_luck, 1e-300), 1.0)
    typical = (by_study * level + (1 - by_study) * level.mean()) * size
    return (typical + noise + blur) / typical**2


def study_slope(arms: Arms, at: float = 1.0) -> Slope | None:
    """A study's slope, arms weighted as for a slope of `at`; None where predicted effects aren't larger than
    their noise."""
    outcomes = int(arms.outcome.max()) + 1
    error = arms.observed_variance - 2 * at * arms.covariance + at**2 * arms.predicted_variance
    weight = 1 / np.maximum(error, 1e-12)
    total = np.bincount(arms.outcome, weight, minlength=outcomes)
    x, y = (
        part - (np.bincount(arms.outcome, weight * part, minlength=outcomes) / total)[arms.outcome]
        for part in (arms.predicted, arms.observed)
    )
    free = weight * (1 - weight / total[arms.outcome])  # a level of its own takes its part of the noise
    noise = float(free @ arms.predicted_variance)
    effects = float(weight @ x**2) - noise
    by_chance = np.sqrt(2 * float(((free * arms.predicted_variance) ** 2).sum()))
    if effects <= max(BEYOND_NOISE * by_chance, 1e-12):
        return None
    slope = (float(weight @ (x * y)) - float(free @ arms.covariance)) / effects
    blur = float(((weight * (arms.covariance - at * arms.predicted_variance)) ** 2).sum())
    squares = 4 * x**2 * arms.predicted_variance - 2 * arms.predicted_variance**2
    luck = max(float((weight**2 * squares).sum()), 0.0)
    return Slope(slope, effects, noise, blur, float(free.sum()), luck)


def _studies(design: Design, pairs: pl.DataFrame) -> list[Arms]:
    """The arms of each study's outcomes that can be compared."""
    means, variances = arm_statistics(design)
    sd = design.arms["sd"].to_numpy()
    table = design.arms.select("study_id", "task_num", "option", "scale_low", "scale_high").with_columns(
        arm=pl.int_range(pl.len(), dtype=pl.Int64)
    )
    compared = np.unique(np.concatenate([design.first, design.second]))
    shared = _shared(design, pairs)
    out = []
    key = ["task_num", "option", "scale_low", "scale_high"]
    for part in table[compared].partition_by("study_id", maintain_order=True):
        arm = part["arm"].to_numpy()
        outcome = part.select(pl.struct(key).rank("dense").cast(pl.Int64) - 1).to_series().to_numpy()
        mean, square = means[arm] / sd[arm, None], variances[arm] / sd[arm, None] ** 2
        square = np.maximum(square - shared[arm], 1e-9)
        covariance = (square[:, 0] + square[:, 1] - square[:, 2]) / 2
        out.append(Arms(outcome, mean[:, 0], mean[:, 1], square[:, 0], square[:, 1], covariance))
    return out


def _shared(design: Design, pairs: pl.DataFrame) -> np.ndarray:
    """float64 (A, 3): mean covariance of an outcome's arms that have the same people, in squared sds."""
    _, variances = arm_statistics(design)
    names = ["observed_se", "predicted_se", "difference_se"]
    both = design.pairs.with_columns(
        pl.Series(name, variances[design.first, k] + variances[design.second, k])
        for k, name in enumerate(("apart_0", "apart_1", "apart_2"))
    )
    key = ["study_id", "task_num", "option", "condition_a", "condition_b"]
    joined = both.join(pairs.select(*key, *names), on=key, nulls_equal=True)
    outcome = ["study_id", "task_num", "option"]
    covariances = joined.group_by(outcome).agg(
        ((pl.col(f"apart_{k}") - pl.col(name) ** 2) / 2 / pl.col("sd") ** 2).mean().alias(f"shared_{k}")
        for k, name in enumerate(names)
    )
    columns = [f"shared_{k}" for k in range(len(names))]
    of_arm = design.arms.select(outcome).join(
        covariances, on=outcome, how="left", nulls_equal=True, maintain_order="left"
    )
    return of_arm.select(pl.col(columns).fill_null(0.0)).to_numpy()
