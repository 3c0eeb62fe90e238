"""Stable names, and no path outside the project's folders."""

from pathlib import Path

import pytest

from common.errors import Refusal
from common.paths import configs, dataset_name, output_dir, root, safe_name, source_dir, split_dir


def test_the_built_in_data_sets_have_stable_places():
    assert split_dir("sample", "study") == Path("data/sample/study")
    assert output_dir("socsci210", "condition") == Path("outputs/socsci210/condition")
    assert source_dir("sample") == Path("data/sample/source")


def test_a_folder_in_the_hubs_layout_gives_its_own_name(tmp_path: Path):
    folder = tmp_path / "my-survey"
    folder.mkdir()
    assert split_dir(f"{folder}/", "task") == Path("data/my-survey/task")
    assert source_dir(str(folder)) == folder


def test_a_folders_name_stands_for_its_data_sets_once_they_are_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("SOCRATES_HOME", str(tmp_path))
    with pytest.raises(Refusal, match="neither sample"):
        dataset_name("my-survey")
    task = tmp_path / "data/my-survey/task"
    task.mkdir(parents=True)
    (task / "manifest.json").write_text("{}")
    assert split_dir("my-survey", "study") == tmp_path / "data/my-survey/study"
    with pytest.raises(Refusal, match="give the folder"):
        source_dir("my-survey")


def test_a_folder_that_is_not_there_is_refused_with_the_choices(tmp_path: Path):
    with pytest.raises(Refusal, match=r"neither sample nor socsci210 nor an imported survey nor a folder"):
        dataset_name(str(tmp_path / "nowhere"))


@pytest.mark.parametrize("name", ["sample", "socsci210", "with space", ".hidden", "a;b"])
def test_a_folder_whose_name_would_collide_or_escape_is_refused(tmp_path: Path, name: str):
    (tmp_path / name).mkdir()
    with pytest.raises(Refusal, match="rename the folder"):
        dataset_name(str(tmp_path / name))


def test_an_unknown_split_is_refused_with_the_choices():
    with pytest.raises(Refusal, match="study, task, condition, participant"):
        split_dir("sample", "random")


@pytest.mark.parametrize("name", ["../../x", "a/b", "", ".", "..", "a..b", "x\0y", "x" * 65])
def test_a_name_that_could_leave_its_folder_is_refused(name: str):
    with pytest.raises(Refusal):
        safe_name(name, "the study id")


def test_the_projects_folder_is_found_from_any_working_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    project = Path(__file__).parent.parent.parent
    monkeypatch.delenv("SOCRATES_HOME")
    monkeypatch.chdir(tmp_path)
    assert root() == project and split_dir("sample", "task") == project / "data/sample/task"
    monkeypatch.chdir(project)
    assert str(output_dir("sample", "task")) == "outputs/sample/task"


def test_a_home_of_ones_own_holds_all_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("SOCRATES_HOME", str(tmp_path))
    assert source_dir("sample") == tmp_path / "data/sample/source"
    monkeypatch.setenv("SOCRATES_HOME", str(tmp_path / "none"))
    with pytest.raises(Refusal, match=r"SOCRATES_HOME=.*none is not a folder"):
        root()


def test_a_home_without_recipes_uses_the_projects(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("SOCRATES_HOME", str(tmp_path))
    assert (configs() / "tiny/sft.yaml").is_file()
    (tmp_path / "configs").mkdir()
    assert configs() == tmp_path / "configs"
