"""Where models and runs are."""

from pathlib import Path

import pytest

from common.errors import Refusal
from common.runs import aside, base_model, finished_runs, how_to_get, recipe_models, recipe_path


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("tiny", "tiny-qwen"):
        (tmp_path / "configs" / name).mkdir(parents=True)
        (tmp_path / "configs" / name / "sft.yaml").write_text(f"model_name_or_path: outputs/models/{name}\n")
    return tmp_path


def test_a_model_is_a_folder_of_recipes(home: Path):
    assert recipe_models() == ["tiny", "tiny-qwen"]
    assert recipe_path("tiny") == Path("configs/tiny/sft.yaml")
    assert base_model("tiny") == "outputs/models/tiny"


@pytest.mark.parametrize(
    ("model", "stage", "words"),
    [
        ("tinny", "sft", "unknown MODEL=tinny; did you mean tiny?"),
        ("zzz", "sft", "choose one of tiny, tiny-qwen"),
        ("../tiny", "sft", "unknown MODEL=../tiny"),
        ("tiny", "dpo", "configs/tiny has no recipe dpo.yaml; there are sft."),
    ],
)
def test_an_unknown_model_or_recipe_is_refused_with_those_that_exist(home: Path, model, stage, words):
    with pytest.raises(Refusal) as refused:
        recipe_path(model, stage)
    assert words in str(refused.value)


@pytest.mark.parametrize("text", ["stage: sft", "- a", "model_name_or_path: [a]", ""])
def test_a_recipe_without_a_model_is_refused(home: Path, text: str):
    recipe_path("tiny").write_text(text)
    with pytest.raises(Refusal, match="names no model_name_or_path"):
        base_model("tiny")


def test_finished_runs_are_in_the_order_of_training_and_replaced_ones_are_left_out(home: Path):
    outputs = Path("outputs/sample/study")
    for run in ("tiny/dpo", "tiny/sft", "tiny-qwen/sft", "tiny/sft-long", "tiny/unfinished", "eval/tiny-sft"):
        (outputs / run).mkdir(parents=True)
        if "unfinished" not in run and "eval" not in run:
            (outputs / run / "run.json").write_text("{}")
    old = aside(outputs / "tiny/sft")
    (outputs / "tiny/sft").rename(old)
    assert old.name.startswith("sft.old-2")
    names = [f"{run.parent.name}/{run.name}" for run in finished_runs("sample", "study")]
    assert names == ["tiny/sft-long", "tiny/dpo", "tiny-qwen/sft"]
    assert [run.name for run in finished_runs("sample", "study", "tiny-qwen")] == ["sft"]


@pytest.mark.parametrize(
    ("folder", "command"),
    [
        ("outputs/models/tiny-qwen", "make tiny-models"),
        ("outputs/models/smollm2-135m", "socrates fetch-model smollm2-135m"),
        ("outputs/sample/study/tiny/sft", "make train-sft"),
    ],
)
def test_a_missing_models_remedy_is_the_command_that_makes_it(home: Path, folder: str, command: str):
    assert command in how_to_get(Path(folder))
