"""Predict with models, then score them together.

    python -m eval.evaluation --model tiny --data sample --split study

A folder of configs/ stands for its base model and each finished run (a folder with run.json) under
`outputs/<dataset>/<split>/<model>/`; a checkpoint folder or a hub id stands for itself; several are
separated by commas. Every part that is done already is skipped.
"""

import argparse
import sys

from common.errors import Refusal, run_cli
from common.paths import output_dir, split_dir
from eval.models import find_models
from eval.prediction.result import Predictions
from eval.prediction.run import predict
from eval.scoring import run as score
from eval.settings import DEFAULT, Settings, load_settings


def evaluate(
    model: str, data: str, split: str, settings: Settings | None = None, *, pay: bool = False
) -> dict[str, Predictions]:
    """Predict the evaluation rows of a split with every model that `model` stands for; then score all.

    model: names separated by commas, see `eval.models.find_models`. Predictions and scores lie in
    `outputs/<dataset>/<split>/eval/`. Returns the predictions by model name.
    """
    rows = split_dir(data, split) / "eval.parquet"
    if not rows.is_file():
        raise Refusal(f"no evaluation rows; run `make data DATA={data} SPLIT={split}` first")
    folder = output_dir(data, split) / "eval"
    predictions = {}
    for each in find_models(model, data, split):
        print(f"predicting with {each.name}", file=sys.stderr)
        chosen = each.adapt(settings or Settings())
        predictions[each.name] = predict(
            rows, each.path, chosen, folder=folder / each.name, name=each.name, pay=pay
        )
    return predictions


def main() -> None:
    """Read the command line; predict with each model, then score them all."""
    layout = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=layout)
    parser.add_argument("--model", required=True, help="a folder of configs/, a checkpoint folder, a hub id")
    parser.add_argument("--data", required=True)
    parser.add_argument("--split", required=True)
    parser.add_argument("--config", help=f"evaluation settings, default {DEFAULT}")
    args = parser.parse_args()
    settings = load_settings(args.config)
    predictions = evaluate(args.model, args.data, args.split, settings)
    for made in predictions.values():
        print(made)
    where = ["--data", args.data, "--split", args.split, *(["--config", args.config] if args.config else [])]
    score.main(["--models", ",".join(predictions), *where])


if __name__ == "__main__":
    run_cli(main)
