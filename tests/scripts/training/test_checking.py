"""Recipes are accepted, read as they are meant, or refused with the remedy."""

import copy
import json

import pytest
import yaml

from common.errors import Refusal
from scripts.training import asides, checking
from scripts.training.packages import missing_packages
from scripts.training.planning import plan
from scripts.training.recipe import all_recipes, configs, global_batch, load_recipe

GOOD = {
    "model_name_or_path": "meta-llama/Meta-Llama-3-8B-Instruct", "template": "llama3", "stage": "sft",
    "do_train": True, "finetuning_type": "full", "dataset": "socsci210_study_sft",
    "output_dir": "outputs/socsci210/study/llama3-8b/sft", "per_device_train_batch_size": 8,
    "gradient_accumulation_steps": 32, "bf16": True,
}  # fmt: skip


def refusal(changes):
    recipe, _ = asides.set_aside({**copy.deepcopy(GOOD), **changes})
    with pytest.raises(Refusal) as refused:
        checking.check(recipe, "my.yaml")
    assert "my.yaml" in str(refused.value) and "\n" not in str(refused.value)
    return str(refused.value)


@pytest.mark.parametrize("path", all_recipes(), ids=str)
def test_every_shipped_recipe_is_accepted_by_llamafactory_as_it_is(path):
    checked = checking.check_recipe(path)
    assert checked.recipe == load_recipe(path)


def test_an_unknown_key_is_refused_with_the_nearest_known_one():
    assert "did you mean 'learning_rate'?" in refusal({"learning_rat": 1e-5})


def test_a_value_of_the_wrong_type_is_refused():
    assert "cutoff_len: 'long'" in refusal({"cutoff_len": "long"})
    assert "learning_rate" in refusal({"learning_rate": "small"})
    assert "pref_loss" in refusal({"pref_loss": "sigmod"})


def test_what_llamafactorys_own_checks_refuse_is_refused_with_its_reason():
    assert "LLaMA-Factory refuses it" in refusal({"stage": "dpo", "dataset": "a", "neat_packing": True})


@pytest.mark.parametrize(
    ("changes", "remedy"),
    [
        ({"template": "qwen"}, "set llama3"),
        ({"eval_strategy": "steps"}, "set eval_dataset"),
        ({"dataset": "socsci210_study_dpo"}, "use *_sft for sft"),
        ({"quantization_bit": 4}, "set finetuning_type: lora"),
        ({"early_stopping_steps": 3}, "set load_best_model_at_end"),
        (
            {"deepspeed": "configs/deepspeed/zero3-offload.json", "optim": "adamw_8bit"},
            "set optim: adamw_torch",
        ),
        ({"deepspeed": "configs/deepspeed/zero3.json", "pure_bf16": True}, "set bf16: true"),
        (
            {"deepspeed": "configs/deepspeed/zero3.json", "quantization_bit": 4, "finetuning_type": "lora"},
            "use configs/deepspeed/zero2.json",
        ),
        ({"do_train": False}, "set do_train: true"),
    ],
)
def test_settings_that_conflict_are_refused_with_the_remedy(changes, remedy):
    assert remedy in refusal(changes)


def test_a_missing_deepspeed_file_is_refused():
    with pytest.raises(Refusal, match=r"zero9\.json is missing; configs/deepspeed/ holds the ready ones"):
        checking.check({**GOOD, "deepspeed": "configs/deepspeed/zero9.json"}, "my.yaml")


def test_the_documented_third_family_is_accepted():
    blocks = (configs() / "README.md").read_text().split("```yaml\n")[1:]
    sft, dpo = (yaml.safe_load(block.split("```")[0]) for block in blocks)
    checking.check(sft, "sft")
    checking.check(sft | dpo, "dpo")
    assert global_batch(sft) == global_batch(sft | dpo) == 256
    with pytest.raises(Refusal, match="set mistral"):
        checking.check({**sft, "template": "llama3"}, "sft")


def test_a_data_set_that_is_not_registered_is_named_with_those_that_are(tmp_path, monkeypatch):
    monkeypatch.setenv("SOCRATES_HOME", str(tmp_path))
    (tmp_path / "data").mkdir()
    recipe = tmp_path / "my.yaml"
    recipe.write_text(yaml.safe_dump({**GOOD, "dataset": "socsci210_study_sft,my_instruction"}))
    assert checking.check_recipe(recipe).notes == []  # nothing is known yet
    (tmp_path / "data/dataset_info.json").write_text('{"my_instructions": {"file_name": "mine.jsonl"}}')
    (note,) = checking.check_recipe(recipe).notes
    assert note.startswith("data/dataset_info.json has no data set 'my_instruction'; it has my_instructions;")
    assert "no data set 'my_instruction'; it has my_instructions" in str(
        plan("sft", "llama3-8b", recipe=recipe)
    )


@pytest.mark.parametrize(
    ("model", "method", "packages"),
    [
        ("local", "gptq", ["gptqmodel>=2.0.0", "optimum"]),
        ("local", "awq", ["autoawq", "gptqmodel>=2.0.0"]),
        ("local", "fp8", []),
        ("someone/Llama-3-8B-Instruct-AWQ", None, ["autoawq", "gptqmodel>=2.0.0"]),
        ("someone/AWQuila-8B", None, []),
    ],
)
def test_what_loading_a_quantised_model_takes_is_named_before_the_start(tmp_path, model, method, packages):
    if method:
        model = str(tmp_path)
        (tmp_path / "config.json").write_text(json.dumps({"quantization_config": {"quant_method": method}}))
    recipe = {**GOOD, "model_name_or_path": model, "finetuning_type": "lora"}
    named = [f"needs {name}, which isn't installed; pip install '{name}'" for name in packages]
    assert list(missing_packages(recipe)) == named
    if packages:
        assert "set finetuning_type: lora" in refusal({**recipe, "finetuning_type": "full"})
        assert "use configs/deepspeed/zero2.json" in refusal(
            {**recipe, "deepspeed": "configs/deepspeed/zero3.json"}
        )
