"""Scores of single people's answers, and of each group's mean and spread.

A prediction is a distribution over answers, so scores that need one answer are expectations: published
accuracy is the mean of 1 - |predicted - response| / (high - low) over the predicted probabilities,
which for one sampled answer is the published formula itself (arXiv 2509.05830).
"""

from dataclasses import dataclass

import numpy as np
from numba import njit

from common.distances import Histograms, in_threads

# The scores of a row that are reported as means; the kernels write them in this order.
MEAN_SCORES = (
    "accuracy_observed",
    "accuracy_stated",
    "accuracy_median_observed",
    "exact_match",
    "log_score",
    "brier",
)
ROW_SCORES = (
    *MEAN_SCORES,
    "expected",
    "confidence",
    "confident_right",
    "clipped_observed",
    "clipped_stated",
)
PROBABILITY_FLOOR = 1e-6  # of the log score: an answer given probability 0 costs 13.8, not infinity
MOMENTS = ("human_mean", "human_sd", "predicted_mean", "predicted_sd")  # in answer units
BINS = 10


@dataclass(frozen=True)
class Reliability:
    """Calibration of the most probable answer: per bin of confidence, and per study for the bootstrap.

    count, confidence, right: float64 (studies, BINS): rows, and sums of confidence and of hits.
    """

    count: np.ndarray
    confidence: np.ndarray
    right: np.ndarray

    def ece(self, study_weights: np.ndarray) -> np.ndarray:
        """Expected calibration error (Guo et al. 2017) for each row of study weights (R, studies)."""
        gaps = np.abs(study_weights @ self.confidence - study_weights @ self.right)
        return gaps.sum(1) / (study_weights @ self.count).sum(1)


def row_scores(
    offsets: np.ndarray,
    answers: np.ndarray,
    probs: np.ndarray,
    response: np.ndarray,
    group: np.ndarray,
    ranges: np.ndarray,
) -> np.ndarray:
    """Scores of N rows: float64 (N, len(ROW_SCORES)).

    offsets, answers, probs: each row's predicted distribution. group: int64 (N), index into `ranges`
    (G, 4), the observed low and high and stated low and high. An accuracy is NaN without a range that
    has a width. `expected` is the mean predicted answer, clipped to the observed range. `log_score` is
    -ln(probability of the response), at least PROBABILITY_FLOOR; `brier` is the sum over answers of
    (probability - hit)^2, 0 to 2 (Brier 1950).
    """
    out = np.empty((len(response), len(ROW_SCORES)))
    in_threads(_row_scores, len(out), offsets, answers, probs, response, group, ranges, out)
    return out


@njit(cache=True, nogil=True)
def _row_scores(first, last, offsets, answers, probs, response, group, ranges, out):
    for i in range(first, last):
        low, high, stated_low, stated_high = ranges[group[i]]
        truth = float(response[i])
        stated_truth = min(max(truth, stated_low), stated_high)
        miss, stated_miss, on_truth, squares, expected = 0.0, 0.0, 0.0, 0.0, 0.0
        top, top_answer, below, median = -1.0, 0.0, 0.0, np.nan
        outside, stated_outside = 0.0, 0.0
        for j in range(offsets[i], offsets[i + 1]):
            answer, p = float(answers[j]), probs[j]
            clipped = min(max(answer, low), high)
            stated = min(max(answer, stated_low), stated_high)
            miss += p * abs(clipped - truth)
            stated_miss += p * abs(stated - stated_truth)
            expected += p * clipped
            squares += p * p
            outside += p * (clipped != answer)
            stated_outside += p * (stated_low <= stated_high and stated != answer)
            if answer == truth:
                on_truth = p
            if p > top:
                top, top_answer = p, answer
            below += p
            if np.isnan(median) and below >= 0.5 - 1e-9:
                median = clipped
        width, stated_width = high - low, stated_high - stated_low
        out[i, 0] = 1 - miss / width if width > 0 else np.nan
        out[i, 1] = 1 - stated_miss / stated_width if stated_width > 0 else np.nan
        out[i, 2] = 1 - abs(median - truth) / width if width > 0 else np.nan
        out[i, 3] = on_truth
        out[i, 4] = -np.log(max(on_truth, PROBABILITY_FLOOR))
        out[i, 5] = squares - 2 * on_truth + 1
        out[i, 6] = expected
        out[i, 7] = top
        out[i, 8] = 1.0 if top_answer == truth else 0.0
        out[i, 9] = outside
        out[i, 10] = stated_outside


def histogram_scores(table: Histograms, ranges: np.ndarray) -> dict[str, np.ndarray]:
    """Means of the row scores where everyone of a group gets its `predicted` distribution: {name: (G)}."""
    out = {name: np.full(len(table.offsets) - 1, np.nan) for name in MEAN_SCORES}
    for group in range(len(table.offsets) - 1):
        mine = slice(table.offsets[group], table.offsets[group + 1])
        value, h, p = table.support[mine].astype(float), table.human[mine], table.predicted[mine]
        if not (h.sum() > 0 and p.sum() > 0):
            continue
        h, p = h / h.sum(), p / p.sum()
        for name, (low, high) in (("observed", ranges[group, :2]), ("stated", ranges[group, 2:])):
            if high > low:
                gaps = np.diff(np.clip(value, low, high))
                f, g = h.cumsum()[:-1], p.cumsum()[:-1]
                out[f"accuracy_{name}"][group] = 1 - ((f * (1 - g) + g * (1 - f)) * gaps).sum() / (high - low)
        low, high = ranges[group, :2]
        if high > low:
            median = np.clip(value[np.searchsorted(p.cumsum(), 0.5 - 1e-9)], low, high)
            out["accuracy_median_observed"][group] = 1 - (h * np.abs(value - median)).sum() / (high - low)
        out["exact_match"][group] = (h * p).sum()
        out["log_score"][group] = -(h * np.log(np.maximum(p, PROBABILITY_FLOOR))).sum()
        out["brier"][group] = (p**2).sum() - 2 * (h * p).sum() + 1
    return out


def group_means(scores: np.ndarray, group: np.ndarray, groups: int) -> np.ndarray:
    """Mean of each column of (N, K) scores within each group: (groups, K); NaN where any row is NaN."""
    sizes = np.bincount(group, minlength=groups)[:, None]
    sums = np.stack([np.bincount(group, column, minlength=groups) for column in scores.T], 1)
    return sums / np.maximum(sizes, 1)


def within_correlation(
    expected: np.ndarray, response: np.ndarray, group: np.ndarray, groups: int
) -> np.ndarray:
    """Pearson correlation of people's predicted and real answers in each group; NaN without variation.

    Needs three people. Measures what a model knows about individuals beyond the group's distribution.
    """
    size = np.bincount(group, minlength=groups)
    columns = np.stack([expected, response.astype(np.float64)], 1)
    centred = columns - group_means(columns, group, groups)[group]
    products = np.stack([centred[:, 0] ** 2, centred[:, 1] ** 2, centred[:, 0] * centred[:, 1]], 1)
    variance_p, variance_r, covariance = group_means(products, group, groups).T
    scale = group_means(np.abs(columns), group, groups)
    varies = (variance_p > (1e-9 * scale[:, 0]) ** 2) & (variance_r > 0) & (size >= 3)
    out = np.full(groups, np.nan)
    out[varies] = covariance[varies] / np.sqrt(variance_p[varies] * variance_r[varies])
    return out


def moments(table: Histograms, ranges: np.ndarray) -> dict[str, np.ndarray]:
    """Mean, spread and entropy of both sides of each group, and how they compare: {name: (G)}.

    Predicted moments are of answers clipped to the observed range. `mean_bias_*` is predicted minus
    human mean over the range's width, `mean_error_*` its absolute value, `spread_ratio` the ratio of
    standard deviations and `entropy_ratio` that of Shannon entropies: below 1 the model's answers vary
    less than people's (mode collapse). NaN where the human side doesn't vary.
    """
    group = np.repeat(np.arange(len(table.offsets) - 1), np.diff(table.offsets))
    groups = len(table.offsets) - 1

    def total(weights: np.ndarray) -> np.ndarray:
        return np.bincount(group, weights, minlength=groups)

    with np.errstate(invalid="ignore", divide="ignore"):
        human = table.human / total(table.human)[group]
        predicted = table.predicted / total(table.predicted)[group]
        value = table.support.astype(np.float64)
        clipped = np.clip(value, ranges[group, 0], ranges[group, 1])
        human_mean, predicted_mean = total(human * value), total(predicted * clipped)
        human_sd = np.sqrt(total(human * (value - human_mean[group]) ** 2))
        predicted_sd = np.sqrt(total(predicted * (clipped - predicted_mean[group]) ** 2))
        stated = np.clip(value, ranges[group, 2], ranges[group, 3])
        stated_difference = total(predicted * stated) - total(human * stated)
        bias = (predicted_mean - human_mean) / _width(ranges[:, 0], ranges[:, 1])
        stated_bias = stated_difference / _width(ranges[:, 2], ranges[:, 3])
        entropy_human, entropy_predicted = total(_entropy(human)), total(_entropy(predicted))
        varies = human_sd > 0
        return {
            "human_mean": human_mean,
            "human_sd": human_sd,
            "predicted_mean": predicted_mean,
            "predicted_sd": predicted_sd,
            "mean_bias_observed": bias,
            "mean_bias_stated": stated_bias,
            "mean_error_observed": np.abs(bias),
            "mean_error_stated": np.abs(stated_bias),
            "spread_ratio": np.where(varies, predicted_sd / human_sd, np.nan),
            "entropy_ratio": np.where(varies, entropy_predicted / entropy_human, np.nan),
        }


def reliability(confidence: np.ndarray, right: np.ndarray, study: np.ndarray, studies: int) -> Reliability:
    """Bin rows by confidence into BINS equal bins, for each study."""
    bins = np.minimum((confidence * BINS).astype(np.int64), BINS - 1)
    place = study * BINS + bins

    def table(weights: np.ndarray | None) -> np.ndarray:
        return np.bincount(place, weights, minlength=studies * BINS).reshape(studies, BINS).astype(float)

    return Reliability(table(None), table(confidence), table(right))


def _width(low: np.ndarray, high: np.ndarray) -> np.ndarray:
    return np.where(high > low, high - low, np.nan)


def _entropy(p: np.ndarray) -> np.ndarray:
    return -p * np.log2(np.where(p > 0, p, 1.0))
