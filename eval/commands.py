"""The commands that predict, score, report and simulate: each parses, calls one function, and prints."""

from pathlib import Path
from typing import Annotated

import typer

from common.options import Config, Data, Flag, Gpus, Mode, Model, Split, Yes, group

app = group("Predictions, scores, reports and simulations.")
simulate_app = group("Experiments nobody has run yet.")
app.add_typer(simulate_app, name="simulate")


@app.command()
def predict(
    model: Model,
    data: Data = "sample",
    split: Split = "study",
    name: Annotated[str | None, Flag(help="names the outputs; default: the model's last part")] = None,
    rows: Annotated[Path | None, Flag(help="evaluation rows other than the split's eval.parquet")] = None,
    config: Config = None,
    mode: Mode = None,
    backend: Annotated[str | None, Flag(help="transformers, vllm or server; wins over the settings")] = None,
    url: Annotated[str | None, Flag(help="a server's address, or several by commas")] = None,
    max_rows: Annotated[int | None, Flag(help="only so many rows, spread over all items")] = None,
    out: Annotated[Path | None, Flag(help="default: outputs/<data>/<split>/eval/<name>")] = None,
    yes: Yes = False,
) -> None:
    """One model's answer distribution for every evaluation row."""
    from common.paths import output_dir, safe_name, split_dir
    from eval import predict as predict_rows
    from eval.models import find_model, served_model
    from eval.settings import load_settings

    settings = load_settings(config, mode=mode, backend=backend, max_rows=max_rows).at(url)
    served = settings.backend == "server"
    asked = served_model(model) if served else find_model(model, data, split)
    name = safe_name(name or asked.name, "the name")
    rows = rows or split_dir(data, split) / "eval.parquet"
    folder = out or output_dir(data, split) / "eval" / name
    print(predict_rows(rows, asked.path, asked.adapt(settings), folder=folder, name=name, pay=yes))


@app.command("eval")
def evaluate(
    model: Annotated[str, Flag(help="as for predict; several by commas")] = "tiny",
    data: Data = "sample",
    split: Split = "study",
    config: Config = None,
    predictions: Annotated[Path | None, Flag(help="add this file, made elsewhere, to the comparison")] = None,
    name: Annotated[str | None, Flag(help="its name; default: the file's")] = None,
    url: Annotated[str | None, Flag(help="a server's address, or several by commas, that has MODEL")] = None,
    gpus: Gpus = None,
    yes: Yes = False,
) -> None:
    """Predict with base, SFT and DPO of a model, score them, and compare all that are scored."""
    from eval import evaluate as predict_all
    from eval.evaluation import SomeFailed
    from eval.scoring.run import import_predictions, score_models
    from eval.settings import load_settings

    settings, failure, done = load_settings(config).at(url), None, {}
    if predictions:
        import_predictions(predictions, data, split, name=name)
    else:
        try:
            done = predict_all(model, data, split, settings, pay=yes, processes=gpus)
        except SomeFailed as failed:
            failure, done = failed, failed.done
    for predicted in done.values():
        print(predicted)
    if predictions or done:
        print(score_models(data, split, settings=settings))
    if failure:
        raise failure


@app.command()
def chat(
    question: Annotated[str, typer.Argument(help="the question, without its answer format")],
    scale: Annotated[str, Flag(help="lowest and highest answer: 1-7, -3..3")],
    model: Model = "tiny",
    persona: Annotated[str, Flag(help="age=34, gender=Female, party_id=Democrat, ...")] = "",
    data: Data = "sample",
    split: Split = "study",
) -> None:
    """One person, one question: the whole distribution of answers as bars."""
    from eval.models import find_model
    from eval.prediction.chat import ask, read_persona, read_scale
    from eval.settings import Settings

    asked = find_model(model, data, split)
    print(ask(asked.path, question, read_scale(scale), read_persona(persona), asked.adapt(Settings())))


@app.command()
def score(
    data: Data = "sample",
    split: Split = "study",
    models: Annotated[str | None, Flag(help="names by commas; default: all with predictions")] = None,
    rows: Annotated[Path | None, Flag(help="evaluation rows other than the split's eval.parquet")] = None,
    config: Config = None,
) -> None:
    """Score predictions that are there, and compare them: outputs/<dataset>/<split>/eval/."""
    from eval.scoring.run import score_models
    from eval.settings import load_settings

    names = models.split(",") if models else None
    print(score_models(data, split, names, rows=rows, settings=load_settings(config)))


@app.command()
def report(
    data: Data = "sample",
    split: Split = "study",
    out: Annotated[Path | None, Flag(help="the page; default: report.html beside the scores")] = None,
) -> None:
    """One HTML page of everything that is scored, with tables and figures beside it."""
    from eval import report as write_report

    print(write_report(data, split, page=out))


@simulate_app.command("run")
def simulate_run(
    experiment: Annotated[Path, typer.Argument(help="such as configs/experiments/two-arm.yaml")],
    model: Model = "tiny",
    data: Data = "sample",
    split: Split = "study",
    people: Annotated[Path | None, Flag(help="a CSV, one person a row; default: evaluated people")] = None,
    pilot: Annotated[
        Path | None, Flag(help="real answers to combine with: a CSV of arm, outcome, answer")
    ] = None,
    observed: Annotated[Path | None, Flag(help="real answers to set beside the predicted ones")] = None,
    calibration: Annotated[
        Path | None, Flag(help="an eval/<model name> folder; default: this model's")
    ] = None,
    config: Config = None,
    mode: Mode = None,
    out: Annotated[Path | None, Flag(help="default: outputs/<dataset>/<split>/simulations/<name>")] = None,
    served: Annotated[str | None, Flag(help="which model of a server with several")] = None,
    yes: Yes = False,
) -> None:
    """Ask simulated people what an experiment asks, and estimate its treatment effects."""
    from common.experiment import load_experiment
    from common.paths import output_dir
    from eval import simulate
    from eval.models import find_model
    from eval.settings import load_settings

    loaded = load_experiment(experiment)
    folder = out or output_dir(data, split) / "simulations" / loaded.name
    print(
        simulate(
            loaded, find_model(model, data, split, served), people=people, pilot=pilot,
            data=data, split=split, folder=folder, observed=observed, calibration=calibration, pay=yes,
            settings=load_settings(config, mode=mode),
        )
    )  # fmt: skip
    print(folder / "simulation.html")


@simulate_app.command("check")
def simulate_check(
    model: Model = "tiny",
    data: Data = "sample",
    split: Split = "study",
    studies: Annotated[str | None, Flag(help="evaluated studies, by commas; default: all")] = None,
    truth: Annotated[Path | None, Flag(help="a table of true distributions, where they are known")] = None,
) -> None:
    """Simulate evaluated experiments and compare with what their people answered."""
    from common.paths import output_dir
    from common.readers import read_columns
    from eval.simulation.check import simulate_check as check

    remedy = "leave --truth out, or give a table of true distributions"
    table = read_columns(truth, remedy) if truth else None
    names = studies.split(",") if studies else None
    folder = output_dir(data, split) / "simulations"
    print(check(model, data=data, split=split, studies=names, truth=table, folder=folder))


@app.command()
def reproduce(
    data: Annotated[str | None, Flag(help="default: socsci210 if it is converted, else sample")] = None,
    predictions: Annotated[Path | None, Flag(help="predictions of a released model")] = None,
    published: Annotated[float | None, Flag(help="their published Wasserstein distance")] = None,
    config: Config = None,
) -> None:
    """The published figures, or the sample's known truth, come out of this evaluator."""
    from eval.scoring.reproduce import reproduce as check_figures
    from eval.settings import load_settings

    result = check_figures(data, predictions, published, load_settings(config))
    print(result)
    result.enforce()
