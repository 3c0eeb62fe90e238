"""Check simulations against the answer: experiments that were held out of training, simulated anew.

    from eval.simulation import simulate_check
    checked = simulate_check("tiny"); checked.effects

    make simulate-check MODEL=tiny

Each evaluated study is described as an experiment file, simulated with its own participants, and set
beside what they really answered (outputs/<data>/<split>/simulations/<study>/simulation.html). Calibration
is learned from the other studies only. Printed, and kept in simulations/check.json: how many of the
observed effects the 95% intervals contain. --truth is a table of the true distributions, where they are
known (of the sample: data/sample/source/truth.parquet); effects are then compared with the truth, too.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl
import yaml
from pydantic import Field

from common.errors import Refusal
from common.experiment import make_experiment
from common.files import atomic_path, write_json
from common.paths import output_dir, safe_name, split_dir
from eval.models import find_model
from eval.settings import Settings
from eval.simulation.describe import Described, describe
from eval.simulation.record import EffectRow, Record, frame
from eval.simulation.result import Simulation
from eval.simulation.run import Job, run_job


class CheckedEffect(Record):
    """One simulated effect beside the observed one and, where it is known, the true one."""

    study: str
    outcome: str
    measure: str
    contrast: str
    estimate: float
    conf_low: float
    conf_high: float
    calibrated: float | None
    calibrated_low: float | None
    calibrated_high: float | None
    observed: float
    observed_std_error: float | None
    sd: float
    true: float | None


class Agreement(Record):
    """How simulated effects agree with the observed (or true) ones, studies weighted equally.

    Errors are root mean squares in standard deviations of answers; null where nothing is to count.
    """

    effects: int
    calibrated_effects: int
    coverage_calibrated: float | None
    coverage_sampling: float | None
    same_sign: float | None
    rmse_raw: float | None
    rmse_calibrated: float | None
    rmse_no_effect: float | None


class CheckRecord(Record):
    """check.json. observed: against people's answers; true: against their population, where known."""

    schema_version: Literal[2] = Field(2, alias="schema")
    model: str
    studies: int
    skipped: dict[str, str]
    left_out: dict[str, dict[str, int]]
    observed: Agreement
    true: Agreement
    effects: list[CheckedEffect]


@dataclass(frozen=True)
class Check:
    """Simulations of evaluated studies, {study: simulation}, and how their effects agree with people's."""

    record: CheckRecord
    simulations: dict[str, Simulation] = field(repr=False)

    @property
    def effects(self) -> pl.DataFrame:
        """One row an effect: predicted, calibrated, observed and (where known) true."""
        return frame(self.record.effects, CheckedEffect)

    def __str__(self) -> str:
        lines = _lines(self.record)
        if self.simulations and all(one.up_to_date for one in self.simulations.values()):
            lines.insert(0, "nothing to do: every simulation is up to date")
        return "\n".join(lines)


def simulate_check(
    model: str,
    *,
    data: str = "sample",
    split: str = "study",
    studies: Sequence[str] | None = None,
    truth: pl.DataFrame | None = None,
    settings: Settings | None = None,
    folder: str | Path | None = None,
) -> Check:
    """Simulate evaluated studies with their own participants and compare with what these answered.

    model: as for `simulate`. studies: which; default: all. truth: true distributions (study_id,
    condition_num, task_num, n, answers, probs). folder: where simulations, their inputs and check.json
    are kept; in memory only when left out.
    """
    rows = _evaluated(data, split, studies)
    asked = find_model(model, data, split)
    evaluation = output_dir(data, split) / "eval" / asked.name
    simulations: dict[str, Simulation] = {}
    skipped: dict[str, str] = {}
    left_out: dict[str, dict[str, int]] = {}
    effects: list[CheckedEffect] = []
    for study in studies or sorted(rows["study_id"].unique()):
        try:
            described = describe(rows, study)
        except Refusal as refusal:
            skipped[study] = str(refusal)
            continue
        left_out[study] = described.left_out
        where = Path(folder) / safe_name(study, "study") if folder else None
        if where:
            _write_inputs(where / "input", study, described)
        job = Job(
            make_experiment(described.file, study), asked, settings or Settings(), data, split,
            people=described.people, observed=described.answers, calibration=evaluation, without=study,
        )  # fmt: skip
        simulations[study] = run_job(job, where)
        means = true_means(truth, study) if truth is not None else {}
        rows_of_study = simulations[study].record.effects
        effects += [_compared(study, row, means) for row in rows_of_study if row.observed is not None]
    record = CheckRecord(
        model=asked.name,
        studies=len(simulations),
        skipped=skipped,
        left_out={study: reasons for study, reasons in left_out.items() if reasons},
        observed=agreement(effects, "observed"),
        true=agreement(effects, "true"),
        effects=effects,
    )
    if folder:
        write_json(Path(folder) / "check.json", record.model_dump(mode="json", by_alias=True))
    return Check(record, simulations)


def _evaluated(data: str, split: str, studies: Sequence[str] | None) -> pl.DataFrame:
    """The evaluation rows; refused if a study asked for isn't among them."""
    path = split_dir(data, split) / "eval.parquet"
    if not path.is_file():
        raise Refusal(f"{path} is missing; `make data DATA={data} SPLIT={split}` writes it")
    rows = pl.read_parquet(path)
    evaluated = sorted(rows["study_id"].unique())
    for study in studies or ():
        if study not in evaluated:
            raise Refusal(f"{path} has no study {study!r}; it has {', '.join(evaluated)}")
    return rows


def true_means(truth: pl.DataFrame, study: str) -> dict[tuple[str, str], float]:
    """{(outcome, arm): true mean answer} of a study; a cell's items count by their people."""
    part = truth.filter(pl.col("study_id") == study)
    means: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for row in part.iter_rows(named=True):
        key = (f"outcome {row['task_num']}", f"arm {row['condition_num']}")
        means.setdefault(key, []).append((float(np.dot(row["answers"], row["probs"])), float(row["n"])))
    return {key: sum(m * n for m, n in values) / sum(n for _, n in values) for key, values in means.items()}


def _write_inputs(folder: Path, study: str, described: Described) -> None:
    """The experiment file, its people and answers: what anybody could have written by hand."""
    with atomic_path(folder) as partial:
        partial.mkdir()
        text = yaml.safe_dump(described.file, sort_keys=False, allow_unicode=True, width=1000)
        (partial / f"{study}.yaml").write_text(text, encoding="utf-8")
        described.people.write_csv(partial / "people.csv")
        described.answers.write_csv(partial / "answers.csv")


def _compared(study: str, row: EffectRow, means: dict[tuple[str, str], float]) -> CheckedEffect:
    arm, control = row.contrast.split(" - ")
    ends = [means.get((row.outcome, name)) for name in (arm, control)]
    true = ends[0] - ends[1] if row.measure == "mean" and None not in ends else None  # type: ignore[operator]
    fields = set(CheckedEffect.model_fields) - {"study", "true"}
    return CheckedEffect(study=study, true=true, **row.model_dump(include=fields))


def agreement(effects: Sequence[CheckedEffect], against: Literal["observed", "true"]) -> Agreement:
    """Coverage, signs and errors of mean effects against people's answers or their population."""
    rows = [row for row in effects if getattr(row, against) is not None and row.measure == "mean"]
    fitted = [row for row in rows if row.calibrated is not None]

    def covered(low: str, high: str) -> Callable[[CheckedEffect], bool]:
        return lambda row: getattr(row, low) <= getattr(row, against) <= getattr(row, high)

    def square(predicted: str | None) -> Callable[[CheckedEffect], float]:
        return lambda row: (
            ((getattr(row, against) - (getattr(row, predicted) if predicted else 0)) / row.sd) ** 2
        )

    return Agreement(
        effects=len(rows),
        calibrated_effects=len(fitted),
        coverage_calibrated=_mean(fitted, covered("calibrated_low", "calibrated_high")),
        coverage_sampling=_mean(rows, covered("conf_low", "conf_high")),
        same_sign=_mean(rows, lambda row: np.sign(row.estimate) == np.sign(getattr(row, against))),
        rmse_raw=_root(_mean(rows, square("estimate"))),
        rmse_calibrated=_root(_mean(fitted, square("calibrated"))),
        rmse_no_effect=_root(_mean(rows, square(None))),
    )


def _mean(rows: Sequence[CheckedEffect], value: Callable[[CheckedEffect], Any]) -> float | None:
    by_study: dict[str, list[float]] = {}
    for row in rows:
        by_study.setdefault(row.study, []).append(float(value(row)))
    return float(np.mean([np.mean(values) for values in by_study.values()])) if by_study else None


def _root(square: float | None) -> float | None:
    return None if square is None else float(np.sqrt(square))


def _lines(record: CheckRecord) -> list[str]:
    lines = [f"{record.model}: {record.studies} studies simulated with their own participants"]
    lines += [f"  {study} not simulated: {reason}" for study, reason in record.skipped.items()]
    for study, reasons in record.left_out.items():
        lines += [f"  {study}: {count} outcomes left out: {reason}" for reason, count in reasons.items()]
    for against, words in (
        (record.observed, "what people answered"),
        (record.true, "the truth of their population"),
    ):
        if not against.effects:
            continue
        lines.append(f"{against.effects} effects against {words}:")
        for key in ("coverage_calibrated", "coverage_sampling", "same_sign"):
            value = getattr(against, key)
            share = "unknown (no calibration)" if value is None else f"{value:.1%}"
            lines.append(f"  {key.replace('_', ' ')}: {share}")
        for key in ("rmse_raw", "rmse_calibrated", "rmse_no_effect"):
            value = getattr(against, key)
            text = "unknown" if value is None else f"{value:.3f} standard deviations of answers"
            lines.append(f"  {key.replace('_', ' ')}: {text}")
    return lines
