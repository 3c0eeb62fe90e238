"""Predict with every model that a name stands for; `socrates eval` calls it before it scores."""

import sys

from common.paths import output_dir, safe_name, split_dir
from eval.models import find_models
from eval.prediction.result import Predictions
from eval.prediction.run import predict
from eval.rows import require_rows
from eval.settings import Settings


def evaluate(
    model: str,
    data: str,
    split: str,
    settings: Settings | None = None,
    *,
    pay: bool = False,
    processes: int | None = None,
) -> dict[str, Predictions]:
    """Predict the evaluation rows of a split with every model that `model` stands for.

    model: names separated by commas, see `eval.models.find_models`. pay, processes: as for `predict`; by
    default as many processes as there are GPUs.
    Predictions are kept in `outputs/<dataset>/<split>/eval/`, from where `score_models` scores them.
    Returns them by model name; what is done already isn't repeated.
    """
    rows = split_dir(data, split) / "eval.parquet"
    require_rows(rows)
    folder = output_dir(data, split) / "eval"
    processes = _gpus() if processes is None else processes
    predictions = {}
    for each in find_models(model, data, split):
        safe_name(each.name, "the model's name")
        print(f"predicting with {each.name}", file=sys.stderr)
        chosen = each.adapt(settings or Settings())
        predictions[each.name] = predict(
            rows, each.path, chosen, folder=folder / each.name, name=each.name, pay=pay, processes=processes
        )
    return predictions


def _gpus() -> int:
    """The number of GPUs, at least 1."""
    import torch

    return max(1, torch.cuda.device_count())
