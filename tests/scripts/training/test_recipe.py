import copy

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from common.errors import Refusal
from scripts.training import recipe as recipes

GOOD = {
    "model_name_or_path": "meta-llama/Meta-Llama-3-8B-Instruct", "template": "llama3", "stage": "sft",
    "do_train": True, "finetuning_type": "full", "dataset": "socsci210_study_sft",
    "output_dir": "outputs/socsci210/study/llama3-8b/sft", "per_device_train_batch_size": 8,
    "gradient_accumulation_steps": 32, "bf16": True,
}  # fmt: skip


def refusal(changes, tmp_path):
    recipe = {**copy.deepcopy(GOOD), **changes}
    with pytest.raises(Refusal) as refused:
        recipes.check(recipe, "my.yaml")
    assert "my.yaml" in str(refused.value) and "\n" not in str(refused.value)
    return str(refused.value)


@pytest.mark.parametrize("path", recipes.all_recipes(), ids=str)
def test_every_shipped_recipe_is_accepted_by_llamafactory_as_it_is(path):
    recipes.check(recipes.load_recipe(path), path)


def test_published_recipes_have_the_published_values():
    for model in ("llama3-8b", "qwen2.5-14b"):
        for stage, rate in (("sft", 1e-5), ("dpo", 1e-6)):
            recipe = recipes.load_recipe(recipes.find_recipe(model, stage, None))
            assert recipes.global_batch(recipe) == 256
            assert recipe["learning_rate"] == rate
            assert (recipe["num_train_epochs"], recipe["weight_decay"], recipe["warmup_steps"]) == (
                1,
                0.1,
                0.05,
            )
            assert (recipe["lr_scheduler_type"], recipe["finetuning_type"], recipe["bf16"]) == (
                "cosine",
                "full",
                True,
            )


def test_an_unknown_key_is_refused_with_the_nearest_known_one(tmp_path):
    assert "did you mean 'learning_rate'?" in refusal({"learning_rat": 1e-5}, tmp_path)


def test_a_value_of_the_wrong_type_is_refused(tmp_path):
    assert "cutoff_len: 'long'" in refusal({"cutoff_len": "long"}, tmp_path)
    assert "learning_rate" in refusal({"learning_rate": "small"}, tmp_path)
    assert "pref_loss" in refusal({"pref_loss": "sigmod"}, tmp_path)


def test_what_llamafactorys_own_checks_refuse_is_refused_with_its_reason(tmp_path):
    assert "LLaMA-Factory refuses it" in refusal(
        {"stage": "dpo", "dataset": "a", "neat_packing": True}, tmp_path
    )


@pytest.mark.parametrize(
    ("changes", "remedy"),
    [
        ({"save_only_model": True}, "set it to false"),
        ({"template": "qwen"}, "set llama3"),
        ({"eval_strategy": "steps"}, "set eval_dataset"),
        ({"dataset": "socsci210_study_dpo"}, "use *_sft for sft"),
        ({"tokenized_path": "cache"}, "remove it"),
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
        ({"trust_remote_code": True}, "stranger's code"),
    ],
)
def test_settings_that_conflict_are_refused_with_the_remedy(changes, remedy, tmp_path):
    assert remedy in refusal(changes, tmp_path)


def test_a_missing_deepspeed_file_is_refused():
    with pytest.raises(Refusal, match="configs/deepspeed/ holds the ready ones"):
        recipes.check({**GOOD, "deepspeed": "configs/deepspeed/zero9.json"}, "my.yaml")


def test_a_key_given_twice_is_refused(tmp_path):
    file = tmp_path / "my.yaml"
    file.write_text("seed: 1\nseed: 2\n")
    with pytest.raises(Refusal, match="'seed' is given twice"):
        recipes.load_recipe(file)


def test_a_number_without_a_point_is_a_number_as_in_llamafactory(tmp_path):
    file = tmp_path / "my.yaml"
    file.write_text("learning_rate: 1e-5\nseed: 3\n")
    assert recipes.load_recipe(file) == {"learning_rate": 1e-5, "seed": 3}
    assert recipes.parse_override("learning_rate=2e-5") == ("learning_rate", 2e-5)


@pytest.mark.parametrize("text", ["- a\n- b\n", "", "a: [\n", "1: 2\n"])
def test_a_file_that_is_no_recipe_is_refused(text, tmp_path):
    file = tmp_path / "my.yaml"
    file.write_text(text)
    with pytest.raises(Refusal, match=r"my\.yaml"):
        recipes.load_recipe(file)


def test_an_unknown_model_is_refused_with_the_nearest_one():
    with pytest.raises(Refusal, match="did you mean llama3-8b"):
        recipes.find_recipe("llama-8b", "sft", None)


@given(per_device=st.integers(1, 16), accumulation=st.integers(1, 64), processes=st.integers(1, 64))
def test_the_global_batch_is_the_same_for_any_number_of_processes_or_refused(
    per_device, accumulation, processes
):
    recipe = {"per_device_train_batch_size": per_device, "gradient_accumulation_steps": accumulation}
    if per_device * accumulation % processes:
        with pytest.raises(Refusal, match="can't be divided"):
            recipes.divide_batch(recipe, processes)
    else:
        size, steps = recipes.divide_batch(recipe, processes)
        assert size * steps * processes == per_device * accumulation
        assert size <= per_device


def test_the_recipe_moves_to_the_chosen_data_set_and_split():
    recipe = recipes.load_recipe("configs/llama3-8b/dpo.yaml")
    resolved = recipes.resolve(recipe, "my-data", "condition", "llama3-8b", "dpo")
    assert resolved["dataset"] == "my-data_condition_dpo"
    assert resolved["output_dir"] == "outputs/my-data/condition/llama3-8b/dpo"
    assert resolved["model_name_or_path"] == "outputs/my-data/condition/llama3-8b/sft"
    assert {key for key in recipe if recipe[key] != resolved[key]} == {
        "dataset",
        "output_dir",
        "model_name_or_path",
    }


def test_a_variant_keeps_its_own_folder_and_a_hub_model_its_name():
    resolved = recipes.resolve(
        recipes.load_recipe("configs/llama3-8b/sft-lora.yaml"), "sample", "task", "llama3-8b", "sft"
    )
    assert resolved["output_dir"] == "outputs/sample/task/llama3-8b/sft-lora"
    assert resolved["eval_dataset"] == "sample_task_sft_validation"
    assert resolved["model_name_or_path"] == "meta-llama/Meta-Llama-3-8B-Instruct"


def test_the_command_line_names_each_refused_recipe_and_fails(tmp_path, monkeypatch, capsys):
    file = tmp_path / "my.yaml"
    file.write_text(yaml.safe_dump({**GOOD, "learning_rat": 1}))
    monkeypatch.setattr("sys.argv", ["recipes", str(file)])
    with pytest.raises(Refusal, match="1 of 1 recipes refused"):
        recipes.main()
    assert "unknown key 'learning_rat'" in capsys.readouterr().out


def test_the_documentation_names_every_recipe():
    text = (recipes.CONFIGS / "README.md").read_text()
    for path in recipes.all_recipes():
        name = f"{path.parent.name}/{path.name}"
        assert name in text or f"<model>/{path.name}" in text, name


def test_the_documented_third_family_is_accepted():
    blocks = (recipes.CONFIGS / "README.md").read_text().split("```yaml\n")[1:]
    sft, dpo = (yaml.safe_load(block.split("```")[0]) for block in blocks)
    recipes.check(sft, "sft")
    recipes.check(sft | dpo, "dpo")
    assert recipes.global_batch(sft) == recipes.global_batch(sft | dpo) == 256
    with pytest.raises(Refusal, match="set mistral"):
        recipes.check({**sft, "template": "llama3"}, "sft")
