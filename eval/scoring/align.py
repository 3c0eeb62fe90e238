"""What is scored: evaluation rows, and predictions of our own or made elsewhere, checked and aligned.

Nothing wrong passes silently: what can't be scored is refused with the first bad row, or counted.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import polars as pl

from common.errors import Refusal

KEY = ["study_id", "sample_id"]
CELL = ["study_id", "condition_num", "task_num"]
ITEM = [*CELL, "item_num"]
ROW_COLUMNS = [
    *ITEM, "participant", "sample_id", "response", "scale_kind", "scale_low", "scale_high", "scale_step",
    "scale_labels", "demographic",
]  # fmt: skip
SUM_TOLERANCE = 1e-3
MODES = ("exact", "sampled", "verbalised")
KIND_COLUMNS = ("prediction", "draws", "probs")


@dataclass(frozen=True)
class Predictions:
    """Checked predictions of N rows, as lists laid end to end.

    rows: N rows of study_id, sample_id, mode, n_draws (answers sampled; 0 in the other modes) and, where
    known, draws, n_requested, n_parsed, n_bare, off_scale_mass. offsets: int64 (N + 1). answers: int64,
    ascending in a row. probs: float64, adding up to 1 in a row. A failed row has none.
    """

    rows: pl.DataFrame
    offsets: np.ndarray
    answers: np.ndarray
    probs: np.ndarray


@dataclass(frozen=True)
class Aligned:
    """Evaluation rows that have a prediction, sorted by cell, item and person, and that prediction.

    rows: N rows with ROW_COLUMNS, `mode`, `n_draws` and `cell`, `item` (dense indices in sorted order).
    offsets, answers, probs as in `Predictions`. cells, items: one row each, see `group_frame`. counts:
    what was left out and why.
    """

    rows: pl.DataFrame
    offsets: np.ndarray
    answers: np.ndarray
    probs: np.ndarray
    cells: pl.DataFrame
    items: pl.DataFrame
    counts: dict[str, int] = field(default_factory=dict)


def load_rows(path: Path, remedy: str) -> pl.DataFrame:
    """Evaluation rows of `data/README.md`, without the prompts, sorted by cell, item, person and key."""
    if not path.is_file():
        raise Refusal(f"{path} is missing; {remedy}")
    try:
        lazy = pl.scan_parquet(path)
        names = lazy.collect_schema().names()
    except (pl.exceptions.PolarsError, OSError) as error:
        raise Refusal(f"{path} is not a parquet file ({_line(error)}); {remedy}") from None
    absent = [name for name in ROW_COLUMNS if name not in names]
    if absent:
        raise Refusal(f"{path} has no column {', '.join(absent)}; see data/README.md, eval.parquet")
    rows = lazy.select(ROW_COLUMNS).collect().sort(*ITEM, "participant", "sample_id")
    if rows.is_empty():
        raise Refusal(f"{path} holds no rows; {remedy}")
    empty = [name for name in [*ITEM, "participant", "sample_id", "response"] if rows[name].null_count()]
    if empty:
        raise Refusal(f"{path}: column {empty[0]} has empty values; see data/README.md, eval.parquet")
    _refuse_duplicates(rows, path)
    return rows


def load_stimuli(path: Path, level: list[str]) -> pl.DataFrame:
    """The stimulus text of each cell's (or item's) first row: `level` columns and `stimuli`."""
    lazy = pl.scan_parquet(path)
    if "stimuli" not in lazy.collect_schema().names():
        return pl.DataFrame(schema={**dict.fromkeys(level, pl.Int64), "study_id": pl.String})
    first = pl.col("stimuli").sort_by("sample_id").first()
    return lazy.group_by(level).agg(first).collect(engine="streaming").sort(level)


def load_predictions(path: Path, remedy: str) -> Predictions:
    """Read predictions (parquet, or JSON lines if the name ends in .jsonl) and check every row.

    Own files follow the contract of `eval/scoring/README.md`; foreign ones have `prediction`, `answers` with
    `probs`, or `draws`. Raises `Refusal` naming the file, the key and the remedy.
    """
    frame = _read(path, remedy)
    absent = [name for name in KEY if name not in frame.columns]
    if absent or not any(name in frame.columns for name in KIND_COLUMNS):
        raise Refusal(
            f"{path} has columns {', '.join(frame.columns)}; it needs study_id, sample_id and either "
            "prediction, or answers and probs, or draws"
        )
    frame = frame.with_columns(_whole(frame, "sample_id", path), pl.col("study_id").cast(pl.String))
    if frame["study_id"].null_count() or frame["sample_id"].null_count():
        raise Refusal(f"{path} has rows without study_id or sample_id; give every row its key")
    _refuse_duplicates(frame, path)
    if "probs" in frame.columns:
        if "answers" not in frame.columns:
            raise Refusal(f"{path} has probs but no answers; say which answer each probability belongs to")
        row, answers, probs = _from_probabilities(frame, path)
        default = "exact"
    else:
        row, answers, probs, frame = _from_draws(frame, path)
        default = "sampled"
    frame = _with_mode(frame, default, path)
    order = np.lexsort((answers, row))
    row, answers, probs = row[order], answers[order], probs[order]
    same = np.flatnonzero((np.diff(row) == 0) & (np.diff(answers) == 0))
    if len(same):
        raise Refusal(
            f"{path}: {_key(frame, row[same[0]])} lists answer {answers[same[0]]} twice; list it once"
        )
    offsets = np.concatenate([[0], np.cumsum(np.bincount(row, minlength=len(frame)))]).astype(np.int64)
    known = ["draws", "n_requested", "n_parsed", "n_bare", "off_scale_mass"]
    kept = [*KEY, "mode", "n_draws", *(name for name in known if name in frame.columns)]
    return Predictions(frame.select(kept), offsets, answers, probs)


def align(rows: pl.DataFrame, predictions: Predictions, name: str) -> Aligned:
    """Join predictions to evaluation rows by key. Foreign keys are refused; missing rows are counted.

    The observed range of a cell is that of all its evaluation rows, so that it doesn't depend on
    which rows a model managed to predict.
    """
    indexed = predictions.rows.with_row_index("at")
    foreign = indexed.join(rows.select(KEY), on=KEY, how="anti", maintain_order="left")
    if len(foreign):
        raise Refusal(
            f"{name}: {len(foreign)} predictions name no evaluation row, the first is "
            f"{_key(foreign, 0)}; predict the rows of eval.parquet, or give yours with --rows"
        )
    joined = rows.join(
        indexed.select(*KEY, "at", "mode", "n_draws"), on=KEY, how="left", maintain_order="left"
    )
    lengths = np.diff(predictions.offsets)
    at = joined["at"].fill_null(0).to_numpy().astype(np.int64)
    present = joined["at"].is_not_null().to_numpy()
    usable = present & (lengths[at] > 0) if len(lengths) else present
    counts = {
        "evaluation": len(rows),
        "predicted": int(present.sum()),
        "missing": int((~present).sum()),
        "failed": int((present & ~usable).sum()),
        "scored": int(usable.sum()),
    }
    if not usable.any():
        raise Refusal(f"{name}: not one evaluation row has a usable prediction; run `make eval` again")
    kept = joined.filter(usable).drop("at")
    at, sizes = at[usable], lengths[at[usable]]
    offsets = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    entries = np.arange(offsets[-1]) + np.repeat(predictions.offsets[at] - offsets[:-1], sizes)
    kept = kept.with_columns(
        (pl.struct(level) != pl.struct(level).shift()).fill_null(True).cum_sum().cast(pl.Int64).alias(alias)
        - 1
        for level, alias in ((CELL, "cell"), (ITEM, "item"))
    )
    return Aligned(
        kept,
        offsets,
        predictions.answers[entries],
        predictions.probs[entries],
        group_frame(rows, kept, CELL),
        group_frame(rows, kept, ITEM),
        counts,
    )


def restrict(aligned: Aligned, rows: pl.DataFrame, keys: pl.DataFrame) -> Aligned:
    """The same predictions on the rows with these keys only (for comparing models on common rows)."""
    known = Predictions(
        aligned.rows.select(*KEY, "mode", "n_draws"), aligned.offsets, aligned.answers, aligned.probs
    )
    keep = aligned.rows.select(KEY).join(
        keys.with_columns(keep=True), on=KEY, how="left", maintain_order="left"
    )
    kept = keep["keep"].fill_null(False).to_numpy()
    lengths = np.diff(aligned.offsets)
    chosen = np.repeat(kept, lengths)
    offsets = np.concatenate([[0], np.cumsum(lengths[kept])]).astype(np.int64)
    part = Predictions(known.rows.filter(kept), offsets, known.answers[chosen], known.probs[chosen])
    return align(rows, part, "predictions")


def group_frame(rows: pl.DataFrame, scored: pl.DataFrame, level: list[str]) -> pl.DataFrame:
    """One row a cell or item with scored rows, in sorted order: counts, scale and observed range.

    `scale_kind`, `scale_low`, `scale_high` are null where the group's rows state different scales.
    """
    one = {
        name: pl.when(pl.col(name).n_unique() == 1).then(pl.col(name).first())
        for name in ("scale_kind", "scale_low", "scale_high")
    }
    ranges = rows.group_by(level).agg(
        pl.col("response").min().alias("observed_low"),
        pl.col("response").max().alias("observed_high"),
        pl.col("scale_low").is_null().any().alias("unlimited"),
        one["scale_kind"].alias("scale_kind"),
        one["scale_low"].alias("scale_low"),
        one["scale_high"].alias("scale_high"),
    )
    counts = scored.group_by(level).agg(
        pl.len().cast(pl.Int64).alias("rows"), pl.col("participant").n_unique().cast(pl.Int64).alias("people")
    )
    return counts.join(ranges, on=level, how="left").sort(level)


def _read(path: Path, remedy: str) -> pl.DataFrame:
    if not path.is_file():
        raise Refusal(f"{path} is missing; {remedy}")
    try:
        if path.suffix == ".jsonl":
            return pl.read_ndjson(path, infer_schema_length=None)
        if path.suffix == ".parquet":
            return pl.read_parquet(path)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise Refusal(f"{path}{_bad_line(path)} can't be read ({_line(error)}); write it again") from None
    raise Refusal(f"{path}: predictions are a .parquet or a .jsonl file; rename or convert it")


def _bad_line(path: Path) -> str:
    """` line N` of the first line of a .jsonl file that isn't a JSON object, or nothing."""
    if path.suffix == ".jsonl":
        with path.open("rb") as lines:
            for number, line in enumerate(lines, 1):
                try:
                    if not isinstance(json.loads(line), dict):
                        return f" line {number}"
                except ValueError:
                    return f" line {number}"
    return ""


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]


def _key(frame: pl.DataFrame, at: int) -> str:
    study, sample = frame.row(int(at), named=True)["study_id"], frame.row(int(at), named=True)["sample_id"]
    return f"study_id {study} sample_id {sample}"


def _refuse_duplicates(frame: pl.DataFrame, path: Path) -> None:
    twice = frame.select(pl.struct(KEY).is_duplicated()).to_series()
    if twice.any():
        at = twice.arg_true()[0]
        raise Refusal(f"{path}: {_key(frame, at)} stands there more than once; keep one row for each key")


def _whole(frame: pl.DataFrame, name: str, path: Path) -> pl.Series:
    """A column of whole numbers as int64; 3.0 passes, 3.5 and "3" don't."""
    series = frame[name]
    if series.dtype == pl.Null:
        return series.cast(pl.Int64)
    if not series.dtype.is_numeric():
        raise Refusal(f"{path}: column {name} holds {series.dtype}, not whole numbers; write integers")
    if series.dtype.is_float():
        bad = (series.is_not_null() & ((series.round() != series) | ~series.is_finite())).fill_null(False)
        if bad.any():
            at = bad.arg_true()[0]
            raise Refusal(f"{path}: row {at + 1} has {name} {series[at]}, not a whole number; write integers")
    return series.cast(pl.Int64)


def _flatten(frame: pl.DataFrame, name: str, path: Path) -> tuple[np.ndarray, pl.Series]:
    """A list column as (row of each element, elements); null lists are empty."""
    series = frame[name]
    if series.dtype == pl.Null:
        return np.empty(0, np.int64), pl.Series(name, [], pl.Int64)
    if not isinstance(series.dtype, pl.List):
        raise Refusal(f"{path}: column {name} holds {series.dtype}, not lists; see eval/scoring/README.md")
    lengths = series.list.len().fill_null(0).to_numpy().astype(np.int64)
    values = series.filter(lengths > 0).explode()
    row = np.repeat(np.arange(len(series)), lengths)
    if values.null_count():
        at = row[values.is_null().arg_true()[0]]
        raise Refusal(f"{path}: {_key(frame, at)} has an empty value in {name}; fill or drop it")
    return row, values


def _from_probabilities(frame: pl.DataFrame, path: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    row, answers = _flatten(frame, "answers", path)
    row_p, weights = _flatten(frame, "probs", path)
    uneven = np.bincount(row, minlength=len(frame)) != np.bincount(row_p, minlength=len(frame))
    if uneven.any():
        at = int(np.flatnonzero(uneven)[0])
        raise Refusal(f"{path}: {_key(frame, at)} has not as many probs as answers; give one for each")
    if len(weights) and not weights.dtype.is_numeric():
        raise Refusal(f"{path}: column probs holds {weights.dtype}, not numbers; write probabilities")
    probs = weights.cast(pl.Float64).to_numpy()
    wrong = ~np.isfinite(probs) | (probs < 0)
    if wrong.any():
        at = int(np.flatnonzero(wrong)[0])
        raise Refusal(f"{path}: {_key(frame, row[at])} has probability {probs[at]}; give numbers from 0 to 1")
    total = np.bincount(row, probs, minlength=len(frame))
    off = (np.bincount(row, minlength=len(frame)) > 0) & (np.abs(total - 1) > SUM_TOLERANCE)
    if off.any():
        at = int(np.flatnonzero(off)[0])
        raise Refusal(
            f"{path}: the probabilities of {_key(frame, at)} add up to {total[at]:.4g}, not 1; normalise them"
        )
    whole = _whole(pl.DataFrame({"answers": answers}), "answers", path).to_numpy()
    return row, whole, probs / total[row]


def _from_draws(frame: pl.DataFrame, path: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray, pl.DataFrame]:
    """`prediction` or `draws` to empirical shares; the frame gains `draws` lists."""
    if "draws" not in frame.columns:
        single = _whole(frame, "prediction", path)
        frame = frame.with_columns(
            pl.when(single.is_null())
            .then(pl.lit([], pl.List(pl.Int64)))
            .otherwise(single.reshape((-1, 1)).arr.to_list())
            .alias("draws")
        )
    row, values = _flatten(frame, "draws", path)
    whole = _whole(pl.DataFrame({"draws": values}), "draws", path)
    shares = (
        pl.DataFrame({"row": row, "answer": whole})
        .group_by("row", "answer")
        .len()
        .sort("row", "answer")
        .with_columns(share=pl.col("len") / pl.col("len").sum().over("row"))
    )
    return shares["row"].to_numpy(), shares["answer"].to_numpy(), shares["share"].to_numpy(), frame


def _with_mode(frame: pl.DataFrame, default: str, path: Path) -> pl.DataFrame:
    """`mode` (as given, else from the columns) and `n_draws`."""
    if "mode" not in frame.columns:
        frame = frame.with_columns(mode=pl.lit(default))
    unknown = frame.filter(~pl.col("mode").is_in(MODES) | pl.col("mode").is_null())
    if len(unknown):
        raise Refusal(f"{path}: {_key(unknown, 0)} has mode {unknown['mode'][0]}; known: {', '.join(MODES)}")
    drawn = pl.col("draws").list.len().fill_null(0) if "draws" in frame.columns else pl.lit(0)
    n_draws = pl.when(pl.col("mode") == "sampled").then(pl.max_horizontal(drawn, 1)).otherwise(0)
    return frame.with_columns(n_draws=n_draws.cast(pl.Int64))
