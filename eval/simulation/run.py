"""Simulate an experiment: what would these people answer, and how far can that be trusted?

    python -m eval.simulation.run --experiment configs/experiments/two-arm.yaml --model tiny

writes outputs/<data>/<split>/simulations/<experiment>/: simulation.html (the page), respondents.parquet
and .csv (one row a simulated respondent and outcome), effects.csv, subgroups.csv, arms.csv, cells.csv
(distributions), figures, and simulation.json, written last. People come from the data set's evaluated
participants, or from --people. --pilot combines real answers with the predictions; --observed sets real
answers beside them. Calibration comes from the same model's `make eval`; see eval/simulation/README.md.
"""

import argparse
import os
import time
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from common.errors import Refusal, run_cli
from common.files import atomic_path, file_stamp, fingerprint, sha256_file, up_to_date, write_json
from common.paths import dataset_name, output_dir, split_dir
from common.readers import read_json
from eval.models import models_of
from eval.prediction import run as predict
from eval.reporting.tables import harmless
from eval.simulation import page as simulation_page
from eval.simulation.experiment import Experiment, load_experiment
from eval.simulation.population import People, draw_people, participants, people_of_csv
from eval.simulation.survey import (
    RealAnswers,
    assign,
    collect,
    evaluation_rows,
    prompt_style,
    read_answers,
    respondents,
)
from eval.simulation.tables import TABLES, analyse
from eval.simulation.trust import (
    FEWEST_STUDIES,
    Coverage,
    Fit,
    Likeness,
    compare,
    fit,
    load_pairs,
    measure_coverage,
)

FORMAT = 1  # raised when the same inputs would give other results than before
RECORD = "simulation.json"


@dataclass(frozen=True)
class Job:
    """One simulation. model: what `eval.prediction.run` takes; name: the model's name among evaluations.

    without: an evaluated study that calibration must not learn from (it is the one simulated).
    """

    experiment: Path
    model: str
    name: str
    data: str
    split: str
    out: Path
    people: Path | None = None
    pilot: Path | None = None
    observed: Path | None = None
    calibration: Path | None = None
    without: str | None = None
    options: tuple[str, ...] = ()  # further options of eval.prediction.run


@dataclass(frozen=True)
class Trust:
    """What an evaluation of the same model says about a simulation; `reason` where it says nothing."""

    fit: Fit | None
    coverage: Coverage | None
    likeness: Likeness | None
    pairs: int
    studies: int
    folder: str | None
    reason: str | None


def simulate(job: Job) -> dict[str, Any]:
    """Run a simulation and write its folder; returns what simulation.json holds."""
    started = time.monotonic()
    experiment = load_experiment(job.experiment)
    people = _people(job, experiment)
    real = {kind: read_answers(path, experiment) for kind, path in _real(job).items()}
    style = prompt_style(split_dir(job.data, job.split))
    asked = assign(experiment, len(people.frame))
    frames = {"people": (asked, people.frame)} | {
        kind: (answers.frame, answers.people) for kind, answers in real.items() if kind == "pilot"
    }
    tables = {kind: evaluation_rows(experiment, rows, who, style) for kind, (rows, who) in frames.items()}
    predictions, inputs = _predict(job, tables)
    inputs = fingerprint([FORMAT, inputs, _stamps(job), sha256_file(job.experiment)])
    if up_to_date(job.out / RECORD, inputs):
        print(f"nothing to do: {job.out / simulation_page.PAGE} is up to date")
        return read_json(job.out / RECORD, "delete it and run again")
    answers = collect(experiment, asked, predictions["people"])
    trust = _trust(job, experiment, people, set(predictions["people"]["mode"]))
    record = _header(job, experiment, people, asked, predictions["people"], trust)
    record["has_observed"] = "observed" in real
    pilot = {}
    if "pilot" in real:
        usable = (predictions["pilot"]["answers"].list.len() > 0).to_numpy()
        real["pilot"] = RealAnswers(real["pilot"].frame.filter(usable), real["pilot"].people)
        pilot = collect(experiment, real["pilot"].frame, predictions["pilot"].filter(usable))
    record |= analyse(experiment, answers, people, trust.fit, real, pilot)
    _write_tables(job.out, record, respondents(experiment, asked, answers, people))
    record["seconds"] = round(time.monotonic() - started, 1)
    simulation_page.write(job.out, record)
    write_json(job.out / RECORD, record | {"inputs": inputs})
    return record


def _people(job: Job, experiment: Experiment) -> People:
    spec, seed = experiment.file.population, experiment.file.seed
    if job.people:
        people = draw_people(people_of_csv(job.people), spec, seed, all_of_them=True)
    else:
        remedy = f"`make data DATA={job.data} SPLIT={job.split}` writes it, or give --people FILE.csv"
        people = draw_people(
            participants(split_dir(job.data, job.split) / "eval.parquet", remedy), spec, seed
        )
    if len(people.frame) < 10:
        raise Refusal(
            f"{len(people.frame)} people are too few to simulate; widen population, or give more people"
        )
    for name in experiment.file.moderators:
        if name not in people.fields:
            known = ", ".join(people.fields) or "none"
            raise Refusal(f"{job.experiment}: nobody has the moderator {name!r}; the people have {known}")
    return people


def _real(job: Job) -> dict[str, Path]:
    return {kind: path for kind, path in (("pilot", job.pilot), ("observed", job.observed)) if path}


def _predict(job: Job, tables: dict[str, pl.DataFrame]) -> tuple[dict[str, pl.DataFrame], str]:
    """Predict all rows (a stopped prediction goes on, a finished one is kept): by kind, fingerprint."""
    folder = job.out / "predictions"
    sizes = [len(table) for table in tables.values()]
    item = {name: pl.lit(0, pl.Int64) for name in ("condition_num", "task_num", "item_num")}
    numbered = pl.int_range(sum(sizes), dtype=pl.Int64)
    rows = pl.concat(tables.values()).with_columns(sample_id=numbered, **item)
    path = folder / "rows.parquet"
    if not path.is_file() or not pl.read_parquet(path).equals(rows):  # its date is part of the fingerprint
        with atomic_path(path) as partial:
            rows.write_parquet(partial)
    where = ["--data", job.data, "--split", job.split, "--rows", str(path), "--out", str(folder)]
    predict.main(["--model", job.model, "--name", job.name, *where, *job.options])
    table = pl.read_parquet(folder / "predictions.parquet")
    if len(table) != len(rows):
        raise Refusal("max_rows in the evaluation settings cuts the simulation short; remove it there")
    ends = np.cumsum([0, *sizes])
    parts = {kind: table[int(ends[i]) : int(ends[i + 1])] for i, kind in enumerate(tables)}
    return parts, read_json(folder / "predictions.json", "delete the folder and run again")["inputs"]


def _stamps(job: Job) -> list[Any]:
    files = [path for path in (job.people, job.pilot, job.observed) if path]
    if job.calibration:
        files += [job.calibration / "scores.json", job.calibration / "cells.parquet"]
    return [job.without, *(file_stamp(path) if path.is_file() else None for path in files)]


def _trust(job: Job, experiment: Experiment, people: People, modes: set[str]) -> Trust:
    folder = job.calibration
    if folder is None or not (folder / "scores.json").is_file():
        none = f"there is no evaluation of {job.name} to learn from: run `make eval`, or give --calibration"
        return Trust(None, None, None, 0, 0, None, none)
    pairs, scores, cells = load_pairs(folder)
    if job.without:
        pairs = pairs.where(pairs.study != job.without)
        cells = cells.filter(pl.col("study_id") != job.without)
    texts = [
        experiment.stimulus(arm, outcome) for arm in experiment.arms[:50] for outcome in experiment.scales
    ]
    kinds = [scale.kind for scale in experiment.scales.values()]
    likeness = compare(texts, kinds, bool(people.fields), pairs, cells)
    if scores.get("name") not in (None, job.name):
        likeness.warnings.insert(0, f"the evaluation is of {scores['name']}, this is {job.name}")
    if scores.get("mode", "mixed") not in {"mixed", *modes}:
        likeness.warnings.append(
            f"predictions are {' and '.join(sorted(modes))}, evaluated ones {scores['mode']}"
        )
    learned, studies = fit(pairs), len(pairs.studies)
    few = f"the evaluation has treatment effects in {studies} of at least {FEWEST_STUDIES} studies needed"
    reason = few if learned is None else None
    coverage = measure_coverage(pairs)
    return Trust(learned, coverage, likeness, len(pairs), studies, str(folder), reason)


def _source(job: Job) -> str:
    return (
        job.people.name if job.people else f"participants evaluated in {dataset_name(job.data)}/{job.split}"
    )


def _header(
    job: Job,
    experiment: Experiment,
    people: People,
    asked: pl.DataFrame,
    predictions: pl.DataFrame,
    trust: Trust,
) -> dict[str, Any]:
    """What was run, on whom, and how far to trust it."""
    file = experiment.file
    mass = predictions["off_scale_mass"].drop_nulls()
    return {
        "schema": 1,
        "experiment": experiment.name,
        "title": file.title or experiment.name,
        "description": file.description,
        "model": job.name,
        "dataset": dataset_name(job.data),
        "split": job.split,
        "modes": dict(sorted(predictions["mode"].value_counts().iter_rows())),
        "predicted": len(predictions),
        "failed": int((predictions["answers"].list.len() == 0).sum()),
        "off_scale_mass": float(mass.cast(pl.Float64).mean()) if len(mass) else None,  # type: ignore[arg-type]
        "design": file.design.model_dump(),
        "every_arm": bool(asked["assigned"].sum() < len(asked)),
        "seed": file.seed,
        "people": {
            "simulated": len(people.frame),
            "pool": people.pool,
            "effective": people.effective_size,
            "source": _source(job),
            "fields": people.fields,
            "notes": people.notes,
        },
        "stimuli": [
            {"arm": arm.name, "outcome": outcome, "text": experiment.stimulus(arm, outcome)}
            for arm in experiment.arms[:24]
            for outcome in experiment.scales
        ],
        "arm_count": len(experiment.arms),
        "trust": asdict(trust),
        "versions": {
            name: version(name) for name in ("numpy", "polars", "statsmodels", "ipfn", "ppi-python")
        },
    }


def _write_tables(out: Path, record: dict[str, Any], people: pl.DataFrame) -> None:
    """The tables as CSV; one that has no rows this time is removed."""
    for name in TABLES:
        if not record[name]:
            (out / f"{name}.csv").unlink(missing_ok=True)
            continue
        with atomic_path(out / f"{name}.csv") as partial:
            harmless(pl.DataFrame(record[name], infer_schema_length=None)).write_csv(partial)
    with atomic_path(out / "respondents.parquet") as partial:
        people.write_parquet(partial)
    with atomic_path(out / "respondents.csv") as partial:
        harmless(people).write_csv(partial)


def resolve_model(model: str, data: str, split: str) -> tuple[str, str, tuple[str, ...]]:
    """What `--model` stands for: (what eval.prediction.run takes, the evaluation's name, further options).

    A server's address, a folder, a folder of configs/ (its SFT checkpoint), an evaluated name such as
    tiny-dpo, or a hub id.
    """
    if model.startswith(("http://", "https://")):
        return _server_model(model)
    folder = Path(model)
    if folder.is_dir():
        stage = (folder / "run.json").is_file()
        return model, f"{folder.parent.name}-{folder.name}" if stage else folder.name, ()
    if Path("configs", model, "sft.yaml").is_file():
        models = {each.name: each.path for each in models_of(model, data, split)}
        name = f"{model}-sft" if f"{model}-sft" in models else list(models)[-1]
        return models[name], name, ()
    recipe = model.rpartition("-")[0]
    if recipe and Path("configs", recipe, "sft.yaml").is_file():
        models = {each.name: each.path for each in models_of(recipe, data, split)}
        if model not in models:
            raise Refusal(f"no model {model} here; there are {', '.join(models)}")
        return models[model], model, ()
    return model, folder.name, ()


def _server_model(url: str) -> tuple[str, str, tuple[str, ...]]:
    """The one model that a server offers. Servers give no exact distributions, so answers are sampled."""
    import openai

    try:
        client = openai.OpenAI(base_url=url, api_key=os.environ.get("OPENAI_API_KEY", "none"), max_retries=1)
        served = [model.id for model in client.models.list()]
    except openai.OpenAIError as error:
        raise Refusal(
            f"the server {url} doesn't say what it serves ({error}); start it, or mend the address"
        ) from None
    if len(served) != 1:
        raise Refusal(
            f"the server {url} serves {', '.join(served[:5]) or 'nothing'}; name one with --served NAME"
        )
    return served[0], served[0].split("/")[-1], ("--backend", "server", "--url", url, "--mode", "sampled")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--experiment", required=True, help="an experiment file, such as configs/experiments/two-arm.yaml"
    )
    parser.add_argument(
        "--model", required=True, help="folder of configs/, checkpoint folder, hub id or server address"
    )
    parser.add_argument("--data", default="sample")
    parser.add_argument("--split", default="study")
    parser.add_argument(
        "--people", type=Path, help="a CSV of people, one a row; default: the data set's participants"
    )
    parser.add_argument(
        "--pilot", type=Path, help="real answers to combine with: a CSV of arm, outcome, answer and profile"
    )
    parser.add_argument(
        "--observed", type=Path, help="real answers to set beside the predicted ones: arm, outcome, answer"
    )
    parser.add_argument("--calibration", type=Path, help="an eval/<model name> folder; default: this model's")
    parser.add_argument("--config", help="evaluation settings, default configs/eval/default.yaml")
    parser.add_argument("--mode", choices=["exact", "sampled", "verbalised"], help="wins over the settings")
    parser.add_argument("--out", type=Path, help="output folder")
    parser.add_argument("--served", help="which model, when --model is the address of a server with several")
    parser.add_argument("--yes", action="store_true", help="don't ask before a run that costs money")
    return parser


def main() -> None:
    """Read the command line, simulate, print the effects."""
    args = _parser().parse_args()
    if args.served:
        model, name = args.served, args.served.split("/")[-1]
        options: tuple[str, ...] = ("--backend", "server", "--url", args.model, "--mode", "sampled")
    else:
        model, name, options = resolve_model(args.model, args.data, args.split)
    for option in ("config", "mode"):
        if getattr(args, option):
            options += (f"--{option}", getattr(args, option))
    calibration = args.calibration or output_dir(args.data, args.split) / "eval" / name
    if args.calibration and not (args.calibration / "scores.json").is_file():
        raise Refusal(
            f"{args.calibration} has no scores.json; give the eval/<model name> folder of `make eval`"
        )
    out = (
        args.out or output_dir(args.data, args.split) / "simulations" / load_experiment(args.experiment).name
    )
    job = Job(Path(args.experiment), model, name, args.data, args.split, out)
    job = replace(
        job, people=args.people, pilot=args.pilot, observed=args.observed, calibration=calibration,
        options=(*options, *(["--yes"] if args.yes else [])),
    )  # fmt: skip
    record = simulate(job)
    for line in simulation_page.summary(record):
        print(line)
    print(f"{out / simulation_page.PAGE}")


if __name__ == "__main__":
    run_cli(main)
