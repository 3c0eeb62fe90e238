"""`socrates bench convert | train | gpu`: each prints the lines of one benchmark as they are measured."""

from pathlib import Path
from typing import Annotated

from common.options import Flag, group

app = group("Benchmarks of this machine.")


@app.command()
def convert(
    rows: Annotated[int | None, Flag(help="default: as many as SocSci210 has")] = None,
    plain_rows: Annotated[int, Flag(help="rows for datasets.map and for pandas")] = 50_000,
    runs: Annotated[int, Flag(help="the best of so many runs is shown")] = 2,
    workers: Annotated[int, Flag(help="processes of the converter")] = 2,
    folder: Annotated[Path | None, Flag(help="where to work; default: a temporary folder")] = None,
) -> None:
    """The converter: rows/s, memory, ratio to the floor and to the plain ways."""
    from scripts.bench.convert import FULL_ROWS, measure_conversion

    for line in measure_conversion(rows or FULL_ROWS, plain_rows, runs, workers, folder):
        print(line, flush=True)


@app.command()
def train(
    model: Annotated[Path | None, Flag(help="a model folder; default: the tiny model")] = None,
    template: Annotated[str, Flag(help="its template")] = "llama3",
    rows: Annotated[int, Flag(help="rows to tokenise")] = 8000,
    answers: Annotated[int, Flag(help="answers of each training run")] = 512,
    repeat: Annotated[int, Flag(help="the best of so many runs is shown")] = 2,
) -> None:
    """Training: tokenising, packing, processes."""
    from scripts.bench.train import measure_training

    for line in measure_training(model, template, rows, answers, repeat):
        print(line, flush=True)


@app.command()
def gpu(
    small: Annotated[bool, Flag("--small", help="a tiny shape, to see that it runs; also on a CPU")] = False,
    answers: Annotated[int | None, Flag(help="answers of each training case")] = None,
) -> None:
    """What only a GPU shows: training and prediction in the shape of an 8B model."""
    from scripts.bench.gpu import measure_gpu

    for line in measure_gpu(small, answers):
        print(line, flush=True)
