"""A survey of one's own becomes a data set: arms, outcomes and people as the experiment file describes them.

`import_survey` writes a folder in the hub's layout, which `make_data` then splits: the prompts are built as
the published ones, ids are numbered (people.csv keeps them), and names of arms and outcomes travel beside.
"""

from dataclasses import dataclass
from pathlib import Path

import polars as pl

from common.errors import Refusal
from common.experiment import Experiment, load_experiment
from common.experiment_file import Columns
from common.files import atomic_path, sha256_file, write_json
from common.names import Names, StudyNames
from common.paths import BUILT_IN, root, safe_name
from common.prompts import user_prompt
from common.survey.file import read_survey
from common.survey.read import survey_answers
from common.tables import write_csv

RECORD = "import.json"


@dataclass(frozen=True)
class ImportedSurvey:
    """A survey that was written in the hub's layout.

    folder: where. data: what to call it as DATA. rows: answers; people; dropped: by reason, survey rows or
    answers; notes: what a person should know, one sentence each.
    """

    folder: Path
    data: str
    rows: int
    people: int
    dropped: dict[str, int]
    notes: tuple[str, ...]

    def __str__(self) -> str:
        dropped = [f"{count:,} dropped ({reason})" for reason, count in self.dropped.items()]
        first = f"{self.folder}: {self.rows:,} answers of {self.people:,} people"
        return "\n".join(
            [", ".join([first, *dropped]), *self.notes, f"next: make data DATA={self.data} SPLIT=participant"]
        )

    def frame(self) -> pl.DataFrame:
        """The rows, as `make_data` reads them."""
        return pl.read_parquet(self.folder / "data" / "*.parquet")


def import_survey(
    survey: str | Path,
    experiment: str | Path,
    *,
    out: str | None = None,
    drop_unmapped: bool = False,
    keep_unfinished: bool = False,
) -> ImportedSurvey:
    """Write a survey as a data set. The experiment file's block `columns` says which column holds what.

    out: a name (the data set is then `data/<name>/source/`) or a folder; default: the experiment's name.
    drop_unmapped: leave out answers and arms that map to nothing, instead of refusing. keep_unfinished: also
    interviews that Qualtrics marks as unfinished. Raises `Refusal`; then nothing was written.
    """
    described = load_experiment(experiment)
    if described.profiles:
        raise Refusal(
            f"{experiment}: choices between profiles have no arms; only `socrates simulate` reads them"
        )
    if described.file.columns is None:
        raise Refusal(
            f"{experiment} has no block `columns`, which says what the survey's columns hold; "
            f"`socrates data import {survey} --sketch` writes a first draft"
        )
    data, folder = _target(out or described.name)
    answered = read_survey(survey, keep_unfinished)
    read = survey_answers(answered, described)
    if not drop_unmapped:
        remedy = f"Complete the labels in {experiment} (or `columns.missing`), or leave them out with "
        remedy += "--drop-unmapped"
        read.refuse_unmapped(survey, remedy)
    rows, dropped = read.frame, read.dropped
    if rows.is_empty():
        raise Refusal(f"{survey} leaves no answer of a person in an arm; check `columns` in {experiment}")
    table = _hub_rows(rows, described)
    names = StudyNames(
        title=described.file.title,
        conditions=dict(enumerate(arm.name for arm in described.arms)),
        tasks=dict(enumerate(described.scales)),
    )
    persons = rows.select("participant", "person").unique().sort("participant")
    with atomic_path(folder) as partial:
        (partial / "data").mkdir(parents=True)
        table.write_parquet(partial / "data" / "train-00000-of-00001.parquet")
        (partial / "metadata").mkdir()
        Names(studies={described.name: names}).write(partial / "metadata")
        write_csv(persons, partial / "people.csv")
        record = {"survey": answered.path.name, "sha256": sha256_file(answered.path), "dropped": dropped}
        write_json(partial / RECORD, record)
    return ImportedSurvey(folder, data, len(table), len(persons), dropped, read.notes)


def _target(out: str) -> tuple[str, Path]:
    """What the data set is called, and its folder."""
    if Path(out).name == out:
        if safe_name(out, "--out") in BUILT_IN:
            raise Refusal(f"{out} is a built-in data set; give another name with --out")
        data, folder = out, root() / "data" / out / "source"
    else:
        data, folder = out, Path(out)
        safe_name(folder.name, "--out")
    if folder.exists() and not (folder / RECORD).is_file():
        raise Refusal(f"{folder} is there and wasn't written by an import; give another name with --out")
    return data, folder


def _hub_rows(rows: pl.DataFrame, experiment: Experiment) -> pl.DataFrame:
    """The answers in the columns of the hub's layout."""
    columns = experiment.file.columns or Columns()
    fields = [*columns.demographics] or ["age"]
    if not columns.demographics:
        rows = rows.with_columns(pl.lit(None, pl.Int64).alias("age"))
    outcomes = list(experiment.scales)
    arms, tasks, wordings = (rows[name].to_list() for name in ("arm", "task", "wording"))
    texts: dict[tuple[int, int, int], str] = {}
    for key in set(zip(arms, tasks, wordings, strict=True)):
        texts[key] = experiment.stimulus(experiment.arms[key[0]], outcomes[key[1]], key[2])
    stimuli = [texts[key] for key in zip(arms, tasks, wordings, strict=True)]
    demographic = rows.select(pl.struct(fields).alias("demographic")).to_series()
    prompts = [user_prompt(who, text) for who, text in zip(demographic, stimuli, strict=True)]
    return rows.select(
        pl.lit(experiment.name).alias("study_id"),
        pl.int_range(pl.len(), dtype=pl.Int64).alias("sample_id"),
        pl.col("participant").cast(pl.Int64),
        demographic,
        pl.Series("stimuli", stimuli, dtype=pl.String),
        "response",
        pl.col("arm").cast(pl.Int64).alias("condition_num"),
        pl.col("task").alias("task_num"),
        pl.Series("prompt", prompts, dtype=pl.String),
        *(["weight"] if columns.weight else []),
    )
