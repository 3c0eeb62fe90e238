"""Predict the answer distribution of every evaluation row.

    python -m eval.prediction.run --model outputs/sample/study/tiny/sft --name tiny-sft

writes outputs/<data>/<split>/eval/<name>/predictions.parquet and, last, predictions.json. A killed run
goes on where it stopped; a finished one isn't repeated. Modes: `exact` (every admissible answer's
probability, from the token probabilities), `sampled` (k answers a row), `verbalised` (the model states
a distribution). Back ends: `transformers` (in this process), `vllm` (offline), `server` (any
OpenAI-compatible one; its key is read from the environment variable OPENAI_API_KEY).
"""

import argparse
import platform
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from tqdm import tqdm

from common.errors import Refusal, run_cli
from common.files import file_stamp, fingerprint, up_to_date
from common.paths import output_dir, safe_name, split_dir
from eval.prediction.backends.server import estimate
from eval.prediction.predictor import ROW_COLUMNS, Predictor, reply_sampling
from eval.prediction.store import RECORD, TABLE, Store
from eval.settings import Settings, load_settings

FORMAT = 1  # raised when the same inputs would give other predictions than before
SHARD, SERVER_SHARD = 512, 64  # rows computed between two saves; fewer where each costs money
MODEL_FILES = (
    "*.safetensors",
    "*.jinja",
    "config.json",
    "generation_config.json",
    "tokenizer*",
    "adapter_*.json",
)
ITEM = ["study_id", "condition_num", "task_num", "item_num"]


def main(arguments: list[str] | None = None) -> None:
    args = _parser().parse_args(arguments)
    started = time.monotonic()
    settings = load_settings(args.config, mode=args.mode, backend=args.backend, max_rows=args.max_rows)
    if args.url:
        settings = settings.model_copy(
            update={"backend": "server", "server": settings.server.model_copy(update={"url": args.url})}
        )
    name = safe_name(args.name or Path(args.model).name, "the name")
    rows_path = Path(args.rows) if args.rows else split_dir(args.data, args.split) / "eval.parquet"
    if not rows_path.is_file():
        raise Refusal(f"{rows_path} is missing; `make data DATA={args.data} SPLIT={args.split}` writes it")
    folder = Path(args.out) if args.out else output_dir(args.data, args.split) / "eval" / name
    described = _described(args.model, rows_path, settings)
    inputs = fingerprint(described)
    if up_to_date(folder / RECORD, inputs) and (folder / TABLE).is_file():
        print(f"nothing to do: {folder / TABLE} is up to date")
        return
    store = Store(folder, inputs)
    with store.lock():
        rows = select_rows(read_rows(rows_path), settings.max_rows, settings.seed)
        table, progress = _predict_all(args, rows, settings, store)
        counts = _counts(table)
        store.finish(
            table,
            {
                "inputs": inputs,
                "name": name,
                "model": args.model,
                "mode": settings.mode,
                "backend": settings.backend,
                "depends_on": described,
                "counts": counts,
                "seconds": round(time.monotonic() - started, 2),
                **progress,
                "versions": _versions(),
            },
        )
    print(f"{folder / TABLE}: {_sentence(counts)}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", required=True, help="checkpoint folder, hub id, or a server's model name")
    parser.add_argument("--name", help="names the output folder; default: the model's last part")
    parser.add_argument("--data", default="sample")
    parser.add_argument("--split", default="study")
    parser.add_argument("--rows", help="evaluation rows other than data/<data>/<split>/eval.parquet")
    parser.add_argument("--config", default="configs/eval/default.yaml")
    parser.add_argument("--mode", choices=["exact", "sampled", "verbalised"], help="wins over the settings")
    parser.add_argument(
        "--backend", choices=["transformers", "vllm", "server"], help="wins over the settings"
    )
    parser.add_argument("--url", help="a server's address, such as http://localhost:8000/v1")
    parser.add_argument("--max-rows", type=int, help="predict only that many rows, spread over all items")
    parser.add_argument("--out", help="output folder; default: outputs/<data>/<split>/eval/<name>")
    parser.add_argument("--yes", action="store_true", help="don't ask before a run that costs money")
    return parser


def read_rows(path: Path) -> pl.DataFrame:
    """Evaluation rows: keys, prompt, scale. Refused: missing columns, null prompts, repeated keys."""
    try:
        table = pl.scan_parquet(path)
        present = table.collect_schema().names()
    except (pl.exceptions.PolarsError, OSError) as error:
        raise Refusal(
            f"{path} can't be read as parquet: {str(error).splitlines()[0]}; make it again"
        ) from None
    for column in (*ROW_COLUMNS, *ITEM):
        if column not in present:
            raise Refusal(f"{path} has no column {column}; evaluation rows are described in data/README.md")
    rows = table.select(list(dict.fromkeys((*ITEM, *ROW_COLUMNS)))).collect()
    if rows.is_empty():
        raise Refusal(f"{path} holds no rows; check the split's manifest.json")
    broken = rows.filter(pl.any_horizontal(pl.col("study_id", "sample_id", "prompt").is_null()))
    if len(broken):
        key = broken.select("study_id", "sample_id").row(0)
        raise Refusal(f"{path}: row {key} has a null key or prompt; mend the data and make it again")
    twice = rows.select("study_id", "sample_id").is_duplicated()
    if twice.any():
        key = rows.filter(twice).select("study_id", "sample_id").row(0)
        raise Refusal(f"{path}: key {key} stands there more than once; mend the data and make it again")
    return rows


def select_rows(rows: pl.DataFrame, max_rows: int | None, seed: int) -> pl.DataFrame:
    """At most `max_rows` rows, drawn by turns from all items so that each keeps some; order kept.

    The draw depends on the seed and the keys, not on the order of the rows.
    """
    if max_rows is None or max_rows >= len(rows):
        return rows
    keys = rows.select(*ITEM, "sample_id").with_row_index("place").sort("study_id", "sample_id")
    drawn = keys.with_columns(draw=np.random.default_rng(seed).random(len(keys)))
    turn = drawn.with_columns(turn=pl.col("draw").rank("ordinal").over(ITEM))
    places = turn.sort("turn", "draw").head(max_rows)["place"].sort()
    return rows[places]


def _predict_all(
    args: argparse.Namespace, rows: pl.DataFrame, settings: Settings, store: Store
) -> tuple[pl.DataFrame, dict[str, Any]]:
    """The predictions of all rows in their order; how many rows an earlier run had done, and tokens paid."""
    # Sorted prompts put rows that begin alike into one shard, where their beginnings are read once.
    order = rows.select("system", "prompt").with_row_index("place").sort("system", "prompt", "place")["place"]
    size = SERVER_SHARD if settings.backend == "server" else SHARD
    shards = [order.slice(start, size) for start in range(0, len(order), size)]
    todo = [number for number, places in enumerate(shards) if not store.has(number, len(places))]
    resumed = len(rows) - sum(len(shards[number]) for number in todo)
    if resumed:
        print(f"going on: {resumed} of {len(rows)} rows were already predicted")
    usage = None
    if todo:
        if settings.backend == "server":
            _show_cost(rows[pl.concat([shards[number] for number in todo])], settings, args.yes)
        predictor = Predictor(args.model, settings)
        with tqdm(total=len(rows), initial=resumed, unit="row", desc=settings.mode, smoothing=0.1) as bar:
            for number in todo:
                store.write(number, predictor.predict(rows[shards[number]]))
                bar.update(len(shards[number]))
        usage = getattr(predictor.generator, "usage", None)
    table = store.read(len(shards))
    return table[order.arg_sort()], {"rows_resumed": resumed, "usage": usage}


def _show_cost(rows: pl.DataFrame, settings: Settings, agreed: bool) -> None:
    """Say what a run on a server takes; one that costs money needs --yes."""
    characters = sum(
        len(text or "") for texts in rows.select("system", "prompt").iter_rows() for text in texts
    )
    cost, sentence = estimate(characters, len(rows), reply_sampling(settings), settings.server)
    print(sentence)
    if cost and not agreed:
        raise Refusal(f"this run costs money ({sentence}); add --yes to go on, or lower --max-rows")


def _described(model: str, rows_path: Path, settings: Settings) -> dict[str, Any]:
    """Everything the predictions depend on; not how fast, how patiently or at what price they are made."""
    folder = Path(model)
    files = (
        sorted(file for pattern in MODEL_FILES for file in folder.glob(pattern)) if folder.is_dir() else []
    )
    return {
        "format": FORMAT,
        "model": [model, *map(file_stamp, files)],
        "rows": file_stamp(rows_path),
        "settings": settings.model_dump(
            include={
                **dict.fromkeys(("mode", "backend", "seed", "max_rows", "sampled", settings.mode), True),
                "local": {"dtype"},
                "server": {"url"},
            }
        ),
    }


def _counts(table: pl.DataFrame) -> dict[str, Any]:
    """What a reader must know before trusting the table. Replies: of rows that weren't computed exactly."""
    replied = table.filter(pl.col("mode") != "exact")
    off_scale = table["off_scale_mass"].drop_nulls().to_numpy()
    return {
        "rows": len(table),
        "rows_by_mode": dict(sorted(table["mode"].value_counts().iter_rows())),
        "rows_without_prediction": int((table["answers"].list.len() == 0).sum()),
        "replies_requested": int(replied["n_requested"].sum()),
        "replies_parsed": int(replied["n_parsed"].sum()),
        "replies_bare": int(replied["n_bare"].sum()),
        "mean_off_scale_mass": float(off_scale.mean(dtype=np.float64)) if len(off_scale) else None,
    }


def _sentence(counts: dict[str, Any]) -> str:
    modes = ", ".join(f"{number:,} {mode}" for mode, number in counts["rows_by_mode"].items())
    parts = [f"{counts['rows']:,} rows ({modes})"]
    if counts["mean_off_scale_mass"] is not None:
        parts.append(f"mean off-scale mass {counts['mean_off_scale_mass']:.4f}")
    if counts["replies_requested"]:
        parts.append(
            f"of {counts['replies_requested']:,} replies {counts['replies_parsed']:,} could be read, "
            f"{counts['replies_bare']:,} were bare"
        )
    if counts["rows_without_prediction"]:
        parts.append(f"{counts['rows_without_prediction']:,} rows have no prediction")
    return "; ".join(parts)


def _versions() -> dict[str, str]:
    names = ("torch", "transformers", "tokenizers", "polars", "numpy")
    return {"python": platform.python_version()} | {name: version(name) for name in names}


if __name__ == "__main__":
    run_cli(main)
