"""The report's figures as frames and CSV files, one tidy table a question: what papers and R read."""

from collections.abc import Callable, Iterator
from pathlib import Path

import polars as pl

from common.tables import BROOM, write_csv
from eval.reporting.results import MAIN, Results, leaders
from eval.reporting.words import Json
from eval.scoring import glossary
from eval.scoring.record import Estimate, Group

LISTS = ("answers", "human_counts", "predicted_probs", "stimuli")


def tables(results: Results) -> dict[str, pl.DataFrame]:
    """Every table, by its name."""
    frames = {
        name: pl.DataFrame(list(rows(results)), infer_schema_length=None) for name, rows in TABLES.items()
    }
    return frames | {"contrasts": _named(results, _stacked(results, "contrasts")), "cells": _cells(results)}


def write_tables(frames: dict[str, pl.DataFrame], folder: Path) -> None:
    """Write every table into `folder`, and codebook.csv, which says what each column means."""
    for name, frame in frames.items():
        write_csv(frame, folder / f"{name}.csv")
    write_csv(codebook(frames), folder / "codebook.csv")


def codebook(frames: dict[str, pl.DataFrame]) -> pl.DataFrame:
    """What every column of every table means: table, column, type, meaning."""
    rows = [
        (name, BROOM.get(column, column), str(dtype), _meaning(name, column))
        for name, frame in frames.items()
        for column, dtype in frame.schema.items()
    ]
    return pl.DataFrame(rows, schema=["table", "column", "type", "meaning"], orient="row")


def _meaning(table: str, column: str) -> str:
    term = glossary.METRICS.get(column)
    return COLUMNS.get(f"{table}.{column}") or COLUMNS.get(column) or (term.name if term else "")


def _estimate(estimate: Estimate | None) -> Json:
    estimate = estimate or Estimate(value=None)
    return {
        "estimate": estimate.value,
        "conf_low": estimate.low,
        "conf_high": estimate.high,
        "conf_low_people": estimate.low_people,
        "conf_high_people": estimate.high_people,
        "studies": estimate.studies,
        "cells": estimate.cells,
        "dropped": estimate.dropped,
        "reason": estimate.reason,
    }


def _leaders(results: Results) -> Iterator[Json]:
    for row in leaders(results)[0]:
        about = {"name": row.name, "kind": row.kind, "mode": row.mode}
        for metric, estimate in row.metrics.items():
            yield {**about, "metric": metric, "skill": None} | _estimate(estimate)
        for metric, skill in row.skill.items():
            for kind, estimate in skill:
                yield {**about, "metric": metric, "skill": kind} | _estimate(estimate)


def _differences(results: Results) -> Iterator[Json]:
    for one in results.comparison.differences if results.comparison else ():
        about = {"a": one.a, "b": one.b, "metric": one.metric, "of": one.of}
        judged = {"p_value": one.p, "smallest_p": one.smallest_p, "p_bootstrap": one.p_bootstrap}
        judged |= {"p_holm": one.p_holm, "p_equivalent": one.p_equivalent, "margin": one.margin}
        yield about | _estimate(one) | judged


def _studies(results: Results) -> Iterator[Json]:
    for name, scores in results.scores.items():
        for study, one in scores.studies.items():
            about = {"name": name, "study_id": study, "rows": one.rows, "cells": one.cells}
            metrics, skills = (one.metrics, one.people), (one.skill, one.skill_people)
            for skill, (values, people) in ((False, metrics), (True, skills)):
                for metric, value in values.items():
                    low, high = people.get(metric) or (None, None)
                    yield about | {
                        "metric": metric,
                        "skill": skill,
                        "estimate": value,
                        "conf_low_people": low,
                        "conf_high_people": high,
                    }


def _effects(results: Results) -> Iterator[Json]:
    for name, scores in results.scores.items():
        if scores.effects:
            for who in ("model", "half_sample"):
                for statistic, estimate in getattr(scores.effects, who).items():
                    yield {"name": name, "predictor": who, "statistic": statistic} | _estimate(estimate)


def _calibration(results: Results) -> Iterator[Json]:
    for name, scores in results.scores.items():
        for one in scores.calibration.bins:
            yield {"name": name} | one.model_dump()


def _subgroups(results: Results) -> Iterator[Json]:
    for name, field, group in _groups(results):
        about = {"name": name, "field": field, "group": group.group, "rows": group.rows}
        for metric, value in group:
            if isinstance(value, Estimate):
                yield about | {"metric": metric} | _estimate(value)


def _groups(results: Results) -> Iterator[tuple[str, str, Group]]:
    for name, scores in results.scores.items():
        for field, one in scores.subgroups.fields.items() if scores.subgroups else ():
            for group in one.groups:
                yield name, field, group


def _parity(results: Results) -> Iterator[Json]:
    for name, scores in results.scores.items():
        for field, one in scores.subgroups.fields.items() if scores.subgroups else ():
            for kind in ("parity_accuracy", "parity_prediction", "parity_prediction_human"):
                gap = getattr(one, kind)
                about = {"name": name, "field": field, "parity": kind}
                ends = {"highest": gap.highest, "lowest": gap.lowest}
                yield about | _estimate(gap) | ends | {"by_chance": gap.by_chance, "p_gap": gap.p}
        if scores.subgroups:
            mean = scores.subgroups.demographic_parity_difference
            over_fields: Json = {"name": name, "field": None, "parity": "demographic_parity_difference"}
            nobody = {"highest": None, "lowest": None}
            yield over_fields | _estimate(mean) | nobody | {"by_chance": mean.by_chance, "p_gap": mean.p}


def _interactions(results: Results) -> Iterator[Json]:
    for name, scores in results.scores.items():
        for field, one in scores.subgroups.interactions.items() if scores.subgroups else ():
            about = {"name": name, "field": field, "contrasts": one.contrasts}
            for statistic, value in one:
                if isinstance(value, Estimate):
                    yield about | {"statistic": statistic} | _estimate(value)


def _pit(results: Results) -> Iterator[Json]:
    for name, scores in results.scores.items():
        parts = len(scores.calibration.pit)
        for at, share in enumerate(scores.calibration.pit):
            yield {"name": name, "low": at / parts, "high": (at + 1) / parts, "share": share}


def _problems(results: Results) -> Iterator[Json]:
    for name, scores in results.scores.items():
        for kind, counts in (("rows", scores.row_counts), ("parsing", scores.parsing)):
            for what, number in counts:
                yield {"name": name, "of": kind, "what": what, "number": number}
        for reason, number in scores.cell_counts.left_out.items():
            yield {"name": name, "of": "cells left out", "what": reason, "number": number}


def _losses(results: Results) -> Iterator[Json]:
    for (model, stage), run in results.runs.items():
        for entry in run.losses:
            if "loss" in entry or "eval_loss" in entry:
                losses = {key: entry.get(key) for key in ("step", "loss", "eval_loss")}
                yield {"model": model, "stage": stage} | losses


def _stacked(results: Results, name: str) -> pl.DataFrame:
    """One table of all models, with their names in front."""
    frames = [
        frame.select(pl.lit(model).alias("name"), pl.all())
        for model, scores in results.scores.items()
        if len(frame := getattr(scores, name))
    ]
    return pl.concat(frames, how="diagonal_relaxed") if frames else pl.DataFrame()


def _named(results: Results, frame: pl.DataFrame) -> pl.DataFrame:
    """The table with the names of arms and outcomes behind their numbers, where the data set has names."""
    if not results.names.studies or frame.is_empty():
        return frame
    columns = {"outcome": "task_num", "arm": "condition_num", "arm_a": "condition_a", "arm_b": "condition_b"}
    for new, number in columns.items():
        if number in frame.columns:
            name = results.outcome if number == "task_num" else results.arm
            rows = frame.select("study_id", number).iter_rows()
            frame = frame.with_columns(pl.Series(new, [name(*row) for row in rows], dtype=pl.String))
    return frame


def _cells(results: Results) -> pl.DataFrame:
    """All cells of all models without their texts and distributions (those are in cells.parquet)."""
    cells = _stacked(results, "cells").drop(LISTS, strict=False)
    width = pl.col("observed_high") - pl.col("observed_low")
    cells = cells.with_columns((pl.col(MAIN) * width).alias("wasserstein_points"))
    return _named(results, cells).sort("name", MAIN, descending=[False, True], nulls_last=True)


TABLES: dict[str, Callable[[Results], Iterator[Json]]] = {
    "leaders": _leaders,
    "differences": _differences,
    "studies": _studies,
    "effects": _effects,
    "calibration": _calibration,
    "pit": _pit,
    "subgroups": _subgroups,
    "interactions": _interactions,
    "parity": _parity,
    "problems": _problems,
    "losses": _losses,
}
COLUMNS = {
    "name": "the model (in leaders also a control or ceiling)",
    "kind": "model, control or ceiling",
    "mode": "how answers were predicted: exact, sampled, verbalised or mixed",
    "metric": "which figure it is; see the definitions at the end of the report",
    "skill": "raw, corrected or corrected_human where the figure is a skill, else empty",
    "studies.skill": "true where the figure is a corrected skill, not the metric itself",
    "estimate": "the figure: the mean over studies of the mean over a study's cells",
    "differences.estimate": "a's figure minus b's, paired by cell and study",
    "conf_low": "lower end of the 95% interval over studies",
    "conf_high": "upper end of the 95% interval over studies",
    "conf_low_people": "lower end of the 95% interval over people in these studies",
    "conf_high_people": "upper end of the 95% interval over people in these studies",
    "studies": "studies that the figure stands on",
    "cells": "cells that the figure stands on",
    "reason": "why a figure or its interval is missing",
    "a": "one of the two predictors",
    "b": "the other predictor",
    "p_value": "of no difference, by flipping the signs of studies' differences: assumes symmetry",
    "smallest_p": "the smallest p.value that so many studies can give",
    "p_bootstrap": "of no difference, by a studentised bootstrap of studies, which assumes no symmetry",
    "p_equivalent": "of a difference of `margin` or more, by two one-sided t-tests over studies",
    "margin": "a smaller difference counts as none in p_equivalent",
    "p_holm": "p_bootstrap corrected for the number of comparisons (Holm); of the primary metric only",
    "differences.of": "score, or excess: each over its own ceiling, as the two were asked in different ways",
    "dropped": "resamples that gave no value (of a ratio whose denominator wasn't positive)",
    "by_chance": "the gap to expect if no group differed",
    "p_gap": "how often the gap would be as large if no group differed",
    "interactions.contrasts": "differences of a group's effect from that of all others",
    "pit.low": "from here of the predicted distribution",
    "pit.high": "to here",
    "pit.share": "share of people's answers there; equal everywhere if the distributions are right",
    "study_id": "the study",
    "rows": "answers of people",
    "predictor": "model, or half_sample: one half of the people predicting the other",
    "statistic": "which figure of treatment effects; see the definitions at the end of the report",
    "low": "lower end of the bin of confidence",
    "high": "upper end of the bin of confidence",
    "count": "rows in the bin",
    "confidence": "mean probability of the most probable answer in the bin",
    "frequency": "how often that answer came",
    "field": "demographic field",
    "group": "its value",
    "parity": "gap in accuracy, in the predicted mean, or in people's mean",
    "highest": "the group with the highest figure",
    "lowest": "the group with the lowest figure",
    "of": "what is counted: rows, replies (parsing) or cells left out",
    "what": "what became of them",
    "number": "how many",
    "model": "the recipe's name",
    "stage": "folder of the training run",
    "step": "optimiser step",
    "loss": "training loss",
    "eval_loss": "validation loss",
    "outcome": "name of the outcome, where the data set has names",
    "arm": "name of the arm",
    "arm_a": "name of the first arm",
    "arm_b": "name of the second arm",
    "task_num": "number of the outcome",
    "condition_num": "number of the arm",
    "condition_a": "number of the first arm",
    "condition_b": "number of the second arm",
    "observed": "people's mean in arm b minus that in arm a",
    "predicted": "predicted mean in arm b minus that in arm a",
    "observed_se": "standard error of observed",
    "predicted_se": "standard error of predicted, from the people who were asked",
    "difference_se": "standard error of observed minus predicted",
    "option": "the option whose share of people is compared, of a choice; empty of ordered answers",
    "df": "degrees of freedom of observed_se",
    "difference_df": "degrees of freedom of difference_se",
    "arms_in_training": "how many of the two arms have training answers",
    "sd": "standard deviation of people's answers to the outcome",
    "width": "width of the outcome's observed range",
    "z": "observed / observed_se",
    "observed_std": "observed / sd",
    "predicted_std": "predicted / sd",
    "clear": "whether observed is as unlikely by chance as 3 standard errors of a normal distribution",
    "people": "distinct participants",
    "scale_kind": "kind of the answer scale; empty where a cell's items differ or state none",
    "scale_low": "lowest answer of the stated scale",
    "scale_high": "highest answer of the stated scale",
    "observed_low": "smallest answer of people in the cell",
    "observed_high": "largest answer of people in the cell",
    "human_mean": "mean of people's answers",
    "human_sd": "standard deviation of people's answers",
    "predicted_mean": "mean of predicted answers, clipped to the observed range",
    "predicted_sd": "their standard deviation",
    "draws_per_row": "answers sampled for each row; empty in other modes",
    "wasserstein_points": "wasserstein_observed in points of the cell's answer scale",
    "wasserstein_observed_low": "lower end of the 95% interval over people",
    "wasserstein_observed_high": "upper end of the 95% interval over people",
}
