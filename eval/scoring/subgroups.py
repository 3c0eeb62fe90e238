"""Is the model as good for everybody? Scores by each demographic field, and the gaps between groups.

Definitions. *parity_accuracy*: the highest minus the lowest group's published accuracy (observed range),
each group's being the mean over studies of the mean over its rows; *demographic parity difference* is its
mean over fields. *parity_prediction*: the highest minus the lowest group's mean predicted answer on the
observed range, 0 to 1, and *parity_prediction_human* the same difference, of the same two groups, in
people's answers: what exceeds it is the model's doing. `gaps` says how the largest of many gaps is judged.

Distances grow as groups shrink, so a group's Wasserstein distance stands beside the paired ceiling at its
own size (`eval/scoring/ceilings.py`), and `excess_observed` is what it keeps above that.

*interactions*: how much a group's treatment effect differs from that of all others, predicted against
observed.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import polars as pl

from common.distances import distances
from eval.scoring.align import Evaluated
from eval.scoring.ceilings import ceilings
from eval.scoring.contrasts import PAIR, Design, contrasts, design
from eval.scoring.effects import PeopleSums, agreement, effects_of, product_sums, resampled_arms
from eval.scoring.estimates import Studies, estimate, missing, study_estimate
from eval.scoring.gaps import NO_GAP, Compared, compare_groups, gap, largest_gap, parity
from eval.scoring.groups import Groups, subset
from eval.scoring.metrics import METRICS, ORDER, SHARE
from eval.scoring.record import Estimates, FieldScores, Gap, Group, GroupEffects, Interactions, Subgroups
from eval.scoring.resampling import PairedRows, SumRows, resample_people, resample_sums
from eval.settings import ScoreSettings

AGES = ((18, 29), (30, 44), (45, 59), (60, 74), (75, 120))
MAX_GROUPS = 12  # a field with more values doesn't form groups
SPLITS = 20  # for each group's ceiling: there are many groups
GROUP_REPLICATES = 200  # of people, for each group
SLICES = 4  # of the draws that are in memory at once
GROUP_EFFECTS = ("correlation", "sign_agreement", "magnitude_ratio")
INTERACTION = ("correlation", "correlation_disattenuated", "slope", "sign_agreement")
FIGURES = ("accuracy_observed", "predicted", "human", "accuracy_stated")
DISTANCES = ("wasserstein_observed", "wasserstein_stated")
DIFFERING = (
    "study_id", "observed", "predicted", "observed_se", "predicted_se", "difference_se", "difference_df",
    "sd", "width", "clear", "pair",
)  # fmt: skip
TOO_FEW = "no cell (or study) with enough people of this group"
NO_EFFECTS = "no contrast with two people of this group in both arms"


@dataclass(frozen=True)
class People:
    """What subgroups are made of: rows, cells, and who is who. See `Evaluated`, `Groups`, `PairedRows`."""

    evaluated: Evaluated
    cells: Groups
    paired: PairedRows
    studies: Studies
    settings: ScoreSettings
    seed: int

    @cached_property
    def study(self) -> np.ndarray:
        """int64 (N): each row's study."""
        return self.studies.of_cell[self.evaluated.rows["cell"].to_numpy()]

    @cached_property
    def figures(self) -> np.ndarray:
        """float64 (N, 4), FIGURES: what is averaged over a group's rows; answers on the observed range as 0
        to 1, NaN of a choice, whose codes have no mean."""
        cell = self.evaluated.rows["cell"].to_numpy()
        low, high = self.cells.ranges[cell, :2].T
        ordered = ~self.cells.lacks[ORDER][cell]
        width = np.where((high > low) & ordered, high - low, np.nan)
        return np.stack(
            [
                self.cells.row("accuracy_observed"),
                (self.cells.row("expected") - low) / width,
                (self.evaluated.rows["response"].to_numpy() - low) / width,
                self.cells.row("accuracy_stated"),
            ],
            1,
        )


def subgroup_scores(people: People) -> Subgroups:
    """The `subgroups` block of scores.json (see eval/scoring/README.md).

    A group counts in a cell (for distances) and in a study (for means) with at least `min_group` rows.
    """
    arms = design(people.evaluated)
    fields: dict[str, FieldScores] = {}
    effects: dict[str, dict[str, GroupEffects]] = {}
    interactions: dict[str, Interactions] = {}
    accuracy: dict[str, Compared] = {}
    for field in people.evaluated.rows["demographic"].struct.fields:
        labels = group_labels(people.evaluated.rows["demographic"].struct.field(field))
        counts = labels.drop_nulls().value_counts().filter(pl.col("count") >= people.settings.min_group)
        names = sorted(counts[labels.name].to_list())
        if not 2 <= len(names) <= MAX_GROUPS:
            reason = (
                f"{len(names)} groups with at least {people.settings.min_group} rows; 2 to {MAX_GROUPS} "
                "can be compared"
            )
            fields[field] = FieldScores(groups=[], reason=reason, **dict.fromkeys(GAPS, no_gap(reason)))
            continue
        fields[field], compared = _field(people, labels, names)
        if compared is not None:
            accuracy[field] = compared
        of_people = group_labels(arms.people["demographic"].struct.field(field))
        effects[field], interactions[field] = _field_effects(arms, of_people, names, people)
    return Subgroups(
        fields=fields, demographic_parity_difference=parity(accuracy), largest_gap=largest_gap(accuracy),
        effects=effects, interactions=interactions,
    )  # fmt: skip


GAPS = ("parity_accuracy", "parity_prediction", "parity_prediction_human")


def no_gap(reason: str) -> Gap:
    """A gap that can't be computed."""
    return Gap(value=None, reason=reason)


def group_labels(values: pl.Series) -> pl.Series:
    """Groups of a field as text: ages in five bands, everything else as it stands. Nulls stay null."""
    if values.name == "age" and values.dtype.is_integer():
        bands = pl.lit(None, pl.String)
        for low, high in AGES:
            bands = (
                pl.when(pl.col("age").is_between(low, high)).then(pl.lit(f"{low}-{high}")).otherwise(bands)
            )
        return values.to_frame().select(bands.alias("age"))["age"]
    return values.cast(pl.String)


def _field(people: People, labels: pl.Series, names: list[str]) -> tuple[FieldScores, Compared | None]:
    """One field's groups and gaps, and its gaps in accuracy for judging the largest of all fields."""
    of_row = np.full(len(labels), -1)
    for number, name in enumerate(names):
        of_row[(labels == name).fill_null(False).to_numpy()] = number
    means, resampled = group_means(people, of_row, len(names))
    groups = []
    for number, name in enumerate(names):
        of_group = of_row == number
        accuracies = {
            key: study_estimate(
                means[:, number, k], people.studies, TOO_FEW, 0, resampled[:, :, number, k], SHARE
            )
            for k, key in enumerate(FIGURES) if key.startswith("accuracy")
        }  # fmt: skip
        groups.append(
            Group(group=name, rows=int(of_group.sum()), **_distances(people, of_group), **accuracies)
        )
    compared = [compare_groups(names, means[..., k], resampled[..., k], people.studies) for k in range(3)]
    accuracy, prediction, human = compared
    record = dict.fromkeys(GAPS, no_gap(NO_GAP))
    if accuracy is not None:
        record["parity_accuracy"] = gap(accuracy, accuracy.largest, [accuracy])
    if prediction is not None and human is not None:
        record["parity_prediction"] = gap(prediction, prediction.largest, [prediction])
        record["parity_prediction_human"] = gap(human, prediction.largest, [human])
    return FieldScores(groups=groups, reason=None, **record), accuracy


def group_means(people: People, of_row: np.ndarray, groups: int) -> tuple[np.ndarray, np.ndarray]:
    """FIGURES of each study and group (S, G, 4), and of resampled people (R, S, G, 4); NaN below min_group
    rows."""
    studies = len(people.studies.names)
    finite = np.isfinite(people.figures)
    weight = people.evaluated.rows["weight"].to_numpy()[:, None]
    at = np.where(of_row >= 0, people.study * groups + of_row, -1)
    values = np.hstack([finite * weight, np.where(finite, people.figures, 0.0) * weight])
    present = of_row >= 0
    counts = np.stack([np.bincount(at[present], column[present], studies * groups) for column in finite.T], 1)
    enough = counts.reshape(studies, groups, -1) >= people.settings.min_group
    rows = SumRows.of(people.study, people.paired.person, at, values, studies * groups)
    sums = np.stack([np.bincount(at[present], column[present], studies * groups) for column in values.T], 1)
    drawn = np.concatenate(list(resample_sums(rows, people.settings.replicates, people.seed)))

    def means(total: np.ndarray) -> np.ndarray:
        shaped = total.reshape(*total.shape[:-2], studies, groups, -1)
        count, value = np.split(shaped, 2, axis=-1)
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.where(enough & (count > 0), value / count, np.nan)

    return means(sums), means(drawn)


def _distances(people: People, of_group: np.ndarray) -> dict[str, object]:
    """Wasserstein distances of one group, their paired ceiling and the excess over it."""
    cell, studies = people.evaluated.rows["cell"].to_numpy(), people.studies
    enough = np.bincount(cell[of_group], minlength=len(people.evaluated.cells)) >= people.settings.min_group
    counted = of_group & enough[cell]
    out: dict[str, object] = {
        "studies": len(np.unique(studies.of_cell[cell[counted]])), "cells": int(enough.sum())
    }  # fmt: skip
    if not counted.any():
        return out | {name: missing(TOO_FEW) for name in (*DISTANCES, "ceiling_observed", "excess_observed")}
    part = subset(people.paired, counted)
    size = len(part.support)
    weights = np.repeat(part.weight, part.predicted.lengths) * part.predicted.weights
    predicted = np.bincount(part.predicted.answers, weights, minlength=size)
    human = np.bincount(part.human_at, part.weight, minlength=size)
    table = distances(part.support_offsets, part.support, human, predicted, part.ranges)
    lacking = {name: people.cells.lacking(METRICS[name].needs) for name in DISTANCES}
    draws = people.evaluated.rows["n_draws"].to_numpy()[counted]
    ceiling = ceilings(part, draws, SPLITS, people.seed).paired[:, 0]
    drawn = _resampled_distances(part, people)
    for k, name in enumerate(DISTANCES):
        value = np.where(lacking[name], np.nan, table[:, k])
        over_people = studies.means(np.where(np.isfinite(value), drawn[k], np.nan))
        out[name] = estimate(value, studies, TOO_FEW, over_people, SHARE)
    out["ceiling_observed"] = estimate(ceiling, studies, TOO_FEW, limits=SHARE)
    excess = np.where(lacking[DISTANCES[0]], np.nan, table[:, 0] - ceiling)
    over_people = studies.means(np.where(np.isfinite(excess), drawn[0] - ceiling, np.nan))
    out["excess_observed"] = estimate(excess, studies, TOO_FEW, over_people)
    return out


def _resampled_distances(part: PairedRows, people: People) -> np.ndarray:
    """float32 (2, R, C): DISTANCES of a group's cells when people are drawn again."""
    only = part._replace(
        row_scores=np.empty((len(part.person), 0), np.float32), columns=np.empty(0, np.int64),
        references=np.zeros_like(part.references),
    )  # fmt: skip
    chunks = resample_people(only, min(GROUP_REPLICATES, people.settings.replicates), people.seed)
    return np.concatenate([np.moveaxis(chunk[..., :2].astype(np.float32), -1, 0) for chunk in chunks], 1)


def _field_effects(
    arms: Design, labels: pl.Series, names: list[str], people: People
) -> tuple[dict[str, GroupEffects], Interactions]:
    """Effects within each group of a field, and how they differ from those of all other groups."""
    group = np.full(len(labels), -1)
    for number, name in enumerate(names):
        group[(labels == name).fill_null(False).to_numpy()] = number
    inside = [contrasts(arms, group == number) for number in range(len(names))]
    differing = _differing(arms, inside, group)
    collected = [_collector(pairs, people) for pairs in (*inside, differing)]
    replicates = min(GROUP_REPLICATES, people.settings.replicates)
    for chunk in resampled_arms(arms, group, len(names), replicates, people.seed):
        for sums in np.array_split(chunk, SLICES):
            _collect(arms, sums, inside, differing, collected)
    agreements = [_agreement(one) for one in collected]
    effects = {
        name: GroupEffects(contrasts=len(pairs), **{key: statistics[key] for key in GROUP_EFFECTS})
        for name, pairs, statistics in zip(names, inside, agreements, strict=False)
    }
    return effects, Interactions(
        contrasts=len(differing), **{key: agreements[-1][key] for key in INTERACTION}
    )


def _differing(arms: Design, inside: list[pl.DataFrame], group: np.ndarray) -> pl.DataFrame:
    """Each group's contrasts less those of all other groups, with `group`, sorted by study."""
    parts = []
    for number, of_group in enumerate(inside):
        rest = contrasts(arms, (group >= 0) & (group != number))
        both = of_group.join(rest, on=PAIR, suffix="_rest", nulls_equal=True, maintain_order="left")
        errors = [
            (pl.col(key) ** 2 + pl.col(f"{key}_rest") ** 2).sqrt().alias(key)
            for key in ("observed_se", "predicted_se", "difference_se")
        ]
        parts.append(
            both.with_columns(
                pl.col("observed") - pl.col("observed_rest"), pl.col("predicted") - pl.col("predicted_rest"),
                pl.min_horizontal("difference_df", "difference_df_rest"), *errors, clear=pl.lit(False),
            ).select(*DIFFERING, group=pl.lit(number))
        )  # fmt: skip
    return pl.concat(parts).sort("study_id", maintain_order=True)


def _collector(pairs: pl.DataFrame, people: People) -> PeopleSums | None:
    if pairs.is_empty():
        return None
    replicates = people.settings.replicates
    return PeopleSums(pairs, Studies.of(pairs["study_id"].to_list(), replicates, people.seed))


def _collect(
    arms: Design, sums: np.ndarray, inside: list[pl.DataFrame], differing: pl.DataFrame,
    collected: list[PeopleSums | None],
) -> None:  # fmt: skip
    """Add effects of a few draws, from sums (draws, A, groups, 3), to what is collected."""
    total = sums.sum(2)
    of_rows = np.full((len(sums), len(differing), 2), np.nan)
    row_group, row_pair = differing["group"].to_numpy(), differing["pair"].to_numpy()
    for number, pairs in enumerate(inside):
        effects, of_group = effects_of(arms, sums[:, :, number]), row_group == number
        rest = effects_of(arms, total - sums[:, :, number])
        of_rows[:, of_group] = (effects - rest)[:, row_pair[of_group]]
        if one := collected[number]:
            one.add(effects[:, pairs["pair"].to_numpy()])
    if one := collected[-1]:
        one.add(of_rows)


def _agreement(collected: PeopleSums | None) -> Estimates:
    if collected is None:
        return dict.fromkeys((*GROUP_EFFECTS, *INTERACTION), missing(NO_EFFECTS))
    pairs, studies = collected.pairs, collected.studies
    return agreement(product_sums(pairs, studies), len(pairs), studies, collected.sums())
