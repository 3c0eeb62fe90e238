"""Predict with every model that a name stands for; `socrates eval` calls it before it scores."""

import sys

from common.errors import Refusal
from common.paths import output_dir, safe_name, split_dir
from eval.models import find_models
from eval.prediction.result import Predictions
from eval.prediction.run import predict
from eval.rows import require_rows
from eval.settings import Settings


class SomeFailed(Refusal):
    """Some models of several failed; `done` holds what the others predicted."""

    def __init__(self, failed: dict[str, Refusal], done: dict[str, Predictions]) -> None:
        super().__init__("; ".join(f"{name} failed: {reason}" for name, reason in failed.items()))
        self.done = done


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

    model: names separated by commas, see `eval.models.find_models`; with a server in the settings, its own.
    pay, processes: as for `predict`; by default as many processes as there are GPUs.
    Predictions are kept in `outputs/<dataset>/<split>/eval/`, from where `score_models` scores them.
    Returns them by model name; what is done already isn't repeated. One that fails doesn't keep the others
    from being predicted; then `SomeFailed` is raised.
    """
    rows = split_dir(data, split) / "eval.parquet"
    require_rows(rows)
    folder = output_dir(data, split) / "eval"
    processes = _gpus() if processes is None else processes
    settings = settings or Settings()
    models = find_models(model, data, split, settings.backend == "server")
    done, failed = {}, {}
    for each in models:
        print(f"predicting with {each.name}", file=sys.stderr)
        try:
            safe_name(each.name, "the model's name")
            done[each.name] = predict(
                rows, each.path, each.adapt(settings), folder=folder / each.name, name=each.name, pay=pay,
                processes=processes,
            )  # fmt: skip
        except Refusal as refusal:
            if len(models) == 1:
                raise
            failed[each.name] = refusal
            print(f"{each.name} failed: {refusal}", file=sys.stderr)
    if failed:
        raise SomeFailed(failed, done)
    return done


def _gpus() -> int:
    """The number of GPUs, at least 1."""
    import torch

    return max(1, torch.cuda.device_count())
