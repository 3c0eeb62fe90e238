"""`socrates bench score | predict | full`: each prints the lines of one benchmark as they are measured."""

from pathlib import Path
from typing import Annotated

from common.options import Flag, group

app = group("Benchmarks of this machine.")


@app.command()
def score(
    predictions: Annotated[int, Flag(help="predictions to score")] = 3_000_000,
    cells: Annotated[int, Flag(help="cells that they are in")] = 6000,
    replicates: Annotated[int, Flag(help="resamples of the bootstrap")] = 1000,
) -> None:
    """Scoring: seconds, memory, ratio to a loop over scipy."""
    from eval.bench.score import measure_scoring

    for line in measure_scoring(predictions, cells, replicates):
        print(line, flush=True)


@app.command()
def predict(
    model: Annotated[Path | None, Flag(help="a model folder; default: the tiny model")] = None,
    people: Annotated[int, Flag(help="people who answer seven questions each")] = 64,
    repeats: Annotated[int, Flag(help="the fastest of so many runs is shown")] = 3,
) -> None:
    """Exact mode against sampled answers, and what sharing beginnings gains."""
    from eval.bench.predict import measure_prediction

    for line in measure_prediction(model, people, repeats):
        print(line, flush=True)


@app.command()
def full(
    rows: Annotated[int | None, Flag(help="default: as many as SocSci210 evaluates")] = None,
) -> None:
    """The whole evaluation at SocSci210's size: predict, score, report, open the page."""
    from eval.bench.full import ROWS, measure_evaluation

    for line in measure_evaluation(rows or ROWS):
        print(line, flush=True)
