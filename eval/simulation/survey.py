"""Running an experiment on simulated people: who sees what, the prompts, and the answers that come back.

Everything random comes from the experiment's seed: assignment, label order, wordings, drawn answers.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from common.contract import Manifest, read_record
from common.errors import Refusal
from common.experiment import Experiment
from common.prompts import SYSTEM_PROMPT, Order, demographic_fields, user_prompt
from eval.simulation import conjoint
from eval.simulation.effects import Answers
from eval.simulation.population import People
from eval.simulation.record import Stimulus

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
    manifest = read_record(folder / "manifest.json", Manifest, "run `make data` again")
    system = pl.scan_parquet(folder / "eval.parquet").select(pl.col("system").first()).collect().item()
    return Style(system or "", manifest.config.get("order", "persona-first"))


def assign(experiment: Experiment, people: int) -> pl.DataFrame:
    """Who answers what, one row for each (person, arm, outcome, wording); of a conjoint see its `assign`.

    Columns: person, arm (positions), outcome, wording (position), reversed, assigned. Between subjects the
    arms' sizes differ by one at most; label order is balanced within each arm. `assigned` is False
    where a person is simulated in an arm that isn't theirs.
    """
    if experiment.profiles:
        return conjoint.assign(experiment, people)
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
        given = turn % arms
        flip = turn // arms % 2 == 1
        if arms <= EVERY_ARM:
            person, arm = np.repeat(np.arange(people), arms), np.tile(np.arange(arms), people)
        else:
            person, arm = np.arange(people), given
        assigned = given[person] == arm
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

    Columns as in data/README.md; sample_id is the row number in `asked`.
    """
    profiles = people.select(demographic_fields(people.columns)).to_dicts()
    stimuli = conjoint.texts(experiment, asked) if experiment.profiles else _texts(experiment, asked)
    prompts = [
        user_prompt(profiles[person], text, style.order)
        for person, text in zip(asked["person"], stimuli, strict=True)
    ]
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


def _texts(experiment: Experiment, asked: pl.DataFrame) -> list[str]:
    """The stimulus of each row of `asked`; equal ones are one object."""
    texts: dict[tuple[int, str, int, bool], str] = {}
    stimuli = []
    for key in asked.select("arm", "outcome", "wording", "reversed").iter_rows():
        if key not in texts:
            arm, *rest = key
            texts[key] = experiment.stimulus(experiment.arms[arm], *rest)
        stimuli.append(texts[key])
    return stimuli


def examples(experiment: Experiment, asked: pl.DataFrame, most: int) -> list[Stimulus]:
    """The texts of the first `most` arms; of a conjoint those of the first `most` choices."""
    if experiment.profiles:
        first = asked.filter(pl.col("outcome") == next(iter(experiment.scales))).head(most)
        texts = conjoint.texts(experiment, first)
        return [
            Stimulus(arm=f"choice {number}", outcome=outcome, text=text)
            for number, (outcome, text) in enumerate(zip(first["outcome"], texts, strict=True), 1)
        ]
    return [
        Stimulus(arm=arm.name, outcome=outcome, text=experiment.stimulus(arm, outcome))
        for arm in experiment.arms[:most]
        for outcome in experiment.scales
    ]


def collect(experiment: Experiment, asked: pl.DataFrame, predictions: pl.DataFrame) -> dict[str, Answers]:
    """Each outcome's answer distributions, recoded to run the usual way. Failed rows are left out."""
    collected = {}
    answered = asked.with_columns(predictions.select("answers", "probs")).filter(
        pl.col("answers").list.len() > 0
    )
    for outcome, scale in experiment.scales.items():
        rows = answered.filter(pl.col("outcome") == outcome)
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
        collected[outcome] = Answers(person, arm, wording, flip, support, probs)
    return collected


def respondents(
    experiment: Experiment, asked: pl.DataFrame, answers: dict[str, Answers], people: People
) -> pl.DataFrame:
    """The tidy table: one row for each simulated respondent, arm they saw, outcome and its wording.

    `answer` is drawn from the person's distribution, `expected` is its mean, `sd` its spread. Of a conjoint
    there is one row for each profile that was shown, see `conjoint.respondents`.
    """
    if experiment.profiles:
        return conjoint.respondents(experiment, asked, answers, people)
    rng = np.random.default_rng([experiment.file.seed, 3])
    arms = experiment.arms
    parts = []
    for outcome, one in answers.items():
        draws = rng.random(len(one.probs))
        chosen = (one.probs.cumsum(axis=1) < draws[:, None]).sum(axis=1).clip(max=len(one.support) - 1)
        mean, variance = one.moments(one.support.astype(float))
        parts.append(
            pl.DataFrame(
                {
                    "at": one.person,
                    "arm_at": one.arm,
                    "outcome": [outcome] * len(mean),
                    "wording": one.wording,
                    "answer": one.support[chosen],
                    "expected": mean,
                    "sd": np.sqrt(variance),
                    "labels_reversed": one.reversed,
                }
            )
        )
    seen = asked.filter("assigned").select(
        pl.col("person").alias("at"), pl.col("arm").alias("arm_at"), "outcome", "wording"
    )
    named = pl.DataFrame(
        {"arm_at": range(len(arms)), "arm": [arm.name for arm in arms]}
        | {f"factor_{factor}": [arm.levels[factor] for arm in arms] for factor in arms[0].levels},
        schema_overrides={"arm_at": pl.Int64},
    )
    profiles = people.frame.with_row_index("at").with_columns(pl.col("at").cast(pl.Int64))
    keys = ["at", "arm_at", "outcome", "wording"]
    table = seen.join(pl.concat(parts), on=keys, how="inner", maintain_order="left")
    table = table.join(named, on="arm_at", how="left", maintain_order="left")
    table = table.join(profiles, on="at", how="left", maintain_order="left")
    first = ["respondent", "person", "arm", *(name for name in named.columns if name.startswith("factor_"))]
    answered = ["outcome", "wording", "answer", "expected", "sd", "labels_reversed", "weight"]
    table = table.with_columns(pl.col("wording") + 1, respondent=pl.col("at") + 1).sort(
        "respondent", "arm_at", maintain_order=True
    )
    return table.select(*first, *answered, *people.fields)
