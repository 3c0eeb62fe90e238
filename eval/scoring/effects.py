"""Do predicted treatment effects agree with the observed ones: which arm moves people, where, and how far?

Effects are in standard deviations of people's answers. Each study counts the same, however many pairs of arms
it has. Which arm comes first is arbitrary, so correlation and slope run through the origin (they equal those
of the pairs listed both ways round). The slope is corrected for the noise of the predictions: a perfect model
that is sampled once a person has slope 1, however few people there are (Fuller 1987, section 1.2). Shrinkage
(`rmse_std_shrunk`) is of the noisy predictions as they are, so it uses the plain slope.
"""

from collections.abc import Iterator

import numpy as np
import polars as pl
from scipy import stats

from eval.scoring.align import Evaluated
from eval.scoring.contrasts import OUTCOME, Design, contrasts, design, mean_answers
from eval.scoring.estimates import UNLIMITED, Studies, mean_of_finite, missing, statistic
from eval.scoring.meta import meta_analysis
from eval.scoring.metrics import POSITIVE, SHARE, SIGNED
from eval.scoring.record import Effects, Estimate, Estimates
from eval.scoring.resampling import SumRows, resample_sums
from eval.settings import ScoreSettings

LIMITS = {
    "correlation": SIGNED, "correlation_corrected": SIGNED, "correlation_disattenuated": SIGNED,
    "slope": UNLIMITED, "magnitude_ratio": POSITIVE, "sign_agreement": SHARE, "sign_agreement_clear": SHARE,
    "rmse_range": POSITIVE, "rmse_std": POSITIVE, "rmse_std_shrunk": POSITIVE, "coverage_90": SHARE,
}  # fmt: skip
ARM_LIMITS = {"best_arm_hit": SHARE, "best_arm_chance": SHARE, "best_arm_regret": POSITIVE}
NO_CONTRAST = "no outcome has two arms to compare"
NO_EFFECT = "no effect predicted: predicted differences are zero, or no larger than their noise"
LIMITED = "limited to 1: noise took more off the spread of effects than there was"
REASONS = {
    "sign_agreement_clear": "no contrast is clear (3 standard errors or more from zero)",
    "rmse_std_shrunk": "no other study to take the shrinkage from, or no effect predicted",
}
HALF_SAMPLES = 20  # random splits of the people
SUMS = (
    "op",
    "oo",
    "pp",
    "noise_o",
    "noise_p",
    "noise_op",
    "agree",
    "clear",
    "agree_clear",
    "range_error",
    "covered",
)
Sums = dict[str, np.ndarray]


def effect_scores(
    evaluated: Evaluated, train: pl.DataFrame | None, settings: ScoreSettings, seed: int
) -> tuple[Effects, pl.DataFrame]:
    """The `effects` block of scores.json, and contrasts.parquet: every pair of arms, the clearest first."""
    arms = design(evaluated, train)
    pairs = contrasts(arms)
    if pairs.is_empty():
        model = {name: missing(NO_CONTRAST) for name in (*LIMITS, *ARM_LIMITS)}
        half = {name: missing(NO_CONTRAST) for name in LIMITS}
    else:
        studies = Studies.of(pairs["study_id"].to_list(), settings.replicates, seed)
        people = _people_sums(arms, pairs, studies, settings.replicates, seed)
        model = agreement(product_sums(pairs, studies), len(pairs), studies, people) | _best_arms(
            arms, settings, seed
        )
        half = agreement(half_samples(arms, studies, seed), len(pairs), studies)
    record = Effects(
        contrasts=len(pairs), outcomes=pairs.select(OUTCOME).n_unique() if len(pairs) else 0,
        studies=pairs["study_id"].n_unique(), clear=int(pairs["clear"].sum()), left_out=arms.left_out,
        model=model, half_sample=half, meta=meta_analysis(arms, pairs) if len(pairs) else None,
    )  # fmt: skip
    listed = pairs.drop("pair").with_columns(
        observed_std=pl.col("observed") / pl.col("sd"), predicted_std=pl.col("predicted") / pl.col("sd")
    )
    return record, listed.sort(pl.col("z").abs(), descending=True, nulls_last=True)


def agreement(sums: Sums, pairs: int, studies: Studies, people: Sums | None = None) -> Estimates:
    """Every statistic of LIMITS from each study's mean products (S), with intervals over studies and people.

    people: the same products when people are drawn again (R, S).
    """
    shrunk = _shrunk_errors(sums)
    with np.errstate(invalid="ignore"):
        value = _statistics(
            {name: column[None].mean(1) for name, column in sums.items()}, shrunk[None].mean(1)
        )
        count = len(shrunk)
        drawn = _statistics(
            {name: studies.weights @ column / count for name, column in sums.items()},
            studies.weights @ shrunk / count,
        )
        of_people = None
        if people is not None:
            of_people = _statistics(
                {name: mean_of_finite(column) for name, column in people.items()},
                _shrunk_errors(people).mean(1),
            )
    out = {}
    for name, limits in LIMITS.items():
        if name == "slope" and _no_slope(sums, people):
            out[name] = missing(NO_EFFECT)
            continue
        figure, reason = float(value[name][0]), REASONS.get(name, NO_EFFECT)
        resampled = None if of_people is None else of_people[name]
        limited = limits == SIGNED and abs(figure) >= 1 and name != "correlation"
        one = statistic(
            float(np.clip(figure, *limits)), np.clip(drawn[name], *limits), count, pairs,
            None if resampled is None else np.clip(resampled, *limits), reason, limits,
        )  # fmt: skip
        out[name] = one.model_copy(update={"reason": LIMITED}) if limited and one.value is not None else one
    return out


def _no_slope(sums: Sums, people: Sums | None) -> bool:
    """True where the predicted effects aren't larger than their own noise: a slope would be arbitrary."""
    excess = sums["pp"].mean() - sums["noise_p"].mean()
    error = 0.0 if people is None else np.nanstd(mean_of_finite(people["pp"]))
    return bool(excess <= 1.645 * error)


def product_sums(pairs: pl.DataFrame, studies: Studies) -> Sums:
    """Each study's means over its pairs of the products that all statistics are made of: {name: (S)}."""
    names = ("observed", "predicted", "observed_se", "predicted_se", "difference_se")
    o, p, se_o, se_p, se_d = ((pairs[name] / pairs["sd"]).to_numpy() for name in names)
    within = stats.t.ppf(0.95, pairs["difference_df"].fill_null(np.inf).to_numpy()) * se_d
    products = _products(o, p, pairs["clear"].to_numpy(), (pairs["sd"] / pairs["width"]).to_numpy())
    products |= {
        "noise_o": se_o**2, "noise_p": se_p**2, "noise_op": (se_o**2 + se_p**2 - se_d**2) / 2,
        "covered": (np.abs(o - p) <= within).astype(float),
    }  # fmt: skip
    return {name: studies.means(products[name]) for name in SUMS}


def _products(o: np.ndarray, p: np.ndarray, clear: np.ndarray, unit: np.ndarray) -> Sums:
    p = np.where(np.abs(p) < 1e-9, 0.0, p)  # what rounding leaves of equal means is no effect
    agree = np.where((o == 0) | (p == 0), 0.5, np.sign(o) == np.sign(p))
    shown = np.broadcast_to(clear, o.shape).astype(float)
    return {
        "op": o * p, "oo": o * o, "pp": p * p, "agree": agree, "clear": shown, "agree_clear": agree * shown,
        "range_error": ((o - p) * unit) ** 2,
    }  # fmt: skip


class PeopleSums:
    """`product_sums` when people are drawn again, collected a few draws at a time."""

    def __init__(self, pairs: pl.DataFrame, studies: Studies) -> None:
        self.pairs, self.studies = pairs, studies
        self._parts: dict[str, list[np.ndarray]] = {}
        self._sd, self._clear = pairs["sd"].to_numpy(), pairs["clear"].to_numpy()
        free = pairs["difference_df"].fill_null(np.inf).to_numpy()
        self._within = stats.t.ppf(0.95, free) * pairs["difference_se"].to_numpy() / self._sd

    def add(self, effects: np.ndarray) -> None:
        """Observed and predicted effects of the pairs, in answer units: float64 (draws, P, 2)."""
        o, p = (effects[..., k] / self._sd for k in range(2))
        products = _products(o, p, self._clear, self._sd / self.pairs["width"].to_numpy())
        products["covered"] = (np.abs(o - p) <= self._within).astype(float)
        for name, values in products.items():
            self._parts.setdefault(name, []).append(
                self.studies.means(np.where(np.isfinite(o), values, np.nan))
            )

    def sums(self) -> Sums:
        """{name: (R, S)}. A resampled effect has its sampling error twice: once from the people, once from
        drawing them again."""
        fixed = product_sums(self.pairs, self.studies)
        sums = {name: np.concatenate(values) for name, values in self._parts.items()}
        noise = ("noise_o", "noise_p", "noise_op")
        return sums | {name: np.broadcast_to(2 * fixed[name], sums["op"].shape) for name in noise}


def _people_sums(arms: Design, pairs: pl.DataFrame, studies: Studies, replicates: int, seed: int) -> Sums:
    """`product_sums` when people are drawn again: {name: (R, S)}."""
    drawn = PeopleSums(pairs, studies)
    for sums in resampled_arms(arms, np.zeros(len(arms.arm), np.int64), 1, replicates, seed):
        drawn.add(effects_of(arms, sums[:, :, 0]))
    return drawn.sums()


def resampled_arms(
    arms: Design, group: np.ndarray, groups: int, replicates: int, seed: int
) -> Iterator[np.ndarray]:
    """Sums of weight, human and predicted answers of each arm and group of people when people are drawn
    again: (draws, A, groups, 3), a few draws at a time. group: int64 (M), negative for nobody's."""
    people = arms.people
    study = (people["study_id"].rank("dense").cast(pl.Int64) - 1).to_numpy()
    person = people.select(pl.col("participant").rank("dense").over("study_id").cast(pl.Int32) - 1)
    values = np.column_stack([np.ones(len(study)), arms.values[:, :2]]) * arms.weight[:, None]
    at = np.where(group >= 0, arms.arm * groups + group, -1)
    rows = SumRows.of(study, person.to_series().to_numpy(), at, values, len(arms.arms) * groups)
    for sums in resample_sums(rows, replicates, seed):
        yield sums.reshape(len(sums), len(arms.arms), groups, 3)


def effects_of(arms: Design, sums: np.ndarray) -> np.ndarray:
    """Observed and predicted effects of all pairs (draws, P, 2) from sums of arms (draws, A, 3)."""
    with np.errstate(invalid="ignore", divide="ignore"):
        means = sums[..., 1:] / sums[..., :1]
    return means[:, arms.second] - means[:, arms.first]


def half_samples(arms: Design, studies: Studies, seed: int) -> Sums:
    """`product_sums` when one half of the people predicts the other, the mean of HALF_SAMPLES random splits.

    The half that is predicted says which contrasts are clear, as all people do for a model, and it is the
    half that is judged; the predicting half has no part in the choice. Both are half as large as what a model
    is held to, so this is a lower bound of what a perfect model reaches.
    """
    rng = np.random.default_rng([seed, 2])
    person = arms.people.select(pl.struct("study_id", "participant").rank("dense")).to_series().to_numpy() - 1
    names = ["observed", "observed_se"]
    total: dict[str, list[np.ndarray]] = {name: [] for name in SUMS}
    for _ in range(HALF_SAMPLES):
        first = (rng.permutation(person.max() + 1) % 2 == 0)[person]
        judged, predicting = contrasts(arms, first), contrasts(arms, ~first)
        key = [*OUTCOME, "condition_a", "condition_b"]
        other = predicting.select(*key, *names).rename(
            {"observed": "predicted", "observed_se": "predicted_se"}
        )
        both = judged.drop("predicted", "predicted_se", "difference_se", "difference_df").join(
            other, on=key, nulls_equal=True, maintain_order="left"
        )
        both = both.with_columns(
            difference_se=(pl.col("observed_se") ** 2 + pl.col("predicted_se") ** 2).sqrt(),
            difference_df=2 * pl.col("df"),
        )
        split = Studies(
            studies.names, np.searchsorted(studies.names, both["study_id"].to_list()), studies.weights
        )
        for name, values in product_sums(both, split).items():
            total[name].append(values)
    stacked = {name: np.stack(values) for name, values in total.items()}
    return {  # 0 where no split has a value
        name: np.nansum(sums, 0) / np.maximum(1, (~np.isnan(sums)).sum(0)) for name, sums in stacked.items()
    }


def _shrunk_errors(s: Sums) -> np.ndarray:
    """Each study's mean squared error when predictions are shrunk by the slope of all other studies."""
    with np.errstate(divide="ignore", invalid="ignore"):
        rest_op = s["op"].sum(-1, keepdims=True) - s["op"]
        rest_pp = s["pp"].sum(-1, keepdims=True) - s["pp"]
        slope = np.where(rest_pp > 1e-18, rest_op / rest_pp, np.nan)
        return s["oo"] - 2 * slope * s["op"] + slope**2 * s["pp"]


def _statistics(m: Sums, shrunk: np.ndarray) -> Sums:
    def root(x: np.ndarray) -> np.ndarray:
        return np.sqrt(np.where(x > 0, x, np.nan))

    true_o, true_p = m["oo"] - m["noise_o"], m["pp"] - m["noise_p"]
    shared = m["op"] - m["noise_op"]
    with np.errstate(divide="ignore", invalid="ignore"):
        return {
            "correlation": m["op"] / root(m["oo"] * m["pp"]),
            "correlation_corrected": shared / (root(true_o) * root(true_p)),
            "correlation_disattenuated": shared / (root(true_o) * root(m["pp"])),
            "slope": shared / np.where(true_p > 0, true_p, np.nan),
            "magnitude_ratio": root(true_p) / root(true_o),
            "sign_agreement": m["agree"],
            "sign_agreement_clear": m["agree_clear"] / np.where(m["clear"] > 0, m["clear"], np.nan),
            "rmse_range": np.sqrt(m["range_error"]),
            "rmse_std": np.sqrt(np.maximum(m["oo"] - 2 * m["op"] + m["pp"], 0)),
            "rmse_std_shrunk": np.sqrt(shrunk),
            "coverage_90": m["covered"],
        }


def _best_arms(arms: Design, settings: ScoreSettings, seed: int) -> dict[str, Estimate]:
    """Does the model name the arm with the highest (and with the lowest) mean? Means of both directions.

    Among predictions that tie, one is picked by chance. Regret: what the named arm's mean lacks, in
    standard deviations.
    """
    compared = np.unique(np.concatenate([arms.first, arms.second]))
    table = mean_answers(arms)[compared]
    per_outcome = []
    for sign in (1, -1):
        human, predicted = sign * pl.col("human"), sign * pl.col("predicted")
        top = human.max()
        named = predicted >= predicted.max() - 1e-9 * pl.col("sd").max()
        per_outcome.append(
            table.group_by(OUTCOME).agg(
                (human.filter(named) >= top).mean().alias("best_arm_hit"),
                (1 / pl.len()).alias("best_arm_chance"),
                ((top - human.filter(named).mean()) / pl.col("sd").max()).alias("best_arm_regret"),
            )
        )
    rows = pl.concat(per_outcome).group_by("study_id").agg(pl.col(*ARM_LIMITS).mean()).sort("study_id")
    studies = Studies.of(rows["study_id"].to_list(), settings.replicates, seed)
    out = {}
    for name, limits in ARM_LIMITS.items():
        values = rows[name].to_numpy().astype(float)
        drawn = studies.weights @ values / len(values)
        out[name] = statistic(float(values.mean()), drawn, len(values), len(per_outcome[0]), limits=limits)
    return out
