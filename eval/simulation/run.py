"""Simulate an experiment: what would these people answer, and how far can that be trusted?

    from eval import simulate
    simulation = simulate("configs/experiments/two-arm.yaml", "tiny", pilot="pilot.csv")
    simulation.effects; simulation.page("two-arm.html")

    make simulate EXPERIMENT=configs/experiments/two-arm.yaml MODEL=tiny

The command writes outputs/<data>/<split>/simulations/<experiment>/: simulation.html (the page),
respondents.parquet and .csv (one row a simulated respondent and outcome), effects.csv, subgroups.csv,
arms.csv, cells.csv (distributions), codebook.csv, figures, and simulation.json. People come from the data
set's evaluated participants, or from --people. --pilot combines real answers with the predictions;
--observed sets real answers beside them. Calibration comes from the same model's `make eval`; see
eval/simulation/README.md.
"""

import hashlib
import time
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypedDict, Unpack

import numpy as np
import polars as pl

from common.errors import Refusal
from common.experiment import Experiment, load_experiment
from common.files import fingerprint, sha256_file
from common.paths import dataset_name, output_dir, split_dir
from common.step import Step
from eval.models import Model, find_model
from eval.prediction.result import Predictions
from eval.prediction.run import model_stamp, predict
from eval.scoring.record import SCORES, read_scores
from eval.settings import Settings
from eval.simulation import conjoint, likeness
from eval.simulation.population import (
    People,
    Source,
    draw_people,
    in_category,
    participants,
    read_people,
)
from eval.simulation.real_answers import RealAnswers, design_effect, parts_of, read_answers
from eval.simulation.record import RECORD, PeopleSummary, SimulationRecord, Trust
from eval.simulation.result import Simulation, load_simulation, save
from eval.simulation.survey import assign, collect, evaluation_rows, examples, prompt_style, respondents
from eval.simulation.tables import Simulated, analyse, groups_of
from eval.simulation.trust import FEWEST_STUDIES, fit, measure_coverage, pairs_of

FORMAT = 3  # raised when the same inputs would give other results than before
FEWEST_PEOPLE = 10
UNWEIGHTED = 1 + 1e-9  # the design effect of equal weights, but for rounding
LISTED_ARMS = 24  # whose texts are put into the record
LISTED_TASKS = 5  # of a conjoint
COMPARED_ARMS = 50  # whose texts are compared with those of evaluated studies
LIBRARIES = ("numpy", "polars", "statsmodels", "ipfn")


class Options(TypedDict, total=False):
    """The rarer options of `simulate`.

    observed: real answers that are only set beside the predictions (as `pilot`). calibration: an
    eval/<model name> folder to learn from; default: this model's. settings: how the model is asked.
    pay: a run that costs money (a server with prices) may start.
    """

    observed: Source | None
    calibration: str | Path | None
    settings: Settings | None
    pay: bool


@dataclass(frozen=True)
class Job:
    """One simulation.

    without: an evaluated study that calibration must not learn from (it is the one simulated).
    """

    experiment: Experiment
    model: Model
    settings: Settings
    data: str = "sample"
    split: str = "study"
    people: Source | None = None
    pilot: Source | None = None
    observed: Source | None = None
    calibration: Path | None = None
    without: str | None = None
    pay: bool = False


def simulate(
    experiment: str | Path | Experiment,
    model: str | Path | Model,
    *,
    people: Source | None = None,
    pilot: Source | None = None,
    data: str = "sample",
    split: str = "study",
    folder: str | Path | None = None,
    **options: Unpack[Options],
) -> Simulation:
    """Ask simulated people what an experiment asks, and estimate its treatment effects.

    experiment: an experiment file, or one that was read. model: a folder of configs/ (its SFT
    checkpoint), an evaluated name such as tiny-dpo, a checkpoint folder, a hub id, or a server's address.
    people: a CSV file or frame of persons; default: the evaluated participants of `data` and `split`.
    pilot: real answers to combine with the predictions, a CSV file or frame (arm, outcome, answer,
    demographic fields). folder: where results are kept (replaced as a whole) and predictions come, so
    that the same call goes on after a kill and has nothing to do when all is there; in memory only when
    left out. Raises `Refusal` for whatever is wrong in a file, with its line or row.
    """
    if not isinstance(experiment, Experiment):
        experiment = load_experiment(experiment)
    if not isinstance(model, Model):
        model = find_model(str(model), data, split)
    calibration = Path(options.get("calibration") or output_dir(data, split) / "eval" / model.name)
    if options.get("calibration") and not (calibration / SCORES).is_file():
        raise Refusal(f"{calibration} has no {SCORES}; give the eval/<model name> folder of `make eval`")
    settings = options.get("settings") or Settings()
    job = Job(experiment, model, settings, data, split, people, pilot)
    job = replace(
        job, observed=options.get("observed"), calibration=calibration, pay=options.get("pay", False)
    )
    return run_job(job, Path(folder) if folder else None)


def run_job(job: Job, folder: Path | None) -> Simulation:
    """Run a simulation; with a folder, keep it there (and do nothing if it is up to date)."""
    people = _people(job)
    if folder is None:
        return _simulated(job, people, None, None)
    with Step(folder / RECORD, _inputs(job, people), whole=True) as step:
        if step.done:
            return replace(load_simulation(folder), up_to_date=True)
        simulation = _simulated(job, people, folder, step.inputs)
        save(simulation, folder)
        return simulation


def _simulated(job: Job, people: People, folder: Path | None, inputs: str | None) -> Simulation:
    """Ask the people, and analyse what they answer."""
    started, experiment = time.monotonic(), job.experiment
    if job.pilot is not None and experiment.profiles:
        raise Refusal(
            "a pilot of choices between profiles can't be combined with predictions, as means of arms can; "
            "give it as --observed, which sets its AMCEs and marginal means beside the predicted ones"
        )
    asked = assign(experiment, len(people.frame))
    pilot = read_answers(job.pilot, experiment) if job.pilot is not None else None
    observed = chosen = None
    if job.observed is not None and experiment.profiles:
        chosen = conjoint.read_observed(job.observed, experiment)
    elif job.observed is not None:
        observed = read_answers(job.observed, experiment)
    parts = [(asked, people.frame)] + ([(pilot.frame, pilot.people)] if pilot else [])
    predictions = _predict(job, parts, folder)
    table, pilot_table = predictions.table[: len(asked)], predictions.table[len(asked) :]
    answers = collect(experiment, asked, table)
    answered = asked.filter(table["answers"].list.len() > 0)
    pilot, pilot_answers = _with_predictions(experiment, pilot, pilot_table)
    simulated = Simulated(experiment, people, answers, observed, pilot, pilot_answers)
    trust = learn_trust(job, people, set(table["mode"]), asked)
    if experiment.profiles:
        tables = conjoint.analyse(simulated, answered, chosen or {})
    else:
        tables = analyse(simulated, trust.fit)
    real = {"pilot": parts_of(pilot), "observed": [*parts_of(observed), *(chosen or {}).values()]}
    weighted = {name: design_effect(parts) for name, parts in real.items() if parts}
    record = SimulationRecord(
        **_header(job, people, asked, table),
        design_effects={name: effect for name, effect in weighted.items() if effect > UNWEIGHTED},
        **dict(tables),
        trust=trust,
        inputs=inputs,
        seconds=round(time.monotonic() - started, 1),
    )
    return Simulation(record, respondents(experiment, answered, answers, people), folder)


def _inputs(job: Job, people: People) -> str:
    """Fingerprint of all that a simulation depends on."""
    style = prompt_style(split_dir(job.data, job.split))
    described = [
        job.experiment.name,
        job.experiment.file.model_dump(mode="json"),
        hashlib.sha256(people.frame.write_csv().encode()).hexdigest(),
        [style.system, style.order],
        model_stamp(job.model.path),
        job.model.adapt(job.settings).model_dump(mode="json"),
        job.without,
        *(_stamp(source) for source in (job.pilot, job.observed)),
        _stamp(job.calibration / SCORES if job.calibration else None),
    ]
    return fingerprint([FORMAT, described])


def _stamp(source: Source | None) -> Any:
    """What tells whether a file or frame has changed; None for a file that isn't there."""
    if isinstance(source, pl.DataFrame):
        return hashlib.sha256(source.write_csv().encode()).hexdigest()
    return sha256_file(source) if source is not None and Path(source).is_file() else None


def _people(job: Job) -> People:
    """The people to simulate; refused before any work: too few, moderators and groups that nobody has."""
    spec, seed = job.experiment.file.population, job.experiment.file.seed
    if job.people is not None:
        people = draw_people(read_people(job.people), spec, seed, all_of_them=True)
    else:
        remedy = f"`make data DATA={job.data} SPLIT={job.split}` writes it, or give --people FILE.csv"
        evaluated = participants(split_dir(job.data, job.split) / "eval.parquet", remedy)
        people = draw_people(evaluated, spec, seed)
    if len(people.frame) < FEWEST_PEOPLE:
        raise Refusal(
            f"{len(people.frame)} people are too few to simulate; widen population, or give more people"
        )
    for field, groups in job.experiment.file.moderators.items():
        if field not in people.fields:
            fields = ", ".join(people.fields) or "none"
            raise Refusal(
                f"{job.experiment.name}: nobody has the moderator {field!r}; the people have {fields}"
            )
        for group in groups:
            if not in_category(people.frame[field], group).any():
                some = ", ".join(map(repr, groups_of(people.frame, field)[:8]))
                raise Refusal(
                    f"{job.experiment.name}: moderators: nobody's {field} is {group!r}; there are {some}"
                )
    return people


def _predict(job: Job, parts: list[tuple[pl.DataFrame, pl.DataFrame]], folder: Path | None) -> Predictions:
    """Predict the rows of each (assignment, people), one part after the other."""
    style = prompt_style(split_dir(job.data, job.split))
    rows = pl.concat([evaluation_rows(job.experiment, asked, people, style) for asked, people in parts])
    rows = rows.with_columns(sample_id=pl.int_range(len(rows), dtype=pl.Int64))
    settings = job.model.adapt(job.settings).model_copy(update={"max_rows": None})  # each row is needed
    where = folder / "predictions" if folder else None
    return predict(rows, job.model.path, settings, folder=where, name=job.model.name, pay=job.pay)


def _with_predictions(
    experiment: Experiment, pilot: RealAnswers | None, table: pl.DataFrame
) -> tuple[RealAnswers | None, dict[str, Any] | None]:
    """The pilot's answers whose prediction could be read, and these predictions."""
    if pilot is None:
        return None, None
    usable = (table["answers"].list.len() > 0).to_numpy()
    pilot = pilot.where(usable)
    return pilot, collect(experiment, pilot.frame, table.filter(usable))


def learn_trust(job: Job, people: People, modes: set[str], asked: pl.DataFrame) -> Trust:
    """What the model's evaluation says about this simulation. asked: see `assign`."""
    folder = job.calibration
    if folder is None or not (folder / SCORES).is_file():
        remedy = "run `make eval`, or give --calibration"
        absent = f"there is no evaluation of {job.model.name} to learn from: {remedy}"
        return Trust(reason=absent)
    scores = read_scores(folder)
    pairs, cells = pairs_of(scores), scores.cells
    if job.without:
        pairs = pairs.where(pairs.study != job.without)
        cells = cells.filter(pl.col("study_id") != job.without)
    experiment = job.experiment
    texts = [one.text for one in examples(experiment, asked, COMPARED_ARMS)]
    kinds = [scale.kind for scale in experiment.scales.values()]
    alike = likeness.compare(texts, kinds, bool(people.fields), pairs, cells)
    if scores.name != job.model.name:
        alike.warnings.insert(0, f"the evaluation is of {scores.name}, this is {job.model.name}")
    if scores.mode not in {"mixed", *modes}:
        alike.warnings.append(f"predictions are {' and '.join(sorted(modes))}, evaluated ones {scores.mode}")
    learned, studies = fit(pairs), len(pairs.studies)
    few = f"the evaluation has treatment effects in {studies} of at least {FEWEST_STUDIES} studies needed"
    return Trust(
        fit=learned,
        coverage=measure_coverage(pairs),
        likeness=alike,
        pairs=len(pairs),
        studies=studies,
        folder=str(folder),
        reason=few if learned is None else None,
    )


def _header(job: Job, people: People, asked: pl.DataFrame, predictions: pl.DataFrame) -> dict[str, Any]:
    """What was run, and on whom."""
    experiment, file = job.experiment, job.experiment.file
    mass = predictions["off_scale_mass"].drop_nulls().to_numpy()
    given = "a table of people" if isinstance(job.people, pl.DataFrame) else Path(job.people or "").name
    evaluated = f"participants evaluated in {dataset_name(job.data)}/{job.split}"
    return {
        "experiment": experiment.name,
        "title": file.title or experiment.name,
        "description": file.description,
        "model": job.model.name,
        "dataset": dataset_name(job.data),
        "split": job.split,
        "modes": dict(sorted(predictions["mode"].value_counts().iter_rows())),
        "predicted": len(predictions),
        "failed": int((predictions["answers"].list.len() == 0).sum()),
        "off_scale_mass": float(mass.mean(dtype=np.float64)) if len(mass) else None,
        "off_scale": {
            outcome: float(mean)
            for outcome, mean in asked.select("outcome", mass=predictions["off_scale_mass"].cast(pl.Float64))
            .drop_nulls()
            .group_by("outcome", maintain_order=True)
            .agg(pl.col("mass").mean())
            .iter_rows()
        },
        "design": file.design,
        "every_arm": bool(asked["assigned"].sum() < len(asked)),
        "seed": file.seed,
        "people": PeopleSummary(
            simulated=len(people.frame),
            pool=people.pool,
            effective=people.effective_size,
            source=evaluated if job.people is None else given,
            fields=people.fields,
            notes=people.notes,
        ),
        "stimuli": examples(experiment, asked, LISTED_TASKS if experiment.profiles else LISTED_ARMS),
        "arm_count": len(experiment.arms),
        "has_observed": job.observed is not None,
        "versions": {name: version(name) for name in LIBRARIES},
    }
