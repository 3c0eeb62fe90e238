"""The one command line: `socrates <command>`. `make` is its short form, with variables.

Every command parses, calls one function of `scripts` or `eval`, and prints what it returns. A wing is
imported only when one of its commands runs, so `socrates --help` loads nothing heavy.
"""

import os
import shlex
import sys
from pathlib import Path
from typing import Annotated, Any, Optional

import typer

from common.errors import Refusal, run_cli

usage: Any = sys.modules[typer.BadParameter.__module__]  # click's exceptions; some versions bring a copy of click
Flag = typer.Option
Data = Annotated[str, Flag(help="sample, socsci210 or a folder (make: DATA)")]
Split = Annotated[str, Flag(help="what is unseen: study, task, condition, participant (make: SPLIT)")]
Model = Annotated[str, Flag(help="a folder of configs/, a checkpoint folder, a released name or a hub id")]
Config = Annotated[Optional[Path], Flag(help="a settings file other than the default")]
Recipe = Annotated[Optional[Path], Flag(help="a recipe other than configs/<model>/<stage>.yaml")]
Gpus = Annotated[Optional[int], Flag(help="processes on this machine; default: all its GPUs, one on a CPU")]
Stage = Annotated[str, Flag(help="sft, dpo, kto or pt")]
Mode = Annotated[Optional[str], Flag(help="exact, sampled or verbalised; wins over the settings")]
Yes = Annotated[bool, Flag("--yes", help="don't ask before a run that costs money")]


def group(words: str) -> typer.Typer:
    """A set of commands under one word."""
    return typer.Typer(help=words, no_args_is_help=True, add_completion=False, rich_markup_mode="rich")


app = typer.Typer(
    help="Fine-tune language models on human answers, and know how well they predict people.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)
data_app, recipe_app = group("Data sets: fetch, import, split, make, audit."), group("Recipes: list, check, copy.")
simulate_app, bench_app = group("Experiments nobody has run yet."), group("Benchmarks on this machine.")
for name, sub in (("data", data_app), ("recipe", recipe_app), ("simulate", simulate_app), ("bench", bench_app)):
    app.add_typer(sub, name=name)


@data_app.command("make")
def data_make(
    data: Data = "sample",
    split: Split = "study",
    config: Config = None,
    workers: Annotated[int, Flag(help="processes that read and write")] = min(4, os.cpu_count() or 1),
    tokenizer: Annotated[Optional[str], Flag(help="a folder or hub id, for the card's token counts")] = None,
    force: Annotated[bool, Flag("--force", help="make it again although nothing changed")] = False,
) -> None:
    """Training rows, pairs and evaluation rows of a split: data/<dataset>/<split>/."""
    from scripts import make_data
    from scripts.data import load_settings

    print(make_data(data, split, load_settings(config), workers=workers, force=force, tokenizer=tokenizer))


@data_app.command("split")
def data_split(
    data: Data = "sample",
    split: Split = "participant",
    seed: int = 0,
    eval_fraction: Annotated[float, Flag(help="the share that is unseen")] = 0.25,
    participants_fraction: Annotated[float, Flag(help="the share of training people that are kept")] = 1.0,
    name: Annotated[Optional[str], Flag(help="the file's name, default <split>-seed<seed>")] = None,
) -> None:
    """A new seeded split: metadata/<dataset>/."""
    from scripts import make_splits

    shares = {"eval_fraction": eval_fraction, "participants_fraction": participants_fraction}
    print(make_splits(data, split, seed=seed, name=name, **shares))


@data_app.command("audit")
def data_audit(
    data: Data = "sample",
    split: Annotated[Optional[str], Flag(help="what must not be on both sides")] = None,
    train: Annotated[Optional[list[Path]], Flag(help="training files made elsewhere")] = None,
    evaluation: Annotated[Optional[list[Path]], Flag("--eval", help="their evaluation files")] = None,
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
    from common.tables import show
    from scripts.training import list_recipes

    show(list_recipes())


@recipe_app.command("check")
def recipe_check(
    recipes: Annotated[Optional[list[Path]], typer.Argument(help="recipe files")] = None,
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


@app.command()
def train(
    stage: Annotated[str, typer.Argument(help="sft, dpo, kto or pt")],
    settings: Annotated[Optional[list[str]], typer.Argument(help="key=value: recipe keys for this run")] = None,
    model: Model = "tiny",
    data: Data = "sample",
    split: Split = "study",
    recipe: Recipe = None,
    gpus: Gpus = None,
    select: Annotated[Optional[str], Flag(help="wasserstein: keep the checkpoint nearest to people")] = None,
    select_rows: Annotated[int, Flag(help="held-out rows that each checkpoint answers")] = 2000,
    patience: Annotated[int, Flag(help="end after so many checkpoints that are no nearer; 0: never")] = 3,
    workers: Annotated[Optional[int], Flag(help="processes that tokenise (default: one a core)")] = None,
    restart: Annotated[bool, Flag("--restart", help="start again; the old run is moved aside")] = False,
    quiet: Annotated[bool, Flag("--quiet", help="no lines of progress")] = False,
) -> None:
    """Train one stage: outputs/<dataset>/<split>/<model>/<stage>/; the same command goes on after a kill."""
    from scripts.training import Machines, RunRequest, Selection, launch, parse_override

    if select not in (None, "wasserstein"):
        raise Refusal(f"unknown --select {select}; the one there is is wasserstein")
    choice = Selection(select_rows, patience) if select else None
    keys = dict(map(parse_override, settings or []))
    machines = Machines.from_environment(gpus=gpus)
    request = RunRequest(
        stage, model, data, split, recipe, keys, machines, choice, workers, restart, quiet
    )
    print(launch(request))


@app.command()
def tokenise(
    stage: Annotated[str, typer.Argument(help="sft, dpo, kto or pt")],
    model: Model = "tiny",
    data: Data = "sample",
    split: Split = "study",
    recipe: Recipe = None,
    workers: Annotated[Optional[int], Flag(help="processes (default: one a core)")] = None,
) -> None:
    """Make a recipe's tokens once, before several machines start (training alone does it by itself)."""
    from scripts.training import RunRequest, tokenise_data

    print(tokenise_data(RunRequest(stage, model, data, split, recipe).resolved, workers))


@app.command()
def plan(
    stage: Stage = "sft",
    model: Model = "tiny",
    data: Data = "sample",
    split: Split = "study",
    recipe: Recipe = None,
    gpus: Gpus = None,
    gpu: Annotated[str, Flag(help="a name in configs/gpus.yaml")] = "h100-80gb",
    architecture: Annotated[Optional[Path], Flag(help="a config.json of a model that isn't here")] = None,
) -> None:
    """Memory by part, hours and cost, before a GPU is taken."""
    from scripts.training import Machines, RunRequest, make_plan

    request = RunRequest(stage, model, data, split, recipe, machines=Machines.from_environment(gpus=gpus))
    print(make_plan(request, gpu, architecture))


@app.command()
def export(
    out: Annotated[Path, Flag(help="the folder to write; it must not exist yet")],
    stage: Stage = "sft",
    model: Model = "tiny",
    data: Data = "sample",
    split: Split = "study",
    run: Annotated[Optional[str], Flag(help="a variant's folder, such as sft-lora (default: the stage)")] = None,
    checkpoint: Annotated[Optional[int], Flag(help="a checkpoint's step (default: the final weights)")] = None,
) -> None:
    """A plain Hugging Face folder of a checkpoint, adapters merged, with its model card."""
    from scripts import export as export_run

    print(export_run(out, stage, model, data, split, run, checkpoint))


@app.command()
def predict(
    model: Model,
    data: Data = "sample",
    split: Split = "study",
    name: Annotated[Optional[str], Flag(help="names the outputs; default: the model's last part")] = None,
    rows: Annotated[Optional[Path], Flag(help="evaluation rows other than the split's eval.parquet")] = None,
    config: Config = None,
    mode: Mode = None,
    backend: Annotated[Optional[str], Flag(help="transformers, vllm or server; wins over the settings")] = None,
    url: Annotated[Optional[str], Flag(help="a server's address, such as http://localhost:8000/v1")] = None,
    max_rows: Annotated[Optional[int], Flag(help="only so many rows, spread over all items")] = None,
    out: Annotated[Optional[Path], Flag(help="default: outputs/<data>/<split>/eval/<name>")] = None,
    yes: Yes = False,
) -> None:
    """One model's answer distribution for every evaluation row."""
    from common.paths import output_dir, safe_name, split_dir
    from eval import predict as predict_rows
    from eval.settings import load_settings, with_server

    settings = load_settings(config, mode=mode, backend=backend, max_rows=max_rows)
    settings = with_server(settings, url) if url else settings
    name = safe_name(name or Path(model).name, "the name")
    rows = rows or split_dir(data, split) / "eval.parquet"
    folder = out or output_dir(data, split) / "eval" / name
    print(predict_rows(rows, model, settings, folder=folder, name=name, pay=yes))


def main() -> None:
    """Run the command line; `--more=TEXT` stands for further arguments, quotes and all (see Makefile)."""
    words: list[str] = []
    for word in sys.argv[1:]:
        words += shlex.split(word.removeprefix("--more=")) if word.startswith("--more=") else [word]
    run_cli(lambda: _run(words))


def _run(words: list[str]) -> None:
    """Run one command; what the command line itself refuses is one line, too."""
    try:
        app(words, prog_name="socrates", standalone_mode=False)
    except usage.NoArgsIsHelpError as help_page:
        help_page.show()
    except typer.Abort:
        raise KeyboardInterrupt from None
    except usage.ClickException as error:
        path = getattr(error, "ctx", None)
        command = path.command_path if path else "socrates"
        raise Refusal(f"{error.format_message()} (`{command} --help` shows what there is)") from None


if __name__ == "__main__":
    main()
