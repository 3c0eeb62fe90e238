"""Check simulations against the answer: experiments that were held out of training, simulated anew.

    python -m eval.simulation.check --data sample --split study --model tiny

Each evaluated study is written as an experiment file, simulated with its own participants, and set beside
what they really answered (outputs/<data>/<split>/simulations/<study>/simulation.html). Calibration is
learned from the other studies only. Printed, and kept in simulations/check.json: how many of the observed
effects the 95% intervals contain. --truth is a table of the true distributions, where they are known (of
the sample: data/sample/source/truth.parquet); effects are then compared with the truth, too.
"""

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import yaml

from common.errors import Refusal, run_cli
from common.files import atomic_path, write_json
from common.paths import output_dir, safe_name, split_dir
from common.scale import Scale
from eval.simulation.run import Job, resolve_model, simulate

SCALE = ["scale_kind", "scale_low", "scale_high", "scale_step"]


@dataclass(frozen=True)
class Described:
    """An experiment file's content, the study's people and answers, and what couldn't be described."""

    file: dict[str, Any]
    people: pl.DataFrame
    answers: pl.DataFrame
    left_out: dict[str, int]


def describe(rows: pl.DataFrame, study: str) -> Described:
    """A study's evaluation rows as an experiment. Raises `Refusal` if no outcome has arms to compare."""
    rows = rows.filter(pl.col("study_id") == study)
    conditions = sorted(rows["condition_num"].unique())
    names = {number: f"arm {number}" for number in conditions}
    outcomes, left_out = {}, dict[str, int]()
    for (task,), part in rows.sort("task_num").group_by("task_num", maintain_order=True):
        reason = _unfit(part, conditions)
        if reason:
            left_out[reason] = left_out.get(reason, 0) + 1
        else:
            outcomes[f"outcome {task}"] = _outcome(part, names)
    if not outcomes or len(conditions) < 2:
        raise Refusal("no outcome has two arms on one scale")
    kept = rows.filter(pl.format("outcome {}", "task_num").is_in(list(outcomes)))
    file = {
        "title": f"Study {study}, described from its own stimuli",
        "description": "Held out of training; simulated with its own participants.",
        "arms": dict.fromkeys(names.values(), ""),
        "outcomes": outcomes,
        "design": _design(kept, len(conditions)),
    }
    people = kept.group_by("participant").agg(pl.col("demographic").first()).sort("participant")
    people = people.rename({"participant": "person"}).unnest("demographic")
    answers = kept.select(
        "off_scale",
        pl.col("condition_num").replace_strict(names, return_dtype=pl.String).alias("arm"),
        pl.format("outcome {}", "task_num").alias("outcome"),
        (pl.col("stimuli").rank("dense").over("condition_num", "task_num")).cast(pl.Int64).alias("wording"),
        pl.col("response").alias("answer"),
        pl.col("participant").alias("person"),
    )
    answers = answers.filter(~pl.col("off_scale")).drop("off_scale")
    answers = answers.join(people, on="person", how="left", maintain_order="left")
    return Described(file, people, answers, left_out)


def _unfit(part: pl.DataFrame, conditions: list[int]) -> str | None:
    if part.select(SCALE).n_unique() > 1 or part["scale_labels"].n_unique() > 1:
        return "the scale differs between its arms or stimuli"
    if part["condition_num"].n_unique() < len(conditions):
        return "not asked in every arm"
    return None


def _outcome(part: pl.DataFrame, names: dict[int, str]) -> dict[str, Any]:
    first = part.row(0, named=True)
    labels = {label["value"]: label["label"] for label in first["scale_labels"]}
    kind, low, high, step = (first[name] for name in SCALE)
    scale = Scale(kind, low, high, step or 1, tuple(labels.items()))
    sentence = scale.sentence()
    ends = all(text.endswith(f" {sentence}") for text in part["stimuli"].unique())
    question = {}
    for number, name in names.items():
        texts = part.filter(pl.col("condition_num") == number)["stimuli"].unique().sort().to_list()
        plain = [text.removesuffix(f" {sentence}") if ends else text for text in texts]
        question[name] = [text.replace("{", "{{").replace("}", "}}") for text in plain]
    if kind in ("open", "unstated"):
        stated: dict[str, Any] = {"kind": kind, **({"unit": labels[0]} if labels.get(0) else {})}
    else:
        stated = {"kind": kind, "low": low, "high": high, "step": step or 1, "labels": labels}
    described = {"question": question, "scale": stated} | ({} if ends else {"answer_format": ""})
    several = max(len(texts) for texts in question.values())
    answers = part.group_by("participant", "condition_num").len()["len"].to_numpy()
    return described | ({"wordings": "all"} if several > 1 and np.median(answers) >= several else {})


def _design(rows: pl.DataFrame, arms: int) -> dict[str, Any]:
    """Within subjects if people answered in several arms; sizes as they were."""
    seen = rows.group_by("participant").agg(pl.col("condition_num").n_unique())["condition_num"]
    if np.median(seen.to_numpy()) > 1:
        return {
            "kind": "within",
            "people": len(seen),
            "tasks": min(arms, round(float(seen.to_numpy().mean()))),
        }
    cells = rows.group_by("condition_num", "task_num").agg(pl.col("participant").n_unique())
    return {"kind": "between", "people_per_arm": max(2, round(float(cells["participant"].to_numpy().mean())))}


def true_means(truth: pl.DataFrame, study: str) -> dict[tuple[str, str], float]:
    """{(outcome, arm): true mean answer} of a study; a cell's items count by their people."""
    part = truth.filter(pl.col("study_id") == study)
    means: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for row in part.iter_rows(named=True):
        key = (f"outcome {row['task_num']}", f"arm {row['condition_num']}")
        means.setdefault(key, []).append((float(np.dot(row["answers"], row["probs"])), float(row["n"])))
    return {key: sum(m * n for m, n in values) / sum(n for _, n in values) for key, values in means.items()}


def check(args: argparse.Namespace) -> dict[str, Any]:
    """Simulate every study asked for; returns what check.json holds."""
    path = split_dir(args.data, args.split) / "eval.parquet"
    if not path.is_file():
        raise Refusal(f"{path} is missing; `make data DATA={args.data} SPLIT={args.split}` writes it")
    rows = pl.read_parquet(path)
    known = sorted(rows["study_id"].unique())
    studies = args.studies.split(",") if args.studies else known
    for study in studies:
        if study not in known:
            raise Refusal(f"{path} has no study {study!r}; it has {', '.join(known)}")
    model, name, options = resolve_model(args.model, args.data, args.split)
    truth = pl.read_parquet(args.truth) if args.truth else None
    results: list[dict[str, Any]] = []
    skipped: dict[str, str] = {}
    for study in studies:
        try:
            described = describe(rows, study)
        except Refusal as refusal:
            skipped[study] = str(refusal)
            continue
        folder = output_dir(args.data, args.split) / "simulations" / safe_name(study, "study")
        files = _write_inputs(folder / "input", study, described)
        evaluated = output_dir(args.data, args.split) / "eval" / name
        job = Job(
            files["experiment"], model, name, args.data, args.split, folder, people=files["people"],
            observed=files["observed"], calibration=evaluated, without=study, options=options,
        )  # fmt: skip
        record = simulate(job)
        means = true_means(truth, study) if truth is not None else {}
        results += [_compared(study, row, means) for row in record["effects"] if row["observed"] is not None]
        for reason, count in described.left_out.items():
            print(f"{study}: {count} outcomes left out: {reason}")
    return (
        {"model": name, "studies": len(studies) - len(skipped), "skipped": skipped}
        | summarise(results)
        | {"effects": results}
    )


def _write_inputs(folder: Path, study: str, described: Described) -> dict[str, Path]:
    """The experiment file, its people and answers: what anybody could have written by hand."""
    paths = {
        "experiment": folder / f"{study}.yaml",
        "people": folder / "people.csv",
        "observed": folder / "answers.csv",
    }
    with atomic_path(paths["experiment"]) as partial:
        partial.write_text(yaml.safe_dump(described.file, sort_keys=False, allow_unicode=True, width=1000))
    for name, table in (("people", described.people), ("observed", described.answers)):
        text = table.write_csv()
        if (
            not paths[name].is_file() or paths[name].read_text() != text
        ):  # its date is part of the fingerprint
            with atomic_path(paths[name]) as partial:
                partial.write_text(text)
    return paths


def _compared(study: str, row: dict[str, Any], means: dict[tuple[str, str], float]) -> dict[str, Any]:
    keys = ["outcome", "measure", "contrast", "effect", "low_sampling", "high_sampling", "calibrated"]
    kept = {
        key: row[key] for key in [*keys, "low_calibrated", "high_calibrated", "observed", "observed_se", "sd"]
    }
    arm, control = row["contrast"].split(" - ")
    ends = [means.get((row["outcome"], name)) for name in (arm, control)]
    known = row["measure"] == "mean" and None not in ends
    return {"study": study} | kept | {"true": ends[0] - ends[1] if known else None}  # type: ignore[operator]


def summarise(results: list[dict[str, Any]]) -> dict[str, Any]:
    """Coverage, signs and errors of the effects, studies weighted equally; null where nothing is to count.

    Against `observed` (people's answers) and `true` (their population, where known); errors in standard
    deviations of answers.
    """
    return {against: _against(results, against) for against in ("observed", "true")}


def _against(results: list[dict[str, Any]], against: str) -> dict[str, Any]:
    rows = [row for row in results if row[against] is not None and row["measure"] == "mean"]
    fitted = [row for row in rows if row["calibrated"] is not None]

    def covered(kind: str) -> Callable[[dict[str, Any]], bool]:
        return lambda row: row[f"low_{kind}"] <= row[against] <= row[f"high_{kind}"]

    def square(key: str) -> Callable[[dict[str, Any]], float]:
        return lambda row: ((row[against] - (row[key] if key else 0)) / row["sd"]) ** 2

    return {
        "effects": len(rows),
        "calibrated_effects": len(fitted),
        "coverage_calibrated": _mean(fitted, covered("calibrated")),
        "coverage_sampling": _mean(rows, covered("sampling")),
        "same_sign": _mean(rows, lambda row: np.sign(row["effect"]) == np.sign(row[against])),
        "rmse_raw": _root(_mean(rows, square("effect"))),
        "rmse_calibrated": _root(_mean(fitted, square("calibrated"))),
        "rmse_no_effect": _root(_mean(rows, square(""))),
    }


def _mean(rows: list[dict[str, Any]], value: Callable[[dict[str, Any]], Any]) -> float | None:
    by_study: dict[str, list[float]] = {}
    for row in rows:
        by_study.setdefault(row["study"], []).append(float(value(row)))
    return float(np.mean([np.mean(values) for values in by_study.values()])) if by_study else None


def _root(square: float | None) -> float | None:
    return None if square is None else float(np.sqrt(square))


def _print(record: dict[str, Any]) -> None:
    print(f"{record['model']}: {record['studies']} studies simulated with their own participants")
    for study, reason in record["skipped"].items():
        print(f"  {study} not simulated: {reason}")
    for against, word in (("observed", "what people answered"), ("true", "the truth of their population")):
        found = record[against]
        if not found["effects"]:
            continue
        print(f"{found['effects']} effects against {word}:")
        for key in ("coverage_calibrated", "coverage_sampling", "same_sign"):
            print(f"  {key.replace('_', ' ')}: {_share(found[key])}")
        for key in ("rmse_raw", "rmse_calibrated", "rmse_no_effect"):
            text = "not known" if found[key] is None else f"{found[key]:.3f} standard deviations of answers"
            print(f"  {key.replace('_', ' ')}: {text}")


def _share(value: float | None) -> str:
    return "not known (no calibration)" if value is None else f"{value:.1%}"


def main() -> None:
    """Read the command line, simulate, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="tiny", help="as for eval.simulation.run")
    parser.add_argument("--data", default="sample")
    parser.add_argument("--split", default="study")
    parser.add_argument("--studies", help="evaluated studies, by commas; default: all")
    parser.add_argument(
        "--truth", type=Path, help="true distributions: study_id, condition_num, task_num, n, answers, probs"
    )
    args = parser.parse_args()
    if args.truth and not args.truth.is_file():
        raise Refusal(f"{args.truth} is missing; leave --truth out, or give a table of true distributions")
    record = check(args)
    write_json(output_dir(args.data, args.split) / "simulations" / "check.json", record)
    _print(record)


if __name__ == "__main__":
    run_cli(main)
