"""A survey becomes a data set in one command, whatever the format; what means nothing is refused by name."""

from pathlib import Path

import polars as pl
import pytest
import yaml

from common.errors import Refusal
from common.names import read_names
from common.prompts import user_prompt
from common.readers import parse_yaml
from scripts.data.make import make_data
from scripts.data.settings import DataSettings
from scripts.data.survey_import import import_survey
from tests.helpers.qualtrics import AGREE, EXPERIMENT, FRAMES, SOURCES, answers, write_export


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("tram.yaml").write_text(EXPERIMENT)


def expected() -> dict[tuple[str, str], int]:
    """{(person, outcome): answer}, straight from the invented survey."""
    given = {}
    for number, row in enumerate(answers().iter_rows(named=True)):
        if number not in (5, 7, 8):
            if number != 11:
                given[row["PROLIFIC_PID"], "support"] = AGREE.index(row["Q1"]) + 1
            given[row["PROLIFIC_PID"], "use"] = int(row["Q2_1"])
            given[row["PROLIFIC_PID"], "vote"] = int(row["Q3"] == "Yes")
    return given


@pytest.mark.parametrize("ending", [".csv", ".xlsx", ".sav", ".dta", ".parquet"])
def test_a_qualtrics_export_gives_the_same_rows_in_every_format(ending):
    imported = import_survey(write_export(Path(f"export{ending}")), "tram.yaml")
    assert imported.dropped == {"a preview": 1, "unfinished": 2, "no answer": 1}
    ids = pl.read_csv(imported.folder / "people.csv", infer_schema=False)
    person = dict(zip(ids["participant"].cast(pl.Int64), ids["person"], strict=True))
    rows = imported.frame()
    outcomes = ("support", "use", "vote")
    got = {
        (person[p], outcomes[task]): r
        for p, task, r in rows.select("participant", "task_num", "response").rows()
    }
    assert got == expected() and len(rows) == len(got) == imported.rows
    by_person = {row["PROLIFIC_PID"]: row for row in answers().iter_rows(named=True)}
    for row in rows.iter_rows(named=True):
        source = by_person[person[row["participant"]]]
        arm = 5 * FRAMES.index(source["frame"]) + SOURCES.index(source["source"].strip().lower())
        assert row["condition_num"] == arm
        assert row["demographic"] == {
            "age": int(source["age"]), "gender": source["gender"], "party_id": source["party"],
            "religion": source["faith"],
        }  # fmt: skip
        assert row["prompt"] == user_prompt(row["demographic"], row["stimuli"])
        assert f"- Religion: {source['faith']}\n" in row["prompt"] and row["weight"] == float(source["w"])
    assert "shown in prompts under their own names: religion" in str(imported)
    assert "columns not used: ResponseId" in str(imported)
    names = read_names(imported.folder / "metadata")
    assert names.condition("tram", 6) == "loss, scientists" and names.task("tram", 1) == "use"


@pytest.mark.parametrize("split", ["participant", "condition", "task", "none", "all"])
def test_an_imported_survey_becomes_a_data_set_of_every_split(split):
    import_survey(write_export(Path("export.csv")), "tram.yaml", out="my-survey")
    data_set = make_data("my-survey", split, DataSettings(outputs=("sft",)))
    assert "100% have the published form, 100% end with their stimulus, 100% state an answer scale" in str(
        data_set
    )
    if split != "none":
        rows = data_set.frame("eval")
        arm = rows.filter(pl.col("condition_num") == 5)["condition_name"].unique().to_list()
        assert arm in ([], ["loss, nobody"]) and set(rows["task_name"]) <= {"support", "use", "vote"}
        assert rows["demographic"].struct.field("religion").null_count() == 0
        assert rows["weight"].is_between(0.5, 1.5).all()
        assert read_names(data_set.folder).task("tram", 2) == "vote"
    with pytest.raises(Refusal, match="can't be divided by study"):
        make_data("my-survey", "study")


def test_a_long_file_has_a_row_an_answer():
    wide = answers(40).with_columns(
        pl.col("Finished").str.replace("False", "True"), DistributionChannel=pl.lit("x")
    )
    long = wide.unpivot(
        ["Q1", "Q2_1", "Q3"], index=["PROLIFIC_PID", "frame", "source", "age"], variable_name="q"
    )
    names = {"Q1": "Support", "Q2_1": " use", "Q3": "VOTE"}
    long.with_columns(pl.col("q").replace(names)).write_csv("long.csv")
    described = parse_yaml(EXPERIMENT, "tram")[0]
    described["columns"] = {
        "person": "PROLIFIC_PID", "arm": {"frame": "frame", "source": "source"}, "outcome": "q",
        "answer": "value", "demographics": {"age": "age"},
    }  # fmt: skip
    Path("long.yaml").write_text(yaml.safe_dump(described, sort_keys=False))
    imported = import_survey("long.csv", "long.yaml")
    assert (imported.people, imported.rows, imported.dropped) == (40, 119, {"no answer": 1})
    Path("wide.csv").write_text(wide.write_csv())
    wide_rows = import_survey("wide.csv", "tram.yaml", out="wide").frame()
    keys = ["participant", "condition_num", "task_num", "response", "stimuli"]
    assert imported.frame().select(keys).sort(keys).equals(wide_rows.select(keys).sort(keys))


def test_what_maps_to_nothing_is_listed_with_counts_and_left_out_only_on_demand():
    odd = answers().with_columns(
        Q1=pl.col("Q1").replace("Agree", "Sort of agree"), source=pl.col("source").replace("NOBODY", "no one")
    )
    odd.write_csv("odd.csv")
    agreed = odd.filter(pl.col("Finished") == "True", pl.col("DistributionChannel") != "preview")
    agreed = agreed["Q1"].eq("Sort of agree").sum()
    with pytest.raises(Refusal) as refusal:
        import_survey("odd.csv", "tram.yaml")
    assert f"support: 'Sort of agree' ({agreed - 2}" in str(refusal.value) or "Sort of agree" in str(
        refusal.value
    )
    assert "arm source: 'no one'" in str(refusal.value) and "--drop-unmapped" in str(refusal.value)
    assert not Path("data/tram").exists()
    imported = import_survey("odd.csv", "tram.yaml", drop_unmapped=True)
    assert imported.dropped["value maps to nothing"] > agreed and imported.rows > 800


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        ({"columns": None}, "no block `columns`"),
        ({"columns.person": "PROLIFIC"}, "no column 'PROLIFIC'; did you mean 'PROLIFIC_PID'"),
        ({"columns.outcomes": {"suport": "Q1"}}, "outcome 'suport'; did you mean 'support'"),
        ({"columns.outcomes": {}}, "either `outcomes`"),
        ({"columns.arm": {"frame": "frame"}}, "lacks the factor source"),
        ({"columns.arm": None}, "`columns` needs `arm`"),
        ({"columns.arm": ["frame"]}, r"`columns.arm` = \['frame'\]: name one column, or one each"),
        ({"columns.weight": "gender"}, "the weight 'Female' is no number above 0"),
        ({"columns.person": "gender"}, "person ids that have several rows: 2"),
        ({"columns.persom": "x"}, "unknown key `columns.persom`; did you mean `person`"),
        ({"name": "sample"}, "built-in data set"),
    ],
)
def test_a_description_that_does_not_fit_is_refused_in_a_line(change, cause):
    described = parse_yaml(EXPERIMENT, "tram")[0]
    for key, value in change.items():
        *parents, last = key.split(".")
        block = described[parents[0]] if parents else described
        if value is None:
            block.pop(last)
        else:
            block[last] = value
    Path("wrong.yaml").write_text(yaml.safe_dump(described, sort_keys=False))
    with pytest.raises(Refusal, match=cause):
        import_survey(write_export(Path("export.csv"), 40), "wrong.yaml")


@pytest.mark.parametrize(
    ("name", "content", "cause"),
    [
        ("x.docx", b"PK", "none of the known endings"),
        ("x.sav", b"$FL2 not really", "can't be read"),
        ("x.dta", b"", "can't be read"),
        ("x.xlsx", b"PK\x03\x04 torn", "can't be read"),
        ("x.parquet", b"PAR1", "no parquet file"),
        ("x.csv", b"", "no CSV table"),
        ("x.csv", b"a,b\n", "holds no answers"),
        ("x.csv", b"a,a\n1,2\n", "two columns a"),
    ],
)
def test_a_survey_that_cannot_be_read_is_refused_in_a_line(name, content, cause):
    Path(name).write_bytes(content)
    with pytest.raises(Refusal, match=cause):
        import_survey(name, "tram.yaml")


def test_an_import_never_replaces_a_folder_that_it_did_not_write():
    Path("mine/sub").mkdir(parents=True)
    Path("mine/sub/thesis.txt").write_text("all of it")
    survey = write_export(Path("export.csv"), 40)
    with pytest.raises(Refusal, match="wasn't written by an import"):
        import_survey(survey, "tram.yaml", out="mine/sub")
    assert Path("mine/sub/thesis.txt").read_text() == "all of it"
    import_survey(survey, "tram.yaml", out="mine/new")
    assert import_survey(survey, "tram.yaml", out="mine/new").rows == len(make_frame("mine/new"))


def make_frame(folder: str) -> pl.DataFrame:
    return pl.read_parquet(f"{folder}/data/*.parquet")
