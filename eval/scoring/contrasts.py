"""Treatment effects: the observed and the predicted difference between every two arms of an outcome.

Of an ordered scale the difference is that of the arms' mean answers. An unordered choice has no mean: each of
its options is an outcome of its own, and the difference is that of the shares of people who chose it.

Standard errors are those of people, with survey weights (linearised); where the same people are in both arms
their covariance is taken off. Their degrees of freedom are Welch's, or, where most people are in both arms,
the number of those less one.
"""

from dataclasses import dataclass

import numpy as np
import polars as pl
from scipy import stats

from common.contract import CELL
from eval.scoring.align import Evaluated
from eval.scoring.answers import ROW_SCORES, Answers, row_scores

OUTCOME = ["study_id", "task_num", "option"]
ARM = [*OUTCOME, "condition_num"]
PAIR = [*OUTCOME, "condition_a", "condition_b"]
VALUES = ("human", "predicted", "difference")
CLEAR = 3.0  # standard errors of a normal distribution: a clear contrast is as unlikely by chance
CLEAR_P = float(2 * stats.norm.sf(CLEAR))
SCALE = ("scale_low", "scale_high", "observed_low", "observed_high")


@dataclass(frozen=True)
class Design:
    """People in arms, and the pairs of arms that can be compared.

    people: M rows, one a person and arm, sorted by arm: ARM, participant, human, predicted, weight,
    demographic. arms: one row an arm, in sorted order. arm: int64 (M), index into arms. values: float64 (M,
    3), VALUES. first, second: int64 (P), the arms of each pair. both: int64 (3, B): rows of people who are in
    both arms of a pair, and the pair. pairs: P rows with PAIR, sd (of people's answers to the outcome), width
    (of its observed range) and arms_in_training. left_out: {reason: pairs}.
    """

    people: pl.DataFrame
    arms: pl.DataFrame
    arm: np.ndarray
    values: np.ndarray
    weight: np.ndarray
    first: np.ndarray
    second: np.ndarray
    both: np.ndarray
    pairs: pl.DataFrame
    left_out: dict[str, int]


def design(evaluated: Evaluated, train: pl.DataFrame | None = None) -> Design:
    """Arms and their pairs, less those that can't be compared, which are counted by reason."""
    people = people_means(evaluated)
    arms = people.group_by(ARM, maintain_order=True).agg(pl.len().alias("n"))
    arms = arms.join(evaluated.cells.select(*CELL, *SCALE), on=CELL, how="left", maintain_order="left")
    arms = arms.join(_texts(evaluated), on=CELL, how="left", maintain_order="left")
    arms = arms.join(_trained(train), on=CELL, how="left", maintain_order="left").with_columns(
        pl.col("trained").fill_null(0), index=pl.int_range(pl.len(), dtype=pl.Int64)
    )
    arm = np.repeat(np.arange(len(arms)), arms["n"].to_numpy())
    outcome = _outcomes(people, arms, arm)
    arms = arms.join(outcome, on=OUTCOME, how="left", nulls_equal=True, maintain_order="left")
    pairs = arms.join(arms, on=OUTCOME, suffix="_b", nulls_equal=True).filter(
        pl.col("condition_num") < pl.col("condition_num_b")
    )
    pairs, left_out = _comparable(pairs.sort(*OUTCOME, "condition_num", "condition_num_b"))
    human, predicted = (people[name].to_numpy() for name in ("human", "predicted"))
    return Design(
        people, arms, arm, np.stack([human, predicted, human - predicted], 1), people["weight"].to_numpy(),
        pairs["index"].to_numpy(), pairs["index_b"].to_numpy(), _in_both(people, pairs),
        pairs.select(
            *OUTCOME, "sd", "width", condition_a="condition_num", condition_b="condition_num_b",
            arms_in_training=pl.col("trained") + pl.col("trained_b"),
        ),
        left_out,
    )  # fmt: skip


def people_means(evaluated: Evaluated) -> pl.DataFrame:
    """One row for each person and arm of an outcome, sorted by arm: human and predicted mean answer.

    Predicted answers are means of the predicted distribution, clipped to the observed range of the outcome
    over all its arms. Of a choice there is a row for each option that somebody chose: `human` is 1 if this
    person did, `predicted` its probability.
    """
    rows = evaluated.rows.select(
        *CELL, "participant", "response", "cell", "demographic", "weight",
        choice=(pl.col("scale_kind") == "choice").fill_null(False),
    ).with_columns(row=pl.int_range(pl.len(), dtype=pl.Int64))  # fmt: skip
    numbers = _expected(evaluated, rows).filter(~pl.col("choice")).with_columns(option=pl.lit(None, pl.Int64))
    table = pl.concat([numbers, _shares(evaluated, rows.filter("choice"))], how="diagonal")
    weighted = [(pl.col(name) * pl.col("weight")).sum().alias(name) for name in ("human", "predicted")]
    means = table.group_by(*ARM, "participant", maintain_order=True).agg(
        *weighted,
        pl.col("weight").sum().alias("total"),
        pl.col("weight").mean(),
        pl.col("demographic").first(),
    )
    means = means.filter(pl.col("total") > 0).with_columns(
        pl.col(name) / pl.col("total") for name in ("human", "predicted")
    )
    return means.drop("total").sort(*ARM, "participant")


def _expected(evaluated: Evaluated, rows: pl.DataFrame) -> pl.DataFrame:
    key = ["study_id", "task_num"]
    outcomes = evaluated.cells.group_by(key, maintain_order=True).agg(
        pl.col("observed_low").min(), pl.col("observed_high").max()
    ).with_columns(outcome=pl.int_range(pl.len(), dtype=pl.Int64))  # fmt: skip
    outcome = rows.join(outcomes, on=key, how="left", maintain_order="left")["outcome"].to_numpy()
    observed = outcomes.select("observed_low", "observed_high").to_numpy().astype(float)
    answers = Answers(
        evaluated.predicted, np.arange(len(rows)), rows["response"].to_numpy(), outcome, np.tile(observed, 2),
        evaluated.rows["n_draws"].to_numpy(),
    )  # fmt: skip
    expected = pl.Series("predicted", row_scores(answers)[:, ROW_SCORES.index("expected")])
    return rows.with_columns(expected, human=pl.col("response").cast(pl.Float64))


def _shares(evaluated: Evaluated, rows: pl.DataFrame) -> pl.DataFrame:
    """For each row of a choice and each option that somebody chose: was it chosen, how probable was it."""
    options = rows.select("study_id", "task_num", option="response").unique()
    wide = rows.join(options, on=["study_id", "task_num"], how="inner")
    chosen = evaluated.predicted.take(rows["row"].to_numpy())
    entries = pl.DataFrame(
        {"row": rows["row"].to_numpy()[chosen.owner], "option": chosen.answers, "predicted": chosen.weights}
    )
    return wide.join(entries, on=["row", "option"], how="left").with_columns(
        pl.col("predicted").fill_null(0.0), human=(pl.col("response") == pl.col("option")).cast(pl.Float64)
    )


def _texts(evaluated: Evaluated) -> pl.DataFrame:
    """What the people of each cell read, as one number; null where the texts aren't known."""
    if evaluated.texts is None:
        return evaluated.cells.select(*CELL, text=pl.lit(None, pl.UInt64))
    return evaluated.texts.group_by(CELL).agg(
        pl.col("stimuli").unique().sort().str.join("\n").hash().alias("text")
    )


def _trained(train: pl.DataFrame | None) -> pl.DataFrame:
    """The cells that stand in training rows."""
    if train is None:
        schema = {"study_id": pl.String, "condition_num": pl.Int64, "task_num": pl.Int64, "trained": pl.Int32}
        return pl.DataFrame(schema=schema)
    return train.select(CELL).unique().with_columns(trained=pl.lit(1, pl.Int32))


def _outcomes(people: pl.DataFrame, arms: pl.DataFrame, arm: np.ndarray) -> pl.DataFrame:
    """sd of people's answers within arms and width of the observed range, of each outcome."""
    count = np.bincount(arm, minlength=len(arms))
    weight, human = people["weight"].to_numpy(), people["human"].to_numpy()
    total = np.bincount(arm, weight, minlength=len(arms))
    mean = np.bincount(arm, weight * human, minlength=len(arms)) / total
    spread = np.bincount(arm, weight * (human - mean[arm]) ** 2, minlength=len(arms)) / total * count
    several = count > 1
    table = arms.with_columns(
        squares=pl.Series(np.where(several, spread, 0.0)), free=pl.Series(np.where(several, count - 1, 0))
    )
    observed = pl.col("observed_high").max() - pl.col("observed_low").min()
    return table.group_by(OUTCOME).agg(
        (pl.col("squares").sum() / pl.col("free").sum()).sqrt().alias("sd"),
        pl.when(pl.col("option").first().is_null())
        .then(observed)
        .otherwise(1)
        .cast(pl.Float64)
        .alias("width"),
    )


def _comparable(pairs: pl.DataFrame) -> tuple[pl.DataFrame, dict[str, int]]:
    reasons = {
        "the arms state different scales": pl.any_horizontal(
            pl.col(name).ne_missing(pl.col(f"{name}_b")) for name in ("scale_low", "scale_high")
        ),
        "the arms show the same text": (pl.col("text") == pl.col("text_b")).fill_null(False),
        "an arm has one respondent": (pl.col("n") < 2) | (pl.col("n_b") < 2),
        "all people agree in every arm": ~(pl.col("sd") > 0).fill_null(False),
    }
    left_out = {}
    for reason, wrong in reasons.items():
        bad = pairs.filter(wrong)
        if len(bad):
            left_out[reason] = len(bad)
            pairs = pairs.filter(~wrong)
    return pairs, left_out


def _in_both(people: pl.DataFrame, pairs: pl.DataFrame) -> np.ndarray:
    """(3, B): the rows of people who are in both arms of a pair, and which pair."""
    rows = people.select(*ARM, "participant").with_columns(row=pl.int_range(pl.len(), dtype=pl.Int64))
    twice = rows.filter(pl.len().over(*OUTCOME, "participant") > 1)
    both = twice.join(twice, on=[*OUTCOME, "participant"], suffix="_b", nulls_equal=True)
    numbered = pairs.select(*ARM, "condition_num_b", pair=pl.int_range(pl.len(), dtype=pl.Int64))
    both = both.join(numbered, on=[*ARM, "condition_num_b"], nulls_equal=True)
    return both.select("row", "row_b", "pair").to_numpy().T.astype(np.int64)


def contrasts(design: Design, counted: np.ndarray | None = None) -> pl.DataFrame:
    """The pairs of arms with their effects, among the people marked in `counted` (bool, M; default all).

    Columns: those of `Design.pairs`, observed, predicted (b minus a, answer units; shares of a choice),
    observed_se, predicted_se, difference_se, df, difference_df, z (observed over its standard error), clear
    and pair (the row of `Design.pairs`). A pair is left out if an arm has fewer than two of these people.
    """
    taken = np.ones(len(design.arm), bool) if counted is None else counted
    n = np.bincount(design.arm[taken], minlength=len(design.arms))
    mean, residual = _means(design, taken, n)
    variance = _squares(design, residual)
    one, other, pair = design.both
    shared = np.bincount(pair[taken[one] & taken[other]], minlength=len(design.first))
    covariance = np.stack(
        [np.bincount(pair, x, minlength=len(design.first)) for x in (residual[one] * residual[other]).T], 1
    )
    a, b = design.first, design.second
    with np.errstate(invalid="ignore", divide="ignore"):
        error = np.sqrt(np.maximum(variance[a] + variance[b] - 2 * covariance, 0))
        welch = (variance[a] + variance[b]) ** 2 / (
            variance[a] ** 2 / (n[a] - 1)[:, None] + variance[b] ** 2 / (n[b] - 1)[:, None]
        )
        paired = (shared > 1) & (2 * shared >= np.minimum(n[a], n[b]))
        df = np.where(paired[:, None], (shared - 1.0)[:, None], welch)
        observed = mean[b, 0] - mean[a, 0]
        z = np.where(error[:, 0] > 0, observed / error[:, 0], np.nan)
        clear = 2 * stats.t.sf(np.abs(z), df[:, 0]) <= CLEAR_P
    columns = {
        "observed": observed, "predicted": mean[b, 1] - mean[a, 1],
        "observed_se": error[:, 0], "predicted_se": error[:, 1], "difference_se": error[:, 2],
        "df": df[:, 0], "difference_df": df[:, 2], "z": z, "clear": clear,
    }  # fmt: skip
    columns["pair"] = np.arange(len(a))
    table = design.pairs.with_columns(pl.Series(name, column) for name, column in columns.items())
    nan = pl.col("z", "df", "difference_df").fill_nan(None)
    return table.with_columns(nan).filter(pl.Series((n[a] > 1) & (n[b] > 1)))


def arm_statistics(design: Design) -> tuple[np.ndarray, np.ndarray]:
    """Means of each arm and their sampling variances: float64 (A, 3) each, columns as VALUES."""
    taken = np.ones(len(design.arm), bool)
    mean, residual = _means(design, taken, np.bincount(design.arm, minlength=len(design.arms)))
    return mean, _squares(design, residual)


def _means(design: Design, taken: np.ndarray, n: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Weighted means of each arm (A, 3), and each person's part in their errors (M, 3)."""
    arms, weight = len(design.arms), np.where(taken, design.weight, 0.0)
    total = np.bincount(design.arm, weight, minlength=arms)
    with np.errstate(invalid="ignore", divide="ignore"):
        sums = [np.bincount(design.arm, weight * x, minlength=arms) for x in design.values.T]
        mean = np.stack(sums, 1) / total[:, None]
        scale = np.sqrt(n / np.maximum(n - 1.0, 0.0))
        residual = (weight * scale[design.arm] / total[design.arm])[:, None] * (
            design.values - mean[design.arm]
        )
    residual[~taken] = 0
    return mean, residual


def _squares(design: Design, residual: np.ndarray) -> np.ndarray:
    return np.stack([np.bincount(design.arm, x**2, minlength=len(design.arms)) for x in residual.T], 1)


def mean_answers(design: Design) -> pl.DataFrame:
    """Weighted mean human and predicted answer of each arm: `Design.arms` with human and predicted."""
    total = np.bincount(design.arm, design.weight, minlength=len(design.arms))
    means = [
        np.bincount(design.arm, design.weight * design.values[:, k], minlength=len(design.arms)) / total
        for k in range(2)
    ]
    return design.arms.with_columns(human=pl.Series(means[0]), predicted=pl.Series(means[1]))
