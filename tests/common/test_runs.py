"""Where models and runs are."""

from pathlib import Path

import pytest

from common.contract import Hardware, RunRecord
from common.errors import Refusal
from common.files import write_json
from common.runs import (
    aside,
    base_model,
    earlier_adapters,
    finished_runs,
    how_to_get,
    recipe_models,
    recipe_path,
)


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


def write_run(folder: Path, arguments: dict[str, object]) -> None:
    record = RunRecord(
        inputs="", layout={}, arguments=arguments, tokens_per_epoch=1, command=[], data_manifest=None,
        git_commit=None, hardware=Hardware(machine="", cores=1, device="cpu"), losses=[], sessions=[],
        peak_memory_bytes=1, tokens={}, versions={},
    )  # fmt: skip
    folder.mkdir(parents=True)
    write_json(folder / "run.json", record.model_dump(by_alias=True))


def test_a_run_on_top_of_merged_adapters_names_them_and_so_do_its_checkpoints(home: Path):
    run = Path("outputs/sample/study/tiny/dpo-lora")
    write_run(run, {"create_new_adapter": True, "adapter_name_or_path": "outputs/a,outputs/b"})
    (run / "checkpoint-3").mkdir()
    for folder in (run, run / "checkpoint-3"):
        assert earlier_adapters(folder) == [Path("outputs/a"), Path("outputs/b")]


@pytest.mark.parametrize(
    "arguments", [{}, {"adapter_name_or_path": "outputs/a"}, {"create_new_adapter": True}]
)
def test_other_runs_and_folders_have_no_earlier_adapters(home: Path, arguments: dict[str, object]):
    """One that goes on training an adapter holds all of it itself."""
    run = Path("outputs/sample/study/tiny/sft-lora")
    write_run(run, arguments)
    assert earlier_adapters(run) == [] and earlier_adapters(Path("outputs")) == []
