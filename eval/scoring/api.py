"""Score predictions: how near the predicted answer distributions come to people's, and how sure that is.

    from eval.scoring import score, compare

    sft = score("data/sample/study/eval.parquet", "answers.csv", name="sft")
    print(sft)
    print(compare({"sft": sft, "dpo": dpo}))

With `folder=` scores are kept there and what is up to date isn't computed again; eval/scoring/README.md says
what is written and what every figure means.
"""

import platform
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import polars as pl
from tqdm import tqdm

from common.contract import CELL, ITEM, KEY, write_record
from common.errors import Refusal
from common.files import atomic_path, fingerprint, sha256_file
from common.progress import bar_file
from common.readers import read_json
from common.step import Step, describe, unchanged
from eval.scoring.align import Evaluated, align, item_texts, read_scored, restrict
from eval.scoring.comparison import comparison_table, differences
from eval.scoring.controls import check_train, read_train
from eval.scoring.model import Work, cell_scores, other_scores, work_on
from eval.scoring.predictions import check_predictions, load_predictions
from eval.scoring.record import (
    COMPARISON,
    SCORES,
    Comparison,
    Parsing,
    Scores,
    read_comparison,
    read_scores,
)
from eval.settings import Settings

FORMAT = 5  # raised when the same inputs would give other scores than before
STEPS = 4
APART = 0.5  # a model that predicts a smaller share of the rows than this is compared apart
LIBRARIES = ("numpy", "scipy", "numba", "polars", "statsmodels")
Table = pl.DataFrame | str | Path


def score(
    rows: Table,
    predictions: Table,
    *,
    name: str | None = None,
    train_counts: Table | None = None,
    settings: Settings | None = None,
    folder: str | Path | None = None,
) -> Scores:
    """Score one model's predictions on evaluation rows.

    rows: `eval.parquet`, or a frame with its columns (data/README.md), `weight` for survey weights among
    them. predictions: a file or a frame in one of the forms of eval/scoring/README.md. name: default, the
    file's (its folder's, of a predictions.parquet). train_counts: for the controls; default, the file beside
    `rows`. folder: where to keep the scores; a folder whose scores are up to date is read instead.

    Raises `Refusal` for rows or predictions that can't be scored, naming the first bad one.
    """
    settings = settings or Settings()
    name = name or _name_of(predictions)
    train = _train_of(rows, train_counts)
    if folder is None:
        return _score(rows, predictions, name, train, settings)
    folder = Path(folder)
    _refuse_stale(rows, predictions)
    inputs = fingerprint(_depends_on(rows, predictions, train, settings, name))
    with Step(folder / SCORES, inputs) as step:
        if step.done:
            earlier = read_scores(folder)
            earlier._work = lambda: _work(_evaluated(rows, predictions, name), train, settings)
            return earlier
        scores = _score(rows, predictions, name, train, settings)
        step.begin()
        return _write(folder, scores.model_copy(update={"inputs": inputs, **_where(folder)}))


def _score(
    rows: Table, predictions: Table, name: str, train: pl.DataFrame | None, settings: Settings
) -> Scores:
    evaluated = _evaluated(rows, predictions, name)
    with tqdm(total=STEPS, desc=name, unit="step", file=bar_file()) as progress:

        def say(what: str) -> None:
            progress.set_postfix_str(what, refresh=False)
            progress.update()

        work = _work(evaluated, train, settings, say)
        parts = cell_scores(work)
        say("items, treatment effects, subgroups")
        others, frames = other_scores(work)
    scores = Scores(
        **parts, **others, foreign=True, settings=_settings(settings), versions=_versions(),
        parsing=_parsing(predictions),
    )  # fmt: skip
    frames |= {
        level: _with_texts(frames[level], evaluated, keys)
        for level, keys in (("cells", CELL), ("items", ITEM))
    }
    scores._frames = frames
    scores._work = lambda: work
    return scores


def _refuse_stale(rows: Table, predictions: Table) -> None:
    """Refuse predictions that were changed by hand, or whose evaluation rows were, after they were made."""
    path = Path(predictions).with_suffix(".json") if isinstance(predictions, str | Path) else None
    if path is None or path.name != "predictions.json" or not path.is_file():
        return
    record = read_json(path, f"remove {path} and predict again")
    recorded = (record.get("depends_on") or {}).get("rows", {}).get("file_sha256")
    if recorded and isinstance(rows, str | Path) and Path(rows).is_file() and sha256_file(rows) != recorded:
        raise Refusal(f"{rows} is not the file that {predictions} was made from; run `make eval` again")
    for name, file in (record.get("files") or {}).items():
        if (path.parent / name).is_file() and not unchanged(path.parent / name, file):
            raise Refusal(f"{path.parent / name} was changed after it was written; run `make eval` again")


def compare(models: Mapping[str, Scores], *, folder: str | Path | None = None) -> Comparison:
    """Compare models on the rows that all of them predict: table, differences, p-values.

    models: scores that `score` returned, by name. A model that predicts less than half as many rows as
    another is left out and named in `apart`. folder: where to keep comparison.json; one that is up to date is
    read.

    Raises `Refusal` for scores that were read from a folder, and for models without a common row.
    """
    if not models:
        raise Refusal("nothing to compare; give at least one model's scores")
    if folder is None:
        return _compare(models)
    inputs = fingerprint({name: [one.inputs, FORMAT] for name, one in models.items()})
    with Step(Path(folder) / COMPARISON, inputs) as step:
        if step.done:
            comparison = read_comparison(folder)
            comparison._nothing_to_do = all(one._read for one in models.values())
            return comparison
        comparison = _compare(models).model_copy(update={"inputs": inputs})
        write_record(step.record, comparison)
        return comparison


def _compare(models: Mapping[str, Scores]) -> Comparison:
    most = max(one.row_counts.scored for one in models.values())
    apart = {
        name: one.row_counts.scored for name, one in models.items() if one.row_counts.scored < APART * most
    }
    works = {name: _work_of(name, one) for name, one in models.items() if name not in apart}
    works, limited_by = _on_common_rows(works)
    scored = {name: _scores_of(work, models[name]) for name, work in works.items()}
    one = next(iter(works.values()))
    first = next(iter(models.values()))
    return Comparison(
        dataset=first.dataset, split=first.split, settings=first.settings,
        rows=one.evaluated.counts["scored"], limited_by=limited_by, apart=apart,
        studies=len(one.studies.names), cells=len(one.cells.frame), table=comparison_table(scored),
        differences=differences(scored, works),
    )  # fmt: skip


def _work(
    evaluated: Evaluated, train: pl.DataFrame | None, settings: Settings, say: Any = lambda _: None
) -> Work:
    return work_on(evaluated, train, settings.score, settings.seed, say)


def _work_of(name: str, scores: Scores) -> Work:
    if scores._work is None:
        raise Refusal(
            f"the scores of {name} were read from a folder, without rows; call score() with them instead"
        )
    work: Work = scores._work()
    return work


def _on_common_rows(works: dict[str, Work]) -> tuple[dict[str, Work], dict[str, int]]:
    """The models' work on their common rows, done again only where some lack rows that others have."""
    keys = [work.evaluated.rows.select(KEY) for work in works.values()]
    common = keys[0]
    for other in keys[1:]:
        common = common.join(other, on=KEY, how="semi")
    if common.is_empty():
        raise Refusal(f"{', '.join(works)} have no evaluation row in common; score them apart, with --models")
    most = max(len(part) for part in keys)
    limited_by = {name: len(part) for name, part in zip(works, keys, strict=True) if len(part) < most}
    out = {}
    for name, work in works.items():
        if len(work.evaluated.rows) > len(common):
            part = restrict(work.evaluated, common)
            work = work_on(part, work.train, work.settings, work.seed)
        out[name] = work
    return out, limited_by


def _scores_of(work: Work, whole: Scores) -> Scores:
    """A model's scores on the rows that are compared: its own, if these are all of its rows."""
    if work.evaluated.counts["scored"] == whole.row_counts.scored:
        return whole
    of_whole = {"settings": whole.settings, "versions": whole.versions, "parsing": whole.parsing}
    return Scores(**cell_scores(work), **of_whole)


def _evaluated(rows: Table, predictions: Table, name: str) -> Evaluated:
    given = predictions if isinstance(predictions, pl.DataFrame) else None
    checked = load_predictions(Path(str(predictions))) if given is None else check_predictions(given, name)
    return align(read_scored(rows), checked, name, item_texts(rows))


def _name_of(predictions: Table) -> str:
    if isinstance(predictions, pl.DataFrame):
        return "model"
    path = Path(predictions)
    return path.parent.name if path.stem == "predictions" and path.parent.name else path.stem


def _train_of(rows: Table, given: Table | None) -> pl.DataFrame | None:
    if isinstance(given, pl.DataFrame):
        return check_train(given)
    if given is None:
        return (
            None if isinstance(rows, pl.DataFrame) else read_train(Path(rows).parent / "train_counts.parquet")
        )
    if not Path(given).is_file():
        raise Refusal(f"{given} is missing; give the train_counts.parquet of the data set, or leave it out")
    return read_train(Path(given))


def _depends_on(
    rows: Table, predictions: Table, train: pl.DataFrame | None, settings: Settings, name: str
) -> dict[str, Any]:
    """Everything that one model's scores depend on."""
    return {
        "format": FORMAT,
        "name": name,
        "predictions": _stamp(predictions),
        "rows": _stamp(rows),
        "train_counts": None if train is None else _stamp(train),
        "settings": _settings(settings),
        "study_dates": _stamp(settings.score.study_dates) if settings.score.study_dates else None,
        "versions": _versions(),
    }


def _stamp(table: Table) -> Any:
    if isinstance(table, pl.DataFrame):
        return [table.columns, len(table), int(table.hash_rows(seed=0).sum())]
    if not Path(table).is_file():
        raise Refusal(f"{table} is missing; give an existing file")
    return sha256_file(table)


def _settings(settings: Settings) -> dict[str, Any]:
    return settings.score.model_dump(mode="json") | {"seed": settings.seed}


def _versions() -> dict[str, str]:
    return {"python": platform.python_version()} | {name: version(name) for name in LIBRARIES}


def _where(folder: Path) -> dict[str, Any]:
    """Data set and split of outputs/<dataset>/<split>/eval/<name>; whether the predictions are foreign."""
    parts = folder.resolve().parts
    keys = {"dataset": parts[-4], "split": parts[-3]} if len(parts) > 4 and parts[-2] == "eval" else {}
    record = folder / "predictions.json"
    foreign = not record.is_file() or bool(
        read_json(record, f"remove {record} and predict again").get("foreign")
    )
    return {**keys, "foreign": foreign}


def _with_texts(frame: pl.DataFrame, evaluated: Evaluated, level: list[str]) -> pl.DataFrame:
    """Add the stimulus text of each cell's (or item's) first row."""
    if evaluated.texts is None:
        return frame
    first = evaluated.texts.sort(ITEM).unique(level, keep="first", maintain_order=True)
    return frame.join(first.select(*level, "stimuli"), on=level, how="left", maintain_order="left")


def _parsing(predictions: Table) -> Parsing:
    """Sums of replies asked for, parsed and bare, and the mean mass off the scale; null where unknown."""
    if isinstance(predictions, pl.DataFrame):
        table = predictions.lazy()
    elif Path(predictions).suffix == ".parquet":
        table = pl.scan_parquet(predictions)
    else:
        return Parsing()
    names = table.collect_schema().names()
    wanted = {"requested": "n_requested", "parsed": "n_parsed", "bare": "n_bare"}
    sums = [
        pl.when(pl.col(column).is_not_null().any()).then(pl.col(column).cast(pl.Int64).sum()).alias(key)
        for key, column in wanted.items()
        if column in names
    ]
    if "off_scale_mass" in names:
        sums.append(pl.col("off_scale_mass").cast(pl.Float64).mean())
    return Parsing(**table.select(sums).collect().row(0, named=True)) if sums else Parsing()


def _write(folder: Path, scores: Scores) -> Scores:
    """Write the tables, then the record."""
    for name, frame in scores._frames.items():
        with atomic_path(folder / f"{name}.parquet") as partial:
            frame.write_parquet(partial)
    files = describe(folder, [f"{name}.parquet" for name in scores._frames])
    scores = scores.model_copy(update={"files": files})
    write_record(folder / SCORES, scores)
    scores._folder = folder
    return scores
