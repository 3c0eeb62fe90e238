"""Every model of a name predicts the same rows, once."""

from pathlib import Path

import pytest

from common.errors import Refusal
from eval import evaluate
from eval.evaluation import SomeFailed
from socrates import app
from tests.helpers import tiny_models
from tests.helpers.fake_server import FakeServer, answer_all
from tests.helpers.rows import make_rows


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with evaluation rows, whose scoring only says that it was called."""
    monkeypatch.setenv("SOCRATES_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("eval.scoring.run.score_models", lambda *_, **__: "scored")
    (tmp_path / "data/sample/study").mkdir(parents=True)
    make_rows(14).write_parquet(tmp_path / "data/sample/study/eval.parquet")
    return tmp_path


def test_a_base_and_a_folder_predict_and_a_second_call_has_nothing_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOCRATES_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    for family in ("llama", "qwen"):
        tiny_models.make(family, tmp_path / "models" / family)
    (tmp_path / "configs/small").mkdir(parents=True)
    (tmp_path / "configs/small/sft.yaml").write_text("model_name_or_path: models/llama\n")
    (tmp_path / "data/sample/study").mkdir(parents=True)
    with pytest.raises(Refusal, match="make data DATA=sample SPLIT=study"):
        evaluate("small", "sample", "study")
    make_rows(14).write_parquet(tmp_path / "data/sample/study/eval.parquet")
    first = evaluate("small,models/qwen", "sample", "study")
    assert list(first) == ["small-base", "qwen"]
    assert {done.folder for done in first.values()} == {
        Path("outputs/sample/study/eval") / name for name in first
    }
    assert not first["qwen"].table["probs"].equals(first["small-base"].table["probs"])
    again = evaluate("models/qwen,small", "sample", "study")
    assert all(done.up_to_date for done in again.values())


def test_a_split_where_all_rows_train_names_the_one_that_evaluates_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOCRATES_HOME", str(tmp_path))
    (tmp_path / "data/sample/none").mkdir(parents=True)
    with pytest.raises(Refusal, match="is missing; with SPLIT=none all rows train; SPLIT=all"):
        evaluate("owner/name", "sample", "none")
    make_rows(4).clear().write_parquet(tmp_path / "data/sample/none/eval.parquet")
    with pytest.raises(Refusal, match="holds no rows; with SPLIT=none all rows train; SPLIT=all"):
        evaluate("owner/name", "sample", "none")


def test_a_model_that_fails_keeps_no_other_from_being_evaluated(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny_models.make("qwen", home / "models/whole")
    (home / "models/broken").mkdir()
    (home / "models/torn").mkdir()
    with pytest.raises(SomeFailed, match=r"broken failed: .*; torn failed: "):
        app(["eval", "--model", "models/broken,models/whole,models/torn"], standalone_mode=False)
    out, err = capsys.readouterr()
    assert "whole: 14 rows" in out and "scored" in out
    assert err.count("broken failed: ") == err.count("torn failed: ") == 1
    with pytest.raises(Refusal) as alone:
        evaluate("models/broken", "sample", "study")
    assert not isinstance(alone.value, SomeFailed)


def test_nothing_is_scored_where_every_model_fails(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("one", "other"):
        (home / "models" / name).mkdir(parents=True)
    with pytest.raises(SomeFailed):
        app(["eval", "--model", "models/one,models/other"], standalone_mode=False)
    assert "scored" not in capsys.readouterr().out


def test_a_servers_models_are_evaluated_through_it(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    server = FakeServer()
    server.behave = answer_all
    app(["eval", "--url", server.url, "--model", "owner/large"], standalone_mode=False)
    server.http.shutdown()
    assert "large: 14 rows" in capsys.readouterr().out
    assert {body["model"] for body in server.seen} == {"owner/large"}
    assert (home / "outputs/sample/study/eval/large/predictions.parquet").is_file()
