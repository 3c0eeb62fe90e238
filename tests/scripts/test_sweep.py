"""A sweep is a list of ordinary commands; each point has a data set and a run of its own."""

import shlex
from pathlib import Path

import pytest

from common.errors import Refusal
from scripts.sweep import points_of, read_sweep, write_slurm
from tests.helpers.small_source import write_source

ROOT = Path(__file__).parents[2]
FILE = """
title: Less data
data: small
split: study
along: respondents_per_cell
vary:
  data: {respondents_per_cell: [2, 5]}
  recipe: {seed: [1, 2]}
recipe: {max_steps: 3}
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a small source, the recipes and a sweep file."""
    write_source(tmp_path / "small")
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    (tmp_path / "my.yaml").write_text(FILE)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_every_combination_is_a_point_of_four_resumable_commands(project: Path) -> None:
    points = points_of(read_sweep(project / "my.yaml"), Path("outputs/sweeps/my"))
    assert [(p.values["respondents_per_cell"], p.values["seed"]) for p in points] == [
        (2, 1), (2, 2), (5, 1), (5, 2),
    ]  # fmt: skip
    assert [command[0] for command in points[0].commands] == ["data", "train", "predict", "score"]
    assert "max_steps=3" in points[0].commands[1] and "seed=1" in points[0].commands[1]


def test_points_share_a_data_set_exactly_where_its_settings_are_the_same(project: Path) -> None:
    points = points_of(read_sweep(project / "my.yaml"), Path("outputs/sweeps/my"))
    assert points[0].data == points[1].data != points[2].data
    assert len({point.scores for point in points}) == 4
    home = Path(points[2].data)
    assert (home / "data").resolve() == (project / "small/data").resolve()
    assert "respondents_per_cell: 5" in (home / "settings.yaml").read_text()


def test_a_slurm_array_has_a_task_for_each_point(project: Path) -> None:
    points = points_of(read_sweep(project / "my.yaml"), Path("outputs/sweeps/my"))
    text = write_slurm(points, Path("outputs/sweeps/my/sweep.sbatch")).read_text()
    assert "--array=0-3" in text
    assert all(shlex.join(command) in text for point in points for command in point.commands)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (("along: respondents_per_cell", "along: seeds"), "not among the keys that vary"),
        (("respondents_per_cell", "respondents"), "no data setting"),
        (("title: Less data", "titel: Less data"), "titel"),
        (("[2, 5]", "[]"), "respondents_per_cell"),
    ],
)
def test_what_a_sweep_cannot_vary_is_refused(project: Path, change: tuple[str, str], reason: str) -> None:
    path = project / "my.yaml"
    path.write_text(FILE.replace(*change))
    with pytest.raises(Refusal, match=reason):
        read_sweep(path)


@pytest.mark.parametrize("name", ["participants", "studies"])
def test_the_shipped_sweeps_are_read(name: str) -> None:
    assert read_sweep(ROOT / f"configs/sweeps/{name}.yaml").along
