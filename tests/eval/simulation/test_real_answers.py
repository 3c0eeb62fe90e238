"""Reading the answers of real people."""

from pathlib import Path

import polars as pl
import pytest

from common.errors import Refusal
from common.experiment import Experiment, load_experiment
from eval.simulation.real_answers import design_effect, parts_of, read_answers
from tests.helpers.qualtrics import EXPERIMENT, answers, write_export

EXAMPLES = Path(__file__).parents[3] / "configs/experiments"


def example(name: str) -> Experiment:
    return load_experiment(EXAMPLES / f"{name}.yaml")


def write(folder: Path, text: str) -> Path:
    path = folder / "pilot.csv"
    path.write_text(text)
    return path


def test_real_answers_are_read_with_their_people(tmp_path):
    text = "arm,outcome,answer,person,age\ncost,vote,1,x,30\ncontrol,vote,0,y,40\ncost,support,7,x,30\n"
    real = read_answers(write(tmp_path, text), example("two-arm"))
    assert real.frame["arm"].to_list() == [1, 0, 1]
    assert real.frame["person"].to_list() == [0, 1, 0]
    assert real.people["age"].to_list() == [30, 40]
    with pytest.raises(Refusal, match="row 2: wording is a number from 1 to 1"):
        read_answers(write(tmp_path, "arm,outcome,answer,wording\ncost,vote,1.0,2\n"), example("two-arm"))


def test_survey_weights_are_read_from_the_column_that_the_experiment_names_or_from_weight(tmp_path):
    text = "arm,outcome,answer,person,weight\ncost,vote,1,x,2\ncost,support,7,x,2\ncontrol,vote,0,y,0.5\n"
    real = read_answers(write(tmp_path, text), example("two-arm"))
    assert real.frame["weight"].to_list() == [2, 2, 0.5]
    assert design_effect(parts_of(real)) == pytest.approx(2 * (4 + 0.25) / 2.5**2)
    with pytest.raises(Refusal, match="row 2: weight is 0; write a number above 0"):
        read_answers(write(tmp_path, "arm,outcome,answer,weight\ncost,vote,1,0\n"), example("two-arm"))
    (tmp_path / "tram.yaml").write_text(EXPERIMENT)  # its `columns.weight` is w
    tram = load_experiment(tmp_path / "tram.yaml")
    path = write(tmp_path, 'arm,outcome,answer,w,weight\n"gain, nobody",vote,1,3,9\n')
    assert read_answers(path, tram).frame["weight"].to_list() == [3]
    export = answers().with_columns(w=pl.lit("1.5"))
    assert set(read_answers(export, tram).frame["weight"]) == {1.5}


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("costs,vote,1", "row 2: no arm is named 'costs'; did you mean `cost`"),
        ("cost,votes,1", "row 2: no outcome is named 'votes'; did you mean `vote`"),
        ("cost,vote,2", "row 2: 2 is no answer on the scale of vote"),
        ("cost,vote,0.5", "no whole number"),
        ("cost,vote,", "no whole number"),
        ("cost,vote,yes", "row 2: answer yes is no whole number"),
    ],
)
def test_a_wrong_real_answer_is_refused_with_its_row(tmp_path, row, message):
    with pytest.raises(Refusal, match=message):
        read_answers(write(tmp_path, f"arm,outcome,answer\n{row}\n"), example("two-arm"))


def test_a_file_without_the_columns_is_refused(tmp_path):
    with pytest.raises(Refusal, match="has no column outcome"):
        read_answers(write(tmp_path, "arm,answer\ncost,1\n"), example("two-arm"))


def test_a_frame_is_read_as_a_file_is(tmp_path):
    text = "arm,outcome,answer,person,age\ncost,vote,1,x,30\ncontrol,vote,0,y,40\n"
    path = write(tmp_path, text)
    read = [read_answers(source, example("two-arm")) for source in (path, pl.read_csv(path))]
    assert read[0].frame.equals(read[1].frame) and read[0].people.equals(read[1].people)
    with pytest.raises(Refusal, match="the table row 2: no arm is named 'x'"):
        read_answers(pl.DataFrame({"arm": ["x"], "outcome": ["vote"], "answer": [1]}), example("two-arm"))


@pytest.mark.parametrize("ending", [".csv", ".xlsx", ".sav", ".dta", ".parquet"])
def test_a_surveys_export_is_read_by_the_experiments_own_columns(tmp_path, ending):
    (tmp_path / "tram.yaml").write_text(EXPERIMENT)
    tram = load_experiment(tmp_path / "tram.yaml")
    real = read_answers(write_export(tmp_path / f"export{ending}"), tram)
    assert len(real.frame) == 3 * 397 - 1 and len(real.people) == 397
    assert set(real.people.columns) == {"person", "age", "gender", "party_id", "religion"}
    source = answers().filter(pl.col("Finished") == "True", pl.col("DistributionChannel") != "preview")
    use = real.frame.filter(pl.col("outcome") == "use").sort("person")
    assert use["answer"].to_list() == source["Q2_1"].cast(pl.Int64).to_list()
    assert real.people["religion"].to_list() == source["faith"].to_list()
    assert sorted(real.frame["arm"].unique()) == list(range(10))


def test_a_tidy_table_serves_beside_an_experiment_that_describes_a_survey(tmp_path):
    (tmp_path / "tram.yaml").write_text(EXPERIMENT)
    tram = load_experiment(tmp_path / "tram.yaml")
    path = write(tmp_path, 'arm,outcome,answer,religion\n"gain, nobody",vote,1,none\n')
    real = read_answers(path, tram)
    assert real.frame["answer"].to_list() == [1] and real.people.columns == ["person", "religion"]
    odd = answers(40).with_columns(Q3=pl.lit("perhaps"))
    with pytest.raises(Refusal, match=r"vote: 'perhaps' \(37\)"):
        read_answers(odd, tram)
    with pytest.raises(Refusal, match="no column arm; it needs arm, outcome, answer, or a block `columns`"):
        read_answers(odd, example("two-arm"))
