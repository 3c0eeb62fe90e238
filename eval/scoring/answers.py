"""Scores of single people's answers, and how well calibrated the stated probabilities are.

A prediction is a distribution over answers, so scores that need one answer are expectations: published
accuracy is the mean of 1 - |predicted - response| / (high - low) over the predicted probabilities,
which for one sampled answer is the published formula itself (arXiv 2509.05830).
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numba import njit

from common.distances import in_threads
from eval.scoring.ragged import Ragged

# What `row_score` writes, in this order. The first RESAMPLED of them are averaged in a group.
ROW_SCORES = (
    "accuracy_observed", "accuracy_stated", "accuracy_median_observed", "exact_match", "log_score", "brier",
    "crps", "place", "place_squared", "place_and_response",
    "expected", "confidence", "confident_right", "clipped_observed", "clipped_stated",
)  # fmt: skip
RESAMPLED = 10
PROBABILITY_FLOOR = 1e-6  # of the log score: an answer given probability 0 costs 13.8, not infinity
BINS = 10


class Answers(NamedTuple):
    """Answers of N people and the distributions that predict them."""

    predicted: Ragged
    which: np.ndarray
    """int64 (N): each answer's distribution in `predicted`."""
    response: np.ndarray
    """int64 (N)."""
    group: np.ndarray
    """int64 (N): each answer's cell or item, an index into `ranges`."""
    ranges: np.ndarray
    """float64 (G, 4): observed low and high, stated low and high; NaN where there is none."""
    draws: np.ndarray
    """int64 (N): from how many sampled answers each answer's distribution was counted; 0: probabilities."""

    def part(self, rows: slice) -> "Answers":
        """Some of the answers."""
        which, response, group, draws = (
            part[rows] for part in (self.which, self.response, self.group, self.draws)
        )
        return self._replace(which=which, response=response, group=group, draws=draws)


def row_scores(answers: Answers) -> np.ndarray:
    """Scores of N answers: float64 (N, len(ROW_SCORES)).

    An accuracy is NaN without a range that has a width, and so is `crps`, the continuous ranked probability
    score (Matheson and Winkler 1976) over the observed range: E|X - response| - E|X - X'| / 2. Of k sampled
    answers the second mean is over pairs of different ones, which estimates it without bias (the fair score
    of Ferro 2014; Gneiting and Raftery 2007, section 4.2); one sampled answer has none. `log_score` is
    -ln(probability of the response), at least PROBABILITY_FLOOR; `brier` is the sum over answers of
    (probability - hit)^2, 0 to 2 (Brier 1950). `expected` is the mean predicted answer, clipped to the
    observed range; `place` is where it lies on that range (-0.5 to 0.5), with its square and its product with
    the response's place.
    """
    out = np.empty((len(answers.response), len(ROW_SCORES)))
    in_threads(_row_scores, len(out), answers, out)
    return out


@njit(cache=True, nogil=True)
def _row_scores(first, last, rows, out):
    predicted = rows.predicted
    for i in range(first, last):
        of_row = slice(predicted.offsets[rows.which[i]], predicted.offsets[rows.which[i] + 1])
        row_score(
            predicted.answers[of_row], predicted.weights[of_row], rows.response[i],
            rows.ranges[rows.group[i]], rows.draws[i], out[i],
        )  # fmt: skip


@njit(cache=True)
def row_score(answers, probs, response, limits, draws, out):
    """The scores of one answer into `out`; probs add up to 1, answers ascend."""
    if len(answers) == 0:
        out[:] = np.nan
        return
    score_person(answers, probs, describe(answers, probs, limits), response, limits, draws, out)


# Both are put into their callers: as calls they make scoring a tenth slower.
@njit(cache=True, inline="always")
def describe(answers, probs, limits):
    """What scores need of a distribution, whoever is held against it: of one that predicts many, once.

    Squares' sum, mean, mean difference of two draws (half), median, the top probability and its answer, and
    the probability outside of the observed and of the stated range.
    """
    low, high, stated_low, stated_high = limits[0], limits[1], limits[2], limits[3]
    expected, squares, spread, outside, stated_outside = 0.0, 0.0, 0.0, 0.0, 0.0
    top, top_answer, below, median, before = -1.0, 0.0, 0.0, np.nan, np.nan
    for j in range(len(answers)):
        answer, p = float(answers[j]), float(probs[j])
        clipped = min(max(answer, low), high)
        stated = min(max(answer, stated_low), stated_high)
        expected += p * clipped
        squares += p * p
        outside += p * (clipped != answer)
        stated_outside += p * (stated_low <= stated_high and stated != answer)
        if p > top:
            top, top_answer = p, answer
        if j:
            spread += below * (1 - below) * (clipped - before)
        before = clipped
        below += p
        if np.isnan(median) and below >= 0.5 - 1e-9:
            median = clipped
    return squares, expected, spread, median, top, top_answer, outside, stated_outside


@njit(cache=True, inline="always")
def score_person(answers, probs, described, response, limits, draws, out):
    """The scores of one answer into `out`, with what `describe` says of the distribution."""
    squares, expected, spread, median, top, top_answer, outside, stated_outside = described
    low, high, stated_low, stated_high = limits[0], limits[1], limits[2], limits[3]
    truth = float(response)
    stated_truth = min(max(truth, stated_low), stated_high)
    miss, stated_miss, on_truth = 0.0, 0.0, 0.0
    for j in range(len(answers)):
        answer, p = float(answers[j]), float(probs[j])
        miss += p * abs(min(max(answer, low), high) - truth)
        stated_miss += p * abs(min(max(answer, stated_low), stated_high) - stated_truth)
        if answer == truth:
            on_truth = p
    width, stated_width = high - low, stated_high - stated_low
    if draws > 0:
        spread *= draws / (draws - 1.0) if draws > 1 else np.nan
    position = (expected - low) / width - 0.5 if width > 0 else np.nan
    out[0] = 1 - miss / width if width > 0 else np.nan
    out[1] = 1 - stated_miss / stated_width if stated_width > 0 else np.nan
    out[2] = 1 - abs(median - truth) / width if width > 0 else np.nan
    out[3] = on_truth
    out[4] = -np.log(max(on_truth, PROBABILITY_FLOOR))
    out[5] = squares - 2 * on_truth + 1
    out[6] = (miss - spread) / width if width > 0 else np.nan
    out[7] = position
    out[8] = position * position
    out[9] = position * ((truth - low) / width - 0.5) if width > 0 else np.nan
    if len(out) > RESAMPLED:
        out[10] = expected
        out[11] = top
        out[12] = 1.0 if top_answer == truth else 0.0
        out[13] = outside
        out[14] = stated_outside


@dataclass(frozen=True)
class Reliability:
    """Calibration of the most probable answer: per bin of confidence, and per study for the bootstrap.

    count, confidence, right: float64 (..., studies, BINS): weights of rows, sums of confidence and of hits.
    """

    count: np.ndarray
    confidence: np.ndarray
    right: np.ndarray

    def ece(self, study_weights: np.ndarray) -> np.ndarray:
        """Expected calibration error (Guo et al. 2017) for each row of study weights (R, studies)."""
        gaps = np.abs(study_weights @ self.confidence - study_weights @ self.right)
        return gaps.sum(-1) / (study_weights @ self.count).sum(-1)


def confidence_bin(confidence: np.ndarray) -> np.ndarray:
    """Which of BINS equal bins each confidence (0 to 1) falls into: int64."""
    return np.minimum((confidence * BINS).astype(np.int64), BINS - 1)
