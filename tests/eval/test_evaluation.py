"""Every model of a name predicts the same rows, once."""

from pathlib import Path

import pytest

from common.errors import Refusal
from eval import evaluate
from tests.helpers import tiny_models
from tests.helpers.rows import make_rows


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
