"""Curves of a sweep stand on the scores that each point's folder holds."""

import csv
from pathlib import Path

import pytest

from common.errors import Refusal
from eval.reporting.curves import curves
from eval.scoring.record import read_scores
from tests.helpers import scored

README = Path(__file__).parents[3] / "eval/reporting/README.md"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return scored.write(tmp_path_factory.mktemp("curves")) / scored.OUTPUTS / "eval"


def test_a_curve_holds_each_points_estimate_and_interval(folder: Path, tmp_path: Path) -> None:
    points = [({"share": 0.1}, folder / "tiny-base"), ({"share": 1.0}, folder / "tiny-sft")]
    drawn = curves("Shares", "share", points, ["accuracy_observed"], tmp_path)
    truth = read_scores(folder / "tiny-base").metrics["accuracy_observed"]
    first = drawn.table.row(0, named=True)
    assert (first["share"], first["estimate"]) == (0.1, truth.value)
    assert first["conf_low"] <= truth.value <= first["conf_high"]
    with (tmp_path / "curves/curves.csv").open() as file:
        table = list(csv.DictReader(file))
    assert [row["share"] for row in table] == ["0.1", "1.0"]
    explained = README.read_text().split("curves.csv |")[1].split("\n")[0]
    assert all(f"`{column}`" in explained for column in table[0] if column != "share")
    assert "Shares" in drawn.page.read_text() and (tmp_path / "curves/accuracy_observed.png").is_file()


def test_a_run_that_breaks_off_leaves_the_former_curves_none_of_them_newer(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "data").mkdir()  # the sweep's data sets lie beside its curves
    curves("Shares", "share", [({"share": 0.1}, folder / "tiny-base")], ["accuracy_observed"], tmp_path)
    before = {path.name: path.read_bytes() for path in (tmp_path / "curves").iterdir()}
    points = [({"share": 0.1}, folder / "tiny-sft")]
    with monkeypatch.context() as patch:
        patch.setattr("eval.reporting.curves.render", lambda *_, **__: 1 / 0)  # what is written last
        with pytest.raises(ZeroDivisionError):
            curves("Shares", "share", points, ["accuracy_observed"], tmp_path)
    assert {path.name: path.read_bytes() for path in (tmp_path / "curves").iterdir()} == before
    curves("Shares", "share", points, ["crps"], tmp_path)
    names = {path.name for path in (tmp_path / "curves").iterdir()}
    assert names == {"curves.csv", "curves.html", "crps.png", "crps.svg"} and (tmp_path / "data").is_dir()


def test_seeds_are_averaged(folder: Path, tmp_path: Path) -> None:
    points = [
        ({"share": 1, "seed": seed}, folder / name) for seed, name in enumerate(("tiny-sft", "tiny-dpo"))
    ]
    table = curves("t", "share", points, ["accuracy_observed"], tmp_path).table
    values = [read_scores(scores).metrics["accuracy_observed"].value for _, scores in points]
    assert table.height == 1 and table["runs"][0] == 2
    assert table["estimate"][0] == pytest.approx(sum(values) / 2)


def test_a_metric_that_scores_lack_is_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(Refusal, match="no metric happiness"):
        curves("t", "share", [({"share": 1}, folder / "tiny-sft")], ["happiness"], tmp_path)
