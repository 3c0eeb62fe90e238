"""Predict the answer distribution of every evaluation row: `predict`, which `socrates predict` calls.

With a folder it writes predictions.parquet and, last, predictions.json; a killed run goes on where it
stopped, a finished one isn't repeated. Modes: `exact` (every admissible answer's probability, from the
token probabilities), `sampled` (k answers a row), `verbalised` (the model states a distribution). Back
ends: `transformers` (in this process), `vllm` (offline), `server` (any OpenAI-compatible one; its key is
read from the environment variable OPENAI_API_KEY).
"""

import hashlib
import platform
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import polars as pl

from common.contract import PredictionsRecord, read_record, write_record
from common.errors import Refusal
from common.files import atomic_path, file_stamp, fingerprint, sha256_file
from common.step import Step, describe
from eval.prediction.blocks import predict_into, stream
from eval.prediction.predictor import COLUMNS, Predictor, as_table, reply_sampling
from eval.prediction.progress import Progress
from eval.prediction.result import Counts, Predictions
from eval.prediction.share import share_out
from eval.prediction.store import RECORD, TABLE, Store
from eval.rows import PREDICTED, check_rows, read_rows, select_rows
from eval.settings import Settings

FORMAT = 2  # raised when the same inputs would give other predictions than before
MODEL_FILES = (
    "*.safetensors",
    "*.jinja",
    "config.json",
    "generation_config.json",
    "tokenizer*",
    "adapter_*.json",
)


def predict(
    rows: pl.DataFrame | str | Path,
    model: str | Path,
    settings: Settings | None = None,
    *,
    folder: str | Path | None = None,
    name: str | None = None,
    pay: bool = False,
    processes: int = 1,
) -> Predictions:
    """Predict the answer distribution of each row.

    rows: evaluation rows (see data/README.md) or their file. model: a checkpoint folder, a hub id, or
    the name by which a server knows it. folder: where predictions are kept as they come, so that the
    same call goes on after a kill and has nothing to do when all is there; in memory only when left
    out. name: what to call the model. pay: a run that costs money (a server with prices) may start.
    processes: how many share the work, each with a GPU of its own (a part of the cores without); needs a
    folder. The predictions are the same whatever their number, and a run may go on with another one.
    Raises `Refusal` for broken rows, a model that can't be loaded or asked, a run that costs money
    without `pay`, and when no row at all gets a prediction.
    """
    if processes < 1 or (processes > 1 and folder is None):
        raise Refusal(f"{processes} processes can't share a prediction; give 1 or more, and a folder")
    settings, model = settings or Settings(), str(model)
    name = name or Path(model).name
    if folder is None:
        table, more = _in_memory(_select(rows, settings), model, settings, pay)
        return Predictions(name, Counts.of(table), in_memory=table, **more)
    folder = Path(folder)
    described = _described(model, rows, settings)
    inputs = fingerprint(described)
    started = time.monotonic()
    store = Store(folder, inputs)
    with Step(folder / RECORD, inputs) as step:
        if step.done:
            store.forget()  # a kill may have come between the record and this
            record = read_record(step.record, PredictionsRecord, "delete it and run again")
            counts = Counts.model_validate(record.counts.model_dump())
            return Predictions(name, counts, folder, inputs, up_to_date=True)
        chosen = _select(rows, settings)
        more = _in_folder(chosen, model, settings, store, pay, processes)
        table = store.read(len(chosen))
        counts = Counts.of(table)
        _refuse_nothing(counts, store)
        step.begin()
        with atomic_path(folder / TABLE) as partial:
            table.write_parquet(partial, compression="zstd")
        record = PredictionsRecord(
            inputs=inputs,
            name=name,
            model=model,
            mode=settings.mode,
            backend=settings.backend,
            depends_on=described,
            counts=counts,
            seconds=round(time.monotonic() - started, 2),
            rows_resumed=more["resumed"],
            usage=more["usage"],
            versions=_versions(),
            files=describe(folder, [TABLE]),
        )
        write_record(step.record, record)
        store.forget()
    return Predictions(name, counts, folder, inputs, **more)


def _select(rows: pl.DataFrame | str | Path, settings: Settings) -> pl.DataFrame:
    """The rows that are to be predicted, checked."""
    columns = PREDICTED if settings.max_rows else COLUMNS
    checked = check_rows(rows, columns) if isinstance(rows, pl.DataFrame) else read_rows(rows, columns)
    return select_rows(checked, settings.max_rows, settings.seed).select(COLUMNS)


def _in_memory(
    rows: pl.DataFrame, model: str, settings: Settings, pay: bool
) -> tuple[pl.DataFrame, dict[str, Any]]:
    _agree_on_cost(rows, settings, pay)
    predictor = Predictor(model, settings)
    bar = Progress(len(rows), 0, settings.mode, goes_on=False)
    records = {}
    for row, record in stream(rows, predictor):
        records[row] = record
        bar.update()
    bar.close()
    table = as_table(rows, records)
    _refuse_nothing(Counts.of(table))
    return table, {"usage": getattr(predictor.backend, "usage", None)}


def _in_folder(
    rows: pl.DataFrame, model: str, settings: Settings, store: Store, pay: bool, processes: int
) -> dict[str, Any]:
    """Predict what the store doesn't hold yet; how many rows it had, and tokens paid."""
    done = store.done()
    more: dict[str, Any] = {"resumed": len(done), "usage": None}
    if len(done) == len(rows):
        return more
    _agree_on_cost(rows[sorted(set(range(len(rows))).difference(done))], settings, pay)
    if done:
        print(f"going on: {len(done):,} of {len(rows):,} rows were already predicted", file=sys.stderr)
    bar = Progress(len(rows), len(done), settings.mode, goes_on=True)
    try:
        if processes > 1 and settings.backend == "transformers":
            share_out(rows, model, settings, store, processes, bar.update)
        else:
            predictor = Predictor(model, settings)
            predict_into(store, rows, predictor, bar.update)
            more["usage"] = getattr(predictor.backend, "usage", None)
    finally:
        bar.close()
    return more


def _agree_on_cost(rows: pl.DataFrame, settings: Settings, pay: bool) -> None:
    """Say what a run on a server takes; one that costs money needs `pay`."""
    if settings.backend != "server":
        return
    from eval.prediction.backends.server import estimate

    characters = int(rows.select(pl.col("system", "prompt").str.len_chars().sum()).sum_horizontal()[0])
    cost, sentence = estimate(characters, len(rows), reply_sampling(settings), settings.server)
    print(sentence, file=sys.stderr)
    if cost and not pay:
        raise Refusal(f"this run costs money ({sentence}); add --yes to go on, or lower --max-rows")


def _refuse_nothing(counts: Counts, store: Store | None = None) -> None:
    """A run without any prediction has failed. Its parts go, so that another try starts afresh."""
    if counts.rows_without_prediction < counts.rows:
        return
    if store:
        store.forget()
    if counts.replies_requested:
        reason = f"none of {counts.replies_requested:,} replies could be read as an answer"
    elif counts.mean_off_scale_mass is None:
        reason = "no prompt fits into what the model can read, or its server refuses each"
    else:
        reason = "the model gives no admissible answer any probability"
    raise Refusal(f"not one of {counts.rows:,} rows got a prediction: {reason}; try another mode or model")


def model_stamp(model: str) -> list[Any]:
    """What tells whether a model has changed: its name, and the stamps of its files."""
    folder = Path(model)
    files = (
        sorted(file for pattern in MODEL_FILES for file in folder.glob(pattern)) if folder.is_dir() else []
    )
    return [model, *map(file_stamp, files)]


def _described(model: str, rows: pl.DataFrame | str | Path, settings: Settings) -> dict[str, Any]:
    """Everything the predictions depend on; not how fast, how patiently or at what price they are made."""
    return {
        "format": FORMAT,
        "model": model_stamp(model),
        "rows": _content(rows),
        "settings": settings.model_dump(
            include={
                **dict.fromkeys(("mode", "backend", "seed", "max_rows", "sampled", settings.mode), True),
                "local": {"dtype"},
                "server": {"url"},
            }
        ),
    }


class _Digest:
    """A file that forgets what is written into it, but for its sum."""

    def __init__(self) -> None:
        self.sum = hashlib.sha256()

    def write(self, data: bytes) -> int:
        self.sum.update(data)
        return len(data)


def _content(rows: pl.DataFrame | str | Path) -> dict[str, str]:
    """SHA-256 of the rows' file, or of a table's columns."""
    if not isinstance(rows, pl.DataFrame):
        if not Path(rows).is_file():
            read_rows(rows)  # says what is missing
        return {"file_sha256": sha256_file(rows)}
    digest = _Digest()
    columns = [name for name in dict.fromkeys((*COLUMNS, *PREDICTED)) if name in rows.columns]
    rows.select(columns).rechunk().write_ipc(digest)  # type: ignore[call-overload]
    return {"table_sha256": digest.sum.hexdigest()}


def _versions() -> dict[str, str]:
    names = ("torch", "transformers", "tokenizers", "polars", "numpy")
    return {"python": platform.python_version()} | {name: version(name) for name in names}
