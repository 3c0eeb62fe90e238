"""Predictions that need no model: what a score must beat before it means anything.

Every control gives one answer distribution to everybody of a cell. An *oracle* has seen the cell's own
answers; the others have not. All but the uniform ones are blind to the condition.

uniform_observed, uniform_stated   every answer of the observed (stated) range equally likely
pooled_others                      people's answers to the same outcome in the study's other conditions,
                                   training rows included
pooled_oracle                      the same with this cell's own answers; not where no other condition is
other_outcomes                     people's answers to the study's other outcomes with the same scale
training_marginal                  training answers of the study with the same scale; of a study without
                                   training rows, those of all studies with the same scale
most_frequent_others               the most frequent answer of pooled_others (the lowest of several)
most_frequent_oracle               the most frequent answer of the cell itself
"""

from pathlib import Path
from typing import Any

import polars as pl

from common.contract import CELL, TRAIN_COUNTS
from common.errors import Refusal
from common.scale import MAX_ANSWERS
from eval.scoring.ragged import Ragged, ragged

CONTROLS = (
    "uniform_observed",
    "uniform_stated",
    "pooled_others",
    "pooled_oracle",
    "other_outcomes",
    "training_marginal",
    "most_frequent_others",
    "most_frequent_oracle",
)
SCALE = ["scale_low", "scale_high"]
TRAIN_COLUMNS = [*CELL, *SCALE, "response", "count"]


def controls(rows: pl.DataFrame, cells: pl.DataFrame, train: pl.DataFrame | None) -> dict[str, Ragged]:
    """All controls for the C rows of `cells` (see `align.group_frame`), from evaluation rows with `weight`.

    train: `train_counts.parquet` of data/README.md; None leaves `training_marginal` empty. A cell without
    such a control has no answers in it.
    """
    keyed = cells.with_row_index("cell").select(pl.col("cell").cast(pl.Int64), *CELL, *SCALE)
    per_cell = rows.group_by(*CELL, "response").agg(pl.col("weight").sum())
    answered = keyed.join(per_cell, on=CELL).select("cell", "response", "weight")
    train = _no_train() if train is None else train
    everyone = pl.concat([per_cell, train.select(per_cell.columns)])
    pooled = keyed.join(_sums(everyone, ["study_id", "task_num"]), on=["study_id", "task_num"])
    of_cell = keyed.join(_sums(everyone, CELL), on=CELL)
    others = _minus(pooled, of_cell)
    pooled = pooled.join(others, on="cell", how="semi").select("cell", "response", "weight")
    answers = {
        "uniform_observed": _uniform_observed(rows, keyed, cells),
        "uniform_stated": _uniform_stated(rows, keyed),
        "pooled_others": others,
        "pooled_oracle": pooled,
        "other_outcomes": _other_outcomes(rows, keyed),
        "training_marginal": _training(keyed, train),
        "most_frequent_others": _most_frequent(others),
        "most_frequent_oracle": _most_frequent(answered),
    }
    return {name: _lay_out(answers[name], len(cells)) for name in CONTROLS}


def _sums(counts: pl.DataFrame, keys: list[str]) -> pl.DataFrame:
    return counts.group_by(*keys, "response").agg(pl.col("weight").sum())


def _minus(all_answers: pl.DataFrame, without: pl.DataFrame) -> pl.DataFrame:
    left = all_answers.join(without, on=["cell", "response"], how="left", suffix="_less")
    less = left.with_columns(pl.col("weight") - pl.col("weight_less").fill_null(0)).filter(
        pl.col("weight") > 1e-9
    )
    return less.select("cell", "response", "weight")


def _uniform_observed(rows: pl.DataFrame, keyed: pl.DataFrame, cells: pl.DataFrame) -> pl.DataFrame:
    """Whole numbers from the smallest to the largest human answer, in the scale's steps."""
    steps = rows.group_by(CELL).agg(pl.col("scale_step").min().fill_null(1).alias("step"))
    ranges = keyed.join(cells.select(*CELL, "observed_low", "observed_high"), on=CELL).join(steps, on=CELL)
    return _grid(
        ranges.select(
            "cell", pl.col("observed_low").alias("low"), pl.col("observed_high").alias("high"), "step"
        )
    )


def _uniform_stated(rows: pl.DataFrame, keyed: pl.DataFrame) -> pl.DataFrame:
    """Every admissible answer of the stated scale: the labelled ones of a choice, else the whole range."""
    first = pl.col("scale_step").first().fill_null(1).alias("step"), pl.col("scale_labels").first()
    kind = pl.when(pl.col("scale_kind").n_unique() == 1).then(pl.col("scale_kind").first()).alias("kind")
    scales = keyed.filter(pl.col("scale_low").is_not_null()).join(
        rows.group_by(CELL).agg(*first, kind), on=CELL
    )
    listed = (pl.col("kind") == "choice").fill_null(False) & (
        pl.col("scale_labels").list.len().fill_null(0) > 0
    )
    labelled = scales.filter(listed).select("cell", "scale_labels").explode("scale_labels")
    choices = labelled.select(
        "cell", pl.col("scale_labels").struct.field("value").alias("response"), weight=pl.lit(1.0)
    )
    ranged = scales.filter(~listed)
    ranges = _grid(
        ranged.select("cell", pl.col("scale_low").alias("low"), pl.col("scale_high").alias("high"), "step")
    )
    return pl.concat([choices.cast(ranges.schema), ranges])


def _grid(ranges: pl.DataFrame) -> pl.DataFrame:
    """Answers low, low + step, ... high of each cell; of a very wide range evenly spaced ones."""
    step = pl.max_horizontal("step", (pl.col("high") - pl.col("low")) // MAX_ANSWERS, pl.lit(1)).cast(
        pl.Int64
    )
    answers = pl.int_ranges("low", pl.col("high") + 1, step, dtype=pl.Int64).alias("response")
    return ranges.select("cell", answers).explode("response").with_columns(weight=pl.lit(1.0))


def _other_outcomes(rows: pl.DataFrame, keyed: pl.DataFrame) -> pl.DataFrame:
    per_outcome = rows.filter(pl.col("scale_low").is_not_null()).group_by(
        "study_id", "task_num", *SCALE, "response"
    )
    counts = per_outcome.agg(pl.col("weight").sum())
    same_scale = keyed.join(_sums(counts, ["study_id", *SCALE]), on=["study_id", *SCALE])
    of_outcome = keyed.join(counts, on=["study_id", "task_num", *SCALE])
    return _minus(
        same_scale.select("cell", "response", "weight"), of_outcome.select("cell", "response", "weight")
    )


def read_train(path: Path) -> pl.DataFrame | None:
    """train_counts.parquet, None without a file."""
    if not path.is_file():
        return None
    try:
        return check_train(pl.read_parquet(path), str(path))
    except (pl.exceptions.PolarsError, OSError) as error:
        raise Refusal(
            f"{path} can't be read ({str(error).splitlines()[0]}); make the data set again"
        ) from None


def check_train(train: pl.DataFrame, where: str = "train_counts") -> pl.DataFrame:
    """Training counts as `controls` needs them: TRAIN_COLUMNS, with `count` as `weight`."""
    if absent := [name for name in TRAIN_COLUMNS if name not in train.columns]:
        raise Refusal(f"{where} has no column {', '.join(absent)}; see data/README.md, train_counts.parquet")
    schema: dict[Any, Any] = {name: TRAIN_COUNTS[name] for name in TRAIN_COLUMNS}
    cast = train.select(TRAIN_COLUMNS).cast(schema)
    return cast.with_columns(pl.col("count").cast(pl.Float64)).rename({"count": "weight"})


def _no_train() -> pl.DataFrame:
    return check_train(pl.DataFrame(schema=TRAIN_COUNTS))


def _training(keyed: pl.DataFrame, train: pl.DataFrame) -> pl.DataFrame:
    train = train.filter(pl.col("scale_low").is_not_null())
    of_study = keyed.join(_sums(train, ["study_id", *SCALE]), on=["study_id", *SCALE])
    rest = keyed.join(of_study.select("cell").unique(), on="cell", how="anti")
    anywhere = rest.join(_sums(train, SCALE), on=SCALE)
    return pl.concat([part.select("cell", "response", "weight") for part in (of_study, anywhere)])


def _most_frequent(counts: pl.DataFrame) -> pl.DataFrame:
    ranked = counts.sort("cell", "weight", "response", descending=[False, True, False])
    return ranked.group_by("cell", maintain_order=True).first()


def _lay_out(entries: pl.DataFrame, cells: int) -> Ragged:
    return ragged(
        entries["cell"].to_numpy(), entries["response"].to_numpy(), entries["weight"].to_numpy(), cells
    )
