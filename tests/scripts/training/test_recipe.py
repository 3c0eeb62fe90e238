import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import Refusal
from scripts.training import recipe as recipes


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


def test_a_key_given_twice_is_refused(tmp_path):
    file = tmp_path / "my.yaml"
    file.write_text("seed: 1\nseed: 2\n")
    with pytest.raises(Refusal, match=r"my\.yaml line 2: `seed` appears twice"):
        recipes.load_recipe(file)


def test_a_number_without_a_point_is_a_number_as_in_llamafactory(tmp_path):
    file = tmp_path / "my.yaml"
    file.write_text("learning_rate: 1e-5\nseed: 3\n")
    assert recipes.load_recipe(file) == {"learning_rate": 1e-5, "seed": 3}
    assert recipes.parse_override("learning_rate=2e-5") == ("learning_rate", 2e-5)


@pytest.mark.parametrize("text", ["- a\n- b\n", "", "a: [\n"])
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


def test_the_documentation_names_every_recipe():
    text = (recipes.configs() / "README.md").read_text()
    for path in recipes.all_recipes():
        name = f"{path.parent.name}/{path.name}"
        assert any(f"{folder}/{path.name}" in text for folder in (path.parent.name, "<model>", "<small>")), (
            name
        )


@pytest.mark.parametrize(
    "folder",
    ["outputs/a/b/c/.", "outputs/a/b/c/..", "outputs/a/b/sft", "outputs/../b/c/../d", ["a"], "..", "-x"],
)
def test_a_run_is_named_by_one_plain_word(folder):
    with pytest.raises(Refusal, match="output_dir"):
        recipes.resolve({"output_dir": folder}, "sample", "study", "tiny", "sft")


def test_a_folder_elsewhere_is_a_run_named_by_the_stage():
    resolved = recipes.resolve({"output_dir": "saves/llama3/lora/sft"}, "sample", "study", "tiny", "sft")
    assert resolved["output_dir"] == "outputs/sample/study/tiny/sft"


def test_a_recipe_that_is_a_folder_is_refused(tmp_path):
    with pytest.raises(Refusal, match="is a folder"):
        recipes.load_recipe(tmp_path)


def test_a_stage_without_a_recipe_names_those_that_there_are():
    with pytest.raises(Refusal, match=r"has no recipe sft-lora\.yaml; there are dpo, "):
        recipes.find_recipe("tiny", "sft-lora", None)


def test_recipes_are_listed_and_copied_but_never_over_a_file(tmp_path):
    frame = recipes.list_recipes()
    row = frame.row(by_predicate=pl.col("path") == "configs/llama3-8b/sft.yaml", named=True)
    assert row["global_batch"] == 256 and row["method"] == "full"
    copied = recipes.copy_recipe("tiny", "sft", tmp_path / "my.yaml")
    assert recipes.load_recipe(copied) == recipes.load_recipe("configs/tiny/sft.yaml")
    with pytest.raises(Refusal, match="never overwritten"):
        recipes.copy_recipe("tiny", "dpo", copied)
