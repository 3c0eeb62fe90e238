"""What an evaluation will take is what predicting then takes, as far as it is counted; the rest is named."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from common.errors import Refusal
from eval import Settings, plan_evaluation
from eval.prediction import local_model, planning
from eval.prediction.predictor import Predictor
from socrates import app
from tests.helpers.rows import make_rows


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with 70 evaluation rows, the project's configs in reach."""
    monkeypatch.setenv("SOCRATES_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    (tmp_path / "data/sample/study").mkdir(parents=True)
    make_rows(70).write_parquet("data/sample/study/eval.parquet")
    return tmp_path


@pytest.mark.parametrize("reuse", [True, False])
def test_the_planned_tokens_are_those_that_predicting_computes(
    home: Path, model_folder: Path, monkeypatch: pytest.MonkeyPatch, reuse: bool
):
    """Of enumerable rows, whose other spellings hold nothing that matters."""
    enumerable = make_rows(70).filter(scale_kind="ordinal")
    enumerable.write_parquet("data/sample/study/eval.parquet")
    settings = Settings.model_validate({"local": {"reuse_prefixes": reuse, "batch_tokens": 2048}})
    planned = plan_evaluation(str(model_folder), settings=settings).table.row(0, named=True)
    predictor = Predictor(str(model_folder), settings)
    computed = []
    forward = local_model.LocalModel._forward

    def counted(self, state, tokens, mask, positions):
        computed.append(tokens.size)
        return forward(self, state, tokens, mask, positions)

    monkeypatch.setattr(local_model.LocalModel, "_forward", counted)
    predictor.predict(enumerable)
    assert planned["rows"] == len(enumerable)
    assert planned["computed_tokens"] == sum(computed)
    encoder = predictor.backend.model.encoder
    ids = encoder.encode(enumerable["system"].to_list(), enumerable["prompt"].to_list())
    assert planned["prompt_tokens"] == sum(map(len, ids))
    assert (planned["saved_tokens"] > planned["prompt_tokens"] / 4) == reuse


def test_a_sample_of_the_blocks_comes_near_to_all_of_them(
    home: Path, model_folder: Path, monkeypatch: pytest.MonkeyPatch
):
    whole = plan_evaluation(str(model_folder)).table
    monkeypatch.setattr(planning, "BLOCK", 14)
    monkeypatch.setattr(planning, "BLOCKS", 2)
    part = plan_evaluation(str(model_folder)).table
    assert "28 rows" in part["source"][0] and "70 rows" in whole["source"][0]
    for column in ("prompt_tokens", "requests"):
        assert part[column].to_list() == pytest.approx(whole[column].to_list(), rel=0.15)


def test_requests_grow_with_the_scale_as_they_were_counted():
    assert planning._requests(7, 0.6) == 8
    assert planning._requests(101, 0.6) == pytest.approx(60, abs=1)
    asked = [planning._requests(answers, 0.6) for answers in range(1, 1001)]
    assert asked == sorted(asked)


def test_a_plan_without_rows_or_tokenizer_says_what_it_assumes(home: Path):
    made = plan_evaluation("llama3-8b,qwen2.5-14b", split="task", gpus=2)
    assert made.table["rows"].unique().to_list() == [482_642]
    assert made.table["parameters"].unique(maintain_order=True).to_list() == [8_030_261_248, 14_770_033_664]
    assert "eval.parquet is missing" in str(made) and "400 requests/s a server (not measured)" in str(made)
    assert "all models, vLLM" in str(made)
    counted = plan_evaluation("llama3-8b").table.row(0, named=True)
    assert "assumed: 4 characters a token" in counted["source"] and counted["saved_tokens"] > 0
    one, two = (plan_evaluation("llama3-8b", split="task", gpus=n).table.row(0, named=True) for n in (1, 2))
    assert one["hours"] == pytest.approx(2 * two["hours"]) and one["dollars"] == pytest.approx(two["dollars"])
    flops = 2 * 8_030_261_248 * one["computed_tokens"]
    assert one["hours"] == pytest.approx(flops / (0.35 * 989e12) / 3600)


def test_a_model_too_large_for_a_gpu_has_no_time_in_process_and_several_gpus_in_vllm(home: Path):
    made = plan_evaluation("qwen2.5-14b", gpu="rtx4090-24gb", split="task")
    local, served = made.table.iter_rows(named=True)
    assert local["hours"] is None and "the weights don't fit on one GPU" in str(made)
    assert served["gpus"] == 2 and served["hours"] > 0


def test_what_cannot_be_planned_is_refused_with_the_remedy(home: Path, model_folder: Path):
    for arguments, remedy in (
        ({"settings": Settings(mode="sampled")}, "set mode: exact"),
        ({"gpu": "h1000"}, "choose one of"),
        ({"gpus": 0}, "give 1 or more"),
    ):
        with pytest.raises(Refusal, match=remedy):
            plan_evaluation(str(model_folder), **arguments)
    (home / "empty").mkdir()
    with pytest.raises(Refusal, match=r"give a folder that holds its config\.json"):
        plan_evaluation("empty")


def test_an_adapter_counts_as_its_base(home: Path, model_folder: Path):
    (home / "adapter").mkdir()
    (home / "adapter/adapter_config.json").write_text(f'{{"base_model_name_or_path": "{model_folder}"}}')
    made = plan_evaluation(f"adapter,{model_folder}").table
    assert made["parameters"].n_unique() == 1


def test_the_command_prints_the_plan_and_takes_no_option_that_it_would_ignore(home: Path, model_folder: Path):
    words = ["plan", "--eval", "--model", str(model_folder), "--gpu", "l40s-48gb"]
    printed = CliRunner().invoke(app, words).output
    assert printed.strip() == str(plan_evaluation(str(model_folder), gpu="l40s-48gb"))
    for more in (["--recipe", "my.yaml"], ["--architecture", "config.json"]):
        assert isinstance(CliRunner().invoke(app, [*words, *more]).exception, Refusal)
    assert isinstance(CliRunner().invoke(app, ["plan", "--config", "my.yaml"]).exception, Refusal)
