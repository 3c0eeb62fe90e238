"""The one command line: `socrates <command>`. `make` is its short form, with variables.

The commands stand in `scripts/commands.py`, `eval/commands.py` and `bench/commands.py` below both. Each
parses, calls one function and prints what it returns; what it needs is imported only when it runs, so
`socrates --help` takes no time.
"""

import os
import shlex
import sys
from pathlib import Path
from typing import Annotated, Any

from common.errors import Refusal, run_cli
from common.signals import leave_on_signals

if Path(sys.argv[0]).stem == "socrates":  # a command, not an import from elsewhere
    leave_on_signals()

import typer

from common.options import Data, Flag, Gpus, Recipe, Split, Stage, group
from eval.bench.commands import app as eval_bench_app
from eval.commands import app as eval_app
from scripts.bench.commands import app as scripts_bench_app
from scripts.commands import app as scripts_app

usage: Any = sys.modules[
    typer.BadParameter.__module__
]  # click's exceptions; some versions bring a copy of click

app = typer.Typer(
    help="Fine-tune language models on human answers, and know how well they predict people.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
bench_app = group("Benchmarks of this machine.")
bench_app.add_typer(scripts_bench_app)
bench_app.add_typer(eval_bench_app)
app.add_typer(scripts_app)
app.add_typer(eval_app)
app.add_typer(bench_app, name="bench")


@app.command()
def sweep(
    file: Annotated[Path, typer.Argument(help="such as configs/sweeps/participants.yaml")],
    slurm: Annotated[bool, Flag("--slurm", help="write a Slurm array instead of running here")] = False,
) -> None:
    """A grid of runs, then curves with intervals: outputs/sweeps/<name>/curves/."""
    from common.paths import root, safe_name
    from eval.reporting.curves import curves
    from scripts.sweep import points_of, read_sweep, run_points, write_slurm

    described = read_sweep(file)
    folder = root() / "outputs" / "sweeps" / safe_name(file.stem, "the sweep")
    points = points_of(described, folder)
    if slurm:
        print(write_slurm(points, folder / "sweep.sbatch"))
        return
    run_points(points)
    scored = [(point.values, point.scores) for point in points]
    print(curves(described.title, described.along, scored, described.metrics, folder))


@app.command()
def paper(
    data: Data = "sample",
    model: Annotated[str, Flag(help="folders of configs/, by commas")] = "tiny",
    train: Annotated[bool | None, Flag(help="train what is missing; default: tiny models only")] = None,
    look: Annotated[bool, Flag("--look", help="run nothing, show what is there")] = False,
) -> None:
    """Every figure of the paper's tables, ours beside the published: outputs/<dataset>/paper/."""
    from common.processes import run_commands
    from eval.reporting.paper import commands, paper_table, read_paper

    models, described = model.split(","), read_paper()
    if not look:
        small = all(name.startswith("tiny") for name in models)
        run_commands(commands(described, models, data, small if train is None else train))
    print(paper_table(described, models, data))


@app.command()
def plan(
    stage: Stage = "sft",
    model: Annotated[
        str, Flag(help="a folder of configs/; with --eval any model, or several by commas")
    ] = "tiny",
    data: Data = "sample",
    split: Split = "study",
    recipe: Recipe = None,
    gpus: Gpus = None,
    gpu: Annotated[str, Flag(help="a name in configs/gpus.yaml")] = "h100-80gb",
    architecture: Annotated[Path | None, Flag(help="a config.json of a model that isn't here")] = None,
    evaluation: Annotated[bool, Flag("--eval", help="plan the evaluation instead of the training")] = False,
    config: Annotated[Path | None, Flag(help="with --eval: settings other than the default")] = None,
) -> None:
    """Memory by part, hours and cost, before a GPU is taken; with --eval those of an evaluation."""
    if (recipe or architecture) if evaluation else config:
        raise Refusal("--recipe and --architecture are for training, --config is for --eval; leave it out")
    if evaluation:
        from eval import plan_evaluation
        from eval.settings import load_settings

        print(plan_evaluation(model, data, split, load_settings(config), gpu=gpu, gpus=gpus or 1))
        return
    from scripts.training.planning import make_plan
    from scripts.training.request import Machines, RunRequest

    request = RunRequest(stage, model, data, split, recipe, machines=Machines.from_environment(gpus=gpus))
    print(make_plan(request, gpu, architecture))


ADDRESSES = {"HF_ENDPOINT": "HF_TOKEN", "OPENAI_BASE_URL": "OPENAI_API_KEY"}
INTERRUPTED = 130  # what typer returns for a Ctrl-C inside a command


def main() -> None:
    """Run the command line; `--more=TEXT` stands for further arguments, quotes and all (see Makefile)."""
    words: list[str] = []
    for word in sys.argv[1:]:
        words += shlex.split(word.removeprefix("--more=")) if word.startswith("--more=") else [word]
    run_cli(lambda: _run(words))


def _run(words: list[str]) -> None:
    """Run one command; what the command line itself refuses is one line, too."""
    for name, key in ADDRESSES.items():
        if "@" in os.environ.get(name, ""):
            raise Refusal(
                f"{name} holds a user or password, which libraries print; give a key in {key} instead"
            )
    try:
        if app(words, prog_name="socrates", standalone_mode=False) == INTERRUPTED:
            raise KeyboardInterrupt
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
