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
