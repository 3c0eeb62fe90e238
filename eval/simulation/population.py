"""The people of a simulated experiment: whole persons, drawn, weighted, never assembled from parts.

People come from a data set's participants (`eval.parquet`) or from a CSV. A drawn person keeps all the
fields of one participant: a draw field by field would make people who can't exist. Margins are met by
weights (raking, by the library `ipfn`), quotas by drawing.
"""

import re
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
from ipfn import ipfn

from common.errors import Refusal
from common.experiment_file import Category, PopulationSpec
from common.prompts import DEMOGRAPHIC_FIELDS, demographic_fields
from common.readers import read_csv

DEFAULT_PEOPLE = 1000
Source = str | Path | pl.DataFrame  # a CSV file, or a table that is in memory


@dataclass(frozen=True)
class People:
    """N simulated people.

    frame: `person` (text), demographic fields, `weight` (mean 1). pool: how many there were to draw
    from. notes: what a reader should know, one sentence each.
    """

    frame: pl.DataFrame
    pool: int
    notes: list[str] = field(default_factory=list)

    @property
    def fields(self) -> list[str]:
        """The demographic fields that anybody has a value of."""
        return [name for name in demographic_fields(self.frame.columns) if self.frame[name].count()]

    @property
    def effective_size(self) -> float:
        """Kish's effective sample size, (sum w)^2 / sum w^2: what unequal weights leave of N."""
        weight = self.frame["weight"].to_numpy()
        return float(weight.sum() ** 2 / (weight**2).sum())


def participants(path: Path, remedy: str) -> pl.DataFrame:
    """Every person of evaluation rows once: `person` ("study_id/participant") and the demographic fields."""
    if not path.is_file():
        raise Refusal(f"{path} is missing; {remedy}")
    keys = ["study_id", "participant"]
    rows = (
        pl.scan_parquet(path).select(*keys, "demographic").group_by(keys).agg(pl.col("demographic").first())
    )
    people = rows.sort(keys).collect()
    person = pl.concat_str(keys, separator="/").alias("person")
    profiles = people.select(person, "demographic").unnest("demographic")
    return profiles.select("person", *demographic_fields(profiles.columns))


def named(source: Source) -> str:
    """How messages name a table: its path, or `the table` for a frame."""
    return "the table" if isinstance(source, pl.DataFrame) else str(source)


def table_of(source: Source, remedy: str) -> pl.DataFrame:
    """A CSV file (empty fields and NA are missing values) or a frame, as a frame.

    Raises `Refusal` for a file that is missing (with the remedy) or isn't CSV.
    """
    return source if isinstance(source, pl.DataFrame) else read_csv(source, remedy)


def read_people(source: Source) -> pl.DataFrame:
    """People of one's own: columns named as the demographic fields, and `person`, `weight` if there are."""
    frame = table_of(source, "give a CSV of people with columns such as age, gender, party_id")
    fields = [name for name in DEMOGRAPHIC_FIELDS if name in frame.columns]
    if not fields or frame.is_empty():
        listed = ", ".join(DEMOGRAPHIC_FIELDS)
        raise Refusal(f"{named(source)} describes nobody; it needs rows, and columns among {listed}")
    if "person" not in frame.columns:
        frame = frame.with_row_index("person", offset=1)
    weighted = ["weight"] if "weight" in frame.columns else []
    people = frame.select(pl.col("person").cast(pl.String), *fields, *weighted)
    if weighted:
        weight = people["weight"].cast(pl.Float64, strict=False)
        if weight.null_count() or not ((weight > 0) & weight.is_finite()).all():
            raise Refusal(f"{named(source)}: every weight must be a number above 0")
        people = people.with_columns(weight=weight)
    return people


def draw_people(pool: pl.DataFrame, spec: PopulationSpec, seed: int, all_of_them: bool = False) -> People:
    """Draw and weight the people of an experiment from a pool of persons.

    all_of_them: take everybody once when `spec.people` names no number (a CSV of one's own).
    Raises `Refusal` for a field or a value that nobody has, with the remedy.
    """
    rng = np.random.default_rng([seed, 1])
    notes = []
    _check_fields(pool, [*spec.where, *spec.margins, *(name for quota in spec.quotas for name in quota.who)])
    eligible = pool.filter(_matches(pool, spec.where))
    if eligible.is_empty():
        raise Refusal("population.where leaves nobody; widen it")
    for name, shares in spec.margins.items():
        if not shares:
            raise Refusal(
                f"population.margins.{name} lists no value; give shares such as {{Female: 0.5, Male: 0.5}}"
            )
        listed = np.any([in_category(eligible[name], value) for value in shares], axis=0)
        if not listed.all():
            out = int((~listed).sum())
            notes.append(
                f"{out} of {len(eligible)} people have no {name} that population.margins lists; left out"
            )
            eligible = eligible.filter(listed)
    if spec.quotas:
        if spec.people is not None:
            raise Refusal("population has people and quotas; quotas say how many, so remove people")
        drawn = pl.concat(
            [_draw(eligible.filter(_matches(eligible, q.who)), q.people, rng, notes) for q in spec.quotas]
        )
    elif all_of_them and spec.people is None:
        drawn = eligible
    else:
        drawn = _draw(eligible, spec.people or DEFAULT_PEOPLE, rng, notes)
    weight = drawn["weight"].to_numpy() if "weight" in drawn.columns else np.ones(len(drawn))
    if spec.margins:
        weight = rake(drawn, spec.margins, weight)
    frame = drawn.with_columns(weight=weight / weight.mean())
    return People(frame, len(eligible), notes)


def _draw(pool: pl.DataFrame, count: int, rng: np.random.Generator, notes: list[str]) -> pl.DataFrame:
    """`count` whole persons, each at most once if there are enough of them."""
    if pool.is_empty():
        raise Refusal("a quota finds nobody; change its `who`, or the population's `where`")
    again = count > len(pool)
    if again:
        notes.append(f"{count} people were drawn from {len(pool)}, so some appear more than once")
    return pool[rng.choice(len(pool), count, replace=again)]


def rake(people: pl.DataFrame, margins: dict[str, dict[str, float]], weight: np.ndarray) -> np.ndarray:
    """Weights (N,) that start at `weight` and reproduce every margin; they add up to N.

    margins: {field: {value or range: share}}. Iterative proportional fitting (Deming and Stephan 1940).
    """
    table = pd.DataFrame({"total": np.asarray(weight, float)})
    aggregates = []
    for name, shares in margins.items():
        total = sum(shares.values())
        if min(shares.values()) <= 0 or not (abs(total - 1) < 0.005 or abs(total - 100) < 0.5):
            raise Refusal(
                f"population.margins.{name}: shares are above 0 and add up to 1 (or 100), not {total:g}"
            )
        group = np.full(len(people), -1)
        for index, value in enumerate(shares):
            member = in_category(people[name], value)
            if not member.any():
                raise Refusal(
                    f"population.margins.{name}: nobody drawn is {value!r}; draw more people, or drop it"
                )
            if (group[member] >= 0).any():
                raise Refusal(
                    f"population.margins.{name}: {value!r} overlaps another group; make them disjoint"
                )
            group[member] = index
        table[name] = group
        target = np.array(list(shares.values())) / total * len(people)
        aggregates.append(pd.Series(target, pd.Index(range(len(shares)), name=name)))
    raked = ipfn.ipfn(
        table, aggregates, [[name] for name in margins], weight_col="total",
        convergence_rate=1e-10, max_iteration=1000, rate_tolerance=0,
    ).iteration()  # fmt: skip
    result = raked["total"].to_numpy()
    for name, aggregate in zip(margins, aggregates, strict=True):
        reached = np.bincount(table[name], result, minlength=len(aggregate))
        if not np.allclose(reached, aggregate, rtol=1e-3):
            raise Refusal(
                f"no weights meet population.margins together ({name} fails); draw more people, or loosen it"
            )
    return result


def in_category(values: pl.Series, category: str) -> np.ndarray:
    """bool (N,): who has this value; `18-34` and `65+` are ranges unless somebody's value reads so."""
    same = (values.cast(pl.String) == category).fill_null(False)
    if same.any():
        return same.to_numpy()
    match = re.fullmatch(r"(\d+)\s*-\s*(\d+)|(\d+)\+", category)
    if not match:
        return same.to_numpy()
    low = int(match[1] or match[3])
    number = values.cast(pl.Int64, strict=False)
    inside = (number >= low) & (number <= int(match[2])) if match[2] else number >= low
    return inside.fill_null(False).to_numpy()


def _matches(people: pl.DataFrame, who: Category) -> np.ndarray:
    matching = np.ones(len(people), bool)
    for name, values in who.items():
        members = [in_category(people[name], value) for value in values]
        for value, mask in zip(values, members, strict=True):
            if not mask.any():
                some = ", ".join(map(repr, people[name].drop_nulls().unique().sort().to_list()[:8]))
                raise Refusal(f"population: nobody's {name} is {value!r}; there are {some}")
        matching &= np.any(members, axis=0)
    return matching


def _check_fields(people: pl.DataFrame, names: list[str]) -> None:
    for name in names:
        if name not in people.columns or not people[name].count():
            having = [
                column for column in DEMOGRAPHIC_FIELDS if column in people.columns and people[column].count()
            ]
            raise Refusal(f"population: nobody has a field {name!r}; there are {', '.join(having) or 'none'}")
