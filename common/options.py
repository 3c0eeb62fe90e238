"""Options that commands of both packages share, each described once."""

from pathlib import Path
from typing import Annotated

import typer

Flag = typer.Option
Data = Annotated[str, Flag(help="sample, socsci210 or a folder (make: DATA)")]
Split = Annotated[str, Flag(help="what is unseen: study, task, condition, participant (make: SPLIT)")]
Model = Annotated[str, Flag(help="a folder of configs/, a checkpoint folder, a released name or a hub id")]
Config = Annotated[Path | None, Flag(help="a settings file other than the default")]
Recipe = Annotated[Path | None, Flag(help="a recipe other than configs/<model>/<stage>.yaml")]
Gpus = Annotated[int | None, Flag(help="processes on this machine; default: all its GPUs, one on a CPU")]
Stage = Annotated[str, Flag(help="sft, dpo, kto or pt")]
Mode = Annotated[str | None, Flag(help="exact, sampled or verbalised; wins over the settings")]
Yes = Annotated[bool, Flag("--yes", help="don't ask before a run that costs money")]


def group(words: str) -> typer.Typer:
    """A set of commands under one word."""
    return typer.Typer(help=words, no_args_is_help=True, add_completion=False)
