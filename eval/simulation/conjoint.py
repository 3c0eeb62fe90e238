"""A forced-choice conjoint on simulated people: who sees which pairs, their texts, and the estimates."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import polars as pl

from common.errors import Refusal
from common.experiment import EVERYBODY, Arm, Contrast, Experiment
from common.experiment_file import suggestion
from common.profiles import Profiles
from eval.simulation.amce import Level, Linear, Shown, amces, marginal_means
from eval.simulation.effects import Answers, Effect, RealEffect
from eval.simulation.measured import Simulated
from eval.simulation.population import People, Source, in_category, named, table_of
from eval.simulation.record import EffectRow, LevelRow, SubgroupRow, Tables
from eval.simulation.tables import SMALLEST_GROUP, Z95, cell_rows, effect_row, groups_of

MEASURE = "chosen"
SD = 0.5  # of a forced choice: one of two profiles is chosen
Statistic = Literal["mm", "amce"]
Estimator = Callable[[Shown, Profiles], dict[Level, Linear]]
OBSERVED = "give a CSV with a row for each profile shown: person, a column an attribute, chosen (0 or 1)"


def assign(experiment: Experiment, people: int) -> pl.DataFrame:
    """Who chooses between what, one row for each (outcome, person, task).

    Columns as of `survey.assign`, and task, first, second (profiles, positions of levels) and order (of the
    attributes, the same in all of a person's tasks). All outcomes are asked about the same pairs.
    """
    profiles, tasks = _profiles(experiment), experiment.file.design.tasks or 1
    rng = np.random.default_rng([experiment.file.seed, 2])
    person = np.repeat(np.arange(people), tasks)
    order = np.argsort(rng.random((people, len(profiles.attributes))), axis=1)[person]
    pairs = profiles.draw(rng, (len(person), 2))
    (everybody,) = experiment.arms
    parts = []
    for outcome in experiment.scales:
        wordings = len(experiment.wordings(everybody, outcome))
        parts.append(
            pl.DataFrame(
                {
                    "person": person,
                    "arm": np.zeros(len(person), np.int64),
                    "wording": (rng.random(people)[person] * wordings).astype(np.int64),
                    "reversed": np.zeros(len(person), bool),
                    "assigned": np.ones(len(person), bool),
                    "outcome": [outcome] * len(person),
                    "task": np.tile(np.arange(tasks), people),
                    "first": pl.Series(pairs[:, 0].tolist(), dtype=pl.List(pl.Int64)),
                    "second": pl.Series(pairs[:, 1].tolist(), dtype=pl.List(pl.Int64)),
                    "order": pl.Series(order.tolist(), dtype=pl.List(pl.Int64)),
                }
            )
        )
    return pl.concat(parts)


def texts(experiment: Experiment, asked: pl.DataFrame) -> list[str]:
    """The stimulus of each row of `asked` (see `assign`)."""
    profiles = _profiles(experiment)
    stimuli = []
    for outcome, wording, first, second, order in asked.select(
        "outcome", "wording", "first", "second", "order"
    ).iter_rows():
        names = [label for _, label in experiment.scales[outcome].labels]
        shown = Arm(EVERYBODY, {"profiles": profiles.text((first, second), names, order)}, {})
        stimuli.append(experiment.stimulus(shown, outcome, wording))
    return stimuli


def _profiles(experiment: Experiment) -> Profiles:
    assert experiment.profiles is not None
    return experiment.profiles


def respondents(
    experiment: Experiment, asked: pl.DataFrame, answers: dict[str, Answers], people: People
) -> pl.DataFrame:
    """The tidy table, one row for each profile that was shown: as R's cregg reads it.

    `chosen` is drawn, one of each pair; `expected` is the probability that it is chosen.
    """
    profiles, rng = _profiles(experiment), np.random.default_rng([experiment.file.seed, 3])
    parts = []
    for outcome, rows, probability in _choices(asked, answers):
        drawn = rng.random(len(probability)) < probability
        for number, column, chosen, chance in (
            (1, "first", drawn, probability),
            (2, "second", ~drawn, 1 - probability),
        ):
            shown = rows.select(
                pl.col("person").alias("at"),
                pl.lit(outcome).alias("outcome"),
                pl.col("wording", "task") + 1,
                pl.lit(number).alias("profile"),
                *(
                    pl.col(column).list.get(at).replace_strict(dict(enumerate(levels))).alias(_column(name))
                    for at, (name, levels) in enumerate(profiles.attributes.items())
                ),
                chosen=pl.Series(chosen.astype(np.int64)),
                expected=pl.Series(chance),
            )
            parts.append(shown)
    who = people.frame.with_row_index("at").with_columns(pl.col("at").cast(pl.Int64))
    table = pl.concat(parts).join(who, on="at", how="left", maintain_order="left")
    table = table.sort("outcome", "at", "task", "profile", maintain_order=True)
    shown_columns = [name for name in parts[0].columns if name != "at"]
    return table.with_columns(respondent=pl.col("at") + 1).select(
        "respondent", "person", *shown_columns, "weight", *people.fields
    )


def _column(attribute: str) -> str:
    """An attribute's column among the respondents, where demographic fields have names, too."""
    return f"attribute_{attribute}"


def _choices(
    asked: pl.DataFrame, answers: dict[str, Answers]
) -> Iterator[tuple[str, pl.DataFrame, np.ndarray]]:
    """Each outcome's rows, and the probability that the first profile is chosen. asked: what was answered."""
    for outcome, one in answers.items():
        rows = asked.filter(pl.col("outcome") == outcome)
        yield outcome, rows, one.probs[:, 0].astype(float)  # of a choice the support is 1 and 2


@dataclass(frozen=True)
class Conjoint:
    """One outcome's choices. shown: first the T first profiles, then the T second ones of the pairs."""

    simulated: Simulated
    outcome: str
    shown: Shown
    observed: Shown | None
    measure: str = MEASURE

    @property
    def profiles(self) -> Profiles:
        """The experiment's profiles."""
        return _profiles(self.simulated.experiment)

    def effect(self, estimate: Linear, shown: Shown | None = None, share: float = 1.0) -> Effect:
        """An estimate with the error of the planned study, and that of having simulated only so many people.

        The planned study's people make choices, of which the simulation knows the probabilities: p (1 - p)
        comes on top, once for each pair, since a profile is chosen where the other isn't.
        """
        shown = shown or self.shown
        planned = self.simulated.experiment.file.design.people
        assert planned is not None
        simulated = estimate.variance(shown.person)
        half = len(shown.chosen) // 2
        p, part = shown.chosen[:half], estimate.part
        drawn = simulated + float(((part[:half] - part[half:]) ** 2 * p * (1 - p)).sum())
        people = self.simulated.people.effective_size * share
        spread = drawn * people
        return Effect(
            estimate.value, float(np.sqrt(spread / (planned * share))), float(np.sqrt(simulated)), SD, spread
        )


def analyse(simulated: Simulated, asked: pl.DataFrame, observed: dict[str, Shown]) -> Tables:
    """Every table of a conjoint: AMCEs as effects, marginal means and AMCEs by level, groups, the places."""
    effects, levels, subgroups, cells = [], [], [], []
    for outcome, rows, probability in _choices(asked, simulated.answers):
        person = rows["person"].to_numpy()
        shown = Shown(
            np.array([*rows["first"].to_list(), *rows["second"].to_list()]),
            np.concatenate([probability, 1 - probability]),
            np.tile(person, 2),
            np.tile(simulated.weight[person], 2),
        )
        one = Conjoint(simulated, outcome, shown, observed.get(outcome))
        cells += list(cell_rows(simulated, outcome))
        effects += list(_effects(one))
        levels += list(_levels(one))
        subgroups += list(_subgroups(one))
    return Tables(cells=cells, effects=effects, levels=levels, subgroups=subgroups)


def _effects(one: Conjoint) -> Iterator[EffectRow]:
    """AMCEs as treatment effects: of a level against the attribute's first."""
    observed = amces(one.observed, one.profiles) if one.observed else {}
    for level, estimate in amces(one.shown, one.profiles).items():
        (attribute, name), (_, base) = one.profiles.level(*level), one.profiles.level(level[0], 0)
        contrast = Contrast(f"{attribute}: {name} - {base}", "amce", {})
        yield effect_row(one, contrast, one.effect(estimate), None, _real(observed.get(level), one.observed))


def _real(estimate: Linear | None, observed: Shown | None) -> RealEffect | None:
    """An estimate among real choices, with its error."""
    if estimate is None or observed is None:
        return None
    error = float(np.sqrt(estimate.variance(observed.person)))
    return RealEffect(estimate.value, error, estimate.value - Z95 * error, estimate.value + Z95 * error)


def _levels(one: Conjoint) -> Iterator[LevelRow]:
    """Marginal mean and AMCE of each level, in the order of the file."""
    estimators: dict[Statistic, Estimator] = {"mm": marginal_means, "amce": amces}
    for statistic, estimator in estimators.items():
        estimates = estimator(one.shown, one.profiles)
        observed = estimator(one.observed, one.profiles) if one.observed else {}
        for attribute, levels in enumerate(one.profiles.attributes.values()):
            for position in range(len(levels)):
                level = (attribute, position)
                name, word = one.profiles.level(*level)
                row = LevelRow(outcome=one.outcome, statistic=statistic, attribute=name, level=word)
                figures = _figures(one, estimates.get(level), statistic == "amce" and position == 0)
                if real := _real(observed.get(level), one.observed):
                    figures |= {"observed": real.value, "observed_std_error": real.se}
                yield row.model_copy(update=figures)


def _figures(one: Conjoint, estimate: Linear | None, base: bool) -> dict[str, Any]:
    """The figures of a level's row: an estimate, the base's zero, or why there is none."""
    if base:
        return {"estimate": 0.0}
    if estimate is None:
        return {"reason": "it never occurs with a combination that the first level has, too"}
    effect = one.effect(estimate)
    return {"estimate": effect.value, "std_error": effect.se, **_ends(effect)}


def _ends(effect: Effect) -> dict[str, float]:
    return {"conf_low": effect.value - Z95 * effect.se, "conf_high": effect.value + Z95 * effect.se}


def _subgroups(one: Conjoint) -> Iterator[SubgroupRow]:
    """Marginal means within groups, and how each differs from that of the field's other people.

    Of groups marginal means are compared, not AMCEs: differences of AMCEs depend on which level is the
    base (Leeper, Hobolt and Tilley 2020).
    """
    people, simulated = one.simulated.people.frame, one.simulated
    for field, groups in simulated.experiment.file.moderators.items():
        for group in groups or groups_of(people, field):
            inside = in_category(people[field], group)
            outside = people[field].is_not_null().to_numpy() & ~inside
            if inside.sum() < SMALLEST_GROUP:
                continue
            means, others = (_means_among(one, mask) for mask in (inside, outside))
            for level, mean in means.items():
                row = SubgroupRow(
                    outcome=one.outcome,
                    measure=one.measure,
                    field=field,
                    group=group,
                    people=int(inside.sum()),
                    contrast=": ".join(one.profiles.level(*level)),
                    estimate=mean.value,
                    std_error=mean.se,
                    **_ends(mean),
                )
                yield row.model_copy(update=_difference(mean, others.get(level)))


def _difference(mean: Effect, other: Effect | None) -> dict[str, float]:
    if other is None:
        return {}
    error = float(np.hypot(mean.se, other.se))
    return {"difference": mean.value - other.value, "difference_std_error": error}


def _means_among(one: Conjoint, mask: np.ndarray) -> dict[Level, Effect]:
    """Marginal means among some of the people; none where they are too few."""
    if mask.sum() < SMALLEST_GROUP:
        return {}
    weight, shown = one.simulated.weight, one.shown.where(mask[one.shown.person])
    share = float(weight[mask].sum() / weight.sum())
    means = marginal_means(shown, one.profiles)
    return {level: one.effect(mean, shown, share) for level, mean in means.items()}


def read_observed(source: Source, experiment: Experiment) -> dict[str, Shown]:
    """Real choices by outcome, from a table with one row for each profile shown.

    Columns: person, one an attribute (names of levels), chosen (0 or 1); `outcome` where there are several;
    optionally weight. Raises `Refusal` with the row.
    """
    table, name = table_of(source, OBSERVED), named(source)
    profiles, outcomes = _profiles(experiment), list(experiment.scales)
    for column in ("person", *profiles.attributes, "chosen"):
        if column not in table.columns:
            raise Refusal(f"{name} has no column {column}; {OBSERVED}")
    if "outcome" not in table.columns:
        if len(outcomes) > 1:
            raise Refusal(f"{name} has no column outcome; say which of {', '.join(outcomes)} each row is of")
        table = table.with_columns(outcome=pl.lit(outcomes[0]))
    levels = [
        _positions(name, table[attribute], list(words)) for attribute, words in profiles.attributes.items()
    ]
    outcome = _positions(name, table["outcome"], outcomes)
    chosen = _numbers(name, table["chosen"], "0 or 1", lambda values: values.is_in([0.0, 1.0]))
    weight = np.ones(len(table))
    if "weight" in table.columns:
        positive = "a number above 0"
        weight = _numbers(name, table["weight"], positive, lambda values: values.is_finite() & (values > 0))
    _, person = np.unique(table["person"].cast(pl.String).fill_null("").to_numpy(), return_inverse=True)
    shown = Shown(np.stack(levels, axis=1), chosen, person, weight)
    return {outcomes[at]: shown.where(outcome == at) for at in np.unique(outcome)}


def _positions(name: str, column: pl.Series, words: list[str]) -> np.ndarray:
    """The position of each value of a column among the words that it may hold."""
    for row, word in enumerate(column.cast(pl.String)):
        if word not in words:
            hint = suggestion(str(word), words) or f"there are {', '.join(words)}"
            raise Refusal(f"{name} row {row + 2}: {column.name} can't be {word!r}; {hint}".rstrip())
    position = {word: index for index, word in enumerate(words)}
    return column.cast(pl.String).replace_strict(position, return_dtype=pl.Int64).to_numpy()


def _numbers(
    name: str, column: pl.Series, what: str, allowed: Callable[[pl.Series], pl.Series]
) -> np.ndarray:
    """A column of numbers of which each is allowed, float64."""
    values = column.cast(pl.Float64, strict=False)
    wrong = (~allowed(values)).fill_null(True).arg_true()
    if len(wrong):
        text = column[int(wrong[0])]
        raise Refusal(f"{name} row {wrong[0] + 2}: {column.name} is {text}; write {what}")
    return values.to_numpy()
