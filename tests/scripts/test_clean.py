"""Cleaning: all of a split goes, what is being written stays, and what kills left is found."""

from pathlib import Path

import pytest

from common.errors import Refusal
from common.files import atomic_path
from common.step import Step
from scripts.clean import clean, clean_partial


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for folder in (
        "data/sample/study",
        "outputs/sample/study/tiny/sft",
        "outputs/tokenised/sample_study_sft-1",
    ):
        (tmp_path / folder).mkdir(parents=True)
    return tmp_path


def test_a_splits_data_checkpoints_and_tokens_go_and_other_splits_stay(home: Path):
    (home / "data/sample/task").mkdir()
    assert [line.split(": ")[1] for line in clean("sample", "study")] == ["removed"] * 3
    assert [line.split(": ")[1] for line in clean("sample", "study")] == ["nothing to do"] * 2
    assert (home / "data/sample/task").is_dir()


def test_the_tokens_of_a_data_set_whose_name_begins_alike_stay_and_links_are_only_unlinked(home: Path):
    (home / "outputs/tokenised/sample_study_study_sft-1").mkdir()  # of a data set named sample_study
    elsewhere = home / "large-disk"
    elsewhere.mkdir()
    (elsewhere / "model.safetensors").touch()
    (home / "data/sample/task").mkdir()
    (home / "outputs/sample/task").symlink_to(elsewhere)
    clean("sample", "study")
    clean("sample", "task")
    assert [path.name for path in (home / "outputs/tokenised").iterdir()] == ["sample_study_study_sft-1"]
    assert (elsewhere / "model.safetensors").exists() and not (home / "outputs/sample/task").exists()


def test_what_a_killed_clean_had_not_removed_yet_is_out_of_sight_and_removed_later(home: Path, monkeypatch):
    def killed(folder: Path) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("shutil.rmtree", killed)
        clean("sample", "study")
    assert not (home / "data/sample/study").exists()
    assert "study" in clean_partial()[0] and not list((home / "data/sample").iterdir())


@pytest.mark.parametrize(
    ("record", "whole"),
    [("data/sample/study/manifest.json", True), ("outputs/sample/study/tiny/sft/run.json", False)],
)
def test_nothing_is_removed_while_a_step_writes_there(home: Path, record: str, whole: bool):
    with Step(Path(record), whole=whole), pytest.raises(Refusal, match=r"a run is writing .* stop it before"):
        clean("sample", "study")
    assert (home / "data/sample/study").is_dir() and (home / "outputs/sample/study/tiny/sft").is_dir()
    clean("sample", "study")


def test_what_killed_runs_left_goes_and_what_is_being_written_stays(home: Path):
    left = home / "outputs/sample/study/.report.partial.abcd1234"
    (left / "report").mkdir(parents=True)
    (left / "report/index.html").write_text("half")
    parts = home / "outputs/sample/study/eval/tiny-sft/.parts/0123"
    parts.mkdir(parents=True)
    with atomic_path(home / "data/sample/task") as partial:
        partial.mkdir()
        (partial / "sft.jsonl").write_text("half")
        assert len(clean_partial()) == 2
        assert not left.exists() and not parts.parent.exists()
        assert (partial / "sft.jsonl").exists()
    assert clean_partial() == ["nothing to do: no run left anything half-written"]
