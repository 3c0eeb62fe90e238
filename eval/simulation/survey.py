"""Running an experiment on simulated people: who sees what, the prompts, and the answers that come back.

Everything random comes from the experiment's seed: assignment, label order, wordings, drawn answers.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from common.errors import Refusal
from common.prompts import DEMOGRAPHIC_FIELDS, SYSTEM_PROMPT, Order, user_prompt
from common.readers import read_json
from common.scale import Scale
from eval.simulation.effects import Answers
from eval.simulation.experiment import Experiment
from eval.simulation.experiment_file import suggestion
from eval.simulation.population import People

EVERY_ARM = 8  # up to so many arms, everybody is simulated in every arm: assignment then blurs no effect


@dataclass(frozen=True)
class Style:
    """How the data set asks: its system prompt and the order within the user prompt."""

    system: str
    order: Order


def prompt_style(folder: Path) -> Style:
    """The style of a data set's prompts, from its manifest; the published one if there is no data set."""
    if not (folder / "manifest.json").is_file():
        return Style(SYSTEM_PROMPT, "persona-first")
    manifest = read_json(folder / "manifest.json", "run `make data` again")
    system = pl.scan_parquet(folder / "eval.parquet").select(pl.col("system").first()).collect().item()
    return Style(system or "", manifest.get("config", {}).get("order", "persona-first"))


def assign(experiment: Experiment, people: int) -> pl.DataFrame:
    """Who answers what, one row for each (person, arm, outcome, wording).

    Columns: person, arm (places), outcome, wording (place), reversed, assigned. Between subjects the
    arms' sizes differ by one at most; label order is balanced within each arm. `assigned` is False
    where a person is simulated in an arm that isn't theirs.
    """
    rng = np.random.default_rng([experiment.file.seed, 2])
    design, arms = experiment.file.design, len(experiment.arms)
    order = rng.permutation(people)
    turn = np.empty(people, np.int64)
    turn[order] = np.arange(people)
    if design.kind == "within":
        seen = np.argsort(rng.random((people, arms)), axis=1)[:, : design.tasks or arms]
        person, arm = np.repeat(np.arange(people), seen.shape[1]), seen.ravel()
        assigned = np.ones(len(person), bool)
        flip = turn % 2 == 1
    else:
        own = turn % arms
        flip = turn // arms % 2 == 1
        if arms <= EVERY_ARM:
            person, arm = np.repeat(np.arange(people), arms), np.tile(np.arange(arms), people)
        else:
            person, arm = np.arange(people), own
        assigned = own[person] == arm
    if not design.counterbalance_labels:
        flip = np.zeros(people, bool)
    parts = []
    for outcome in experiment.scales:
        choices = np.array([len(experiment.wordings(one, outcome)) for one in experiment.arms])[arm]
        if experiment.file.outcomes[outcome].wordings == "all":
            at = np.repeat(np.arange(len(arm)), choices)
            wording = np.arange(len(at)) - np.repeat(choices.cumsum() - choices, choices)
        else:
            at, wording = np.arange(len(arm)), (rng.random(people)[person] * choices).astype(np.int64)
        row = {"person": person[at], "arm": arm[at], "wording": wording, "reversed": flip[person[at]]}
        parts.append(pl.DataFrame(row | {"assigned": assigned[at]}).with_columns(outcome=pl.lit(outcome)))
    return pl.concat(parts)


def evaluation_rows(
    experiment: Experiment, asked: pl.DataFrame, people: pl.DataFrame, style: Style
) -> pl.DataFrame:
    """The rows of `asked` (see `assign`) as the predictor reads them, in their order.

    Columns as in data/README.md; sample_id is the place in `asked`.
    """
    profiles = people.select(name for name in DEMOGRAPHIC_FIELDS if name in people.columns).to_dicts()
    texts: dict[tuple[int, str, int, bool], str] = {}
    prompts = []
    for person, arm, outcome, wording, flip in asked.select(
        "person", "arm", "outcome", "wording", "reversed"
    ).iter_rows():
        key = (arm, outcome, wording, flip)
        if key not in texts:
            texts[key] = experiment.stimulus(experiment.arms[arm], outcome, wording, flip)
        prompts.append(user_prompt(profiles[person], texts[key], style.order))
    scales = [experiment.scale(name, flip) for name, flip in asked.select("outcome", "reversed").iter_rows()]
    return pl.DataFrame(
        {
            "study_id": [experiment.name] * len(prompts),
            "sample_id": np.arange(len(prompts)),
            "system": [style.system] * len(prompts),
            "prompt": prompts,
            "scale_kind": [scale.kind for scale in scales],
            "scale_low": [scale.low for scale in scales],
            "scale_high": [scale.high for scale in scales],
            "scale_step": [scale.step for scale in scales],
            "scale_labels": [[{"value": v, "label": label} for v, label in scale.labels] for scale in scales],
        },
        schema_overrides={
            "scale_low": pl.Int64,
            "scale_high": pl.Int64,
            "scale_labels": pl.List(pl.Struct({"value": pl.Int64, "label": pl.String})),
        },
    )


def collect(experiment: Experiment, asked: pl.DataFrame, predictions: pl.DataFrame) -> dict[str, Answers]:
    """Each outcome's answer distributions, recoded to run the usual way. Failed rows are left out."""
    found = {}
    whole = asked.with_columns(predictions.select("answers", "probs")).filter(
        pl.col("answers").list.len() > 0
    )
    for outcome, scale in experiment.scales.items():
        rows = whole.filter(pl.col("outcome") == outcome)
        if not (asked["outcome"] == outcome).any():
            continue
        if rows.is_empty():
            raise Refusal(
                f"the model gave no usable answer to {outcome!r}; look at its replies with `make eval`"
            )
        sizes = rows["answers"].list.len().to_numpy().astype(np.int64)
        at = np.repeat(np.arange(len(rows)), sizes)
        answers = rows["answers"].explode().to_numpy()
        flip = rows["reversed"].to_numpy()
        if flip.any():
            answers = np.where(flip[at], scale.low + scale.high - answers, answers)  # type: ignore[operator]
        support = np.array(sorted({*answers.tolist(), *(scale.answers() or ())}), np.int64)
        probs = np.zeros((len(rows), len(support)), np.float32)
        probs[at, np.searchsorted(support, answers)] = rows["probs"].explode().to_numpy()
        probs /= probs.sum(axis=1, keepdims=True)
        person, arm, wording = (rows[name].to_numpy() for name in ("person", "arm", "wording"))
        found[outcome] = Answers(person, arm, wording, flip, support, probs)
    return found


def respondents(
    experiment: Experiment, asked: pl.DataFrame, answers: dict[str, Answers], people: People
) -> pl.DataFrame:
    """The tidy table: one row for each simulated respondent, arm they saw, outcome and its wording.

    `answer` is drawn from the person's distribution, `expected` is its mean, `sd` its spread.
    """
    rng = np.random.default_rng([experiment.file.seed, 3])
    arms = experiment.arms
    parts = []
    for outcome, found in answers.items():
        draws = rng.random(len(found.probs))
        chosen = (found.probs.cumsum(axis=1) < draws[:, None]).sum(axis=1).clip(max=len(found.support) - 1)
        mean, variance = found.moments(found.support.astype(float))
        parts.append(
            pl.DataFrame(
                {
                    "place": found.person,
                    "arm_place": found.arm,
                    "outcome": [outcome] * len(mean),
                    "wording": found.wording,
                    "answer": found.support[chosen],
                    "expected": mean,
                    "sd": np.sqrt(variance),
                    "labels_reversed": found.reversed,
                }
            )
        )
    own = asked.filter("assigned").select(
        pl.col("person").alias("place"), pl.col("arm").alias("arm_place"), "outcome", "wording"
    )
    named = pl.DataFrame(
        {"arm_place": range(len(arms)), "arm": [arm.name for arm in arms]}
        | {f"factor_{factor}": [arm.levels[factor] for arm in arms] for factor in arms[0].levels},
        schema_overrides={"arm_place": pl.Int64},
    )
    profiles = people.frame.with_row_index("place").with_columns(pl.col("place").cast(pl.Int64))
    keys = ["place", "arm_place", "outcome", "wording"]
    table = own.join(pl.concat(parts), on=keys, how="inner", maintain_order="left")
    table = table.join(named, on="arm_place", how="left", maintain_order="left")
    table = table.join(profiles, on="place", how="left", maintain_order="left")
    first = ["respondent", "person", "arm", *(name for name in named.columns if name.startswith("factor_"))]
    answered = ["outcome", "wording", "answer", "expected", "sd", "labels_reversed", "weight"]
    table = table.with_columns(pl.col("wording") + 1, respondent=pl.col("place") + 1).sort(
        "respondent", "arm_place", maintain_order=True
    )
    return table.select(*first, *answered, *people.fields)


@dataclass(frozen=True)
class RealAnswers:
    """Answers of real people to the experiment: `frame` with person, arm, outcome (places and names as in
    `assign`), answer; `people` with their profiles, in the order of `person`."""

    frame: pl.DataFrame
    people: pl.DataFrame


def read_answers(path: Path, experiment: Experiment) -> RealAnswers:
    """Read real answers: a CSV with arm, outcome, answer, optionally person, wording (from 1) and profile."""
    if not path.is_file():
        raise Refusal(f"{path} is missing; give a CSV with columns arm, outcome, answer")
    try:
        table = pl.read_csv(path, infer_schema_length=None, null_values=["", "NA"])
    except pl.exceptions.PolarsError as error:
        raise Refusal(f"{path} is not a CSV: {' '.join(str(error).split())[:200]}") from None
    for name in ("arm", "outcome", "answer"):
        if name not in table.columns:
            raise Refusal(f"{path} has no column {name}; it needs arm, outcome, answer")
    arms = [arm.name for arm in experiment.arms]
    _refuse_unknown(path, table["arm"].cast(pl.String), arms, "arm")
    _refuse_unknown(path, table["outcome"].cast(pl.String), list(experiment.scales), "outcome")
    number = table["answer"].cast(pl.Float64, strict=False)
    bad = (number.is_null() | (number.round() != number)).fill_null(True).arg_true()
    if len(bad):
        row, text = bad[0] + 2, table["answer"][bad[0]]
        raise Refusal(f"{path} row {row}: answer {text} is no whole number; leave such rows out")
    answer = number.cast(pl.Int64)
    wording = _wordings(path, table, experiment)
    person = (
        table["person"].cast(pl.String)
        if "person" in table.columns
        else pl.Series(map(str, range(len(table))))
    )
    table = table.with_columns(answer=answer, person_name=person, wording=wording)
    for row, (outcome, value) in enumerate(table.select("outcome", "answer").iter_rows()):
        if not experiment.scales[str(outcome)].contains(value):
            raise Refusal(
                f"{path} row {row + 2}: {value} is no answer on the scale of {outcome}; leave such rows out"
            )
    fields = [name for name in DEMOGRAPHIC_FIELDS if name in table.columns]
    people = table.group_by("person_name", maintain_order=True).agg(pl.col(name).first() for name in fields)
    people = people.with_row_index("person").with_columns(pl.col("person").cast(pl.Int64))
    names = [pl.col(name).cast(pl.String) for name in ("outcome", "arm")]
    frame = table.select("person_name", "answer", "wording", *names)
    frame = frame.join(
        people.select("person_name", "person"), on="person_name", how="left", maintain_order="left"
    )
    place = {name: index for index, name in enumerate(arms)}
    frame = frame.with_columns(
        pl.col("arm").replace_strict(place, return_dtype=pl.Int64), reversed=pl.lit(False)
    )
    return RealAnswers(frame, people)


def _wordings(path: Path, table: pl.DataFrame, experiment: Experiment) -> pl.Series:
    """Which of the question's texts was answered, from 0; the first where the file doesn't say."""
    if "wording" not in table.columns:
        return pl.Series([0] * len(table), dtype=pl.Int64)
    arms = {arm.name: arm for arm in experiment.arms}
    given = table["wording"].cast(pl.Int64, strict=False) - 1
    for row, (arm, outcome, wording) in enumerate(zip(table["arm"], table["outcome"], given, strict=True)):
        count = len(experiment.wordings(arms[str(arm)], str(outcome)))
        if wording is None or not 0 <= wording < count:
            raise Refusal(f"{path} row {row + 2}: wording is a number from 1 to {count}; mend it")
    return given


def _refuse_unknown(path: Path, names: pl.Series, known: list[str], what: str) -> None:
    for row, name in enumerate(names):
        if name not in known:
            hint = suggestion(str(name), known) or f"known: {', '.join(known[:8])}"
            raise Refusal(f"{path} row {row + 2}: no {what} is named {name!r}; {hint}".rstrip())


def values_of(scale: Scale, support: np.ndarray, value: np.ndarray, answers: np.ndarray) -> np.ndarray:
    """A measure's value of each real answer; an answer outside the support counts as itself."""
    if scale.kind == "choice":
        table = dict(zip(support.tolist(), value.tolist(), strict=True))
        return np.array([table.get(answer, 0.0) for answer in answers.tolist()])
    return answers.astype(float)
