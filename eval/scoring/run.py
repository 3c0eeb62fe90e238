"""Score every model of a data set that has predictions, and compare them.

    score_models("sample", "study")
    score_models("sample", "study", ["tiny-base", "tiny-sft", "tiny-dpo"])
    import_predictions("answers.csv", "sample", "study", name="my-model")

Writes scores.json, cells.parquet, items.parquet and contrasts.parquet beside each model's predictions in
outputs/<data>/<split>/eval/<name>/, and comparison.json one folder above. What is up to date isn't
computed again. eval/scoring/README.md explains every figure, and the forms of predictions made elsewhere.
"""

from collections.abc import Sequence
from pathlib import Path

from common.contract import KEY
from common.errors import Refusal
from common.files import atomic_path, fingerprint, sha256_file, write_json
from common.paths import output_dir, safe_name, split_dir
from common.readers import read_json
from common.step import Step, describe
from eval.scoring.align import align, of_rows, read_scored
from eval.scoring.api import compare, score
from eval.scoring.predictions import contract_table, load_predictions
from eval.scoring.record import Comparison, Scores
from eval.settings import Settings

PREDICTIONS = "predictions.parquet"
STAGES = ("base", "sft", "dpo")


def score_models(
    data: str,
    split: str,
    models: Sequence[str] | None = None,
    *,
    rows: str | Path | None = None,
    settings: Settings | None = None,
) -> Comparison:
    """Score models of a data set that have predictions (default: all), and compare them.

    A model with less than half of the others' rows is compared with them on its own rows, in its own folder.
    Raises `Refusal` for missing rows, and for models without predictions.
    """
    settings = settings or Settings()
    folder, path = output_dir(data, split) / "eval", _rows_path(data, split, rows)
    names = _chosen(models, folder, f"DATA={data} SPLIT={split}")
    scored = {
        name: score(path, folder / name / PREDICTIONS, name=name, settings=settings, folder=folder / name)
        for name in names
    }
    comparison = compare(scored, folder=folder)
    for name in comparison.apart:
        compare({name: scored[name]} | _without(scored, comparison.apart), folder=folder / name)
    return comparison


def import_predictions(
    path: str | Path, data: str, split: str, *, name: str | None = None, rows: str | Path | None = None
) -> str:
    """Check predictions made elsewhere and keep them as `<folder>/<name>/predictions.parquet`; return the
    name.

    Raises `Refusal` for a wrong file, naming the first bad row; nothing is written then.
    """
    path = Path(path)
    name = safe_name(name or path.stem, "the name")
    target = output_dir(data, split) / "eval" / name
    evaluation_rows = _rows_path(data, split, rows)
    predictions = load_predictions(path)
    inputs = fingerprint(["foreign", 3, sha256_file(path), sha256_file(evaluation_rows)])
    with Step(target / "predictions.json", inputs) as step:
        if step.done:
            return name
        remedy = f"remove {target} or give another --name"
        if step.record.is_file() and not read_json(step.record, remedy).get("foreign"):
            raise Refusal(f"{target} holds predictions made here; give the file another NAME")
        evaluated = align(read_scored(evaluation_rows), predictions, name)
        by_row = predictions if predictions.key == KEY else of_rows(evaluated)
        step.begin()
        with atomic_path(target / PREDICTIONS) as partial:
            contract_table(by_row).write_parquet(partial)
        record = {"inputs": inputs, "name": name, "foreign": True, "source": path.name}
        write_json(step.record, record | {"files": describe(target, [PREDICTIONS])})
    return name


def _rows_path(data: str, split: str, rows: str | Path | None) -> Path:
    path = Path(rows) if rows else split_dir(data, split) / "eval.parquet"
    if not path.is_file():
        raise Refusal(f"{path} is missing; run `make data DATA={data} SPLIT={split}` first")
    return path


def _without(scored: dict[str, Scores], apart: dict[str, int]) -> dict[str, Scores]:
    return {name: one for name, one in scored.items() if name not in apart}


def _chosen(models: Sequence[str] | None, folder: Path, where: str) -> list[str]:
    """Model names to score: as given, or all with predictions; a base before what was trained from it."""
    present = sorted(
        path.parent.name for path in folder.glob(f"*/{PREDICTIONS}") if not path.parent.name.startswith(".")
    )
    if models is None:
        if not present:
            raise Refusal(f"no predictions in {folder}; run `make eval {where}` or give --predictions FILE")
        return sorted(present, key=_stage)
    names = list(dict.fromkeys(safe_name(name.strip(), "the model") for name in models))
    if absent := [name for name in names if name not in present]:
        listed = ", ".join(present) or "none"
        raise Refusal(
            f"no predictions of {absent[0]} in {folder}; there are: {listed}; run `make eval {where}`"
        )
    return names


def _stage(name: str) -> tuple[str, int, str]:
    family, _, stage = name.rpartition("-")
    return (family, STAGES.index(stage), name) if stage in STAGES else (name, len(STAGES), name)
