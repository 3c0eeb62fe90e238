"""Recipes as people have them: a table of what a recipe says, the verdict, and what the person reads.

"runs": accepted; the message, if any, is the line that says what was set aside or read differently.
"refused": one line, before anything is started. Each line stands for a kind that public recipes have.
"""

import pytest

from common.errors import Refusal
from scripts.training import checking

RECIPE = """
model_name_or_path: meta-llama/Meta-Llama-3-8B-Instruct
template: llama3
stage: sft
do_train: true
finetuning_type: lora
dataset: socsci210_study_sft
output_dir: outputs/socsci210/study/llama3-8b/sft
per_device_train_batch_size: 8
gradient_accumulation_steps: 4
learning_rate: 1.0e-4
num_train_epochs: 1.0
"""

RUNS = [
    # What the launcher decides itself
    ("trust_remote_code: true", "trust_remote_code: set aside, few models need it; TRUST=1 keeps it"),
    ("trust_remote_code: false", ""),
    ("save_only_model: true", "save_only_model: set aside, checkpoints keep the optimizer"),
    ("save_only_model: false", ""),
    ("tokenized_path: saves/tokens", "tokenized_path: set aside, the launcher keeps a cache of tokens"),
    ("overwrite_cache: true", "overwrite_cache: set aside"),
    ("overwrite_output_dir: true", "overwrite_output_dir: set aside, an earlier run is moved aside"),
    ("resume_from_checkpoint: true", "resume_from_checkpoint: set aside, the same command goes on by itself"),
    ("resume_from_checkpoint: saves/checkpoint-7", "resume_from_checkpoint: set aside"),
    ("streaming: true\nbuffer_size: 128\nmax_steps: 100", "streaming: set aside"),
    ("predict_with_generate: true", "predict_with_generate: set aside, make eval predicts and scores"),
    ("do_predict: true", "do_predict: set aside"),
    ("logging_dir: saves/logs", "logging_dir: set aside"),
    ("include_num_input_tokens_seen: true", "include_num_input_tokens_seen: set aside"),
    ("dataset_dir: /somewhere/data", "dataset_dir: set aside"),
    ("hf_hub_token: hf_secret", "hf_hub_token: used as HF_TOKEN, and written to no record"),
    # Renamed, deprecated, written in another form
    ("warmup_ratio: 0.1", "warmup_ratio: read as warmup_steps"),
    ("evaluation_strategy: 'no'", "evaluation_strategy: read as eval_strategy"),
    ("group_by_length: true", "group_by_length: read as train_sampling_strategy"),
    ("quantization_bit: 4\nquantization_method: bitsandbytes", "needs bitsandbytes"),
    ("lora_target: [q_proj, v_proj]", ""),
    ("lora_target: q_proj,v_proj", ""),
    ("report_to: [tensorboard]", ""),
    ("flash_attn: true", ""),
    ("eval_strategy: no", ""),
    ("save_strategy: off", ""),
    ("logging_strategy: No", ""),
    ("report_to: false", ""),
    ("bf16: 'true'\nfp16: 'False'", "fp16: the text 'False' is read as False"),
    ("resume_from_checkpoint: None", "resume_from_checkpoint: empty, left out"),
    ("deepspeed: examples/deepspeed/ds_z3_config.json", "configs/deepspeed/zero3.json is used"),
    ("deepspeed: ds_z2_offload_config.json", "configs/deepspeed/zero3-offload.json is used"),
    ("deepspeed: examples/deepspeed/ds_z0_config.json", "splits nothing; left out"),
    ("ray_run_name: mine\nray_num_workers: 4\nresources_per_worker: {GPU: 1}", "ray_run_name: set aside"),
    ("eval_dataset:", "eval_dataset: empty, left out"),
    ("deepspeed:", "deepspeed: empty, left out"),
    ("per_device_train_batch_size: '8'", "the text '8' is read as a number"),
    ("cutoff_len: '2048'", "the text '2048' is read as a number"),
    ("learning_rate: '5e-5'", "the text '5e-5' is read as a number"),
    ("learning_rate: 5e-5", ""),
    ("num_train_epochs: 3", ""),
    ("save_steps: 0.1", ""),
    ("max_steps: 100", ""),
    # What LLaMA-Factory offers
    ("finetuning_type: full\ndeepspeed: configs/deepspeed/zero3.json\nbf16: true", ""),
    ("finetuning_type: freeze\nfreeze_trainable_layers: 4", ""),
    ("use_dora: true\nlora_rank: 16\nlora_alpha: 32\nlora_dropout: 0.05", ""),
    ("use_rslora: true", ""),
    ("pissa_init: true\npissa_iter: 16", ""),
    ("loraplus_lr_ratio: 16.0", ""),
    ("neftune_noise_alpha: 5", ""),
    ("packing: true\nneat_packing: true", ""),
    ("train_on_prompt: true", ""),
    ("optim: adamw_8bit", "needs bitsandbytes"),
    ("optim: adafactor", ""),
    ("lr_scheduler_type: cosine_with_min_lr\nlr_scheduler_kwargs: {min_lr_rate: 0.1}", ""),
    ("use_galore: true\nfinetuning_type: full\ngalore_target: mlp,self_attn", "needs galore-torch"),
    ("use_badam: true\nfinetuning_type: full", "needs badam"),
    ("use_galore: true\nfinetuning_type: full", "optim: adamw_torch, as GaLore"),
    ("use_galore: true\nfinetuning_type: full\noptim: adafactor", "needs galore-torch"),
    ("quantization_bit: 3\nquantization_method: hqq", "needs hqq"),
    ("quantization_bit: 8\nquantization_method: eetq", "needs eetq"),
    ("fp8: true\nfinetuning_type: full", "needs torchao"),
    ("fsdp: full_shard auto_wrap", ""),
    ("enable_liger_kernel: true", "needs liger-kernel"),
    ("report_to: wandb\nrun_name: mine", "wandb"),
    ("val_size: 0.1\neval_strategy: steps\neval_steps: 50\nper_device_eval_batch_size: 1", ""),
    ("val_size: 200\neval_strategy: epoch", ""),
    ("eval_dataset: socsci210_study_sft_validation\neval_strategy: steps\neval_steps: 500", ""),
    ("stage: dpo\ndataset: socsci210_study_dpo\npref_beta: 0.1\npref_loss: orpo", ""),
    ("stage: dpo\ndataset: socsci210_study_dpo\npref_loss: simpo\nsimpo_gamma: 0.5", ""),
    ("stage: dpo\ndataset: socsci210_study_dpo\nval_size: 0.05\neval_strategy: steps", ""),
    ("stage: kto\ndataset: socsci210_study_kto\nkto_chosen_weight: 1.0", ""),
    ("stage: pt\ndataset: c4_demo", ""),
    ("dataset: [socsci210_study_sft, my_instructions]", ""),
    ("dataset: socsci210_study_sft,my_instructions\nmix_strategy: interleave_under\n"
     "interleave_probs: '0.8,0.2'", ""),
    ("template: llama2", "template llama2: LLaMA-Factory lists llama3"),
    ("load_best_model_at_end: true\nval_size: 0.1\neval_strategy: steps\neval_steps: 50\n"
     "save_steps: 100", ""),
    ("seed: 0", ""),
    ("ddp_timeout: 180000000", ""),
    ("max_samples: 1000", ""),
    ("save_total_limit: 0", ""),
    ("rope_scaling: linear", ""),
    ("disable_gradient_checkpointing: true", ""),
]  # fmt: skip

REFUSED = [
    # Values that pass LLaMA-Factory's parser and fail, or mean nothing, later
    ("learning_rate: .nan", "line 12: .nan is no number"),
    ("learning_rate: .inf", ".inf is no number"),
    ("learning_rate: 0", "learning_rate: 0 won't do, input should be greater than 0"),
    ("learning_rate: -1e-5", "learning_rate"),
    ("learning_rate: fast", "learning_rate"),
    ("per_device_train_batch_size: 0", "per_device_train_batch_size: 0 won't do"),
    ("per_device_train_batch_size: -4", "per_device_train_batch_size: -4 won't do"),
    ("per_device_train_batch_size: 2.5", "per_device_train_batch_size: 2.5 won't do"),
    ("per_device_train_batch_size: true", "per_device_train_batch_size: True won't do"),
    ("gradient_accumulation_steps: 0", "gradient_accumulation_steps: 0 won't do"),
    ("cutoff_len: 0", "cutoff_len: 0 won't do"),
    ("cutoff_len: -1", "cutoff_len: -1 won't do"),
    ("num_train_epochs: 0", "num_train_epochs: 0 won't do"),
    ("num_train_epochs: -1", "num_train_epochs: -1 won't do"),
    ("max_steps: 0", "max_steps is 0"),
    ("max_steps: -5", "max_steps: -5 won't do"),
    ("max_grad_norm: .nan", ".nan is no number"),
    ("weight_decay: -0.1", "weight_decay: -0.1 won't do"),
    ("lora_rank: 0", "lora_rank: 0 won't do"),
    ("lora_dropout: 1.5", "lora_dropout: 1.5 won't do"),
    ("save_steps: 0", "save_steps: 0 won't do"),
    ("seed: -1", "seed: -1 won't do"),
    ("bf16: true\nfp16: true", "bf16 and fp16 are both true; keep bf16"),
    ("optim: adamw_foo", "adamw_foo"),
    ("lr_scheduler_type: cosinus", "cosinus"),
    ("report_to: wndb", "report_to wndb is no reporter of the trainer"),
    ("finetuning_type: qlora", "finetuning_type: 'qlora' won't do"),
    ("template: lama3", "unknown template 'lama3'; did you mean 'llama3'"),
    ("template: qwen", "template qwen isn't that of meta-llama/Meta-Llama-3-8B-Instruct"),
    ("push_to_hub: true\nhub_model_id: me/model", "push_to_hub needs a token"),
    # Settings that don't go together
    ("finetuning_type: full\nquantization_bit: 4", "set finetuning_type: lora"),
    ("quantization_bit: 4\ndeepspeed: configs/deepspeed/zero3.json", "use configs/deepspeed/zero2.json"),
    ("pissa_init: true\ndeepspeed: configs/deepspeed/zero3.json", "PiSSA can't decompose"),
    ("use_galore: true\nfinetuning_type: full\ndeepspeed: configs/deepspeed/zero2.json",
     "DeepSpeed can't split"),
    ("use_badam: true\nfinetuning_type: full\ndeepspeed: configs/deepspeed/zero2.json",
     "BAdam works with DeepSpeed"),
    ("optim: adamw_8bit\ndeepspeed: configs/deepspeed/zero3-offload.json", "set optim: adamw_torch"),
    ("pure_bf16: true\ndeepspeed: configs/deepspeed/zero3.json", "set bf16: true"),
    ("use_galore: true\nfinetuning_type: full\noptim: sgd", "optim sgd has no such form"),
    ("use_apollo: true\nfinetuning_type: full\noptim: adafactor", "APOLLO adamw_torch"),
    ("use_galore: true\nfinetuning_type: full\ngalore_layerwise: true", "gradient_accumulation_steps: 1"),
    ("quantization_bit: 3", "bnb takes 4, 8"),
    ("quantization_bit: 4\nquantization_method: eetq", "eetq 8"),
    ("fp8: true\nquantization_bit: 4", "remove one of them"),
    ("shift_attn: true\nflash_attn: fa2", "remove it"),
    ("use_unsloth: true\ndeepspeed: configs/deepspeed/zero3.json", "unsloth doesn't work with ZeRO-3"),
    ("use_dora: true\nfinetuning_type: full", "only valid for LoRA"),
    ("finetuning_type: freeze\nfreeze_trainable_layers: 0", "freeze_trainable_layers is 0"),
    ("eval_strategy: steps", "there is no evaluation set"),
    ("val_size: 0.1\neval_dataset: socsci210_study_sft_validation", "keep one of them"),
    ("stage: dpo\ndataset: socsci210_study_dpo\neval_dataset: socsci210_study_sft_validation\n"
     "eval_strategy: steps", "set val_size"),
    ("early_stopping_steps: 3", "set load_best_model_at_end: true"),
    ("load_best_model_at_end: true\nval_size: 0.1\neval_strategy: epoch", "save_strategy and eval_strategy"),
    ("load_best_model_at_end: true\nval_size: 0.1\neval_strategy: steps\neval_steps: 300\nsave_steps: 500",
     "set save_steps equal to eval_steps"),
    ("dataset: socsci210_study_dpo", "is not for stage sft"),
    ("stage: dpo", "is not for stage dpo"),
    ("stage: kto", "is not for stage kto"),
    ("dataset: socsci210_study_sft,socsci210_study_sft", "names a data set twice"),
    ("dataset: socsci210_study_sft,b\ninterleave_probs: '0.5,0.5'", "interleave_probs needs mix_strategy"),
    ("dataset: a,b\nmix_strategy: interleave_over\ninterleave_probs: '0.5'", "a positive share"),
    ("dataset: a,b\nmix_strategy: interleave_over\ninterleave_probs: '0.9,0.9'", "1 in all"),
    ("neat_packing: true\nstage: dpo\ndataset: socsci210_study_dpo", "LLaMA-Factory refuses it"),
    # What isn't trained, or isn't a training at all
    ("stage: rm\ndataset: socsci210_study_dpo", "stage rm trains a reward model"),
    ("stage: ppo\nreward_model: x", "stage ppo trains a reward model or uses one"),
    ("do_train: false", "nothing would be trained"),
    # Missing and malformed
    ("learning_rat: 1e-5", "unknown key 'learning_rat'; did you mean 'learning_rate'?"),
    ("pruning_ratio_of_ours: 1", "LLaMA-Factory knows no key like it"),
    ("model_name_or_path:", "model_name_or_path is missing"),
    ("dataset:", "dataset is missing"),
    ("template:", "template is missing"),
    ("output_dir: [a, b]", "output_dir: ['a', 'b'] won't do"),
    ("stage: [sft]", "stage: ['sft'] won't do"),
    ("deepspeed: configs/deepspeed/zero9.json", "my.yaml: configs/deepspeed/zero9.json is missing"),
    ("deepspeed: {zero_optimization: [1]}", "is no DeepSpeed configuration"),
    ("pref_loss: sigmod\nstage: dpo\ndataset: socsci210_study_dpo", "pref_loss"),
]  # fmt: skip


def written(changes, tmp_path):
    """The recipe with some keys given anew, as a file."""
    keys = {line.split(":")[0] for line in changes.splitlines()}
    lines = [line for line in RECIPE.splitlines() if line.split(":")[0] not in keys]
    file = tmp_path / "my.yaml"
    file.write_text("\n".join([*lines, changes, ""]))
    return file


@pytest.fixture(autouse=True)
def no_tokens(monkeypatch):
    for name in ("HF_TOKEN", "WANDB_API_KEY", "WANDB_MODE", "TRUST"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("huggingface_hub.get_token", lambda: None)


@pytest.mark.parametrize(("changes", "line"), RUNS)
def test_what_llamafactory_runs_is_accepted_and_says_what_was_set_aside(changes, line, tmp_path):
    notes = checking.check_recipe(written(changes, tmp_path)).notes
    assert any(line in note for note in notes) if line else not notes
    assert "hf_secret" not in "".join(notes)


@pytest.mark.parametrize(("changes", "cause"), REFUSED)
def test_what_would_fail_later_is_refused_before_the_start_in_one_line(changes, cause, tmp_path):
    with pytest.raises(Refusal) as refused:
        checking.check_recipe(written(changes, tmp_path))
    assert cause in str(refused.value) and "\n" not in str(refused.value)


def test_trust_is_kept_where_it_is_asked_for(tmp_path, monkeypatch):
    monkeypatch.setenv("TRUST", "1")
    assert checking.check_recipe(written("trust_remote_code: true", tmp_path)).recipe["trust_remote_code"]


def test_home_and_variables_in_paths_are_filled_in(tmp_path, monkeypatch):
    monkeypatch.setenv("MODELS", "/models")
    checked = checking.check_recipe(
        written("model_name_or_path: $MODELS/llama\ncache_dir: ~/cache", tmp_path)
    )
    assert checked.recipe["model_name_or_path"] == "/models/llama"
    assert "~" not in checked.recipe["cache_dir"]
