"""The parts of scores.json: an estimate, and the blocks of counts, ceilings, effects and subgroups."""

from typing import Literal

from pydantic import Field

from common.contract import Record


class Estimate(Record):
    """A figure and how sure it is.

    `value` is the mean over studies of the mean over a study's cells, null where nothing can be computed.
    `reason` says why a value or its interval over studies is missing.
    """

    value: float | None
    low: float | None = None
    """95% interval over studies: would other studies give the same?"""
    high: float | None = None
    low_people: float | None = None
    """95% interval over the people of these studies."""
    high_people: float | None = None
    studies: int = 0
    cells: int = 0
    dropped: int = 0
    """Resamples that gave no value (of a ratio whose denominator wasn't positive)."""
    reason: str | None = None

    @property
    def over_studies(self) -> tuple[float, float] | None:
        """The interval over studies."""
        return None if self.low is None or self.high is None else (self.low, self.high)

    @property
    def over_people(self) -> tuple[float, float] | None:
        """The interval over people."""
        return (
            None
            if self.low_people is None or self.high_people is None
            else (self.low_people, self.high_people)
        )

    @property
    def interval(self) -> tuple[float, float] | None:
        """The interval to show: over studies where there is one, else over people."""
        return self.over_studies or self.over_people

    @property
    def over(self) -> Literal["studies", "people"] | None:
        """What `interval` is over."""
        if self.over_studies:
            return "studies"
        return "people" if self.over_people else None

    def __str__(self) -> str:
        if self.value is None:
            return "-"
        ends = self.interval
        return f"{self.value:.3f}" + (f" [{ends[0]:.3f}, {ends[1]:.3f}]" if ends else "")


Estimates = dict[str, Estimate]


class RowCounts(Record):
    """Evaluation rows, by what became of them."""

    evaluation: int
    predicted: int
    missing: int
    failed: int
    scored: int
    clipped_observed: int
    """Rows of which some predicted answer lies outside the observed range."""
    clipped_stated: int
    human_off_scale: int
    """People's answers that the stated scale doesn't admit (steps and gaps included)."""
    no_stated_scale: int


class CellCounts(Record):
    """Cells, and why some were left out of what can't be computed there."""

    all: int
    scored: int
    left_out: dict[str, int]


class Weighting(Record):
    """Survey weights: Kish's design effect n * sum(w^2) / sum(w)^2, and the sample size that they leave."""

    design_effect: float
    effective_rows: float


class Parsing(Record):
    """Replies asked for, read, and bare, and the mean mass off the scale; null where unknown."""

    requested: int | None = None
    parsed: int | None = None
    bare: int | None = None
    off_scale_mass: float | None = None


class Ceilings(Record):
    """What a perfect model is expected to reach: {distance: estimate}, and the accuracy of another person."""

    split_half_raw: Estimates
    split_half_corrected: Estimates
    bootstrap_raw: Estimates
    bootstrap_corrected: Estimates
    paired: Estimates
    another_person: Estimates


class Skill(Record):
    """Where a model stands between the uniform guess (0) and a ceiling (1)."""

    raw: Estimate
    corrected: Estimate
    corrected_human: Estimate


class TableRow(Record):
    """A row of the leader table; skill is empty but for models."""

    name: str
    kind: Literal["model", "control", "ceiling"]
    mode: str | None
    metrics: Estimates
    skill: dict[str, Skill]


class KindScores(Record):
    """The cells of one kind of answer scale: observed-range distance and corrected skill."""

    cells: int
    logarithm: bool
    """Whether the distance is that of the answers' logarithms (open scales)."""
    wasserstein: Estimate
    skill: Estimate


class Era(Record):
    """Studies on one side of the end of a base model's training."""

    studies: int
    metrics: Estimates


class ByTime(Record):
    """Scores of studies published before and after a base model's training ended; difference: after less
    before."""

    cut: str
    undated: int
    before: Era
    after: Era
    difference: Estimates


class StudyScores(Record):
    """One study's figures; intervals are over its people."""

    metrics: dict[str, float | None]
    people: dict[str, tuple[float, float] | None]
    skill: dict[str, float | None]
    skill_people: dict[str, tuple[float, float] | None]
    cells: int
    rows: int


class ConfidenceBin(Record):
    """Rows whose most probable answer has a probability from `low` to `high`."""

    low: float
    high: float
    count: int
    confidence: float | None
    frequency: float | None


class Calibration(Record):
    """Reliability of the most probable answer, and of all cumulative probabilities of ordered answers."""

    ece: Estimate
    bins: list[ConfidenceBin]
    reason: str | None
    pit: list[float] = Field(default_factory=list)
    """Of ordered answers: shares of answers in equal parts of their predicted distributions, equal if right.
    """
    pit_error: Estimate | None = None


class MetaAnalysis(Record):
    """The studies' slopes of observed on predicted effects, combined with random effects."""

    studies: int
    without_effect: int = 0
    """Studies whose predicted effects aren't larger than their noise: they have no slope."""
    slope: float | None = None
    low: float | None = None
    """95% interval of the mean slope"""
    high: float | None = None
    new_low: float | None = None
    """95% prediction interval: the slope of a new study"""
    new_high: float | None = None
    tau: float | None = None
    """standard deviation of true slopes between studies"""
    i2: float | None = None
    """share of the slopes' variance that isn't sampling (0 to 1)"""
    reason: str | None = None


class Effects(Record):
    """Differences between arms: how the predicted ones agree with the observed ones.

    model, half_sample: {statistic: estimate} of the model, and of one half of the people predicting the
    other. The contrasts themselves are in contrasts.parquet.
    """

    contrasts: int
    outcomes: int
    studies: int
    clear: int
    left_out: dict[str, int]
    model: Estimates
    half_sample: Estimates
    meta: MetaAnalysis | None = None


class Gap(Estimate):
    """The largest difference between two groups of a field, judged as the largest of all."""

    highest: str | None = None
    lowest: str | None = None
    by_chance: float | None = None
    """The gap to expect if no group differed."""
    p: float | None = None
    """How often the gap would be as large if no group differed."""


class LargestGap(Gap):
    """The field with the largest gap in accuracy."""

    field: str | None = None


class Parity(Estimate):
    """Demographic parity difference: the mean over fields of the largest gap in accuracy."""

    by_chance: float | None = None
    chance_high: float | None = None
    """What it stays below 95 times in 100 if no group differs."""
    p: float | None = None


class Group(Record):
    """One demographic group."""

    group: str
    rows: int
    studies: int
    cells: int
    wasserstein_observed: Estimate
    wasserstein_stated: Estimate
    accuracy_observed: Estimate
    accuracy_stated: Estimate
    ceiling_observed: Estimate
    excess_observed: Estimate


class FieldScores(Record):
    """The groups of one demographic field and the gaps between them."""

    groups: list[Group]
    parity_accuracy: Gap
    parity_prediction: Gap
    parity_prediction_human: Gap
    reason: str | None


class GroupEffects(Record):
    """Agreement of effects among the people of one group."""

    contrasts: int
    correlation: Estimate
    sign_agreement: Estimate
    magnitude_ratio: Estimate


class Interactions(Record):
    """Heterogeneity: each group's effect less that of all others, predicted against observed."""

    contrasts: int
    correlation: Estimate
    correlation_disattenuated: Estimate
    slope: Estimate
    sign_agreement: Estimate


class Subgroups(Record):
    """Is the model as good for everybody?"""

    fields: dict[str, FieldScores]
    demographic_parity_difference: Parity
    largest_gap: LargestGap
    effects: dict[str, dict[str, GroupEffects]]
    interactions: dict[str, Interactions] = Field(default_factory=dict)
