"""Every metric of a cell: its name, its meaning, what it needs, and the function that computes it.

A new metric is one more entry of `METRICS`. It is then computed for cells and items, models and controls,
with intervals over studies and over people, listed in the tables and explained in the report.

`of` computes the metric from *statistics* of a cell, a mapping from name to array (of any shape):

- each distance of `common.distances.DISTANCES`
- `human_mean`, `human_variance`, `human_entropy`, `predicted_mean`, `predicted_variance`, `predicted_entropy`
  (predictions clipped to the observed range), `stated_bias` (predicted minus human mean, both clipped to the
  stated range), in answer units and bits
- `people`; `width_observed`, `width_stated`, `middle_observed` of the cell's ranges, NaN where there is none
- the mean over the cell's rows of each of the first `RESAMPLED` scores of `answers.ROW_SCORES`, and of the
  metric's own `row` score, under the metric's key
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from eval.scoring.answers import Answers

Statistics = Mapping[str, np.ndarray]
Better = Literal["low", "high", "one", "zero"]
Limits = tuple[float, float]
SHARE: Limits = (0.0, 1.0)
SIGNED: Limits = (-1.0, 1.0)
POSITIVE: Limits = (0.0, np.inf)
VARIES = 1e-14  # the variance of a place on the range that rounding can't have made

# What a metric may need, and why a cell that lacks it has no value.
PEOPLE = "one respondent"
WIDTH = "all people agree: the observed range has no width"
SCALE = "no stated scale"
SEVERAL_SCALES = "its items state different scales"
VARIATION = "predictions don't vary within it"
PROBABILITIES = "sampled answers are no probabilities"
SPREAD = "one sampled answer has no spread"
ORDER = "the options of a choice have no order"
DISTRIBUTION = "a predicted mean is no distribution"
PERSONS = "a cell's distribution says nothing of single people"


@dataclass(frozen=True)
class Metric:
    """One metric. `better` is what a good model has: a low or high value, or one near one or zero.

    limits: the values that it can take; intervals stay inside. needs: see above. row: a score of single
    answers, float64 (N), for a metric that the statistics don't hold.
    """

    key: str
    name: str
    words: str
    better: Better
    limits: Limits
    needs: tuple[str, ...]
    of: Callable[[Statistics], np.ndarray]
    row: Callable[[Answers], np.ndarray] | None = None


def _divide(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(b > 0, a / b, np.nan)


def _bias(s: Statistics) -> np.ndarray:
    return _divide(s["predicted_mean"] - s["human_mean"], s["width_observed"])


def _stated_bias(s: Statistics) -> np.ndarray:
    return _divide(s["stated_bias"], s["width_stated"])


def _correlation(s: Statistics) -> np.ndarray:
    position, human_position = (
        s["place"],
        _divide(s["human_mean"] - s["middle_observed"], s["width_observed"]),
    )
    predicted = s["place_squared"] - position**2
    human = _divide(s["human_variance"], s["width_observed"] ** 2)
    enough = (predicted > VARIES) & (human > VARIES) & (s["people"] >= 3)
    return np.where(
        enough,
        _divide(s["place_and_response"] - position * human_position, np.sqrt(np.abs(predicted * human))),
        np.nan,
    ).clip(-1, 1)


_ALL = (
    Metric(
        "wasserstein_observed",
        "Wasserstein, observed range",
        "How far answers would have to be moved, on average, to turn the predicted distribution into the "
        "people's. The unit is the range from the smallest to the largest answer that people gave in the "
        "cell (0: identical; 1: everybody at opposite ends). The published figures use this range.",
        "low",
        SHARE,
        (PEOPLE, WIDTH, DISTRIBUTION),
        lambda s: s["wasserstein_observed"],
    ),
    Metric(
        "wasserstein_stated",
        "Wasserstein, stated range",
        "The same distance, but the unit is the whole scale that the question states. Stated ranges are "
        "wider, so these figures are smaller: never compare them with observed-range figures.",
        "low",
        SHARE,
        (PEOPLE, SCALE, DISTRIBUTION),
        lambda s: s["wasserstein_stated"],
    ),
    Metric(
        "total_variation",
        "Total variation",
        "The share of people whose answer would have to change for the two distributions to agree, however "
        "far the answers lie apart.",
        "low",
        SHARE,
        (PEOPLE, DISTRIBUTION),
        lambda s: s["total_variation"],
    ),
    Metric(
        "jensen_shannon",
        "Jensen-Shannon divergence",
        "How easily one could tell by single answers whether they come from people or from the model "
        "(0: not at all; 1: always; in bits).",
        "low",
        SHARE,
        (PEOPLE, DISTRIBUTION),
        lambda s: s["jensen_shannon"],
    ),
    Metric(
        "kolmogorov_smirnov",
        "Kolmogorov-Smirnov distance",
        "The largest gap between the two cumulative distributions.",
        "low",
        SHARE,
        (PEOPLE, DISTRIBUTION),
        lambda s: s["kolmogorov_smirnov"],
    ),
    Metric(
        "accuracy_observed",
        "Accuracy, observed range",
        "The published accuracy of single answers: 1 minus the gap between predicted and given answer, in "
        "units of the observed range. A uniform guess already gets about 0.6. It is no proper score: a model "
        "that is surer than it should be gets a higher accuracy than one that tells the true probabilities. "
        "Judge distributions by the CRPS.",
        "high",
        SHARE,
        (WIDTH, PERSONS),
        lambda s: s["accuracy_observed"],
    ),
    Metric(
        "accuracy_stated",
        "Accuracy, stated range",
        "The same, with the stated scale as the unit.",
        "high",
        SHARE,
        (SCALE, PERSONS),
        lambda s: s["accuracy_stated"],
    ),
    Metric(
        "accuracy_median_observed",
        "Accuracy of the median",
        "The same, observed range, if the model answers with the median of its distribution instead of one "
        "answer drawn from it.",
        "high",
        SHARE,
        (WIDTH, PERSONS, DISTRIBUTION),
        lambda s: s["accuracy_median_observed"],
    ),
    Metric(
        "exact_match",
        "Exact match",
        "The probability that the model gave to the answer that this person gave.",
        "high",
        SHARE,
        (PERSONS, DISTRIBUTION),
        lambda s: s["exact_match"],
    ),
    Metric(
        "crps",
        "CRPS, observed range",
        "Continuous ranked probability score: how far a person's predicted distribution lies from the answer "
        "that came, in units of the observed range. A proper score: the true probabilities make it least. Of "
        "several sampled answers its unbiased form, which is the same on average; one has none.",
        "low",
        SHARE,
        (WIDTH, SPREAD, PERSONS, DISTRIBUTION),
        lambda s: s["crps"],
    ),
    Metric(
        "log_score",
        "Log score",
        "Surprise at the person's answer: minus the logarithm of the probability that the model gave it.",
        "low",
        POSITIVE,
        (PROBABILITIES, PERSONS, DISTRIBUTION),
        lambda s: s["log_score"],
    ),
    Metric(
        "brier",
        "Brier score",
        "Squared distance between the predicted probabilities and the answer that came (0 to 2).",
        "low",
        (0.0, 2.0),
        (PROBABILITIES, PERSONS, DISTRIBUTION),
        lambda s: s["brier"],
    ),
    Metric(
        "correlation",
        "Correlation within cells",
        "Whether people of one cell that the model expects to answer higher do answer higher. It sees "
        "differences between people that distributions hide.",
        "high",
        SIGNED,
        (ORDER, VARIATION, PERSONS),
        _correlation,
    ),
    Metric(
        "mean_error_observed",
        "Error of the mean, observed range",
        "How far the predicted mean lies from the people's, in units of the observed range.",
        "low",
        SHARE,
        (PEOPLE, WIDTH, ORDER),
        lambda s: np.abs(_bias(s)),
    ),
    Metric(
        "mean_error_stated",
        "Error of the mean, stated range",
        "How far the predicted mean lies from the people's, in units of the stated scale.",
        "low",
        SHARE,
        (PEOPLE, SCALE, ORDER),
        lambda s: np.abs(_stated_bias(s)),
    ),
    Metric(
        "mean_bias_observed",
        "Bias of the mean, observed range",
        "Predicted mean minus the people's, in units of the observed range: above 0 the model is too high.",
        "zero",
        SIGNED,
        (PEOPLE, WIDTH, ORDER),
        _bias,
    ),
    Metric(
        "mean_bias_stated",
        "Bias of the mean, stated range",
        "The same in units of the stated scale.",
        "zero",
        SIGNED,
        (PEOPLE, SCALE, ORDER),
        _stated_bias,
    ),
    Metric(
        "spread_ratio",
        "Spread ratio",
        "Predicted standard deviation over the people's. Below 1 the model's people are too much alike.",
        "one",
        POSITIVE,
        (PEOPLE, WIDTH, ORDER, DISTRIBUTION),
        lambda s: np.sqrt(_divide(s["predicted_variance"], s["human_variance"])),
    ),
    Metric(
        "entropy_ratio",
        "Entropy ratio",
        "Predicted entropy over the people's. Far below 1 the model puts nearly everybody on the same answer "
        "(mode collapse).",
        "one",
        POSITIVE,
        (PEOPLE, WIDTH, DISTRIBUTION),
        lambda s: _divide(s["predicted_entropy"], s["human_entropy"]),
    ),
)
METRICS: dict[str, Metric] = {metric.key: metric for metric in _ALL}
