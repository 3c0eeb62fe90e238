"""Predict with models, to be scored together.

    evaluate("tiny", "sample", "study")

A folder of configs/ stands for its base model and each finished run (a folder with run.json) under
`outputs/<dataset>/<split>/<model>/`; a checkpoint folder or a hub id stands for itself; several are
separated by commas. Every part that is done already is skipped.
"""

import sys

from common.errors import Refusal
from common.paths import output_dir, split_dir
from eval.models import find_models
from eval.prediction.result import Predictions
from eval.prediction.run import predict
from eval.settings import Settings


def evaluate(
    model: str, data: str, split: str, settings: Settings | None = None, *, pay: bool = False
) -> dict[str, Predictions]:
    """Predict the evaluation rows of a split with every model that `model` stands for; to be scored together.

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
