"""Predictions joined to the evaluation rows that they are of: what everything else scores."""

from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from common.contract import CELL, ITEM, KEY
from common.errors import Refusal
from common.readers import read_columns
from eval.rows import SCORED, check_rows, read_rows
from eval.scoring.predictions import Predictions, key_text
from eval.scoring.ragged import Ragged

OPTIONAL = {"off_scale": pl.Boolean, "weight": pl.Float64}
SCALE = ("scale_kind", "scale_low", "scale_high")


@dataclass(frozen=True)
class Evaluated:
    """Evaluation rows that have a prediction, sorted by cell, item and person, and their predictions.

    everyone: all evaluation rows. rows: the N that are scored, with `mode`, `n_draws`, `weight` and `cell`,
    `item` (dense indices in sorted order). predicted: their N distributions. cells, items: one row each, see
    `group_frame`. counts: rows by what became of them. texts: the stimulus of each item, where it is known.
    """

    name: str
    everyone: pl.DataFrame
    rows: pl.DataFrame
    predicted: Ragged
    cells: pl.DataFrame
    items: pl.DataFrame
    counts: dict[str, int] = field(default_factory=dict)
    texts: pl.DataFrame | None = None


def read_scored(rows: pl.DataFrame | str | Path) -> pl.DataFrame:
    """Evaluation rows without their texts, checked; with the columns of OPTIONAL that they have."""
    if isinstance(rows, pl.DataFrame):
        extra = [name for name in OPTIONAL if name in rows.columns]
        return check_rows(rows, SCORED).hstack(rows.select(extra))
    return read_rows(rows, SCORED).hstack(read_columns(rows, "run `make data` again", OPTIONAL))


def item_texts(rows: pl.DataFrame | str | Path) -> pl.DataFrame | None:
    """The stimulus text of each item's first row: ITEM and `stimuli`; None where rows don't have it."""
    table = rows.lazy() if isinstance(rows, pl.DataFrame) else pl.scan_parquet(rows)
    if "stimuli" not in table.collect_schema().names():
        return None
    first = pl.col("stimuli").sort_by("sample_id").first()
    return table.group_by(ITEM).agg(first).collect(engine="streaming").sort(ITEM)


def sorted_rows(rows: pl.DataFrame) -> pl.DataFrame:
    """Evaluation rows sorted by cell, item, person and key, with the columns of OPTIONAL that they lack.

    `weight` is 1 where there are no survey weights. Raises `Refusal` for weights that aren't numbers from 0.
    """
    absent = [pl.lit(None, dtype).alias(name) for name, dtype in OPTIONAL.items() if name not in rows.columns]
    rows = rows.with_columns(absent)
    weight = rows["weight"]
    if weight.null_count() == len(rows):
        weight = pl.repeat(1.0, len(rows), eager=True).alias("weight")
    if not weight.dtype.is_numeric():
        raise Refusal(
            f"column weight holds {weight.dtype}, not numbers; give survey weights, or leave it out"
        )
    weight = weight.cast(pl.Float64)
    wrong = (weight.is_null() | ~weight.is_finite() | (weight < 0)).fill_null(True)
    if wrong.any():
        at = wrong.arg_true()[0]
        raise Refusal(f"{key_text(rows, at)} has weight {weight[at]}; give every row a number from 0")
    if not weight.sum() > 0:
        raise Refusal("every row has weight 0; give survey weights, or leave the column out")
    return rows.with_columns(weight).sort(*ITEM, "participant", "sample_id")


def align(
    rows: pl.DataFrame, predictions: Predictions, name: str, texts: pl.DataFrame | None = None
) -> Evaluated:
    """Join predictions to evaluation rows by key. Foreign keys are refused; missing rows are counted.

    The observed range of a cell is that of all its evaluation rows, so that it doesn't depend on
    which rows a model managed to predict.
    """
    rows = sorted_rows(rows)
    key = predictions.key
    indexed = predictions.rows.with_columns(at=pl.int_range(pl.len(), dtype=pl.Int64))
    foreign = indexed.join(rows.select(key), on=key, how="anti", maintain_order="left")
    if len(foreign):
        what = "row" if key == KEY else "cell"
        raise Refusal(
            f"{name}: {len(foreign)} predictions name no evaluation {what}, the first is "
            f"{key_text(foreign, 0, key)}; predict the rows of eval.parquet, or give yours with --rows"
        )
    matches = rows.select(key).join(
        indexed.select(*key, "at", "mode", "n_draws"), on=key, how="left", maintain_order="left"
    )
    joined = rows.with_columns(matches["at"], matches["mode"], matches["n_draws"])
    at = joined["at"].fill_null(0).to_numpy()
    present = joined["at"].is_not_null().to_numpy()
    usable = present & (predictions.predicted.lengths[at] > 0) if len(predictions.rows) else present
    counts = {
        "evaluation": len(rows),
        "predicted": int(present.sum()),
        "missing": int((~present).sum()),
        "failed": int((present & ~usable).sum()),
        "scored": int(usable.sum()),
    }
    if not usable.any():
        raise Refusal(f"{name}: not one evaluation row has a usable prediction; run `make eval` again")
    scored = (joined if usable.all() else joined.filter(usable)).drop("at").with_columns(
        (pl.struct(level) != pl.struct(level).shift()).fill_null(True).cum_sum().cast(pl.Int64).alias(alias)
        - 1
        for level, alias in ((CELL, "cell"), (ITEM, "item"))
    )  # fmt: skip
    predicted = predictions.predicted.take(at[usable])
    cells, items = (group_frame(rows, scored, level) for level in (CELL, ITEM))
    return Evaluated(name, rows, scored, predicted, cells, items, counts, texts)


def of_rows(evaluated: Evaluated) -> Predictions:
    """The predictions of the scored rows, one a row also where they were given for whole cells."""
    return Predictions(evaluated.rows.select(*KEY, "mode", "n_draws"), evaluated.predicted)


def restrict(evaluated: Evaluated, keys: pl.DataFrame) -> Evaluated:
    """The same predictions on the rows with these keys only (for comparing models on common rows)."""
    at = evaluated.rows.select(KEY).with_columns(at=pl.int_range(pl.len(), dtype=pl.Int64))
    chosen = at.join(keys, on=KEY, how="semi", maintain_order="left")["at"].to_numpy()
    whole = of_rows(evaluated)
    part = Predictions(whole.rows[chosen], whole.predicted.take(chosen))
    return align(evaluated.everyone, part, evaluated.name, evaluated.texts)


def group_frame(rows: pl.DataFrame, scored: pl.DataFrame, level: list[str]) -> pl.DataFrame:
    """One row a cell or item with scored rows, in sorted order: counts, mode, scale and observed range.

    `scale_kind`, `scale_low`, `scale_high` are null where the group's rows state different scales; `mode` is
    "mixed" where they were predicted in different ways.
    """
    one = {name: pl.when(pl.col(name).n_unique() == 1).then(pl.col(name).first()) for name in SCALE}
    ranges = rows.group_by(level).agg(
        pl.col("response").min().alias("observed_low"),
        pl.col("response").max().alias("observed_high"),
        pl.col("scale_low").is_null().any().alias("unlimited"),
        *(same.alias(name) for name, same in one.items()),
    )
    same_mode = (
        pl.when(pl.col("mode").n_unique() == 1).then(pl.col("mode").first()).otherwise(pl.lit("mixed"))
    )
    counts = scored.group_by(level).agg(
        pl.len().cast(pl.Int64).alias("rows"),
        pl.col("participant").n_unique().cast(pl.Int64).alias("people"),
        same_mode.alias("mode"),
    )
    return counts.join(ranges, on=level, how="left").sort(level)
