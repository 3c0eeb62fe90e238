from pathlib import Path

import numpy as np
import pytest

from common.gpus import dollars_in_words, hours_in_words
from scripts.training import memory, planning, rows
from scripts.training.recipe import divide_batch, load_recipe, zero_config
from scripts.training.tokens import tokenise
from tests.helpers.training_data import DPO, RECIPE, make_workplace

FULL = {
    "stage": "sft",
    "finetuning_type": "full",
    "bf16": True,
    "per_device_train_batch_size": 8,
    "gradient_accumulation_steps": 32,
}
LLAMA, QWEN = Path("configs/llama3-8b/architecture.json"), Path("configs/qwen2.5-14b/architecture.json")


def states(parts):
    return parts["weights"] + parts["gradients"] + parts["optimizer"]


@pytest.mark.parametrize(("folder", "parameters"), [(LLAMA, 8_030_261_248), (QWEN, 14_770_033_664)])
def test_the_shipped_figures_give_the_models_known_sizes(folder, parameters):
    assert memory.architecture(folder).parameters == parameters


@pytest.mark.parametrize("gpus", [1, 2, 8, 64])
@pytest.mark.parametrize("folder", [LLAMA, QWEN])
def test_model_states_agree_with_deepspeeds_own_estimators(folder, gpus):
    from deepspeed.runtime.zero.stage3 import estimate_zero3_model_states_mem_needs
    from deepspeed.runtime.zero.stage_1_and_2 import estimate_zero2_model_states_mem_needs

    arch = memory.architecture(folder)
    two = memory.memory(arch, FULL, "ZeRO-2", gpus, 1, 1)
    _, expected = estimate_zero2_model_states_mem_needs(arch.parameters, gpus, 1, cpu_offload=False)
    assert states(two) == pytest.approx(expected, rel=1e-6)
    three = memory.memory(arch, FULL, "ZeRO-3", gpus, 1, 1)
    _, expected, gathered = estimate_zero3_model_states_mem_needs(
        arch.parameters, arch.largest, gpus, 1, False, False
    )
    assert states(three) + gathered == pytest.approx(expected, rel=1e-6)


def peak_allocation(run):
    """Bytes that `run` has allocated at most at one time, as PyTorch's own profiler saw it."""
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        run()
    events = profiled.profiler.kineto_results.events()
    now = top = 0
    for _, size in sorted(
        (event.start_ns(), event.nbytes()) for event in events if event.name() == "[memory]"
    ):
        now += size
        top = max(top, now)
    return top


def small_model(sizes, checkpointing):
    """(a Llama of (hidden, mlp, layers, vocabulary) with gradients in place, its architecture)."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    hidden, mlp, layers, vocabulary = sizes
    model = LlamaForCausalLM(
        LlamaConfig(
            hidden_size=hidden, intermediate_size=mlp, num_hidden_layers=layers, vocab_size=vocabulary,
            num_attention_heads=4, num_key_value_heads=2, use_cache=False,
        )
    ).train()  # fmt: skip
    if checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": True})
        model.enable_input_require_grads()
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    arch = memory.Architecture(
        parameters=0, largest=0, embeddings=0, hidden=hidden, layers=layers, mlp=mlp, heads=4,
        vocabulary=vocabulary,
    )  # fmt: skip
    return model, arch


def planned_activations(arch, **settings):
    recipe = {"stage": "sft", "finetuning_type": "full"} | settings
    parts = memory.memory(arch, recipe, "no ZeRO", 1, 4 if recipe["stage"] == "sft" else 2, 128)
    return parts["activations"] + parts["logits"]


def short_answers(vocabulary):
    """(ids, labels) of four rows of 128 tokens, the last two of which are answers."""
    import torch

    ids = torch.randint(0, vocabulary, (4, 128))
    labels = torch.full_like(ids, -100)
    labels[:, -2:] = ids[:, -2:]
    return ids, labels


@pytest.mark.parametrize("checkpointing", [True, False])
@pytest.mark.parametrize("sizes", [(64, 256, 4, 100), (128, 128, 2, 4000), (64, 128, 8, 1000)])
def test_activations_and_logits_agree_with_what_a_small_model_allocates(sizes, checkpointing):
    model, arch = small_model(sizes, checkpointing)
    ids, labels = short_answers(sizes[-1])
    measured = peak_allocation(
        lambda: model(
            input_ids=ids, attention_mask=ids.new_ones(ids.shape), labels=labels
        ).loss.backward()
    )  # fmt: skip
    planned = planned_activations(arch, disable_gradient_checkpointing=not checkpointing)
    assert planned == pytest.approx(measured, rel=0.1 if checkpointing else 0.25)


@pytest.mark.parametrize("loss", ["sigmoid", "simpo"])
def test_a_preferences_logits_agree_with_what_llamafactorys_loss_allocates(loss):
    """LLaMA-Factory computes the reference's logits while those of the policy are held."""
    import torch
    from llamafactory.train.trainer_utils import get_batch_logps

    model, arch = small_model((128, 128, 2, 4000), True)
    ids, labels = short_answers(4000)

    def log_probabilities():
        logits = model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits.to(torch.float32)
        return logits, get_batch_logps(logits, labels)[0]

    def step():
        logits, policy = log_probabilities()
        reference = torch.zeros(4)
        if loss == "sigmoid":
            with torch.no_grad():
                reference = log_probabilities()[1]
        (policy - reference).sum().backward()
        del logits

    planned = planned_activations(arch, stage="dpo", pref_loss=loss)
    assert planned == pytest.approx(peak_allocation(step), rel=0.1)


@pytest.mark.parametrize(
    "settings",
    [
        {"pure_bf16": True},
        {"optim": "paged_adamw_8bit"},
        {"optim": "adafactor"},
        {"enable_liger_kernel": True},
        {"use_galore": True},
        {"use_galore": True, "galore_layerwise": True},
        {"use_apollo": True},
        {"use_badam": True},
        {"finetuning_type": "freeze"},
    ],
)
def test_each_setting_that_saves_memory_lowers_the_plan(settings):
    arch = memory.architecture(LLAMA)
    usual = sum(memory.memory(arch, FULL, "no ZeRO", 1, 8, 2048).values())
    assert sum(memory.memory(arch, FULL | settings, "no ZeRO", 1, 8, 2048).values()) < usual
    assert not memory.not_modelled(FULL | settings)


def test_what_the_figures_do_not_count_is_named_in_the_plan():
    plan = planning.plan("sft", model="llama3-8b", data="socsci210", gpus=8, optim="stable_adamw")
    assert "not modelled: optim=stable_adamw: counted as AdamW" in str(plan)
    assert memory.not_modelled({"use_unsloth_gc": True, "use_dora": True})


def test_the_optimizer_counts_under_zero_too():
    arch = memory.architecture(LLAMA)
    states = {
        optim: memory.memory(arch, FULL | {"optim": optim}, "ZeRO-3", 8, 1, 1)["optimizer"]
        for optim in ("adamw_torch_fused", "paged_adamw_8bit", "adafactor")
    }  # fmt: skip
    per_weight = {optim: value * 8 / arch.parameters for optim, value in states.items()}
    assert per_weight == pytest.approx({"adamw_torch_fused": 12, "paged_adamw_8bit": 6, "adafactor": 4})


@pytest.mark.parametrize(
    ("settings", "rows", "named"),
    [
        ({"use_galore": True}, ["no ZeRO"], False),
        ({"use_apollo": True}, ["no ZeRO"], False),
        ({"use_badam": True}, ["no ZeRO", "ZeRO-3", "ZeRO-3 offload"], True),
        ({"pure_bf16": True}, ["no ZeRO", "ZeRO-2"], True),
        ({"optim": "adamw_8bit"}, ["no ZeRO", "ZeRO-2", "ZeRO-3"], False),
        ({"finetuning_type": "lora", "quantization_bit": 4}, ["no ZeRO"], False),
    ],
)
def test_a_plan_shows_only_zero_settings_that_would_not_be_refused(settings, rows, named):
    assert planning.possible(FULL | settings, 8) == rows
    assert bool(memory.not_modelled(FULL | settings, rows)) == named


def test_a_short_run_is_never_said_to_take_nothing():
    assert hours_in_words(0.001) == "less than a minute" and dollars_in_words(0.001) == "less than 0.01 $"
    assert hours_in_words(0.5) == "30.0 minutes"


def test_hours_count_offload_dequantising_and_the_reference_model():
    few, many = (planning.plan("sft", model="llama3-8b", data="socsci210", gpus=n) for n in (1, 8))
    assert few.fits[0] == "ZeRO-3 offload" and few.hours > 8 * many.hours * 1.2
    lora, quantised = (
        planning.plan(
            "sft", model="llama3-8b", data="socsci210", gpus=1, recipe=f"configs/llama3-8b/{name}.yaml"
        )
        for name in ("sft-lora", "sft-qlora")
    )
    assert quantised.hours == pytest.approx(lora.hours / 0.85)
    arch = memory.architecture(LLAMA)
    dpo = FULL | {"stage": "dpo"}
    assert memory.flops(arch, dpo | {"pref_loss": "simpo"}, 1e6, 500) == pytest.approx(
        memory.flops(arch, dpo, 1e6, 500) * 0.8
    )


def test_less_is_needed_the_more_is_split():
    arch = memory.architecture(QWEN)
    sums = [sum(memory.memory(arch, FULL, setting, 8, 4, 2048).values()) for setting in memory.SETTINGS]
    assert sums == sorted(sums, reverse=True)


def test_dpo_adds_a_reference_model_unless_adapters_can_be_switched_off():
    arch = memory.architecture(LLAMA, lora_rank=16)
    dpo = FULL | {"stage": "dpo"}
    assert memory.memory(arch, dpo, "ZeRO-2", 8, 1, 512)["reference"] == 2 * arch.parameters
    assert memory.memory(arch, dpo, "ZeRO-3", 8, 1, 512)["reference"] == 2 * arch.parameters / 8
    assert memory.memory(arch, dpo | {"finetuning_type": "lora"}, "no ZeRO", 1, 1, 512)["reference"] == 0


def test_the_first_setting_that_fits_keeps_the_rows_a_gpu_and_avoids_offload():
    arch = memory.architecture(QWEN)
    recipe = FULL | {"per_device_train_batch_size": 4, "gradient_accumulation_steps": 64}
    assert planning.first_fit(arch, recipe, 8, 2048, 69 * planning.GIB) == ("ZeRO-3", 4)
    assert planning.first_fit(arch, recipe, 8, 2048, 300 * planning.GIB) == ("no ZeRO", 4)
    assert planning.first_fit(arch, recipe, 1, 2048, 69 * planning.GIB)[0] == "ZeRO-3 offload"
    assert planning.first_fit(arch, recipe, 1, 2048, 1 * planning.GIB) is None


def test_the_published_recipes_fit_on_eight_gpus_of_80_gb():
    for model, folder in (("llama3-8b", LLAMA), ("qwen2.5-14b", QWEN)):
        arch = memory.architecture(folder)
        for stage in ("sft", "dpo"):
            recipe = load_recipe(f"configs/{model}/{stage}.yaml")
            stage_number = zero_config(recipe)["zero_optimization"]["stage"]
            size, _ = divide_batch(recipe, 8)
            parts = memory.memory(arch, recipe, f"ZeRO-{stage_number}", 8, size, 1400)
            assert sum(parts.values()) < 80e9 * 0.92, (model, stage, parts)


def test_a_plan_without_a_data_set_says_that_its_tokens_are_assumed():
    plan = planning.plan("sft", model="llama3-8b", data="socsci210", split="task", gpus=8)
    text = str(plan)
    assert "8.03 B parameters, 8 x h100-80gb" in text and "assumed (" in text and "make data" in text
    assert "first that fits: ZeRO-2 with per_device_train_batch_size 8; the batch stays 256" in text
    assert plan.table["setting"].to_list() == list(memory.SETTINGS) and plan.fits == ("ZeRO-2", 8)


@pytest.mark.parametrize(("stage", "dataset", "pairs"), [("sft", "sft", 1), ("dpo", "dpo", 2)])
def test_a_plan_before_tokenising_counts_a_sample_of_the_rows(tmp_path, monkeypatch, stage, dataset, pairs):
    """Also for DPO before its SFT is trained: the base model's tokenizer counts."""
    make_workplace(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SOCRATES_HOME", str(tmp_path))
    settings = {**(DPO if stage == "dpo" else RECIPE), "dataset": f"sample_study_{dataset}"}
    counted = planning.count_tokens(settings, "outputs/models/tiny", 4, {})
    assert "estimated from" in counted.source
    tokens = tokenise({**settings, "model_name_or_path": "outputs/models/tiny"}, 1)
    exact = np.load(tokens / "train_lengths.npy")
    assert counted.rows == len(exact) and counted.longest == exact.max()
    assert counted.tokens == exact.sum() * pairs


def test_rows_are_sampled_from_all_of_a_large_file(tmp_path, monkeypatch):
    monkeypatch.setattr(rows, "CHUNK", 1000)
    file = tmp_path / "numbers.jsonl"
    file.write_text("".join(f'{{"number": {10000 + number}}}\n' for number in range(5000)))
    data = rows.DataSet("numbers", {}, file)
    sample, share = rows.sample(data, 100)
    assert 100 <= len(sample) <= 200
    assert len(sample) / share == pytest.approx(5000, rel=0.02)
    numbers = [row["number"] for row in sample]
    assert numbers[0] == 10000 and numbers[-1] > 14900
