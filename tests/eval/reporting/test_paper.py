"""The paper's tables: what is scored stands beside the published figure, what isn't says its command."""

import re
from pathlib import Path

import polars as pl
import pytest

from common.paths import root
from eval.reporting.paper import Chapter, Paper, Row, _verdict, commands, paper_table, read_paper
from eval.scoring.record import Estimate, read_scores
from tests.helpers import scored

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return scored.write(tmp_path_factory.mktemp("paper"))


def table_of(folder: Path, monkeypatch: pytest.MonkeyPatch, *rows: Row) -> pl.DataFrame:
    monkeypatch.chdir(folder)
    chapter = Chapter(title="Unseen studies", split="study", rows=rows)
    return paper_table(Paper(source="here", chapters=(chapter,)), ["tiny"], "sample").table


def test_ours_stands_beside_the_published_figure_with_its_interval(folder: Path, monkeypatch) -> None:
    row = Row(what="SFT", model="{model}-sft", published={"tiny-sft": 0.2})
    line = table_of(folder, monkeypatch, row).row(0, named=True)
    truth = read_scores(folder / scored.OUTPUTS / "eval/tiny-sft").metrics["wasserstein_observed"]
    assert (line["estimate"], line["published"]) == (truth.value, 0.2)
    assert line["ours"].startswith(f"{truth.value:.3f}")
    assert line["verdict"] == "other data: not comparable"
    assert "Unseen studies" in (root() / "outputs/sample/paper/paper.html").read_text()
    columns = pl.read_csv(root() / "outputs/sample/paper/paper.csv").columns
    explained = (ROOT / "eval/reporting/README.md").read_text().split("paper.csv |")[1].split("\n")[0]
    assert [name for name in columns if f"`{name}`" not in explained] == []


def test_a_run_that_breaks_off_leaves_page_and_table_of_the_one_before(folder: Path, monkeypatch) -> None:
    table_of(folder, monkeypatch, Row(what="first", model="{model}-sft"))
    kept = {path.name: path.read_bytes() for path in Path("outputs/sample/paper").iterdir()}
    with monkeypatch.context() as patch:
        patch.setattr("eval.reporting.paper.render", lambda *_, **__: 1 / 0)  # what is written last
        with pytest.raises(ZeroDivisionError):
            table_of(folder, patch, Row(what="second", model="{model}-sft"))
    assert {path.name: path.read_bytes() for path in Path("outputs/sample/paper").iterdir()} == kept
    assert b"first" in kept["paper.csv"] and b"first" in kept["paper.html"]


def test_each_chapter_links_to_its_report_and_its_curve_where_they_are_there(folder: Path, monkeypatch):
    monkeypatch.chdir(folder)
    (folder / scored.OUTPUTS / "report.html").touch()
    (folder / "outputs/sweeps/people/curves").mkdir(parents=True, exist_ok=True)
    (folder / "outputs/sweeps/people/curves/curves.html").touch()
    row = Row(what="SFT", model="{model}-sft")
    curves = {"sample": "configs/sweeps/people.yaml", "other": "configs/sweeps/none.yaml"}
    chapters = (
        Chapter(title="Studies", split="study", rows=(row,), sweep=curves),
        Chapter(title="Arms", split="condition", rows=(row,)),
    )
    paper_table(Paper(source="here", chapters=chapters), ["tiny"], "sample")
    page = Path("outputs/sample/paper/paper.html")
    links = re.findall(r'href="(\.\./[^"]+)"', page.read_text())
    assert links == ["../study/report.html", "../../sweeps/people/curves/curves.html"]
    assert all((page.parent / link).is_file() for link in links)


def test_every_ceiling_of_the_shipped_file_is_one_of_the_scores(folder: Path) -> None:
    shipped = read_paper(ROOT / "configs/paper.yaml")
    rows = [row for chapter in shipped.chapters for row in chapter.rows if row.ceiling]
    scores = read_scores(folder / scored.OUTPUTS / "eval/tiny-sft")
    assert rows and all(row.metric in getattr(scores.ceiling, row.ceiling or "") for row in rows)


def test_nearer_than_the_base_is_a_share_of_its_distance(folder: Path, monkeypatch) -> None:
    row = Row(what="nearer", model="{model}-sft", against="{model}-base")
    line = table_of(folder, monkeypatch, row).row(0, named=True)
    of = {
        name: read_scores(folder / scored.OUTPUTS / f"eval/tiny-{name}").metrics["wasserstein_observed"].value
        for name in ("base", "sft")
    }
    assert line["estimate"] == pytest.approx((of["base"] - of["sft"]) / of["base"])


def test_what_is_missing_names_the_command_that_makes_it(folder: Path, monkeypatch) -> None:
    rows = (Row(what="KTO", model="{model}-kto"), Row(what="other", model="llama3-8b-base"))
    verdicts = table_of(folder, monkeypatch, *rows)["verdict"].to_list()
    assert verdicts[0].startswith("missing: make eval MODEL=tiny")
    assert verdicts[1] == "missing: make eval MODEL=llama3-8b-base DATA=sample SPLIT=study"


def test_rows_of_another_data_set_are_left_out(folder: Path, monkeypatch) -> None:
    rows = (Row(what="SFT", model="{model}-sft"), Row(what="released", model="x", only="socsci210"))
    assert table_of(folder, monkeypatch, *rows)["what"].to_list() == ["SFT"]


@pytest.mark.parametrize(
    ("published", "words"), [(0.15, "agrees"), (0.30, "outside our interval"), (None, "nothing published")]
)
def test_the_verdict_is_whether_the_published_figure_lies_in_our_interval(published, words) -> None:
    assert words in _verdict(Estimate(value=0.16, low=0.14, high=0.18), published, "socsci210")


def test_the_shipped_file_has_every_command_in_the_order_of_its_needs() -> None:
    steps = list(commands(read_paper(ROOT / "configs/paper.yaml"), ["tiny"], "sample", train=True))
    words = [" ".join(step[:2]) for step in steps if "study" in step]
    assert words[:4] == ["data make", "train sft", "train dpo", "eval --model"]
    assert steps[:2] == [["data", "sample"], ["data", "tiny"]]
    assert ["sweep", "configs/sweeps/participants.yaml"] in steps
    assert {step[step.index("--split") + 1] for step in steps if "--split" in step} == {
        "study", "condition", "task", "participant",
    }  # fmt: skip
    without = commands(read_paper(ROOT / "configs/paper.yaml"), ["x"], "y", train=False)
    assert not any(step[0] in ("train", "sweep") for step in without)
