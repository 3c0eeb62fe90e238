"""Treatment effects: does the model say which arm of an experiment moves people, where, and how far?

For every pair of arms of an outcome: the observed and the predicted difference in means, raw and in
standard deviations of people's answers. Each study counts the same, however many pairs it has. Which arm
comes first is arbitrary, so correlation and slope run through the origin (they equal those of the pairs
listed both ways round).
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from eval.scoring.align import Aligned
from eval.scoring.answers import ROW_SCORES, row_scores
from eval.scoring.estimates import Estimate, Studies, missing, statistic

OUTCOME = ["study_id", "task_num"]
ARM = [*OUTCOME, "condition_num"]
CLEAR = 3.0  # |z| of a clear contrast
MAX_PAIRS = 5000
STATISTICS = (
    "correlation",
    "correlation_corrected",
    "slope",
    "magnitude_ratio",
    "sign_agreement",
    "sign_agreement_clear",
    "rmse_range",
    "rmse_std",
    "rmse_std_shrunk",
    "coverage_90",
)
BOUNDS = dict.fromkeys(("sign_agreement", "sign_agreement_clear", "coverage_90", "best_arm_hit"), (0.0, 1.0))
BOUNDS["correlation"] = (-1.0, 1.0)
ARM_STATISTICS = ("best_arm_hit", "best_arm_chance", "best_arm_regret")
NO_CONTRAST = "no outcome has two arms to compare"
NO_EFFECT = "predicted differences are all zero, or no larger than their noise"


@dataclass(frozen=True)
class Contrasts:
    """Pairs of arms, one row each, with what was left out.

    pairs: OUTCOME, condition_a, condition_b (a < b), observed, predicted (b minus a, answer units),
    observed_se, predicted_se, difference_se, sd (of people's answers to the outcome), width (of the
    observed range), z. arms: ARM, human, predicted (means), sd. left_out: {reason: pairs}.
    """

    pairs: pl.DataFrame
    arms: pl.DataFrame
    left_out: dict[str, int]


def people_means(aligned: Aligned) -> pl.DataFrame:
    """One row for each person and arm of an outcome: human and predicted mean answer.

    Predicted answers are means of the predicted distribution, clipped to the observed range of the
    outcome over all its arms.
    """
    rows = aligned.rows.select(*ARM, "participant", "response", "cell", "demographic")
    outcomes = aligned.cells.group_by(OUTCOME, maintain_order=True).agg(
        pl.col("observed_low").min(), pl.col("observed_high").max()
    ).with_row_index("outcome")  # fmt: skip
    outcome = rows.join(outcomes, on=OUTCOME, how="left", maintain_order="left")["outcome"].to_numpy()
    observed = outcomes.select("observed_low", "observed_high").to_numpy().astype(float)
    ranges = np.hstack([observed, observed])
    scores = row_scores(
        aligned.offsets,
        aligned.answers,
        aligned.probs,
        rows["response"].to_numpy(),
        outcome.astype(np.int64),
        ranges,
    )
    expected = pl.Series("expected", scores[:, ROW_SCORES.index("expected")])
    return (
        rows.with_columns(expected)
        .group_by(*ARM, "participant", maintain_order=True)
        .agg(
            pl.col("response").mean().alias("human"),
            pl.col("expected").mean().alias("predicted"),
            pl.col("demographic").first(),
        )
    )


def contrasts(people: pl.DataFrame, cells: pl.DataFrame) -> Contrasts:
    """Every pair of arms with at least two people each, of outcomes with one scale and some variation.

    people: `people_means`, or any part of it. cells: `inputs.group_frame`. Standard errors are those of
    independent people; where the same people are in both arms their covariance is taken off.
    """
    part = people.with_columns(difference=pl.col("human") - pl.col("predicted"))
    values = ("human", "predicted", "difference")
    arms = part.group_by(ARM).agg(
        pl.len().alias("n"),
        *(pl.col(name).mean() for name in values),
        *(pl.col(name).var().alias(f"{name}_var") for name in values),
    )
    scale = ["scale_low", "scale_high", "observed_low", "observed_high"]
    arms = arms.join(cells.select(*ARM, *scale), on=ARM, how="left").sort(ARM)
    pairs = arms.join(arms, on=OUTCOME, suffix="_b").filter(
        pl.col("condition_num") < pl.col("condition_num_b")
    )
    outcome = arms.filter(pl.col("n") > 1).group_by(OUTCOME).agg(
        ((pl.col("human_var") * (pl.col("n") - 1)).sum() / (pl.col("n") - 1).sum()).sqrt().alias("sd"),
        (pl.col("observed_high").max() - pl.col("observed_low").min()).alias("width"),
    )  # fmt: skip
    pairs = pairs.join(outcome, on=OUTCOME, how="left")
    pairs = pairs.join(
        _shared_people(part, values), on=[*OUTCOME, "condition_num", "condition_num_b"], how="left"
    )
    reasons = {
        "the arms state different scales": pl.any_horizontal(
            pl.col(name).ne_missing(pl.col(f"{name}_b")) for name in ("scale_low", "scale_high")
        ),
        "an arm has one respondent": (pl.col("n") < 2) | (pl.col("n_b") < 2),
        "all people agree in every arm": ~(pl.col("sd") > 0).fill_null(False),
    }
    left_out = {}
    for reason, wrong in reasons.items():
        bad = pairs.filter(wrong)
        if len(bad):
            left_out[reason] = len(bad)
            pairs = pairs.filter(~wrong)
    return Contrasts(_finish(pairs), arms.join(outcome, on=OUTCOME, how="left"), left_out)


def _shared_people(part: pl.DataFrame, values: tuple[str, ...]) -> pl.DataFrame:
    """Covariances of the people who are in both arms of a pair, and how many they are."""
    twice = part.filter(pl.len().over(*OUTCOME, "participant") > 1).select(*ARM, "participant", *values)
    both = twice.join(twice, on=[*OUTCOME, "participant"], suffix="_b")
    both = both.filter(pl.col("condition_num") < pl.col("condition_num_b"))
    return both.group_by(*OUTCOME, "condition_num", "condition_num_b").agg(
        pl.len().alias("n_both"),
        *(pl.cov(name, f"{name}_b").alias(f"{name}_cov") for name in values),
    )


def _finish(pairs: pl.DataFrame) -> pl.DataFrame:
    def standard_error(name: str) -> pl.Expr:
        shared = 2 * (pl.col(f"{name}_cov") * pl.col("n_both") / (pl.col("n") * pl.col("n_b"))).fill_null(0)
        variance = pl.col(f"{name}_var") / pl.col("n") + pl.col(f"{name}_var_b") / pl.col("n_b") - shared
        return variance.clip(0).sqrt()

    observed = pl.col("human_b") - pl.col("human")
    pairs = pairs.with_columns(
        condition_a="condition_num",
        condition_b="condition_num_b",
        observed=observed,
        predicted=pl.col("predicted_b") - pl.col("predicted"),
        observed_se=standard_error("human"),
        predicted_se=standard_error("predicted"),
        difference_se=standard_error("difference"),
    ).with_columns(
        z=pl.when(pl.col("observed_se") > 0).then(pl.col("observed") / pl.col("observed_se")),
    )
    return pairs.select(
        *OUTCOME, "condition_a", "condition_b", "observed", "predicted", "observed_se", "predicted_se",
        "difference_se", "sd", "width", "z",
    ).sort(*OUTCOME, "condition_a", "condition_b")  # fmt: skip


def effect_scores(
    people: pl.DataFrame, cells: pl.DataFrame, replicates: int, seed: int
) -> tuple[dict[str, Any], pl.DataFrame]:
    """The `effects` block of scores.json, and contrasts.parquet: every pair of arms, the clearest first."""
    found = contrasts(people, cells)
    pairs = found.pairs
    clear = (pairs["z"].abs() >= CLEAR).fill_null(False)
    summary = {
        "contrasts": len(pairs),
        "outcomes": pairs.select(OUTCOME).n_unique() if len(pairs) else 0,
        "studies": pairs["study_id"].n_unique(),
        "clear": int(clear.sum()),
        "left_out": found.left_out,
        "model": {**statistics(pairs, clear, replicates, seed), **_best_arms(found, replicates, seed)},
        "half_sample": half_sample(people, cells, pairs, replicates, seed),
    }
    listed = pairs.with_columns(
        observed_std=pl.col("observed") / pl.col("sd"),
        predicted_std=pl.col("predicted") / pl.col("sd"),
        clear=clear,
    ).sort(pl.col("z").abs(), descending=True, nulls_last=True)
    shown = listed.drop("difference_se", "sd", "width").head(MAX_PAIRS)
    return summary | {"pairs": shown.to_dicts()}, listed


def half_sample(
    people: pl.DataFrame, cells: pl.DataFrame, pairs: pl.DataFrame, replicates: int, seed: int
) -> dict[str, Estimate]:
    """The same statistics when one random half of the people predicts the other: the human control.

    Clear contrasts are those of all people, as for the model. Each half has half the people, so this is
    a lower bound of what a perfect model reaches.
    """
    rng = np.random.default_rng([seed, 2])
    one = people.select("study_id", "participant").unique(maintain_order=True)
    one = one.with_columns(first=pl.Series(rng.permutation(len(one)) % 2 == 0))
    marked = people.join(one, on=["study_id", "participant"], how="left")
    halves = [contrasts(marked.filter(side), cells).pairs for side in (pl.col("first"), ~pl.col("first"))]
    key = [*OUTCOME, "condition_a", "condition_b"]
    other = halves[1].select(*key, predicted="observed", predicted_se="observed_se")
    both = halves[0].drop("predicted", "predicted_se").join(other, on=key)
    both = both.with_columns(
        difference_se=(pl.col("observed_se") ** 2 + pl.col("predicted_se") ** 2).sqrt()
    ).join(pairs.select(*key, all_z="z"), on=key, how="left")
    return statistics(both, (both["all_z"].abs() >= CLEAR).fill_null(False), replicates, seed)


def statistics(pairs: pl.DataFrame, clear: pl.Series, replicates: int, seed: int) -> dict[str, Estimate]:
    """STATISTICS of pairs of arms; intervals over studies."""
    if pairs.is_empty():
        return {name: missing(NO_CONTRAST) for name in STATISTICS}
    pairs = pairs.with_columns(clear=clear).sort("study_id")
    studies = Studies.of(pairs["study_id"].to_list(), replicates, seed)
    sd = pairs["sd"].to_numpy()
    o, p, se_o, se_p, se_d = (
        pairs[name].to_numpy() / sd
        for name in ("observed", "predicted", "observed_se", "predicted_se", "difference_se")
    )
    p = np.where(np.abs(p) < 1e-9, 0.0, p)  # what rounding leaves of equal means is no effect
    agree = np.where((o == 0) | (p == 0), 0.5, np.sign(o) == np.sign(p))
    is_clear = pairs["clear"].to_numpy().astype(float)
    shared_noise = (se_o**2 + se_p**2 - se_d**2) / 2
    sums = {
        "op": o * p, "oo": o * o, "pp": p * p, "noise_o": se_o**2, "noise_p": se_p**2,
        "noise_op": shared_noise,
        "agree": agree, "clear": is_clear, "agree_clear": agree * is_clear,
        "range_error": ((o - p) * sd / pairs["width"].to_numpy()) ** 2,
        "covered": np.abs(o - p) <= 1.6449 * se_d,
    }  # fmt: skip
    per_study = {name: studies.means(np.asarray(values, float)) for name, values in sums.items()}
    shrunk = _shrunk_errors(per_study)
    value = _statistics({name: column.mean() for name, column in per_study.items()}, shrunk.mean())
    drawn = _statistics(
        {name: studies.weights @ column / len(column) for name, column in per_study.items()},
        studies.weights @ shrunk / len(shrunk),
    )
    return {
        name: statistic(
            float(value[name]),
            drawn[name],
            len(studies.names),
            len(pairs),
            None,
            _why(name),
            BOUNDS.get(name),
        )
        for name in STATISTICS
    }


def _shrunk_errors(s: dict[str, np.ndarray]) -> np.ndarray:
    """Each study's mean squared error when predictions are shrunk by the slope of all other studies."""
    with np.errstate(divide="ignore", invalid="ignore"):
        slope = (s["op"].sum() - s["op"]) / (s["pp"].sum() - s["pp"])
        return s["oo"] - 2 * slope * s["op"] + slope**2 * s["pp"]


def _statistics(m: dict[str, Any], shrunk: Any) -> dict[str, Any]:
    def root(x: Any) -> Any:
        return np.sqrt(np.where(x > 0, x, np.nan))

    true_o, true_p = m["oo"] - m["noise_o"], m["pp"] - m["noise_p"]
    with np.errstate(divide="ignore", invalid="ignore"):
        return {
            "correlation": m["op"] / root(m["oo"] * m["pp"]),
            "correlation_corrected": (m["op"] - m["noise_op"]) / (root(true_o) * root(true_p)),
            "slope": m["op"] / np.where(m["pp"] > 0, m["pp"], np.nan),
            "magnitude_ratio": root(true_p) / root(true_o),
            "sign_agreement": m["agree"],
            "sign_agreement_clear": m["agree_clear"] / np.where(m["clear"] > 0, m["clear"], np.nan),
            "rmse_range": np.sqrt(m["range_error"]),
            "rmse_std": np.sqrt(np.maximum(m["oo"] - 2 * m["op"] + m["pp"], 0)),
            "rmse_std_shrunk": np.sqrt(shrunk),
            "coverage_90": m["covered"],
        }


def _why(name: str) -> str:
    return {
        "sign_agreement_clear": f"no contrast is clear (|z| >= {CLEAR:g})",
        "rmse_std_shrunk": "no other study to take the shrinkage from, or predicted effects are zero",
    }.get(name, NO_EFFECT)


def _best_arms(found: Contrasts, replicates: int, seed: int) -> dict[str, Estimate]:
    """Does the model name the arm with the highest (and with the lowest) mean? Means of both directions.

    Among predictions that tie, one is picked by chance. Regret: what the named arm's mean lacks, in
    standard deviations.
    """
    pairs, arms = found.pairs, found.arms
    compared = pl.concat(
        [pairs.select(*OUTCOME, condition_num=side) for side in ("condition_a", "condition_b")]
    ).unique()
    arms = arms.join(compared, on=ARM, how="semi")
    if arms.is_empty():
        return {name: missing(NO_CONTRAST) for name in ARM_STATISTICS}
    per_outcome = []
    for sign in (1, -1):
        human, predicted = sign * pl.col("human"), sign * pl.col("predicted")
        top = human.max()
        named = predicted >= predicted.max() - 1e-9 * pl.col("sd").max()
        per_outcome.append(
            arms.group_by(OUTCOME).agg(
                (human.filter(named) >= top).mean().alias("best_arm_hit"),
                (1 / pl.len()).alias("best_arm_chance"),
                ((top - human.filter(named).mean()) / pl.col("sd").max()).alias("best_arm_regret"),
            )
        )
    rows = pl.concat(per_outcome).group_by("study_id").agg(pl.col(ARM_STATISTICS).mean()).sort("study_id")
    studies = Studies.of(rows["study_id"].to_list(), replicates, seed)
    out = {}
    for name in ARM_STATISTICS:
        values = rows[name].to_numpy().astype(float)
        drawn = studies.weights @ values / len(values)
        out[name] = statistic(
            float(values.mean()), drawn, len(values), len(per_outcome[0]), bounds=BOUNDS.get(name)
        )
    return out
