"""A model that has read the older studies is found out by their dates."""

from datetime import date
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from common.errors import Refusal
from eval.scoring.by_time import read_dates
from eval.scoring.model import cell_scores, work_on
from eval.settings import ScoreSettings
from tests.helpers.scored_samples import evaluated, exact, population


def settings(path: Path, text: str) -> ScoreSettings:
    path.write_text(text)
    cut = date(2023, 3, 31)
    return ScoreSettings(replicates=100, ceiling_splits=10, study_dates=path, training_cut=cut)


def test_a_model_that_knows_the_older_studies_is_better_before_the_cut(tmp_path: Path):
    rows, true = population(studies=13, arms=2, people=60)
    dates = [
        f"study{k},20{23 if k >= 6 else 20}-0{4 if k >= 6 else 3}-{1 if k >= 6 else 31:02}" for k in range(12)
    ]
    given = settings(tmp_path / "dates.csv", "\n".join(["study_id,published", *dates]))
    older = np.isin(rows["study_id"].to_numpy(), [f"study{k}" for k in range(6)])[:, None]
    scores = cell_scores(work_on(evaluated(rows, exact(rows, np.where(older, true, 1 / 7))), None, given, 0))[
        "by_time"
    ]
    assert (scores.before.studies, scores.after.studies, scores.undated) == (6, 6, 1)
    assert scores.before.metrics["accuracy_observed"].value > scores.after.metrics["accuracy_observed"].value
    worse = scores.difference["wasserstein_observed"]
    assert 0 < worse.low < worse.value < worse.high
    assert 0 < worse.low_people < worse.high_people


def test_without_dates_nothing_is_said():
    rows, true = population(studies=2, people=20)
    few = ScoreSettings(replicates=100, ceiling_splits=10)
    assert cell_scores(work_on(evaluated(rows, exact(rows, true)), None, few, 0))["by_time"] is None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("study_id,published\ns,31.5.2023\n", "row 2: published is '31.5.2023'; write it as 2023-05-31"),
        ("study_id,when\ns,2023-05-31\n", "no column published"),
        ("study_id,published\ns,2023-05-31\ns,2023-05-31\n", "study s appears more than once"),
    ],
)
def test_a_wrong_table_of_dates_is_refused_with_its_row(tmp_path: Path, text: str, words: str):
    (tmp_path / "dates.csv").write_text(text)
    with pytest.raises(Refusal, match=words):
        read_dates(tmp_path / "dates.csv")


def test_a_cut_without_dates_is_refused():
    with pytest.raises(ValidationError, match="belong together"):
        ScoreSettings(training_cut=date(2023, 3, 31))
