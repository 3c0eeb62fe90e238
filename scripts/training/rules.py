"""What is wrong with a recipe, as far as reading it tells: a table of rules.

A rule stands here if LLaMA-Factory's parser takes the setting and the run fails, or misleads, hours later.
`checking.py` also asks the parser itself.
"""

import functools
import math
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import pydantic
from pydantic import Field

from common.errors import Refusal
from common.readers import read_json
from scripts.training.recipe import DATASET, STAGES, Recipe, names_of, zero_config

GPU_ONLY_STATES = ("8bit", "4bit", "paged")  # optimizers whose states live on the GPU only
REPORTERS = {
    "wandb": "wandb", "swanlab": "swanlab", "mlflow": "mlflow", "tensorboard": "tensorboard",
    "comet_ml": "comet_ml", "clearml": "clearml", "neptune": "neptune", "dvclive": "dvclive",
    "codecarbon": "codecarbon", "trackio": "trackio", "azure_ml": "azureml", "flyte": "flytekit",
    "dagshub": "dagshub",
}  # fmt: skip

# Data of one stage that another can't train on
WRONG_DATA = {
    "sft": ("dpo", "kto"), "dpo": ("sft", "sft_reasoning", "sft_validation", "kto"),
    "kto": ("sft", "sft_reasoning", "sft_validation", "dpo"), "pt": ("dpo", "kto"),
}  # fmt: skip

Count = Annotated[int, Field(ge=1)]
Whole = Annotated[int, Field(ge=0)]
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(ge=0, lt=1)]
NUMBERS: dict[str, Any] = {
    "per_device_train_batch_size": Count, "per_device_eval_batch_size": Count,
    "gradient_accumulation_steps": Count, "cutoff_len": Annotated[int, Field(ge=8)],
    "num_train_epochs": Positive, "max_steps": Annotated[int, Field(ge=-1)], "learning_rate": Positive,
    "weight_decay": NotNegative, "warmup_steps": NotNegative, "max_grad_norm": NotNegative,
    "adam_beta1": Share, "adam_beta2": Share, "adam_epsilon": Positive, "logging_steps": Positive,
    "save_steps": Positive, "eval_steps": Positive, "save_total_limit": Whole, "lora_rank": Count,
    "lora_alpha": Count, "lora_dropout": Share, "pref_beta": Positive, "pref_ftx": NotNegative,
    "dpo_label_smoothing": Annotated[float, Field(ge=0, lt=0.5)], "label_smoothing_factor": Share,
    "kto_chosen_weight": NotNegative, "kto_rejected_weight": NotNegative, "simpo_gamma": NotNegative,
    "neftune_noise_alpha": NotNegative, "seed": Annotated[int, Field(ge=0, lt=2**32)],
    "val_size": NotNegative, "dataloader_num_workers": Whole, "preprocessing_num_workers": Count,
    "ddp_timeout": Count, "max_samples": Count, "early_stopping_steps": Count,
    "quantization_bit": Annotated[int, Field(ge=1, le=8)], "loraplus_lr_ratio": Positive,
    "galore_rank": Count, "apollo_rank": Count,
}  # fmt: skip


# Bits that each method of quantisation takes; optimizers that GaLore has a form of
QUANTISED = {"bnb": (4, 8), "eetq": (8,), "hqq": (1, 2, 3, 4, 5, 6, 8)}
GALORE = ("adamw_torch", "adamw_bnb_8bit", "adamw_8bit", "paged_adamw_8bit", "adafactor")


@dataclass(frozen=True)
class Facts:
    """A recipe and what the rules ask of it more than once."""

    recipe: Recipe

    def get(self, key: str, default: Any = None) -> Any:
        return self.recipe.get(key, default)

    @property
    def zero(self) -> dict[str, Any]:
        """DeepSpeed's ZeRO settings, {} without."""
        return zero_config(self.recipe).get("zero_optimization", {})

    @functools.cached_property
    def prequantised(self) -> str:
        """How the model's weights were quantised beforehand (gptq, awq, ...), "" where they weren't.

        As its config.json says, if that is here or in the hub's cache, else as its name says.
        """
        model = str(self.get("model_name_or_path", ""))
        here = Path(model, "config.json")
        config = here if model and here.is_file() else _cached_config(model, self.get("model_revision"))
        if config is None:
            named = re.search(r"[-_.](gptq|awq|aqlm)(?![a-z])", model.lower())
            return named[1] if named else ""
        described = read_json(config, "download the model again").get("quantization_config") or {}
        return str(described.get("quant_method", ""))

    @property
    def packed(self) -> bool:
        """True if the weights stay quantised in training; LLaMA-Factory unpacks fp8 and mxfp4 ones."""
        return self.prequantised not in ("", "fp8", "mxfp4")

    @property
    def optim(self) -> str:
        return str(self.get("optim", "adamw_torch_fused"))

    @property
    def optimizer(self) -> str:
        special = [name for name in ("galore", "apollo", "badam") if self.get(f"use_{name}")]
        return special[0] if special else self.optim

    @property
    def evaluates(self) -> bool:
        return self.get("eval_strategy", "no") not in ("no", False)

    @property
    def full(self) -> bool:
        return bool(self.get("finetuning_type", "lora") == "full")

    @property
    def offloads(self) -> bool:
        return bool((self.zero.get("offload_optimizer") or {}).get("device") == "cpu")

    def names(self, key: str) -> list[str]:
        """The names that the recipe gives for `key`."""
        return names_of(self.get(key))

    def kinds(self, key: str) -> list[str]:
        """What each of our data sets holds: sft, dpo, ...; others are left out."""
        matches = [DATASET.fullmatch(name) for name in self.names(key)]
        return [match[1] for match in matches if match]

    @property
    def reporters(self) -> list[str]:
        value = self.get("report_to", "none")
        names = [str(name) for name in value] if isinstance(value, list) else self.names("report_to")
        return [name for name in names if name not in ("none", "all")]


class Rule(NamedTuple):
    """Refused where `wrong`; `says` is the cause and the remedy, with {keys of the recipe} filled in."""

    wrong: Callable[[Facts], Any]
    says: str


RULES = (
    Rule(
        lambda f: f.get("stage") in ("rm", "ppo"),
        "stage {stage} trains a reward model or uses one, which nothing here can evaluate; use dpo or kto",
    ),
    Rule(lambda f: f.get("stage") not in STAGES, f"stage is {{stage!r}}; set it to {', '.join(STAGES)}"),
    Rule(
        lambda f: not f.get("model_name_or_path"),
        "model_name_or_path is missing; name a hub model or a model's folder",
    ),
    Rule(lambda f: not f.get("dataset"), "dataset is missing; name one, for example sample_study_sft"),
    Rule(
        lambda f: not f.get("do_train"),
        "do_train is not true, so nothing would be trained; set do_train: true (make eval evaluates)",
    ),
    Rule(
        lambda f: not f.get("template") and f.get("stage") != "pt",
        "template is missing; set the model family's, for example llama3 or qwen",
    ),
    Rule(
        lambda f: set(f.kinds("dataset")) & set(WRONG_DATA.get(f.get("stage"), ())),
        "the data set {dataset} is not for stage {stage}; use *_sft for sft, *_dpo for dpo, *_kto for kto",
    ),
    Rule(
        lambda f: len(set(f.names("dataset"))) < len(f.names("dataset")),
        "{dataset} names a data set twice; name each once",
    ),
    Rule(
        lambda f: f.get("interleave_probs") and f.get("mix_strategy", "concat") == "concat",
        "interleave_probs needs mix_strategy: interleave_under (end with the first data set that is used up) "
        "or interleave_over (with the last)",
    ),
    Rule(
        lambda f: (
            f.get("interleave_probs") and not _are_shares(f.names("interleave_probs"), f.names("dataset"))
        ),
        "interleave_probs {interleave_probs} must hold a positive share for each of {dataset}, 1 in all",
    ),
    Rule(lambda f: f.get("bf16") and f.get("fp16"), "bf16 and fp16 are both true; keep bf16"),
    Rule(
        lambda f: f.evaluates and not f.get("eval_dataset") and not f.get("val_size"),
        "eval_strategy is set but there is no evaluation set; set eval_dataset: ..._sft_validation, or "
        "eval_strategy: 'no'",
    ),
    Rule(
        lambda f: set(f.kinds("eval_dataset")) & set(WRONG_DATA.get(f.get("stage"), ())),
        "{eval_dataset} can't evaluate stage {stage}; set val_size, which holds whole people out, or "
        "eval_strategy: 'no'",
    ),
    Rule(
        lambda f: f.get("val_size") and f.get("eval_dataset"),
        "val_size and eval_dataset are both set; keep one of them",
    ),
    Rule(
        lambda f: (
            f.get("load_best_model_at_end")
            and f.get("save_strategy", "steps") != f.get("eval_strategy", "no")
        ),
        "load_best_model_at_end needs checkpoints when it evaluates; set save_strategy and "
        "eval_strategy to the same value",
    ),
    Rule(
        lambda f: (
            f.get("load_best_model_at_end")
            and f.get("eval_strategy") == "steps"
            and f.get("save_steps", 500) % (f.get("eval_steps") or f.get("logging_steps", 500))
        ),
        "load_best_model_at_end needs a checkpoint at every evaluation; set save_steps equal to eval_steps",
    ),
    Rule(
        lambda f: f.get("early_stopping_steps") and not f.get("load_best_model_at_end"),
        "early_stopping_steps stops at a worse model than the best; set load_best_model_at_end: true",
    ),
    Rule(
        lambda f: f.get("quantization_bit") and f.get("finetuning_type", "lora") not in ("lora", "oft"),
        "a quantised model can't be trained in full; set finetuning_type: lora",
    ),
    Rule(
        lambda f: f.get("quantization_bit") and f.zero.get("stage") == 3,
        "ZeRO-3 splits weights that quantisation has packed; use configs/deepspeed/zero2.json",
    ),
    Rule(
        lambda f: f.offloads and any(mark in f.optimizer for mark in GPU_ONLY_STATES),
        "ZeRO offload keeps optimizer states in main memory, which {optim} can't; set optim: adamw_torch",
    ),
    Rule(
        lambda f: f.zero and f.optimizer.startswith(("galore", "apollo", "lomo", "adalomo")),
        "DeepSpeed can't split this optimizer; set optim: adamw_torch and no use_galore or use_apollo, or "
        "remove deepspeed",
    ),
    Rule(
        lambda f: f.get("use_badam") and f.zero and f.zero.get("stage") != 3,
        "BAdam works with DeepSpeed in ZeRO-3 only; use configs/deepspeed/zero3.json, or remove deepspeed",
    ),
    Rule(
        lambda f: f.get("pure_bf16") and f.zero.get("stage") == 3,
        "pure_bf16 doesn't work with ZeRO-3; set bf16: true instead",
    ),
    Rule(
        lambda f: f.packed and f.get("finetuning_type", "lora") not in ("lora", "oft"),
        "the weights of {model_name_or_path} are quantised, and only LoRA trains on such; set "
        "finetuning_type: lora, or name the model that isn't quantised",
    ),
    Rule(
        lambda f: f.packed and f.zero.get("stage") == 3,
        "ZeRO-3 can't split the quantised weights of {model_name_or_path}; use configs/deepspeed/zero2.json",
    ),
    Rule(
        lambda f: f.get("pissa_init") and f.zero.get("stage") == 3,
        "PiSSA can't decompose weights that ZeRO-3 has split; use configs/deepspeed/zero2.json",
    ),
    Rule(
        lambda f: (
            f.get("quantization_bit")
            and f.get("quantization_bit") not in QUANTISED.get(f.get("quantization_method", "bnb"), range(9))
        ),
        "quantization_bit {quantization_bit} doesn't suit the method; bnb takes 4, 8; eetq 8; hqq 1 to 6, 8",
    ),
    Rule(
        lambda f: (
            (f.get("galore_layerwise") or f.get("apollo_layerwise"))
            and f.get("gradient_accumulation_steps", 1) != 1
        ),
        "GaLore and APOLLO layer by layer update at each batch; set gradient_accumulation_steps: 1",
    ),
    Rule(
        lambda f: (
            (f.get("use_galore") and f.optim not in GALORE)
            or (f.get("use_apollo") and f.optim != "adamw_torch")
        ),
        f"optim {{optim}} has no such form; GaLore takes {', '.join(GALORE)}, APOLLO adamw_torch",
    ),
    Rule(
        lambda f: f.get("shift_attn"),
        "shift_attn (LongLoRA) works with transformers below 4.48 only; remove it, cutoff_len alone does",
    ),
    Rule(
        lambda f: f.get("use_unsloth") and f.zero.get("stage") == 3,
        "unsloth doesn't work with ZeRO-3; use configs/deepspeed/zero2.json, or remove use_unsloth",
    ),
    Rule(
        lambda f: f.get("fp8") and f.get("quantization_bit"),
        "fp8 and quantization_bit are both set; remove one of them",
    ),
    Rule(
        lambda f: f.get("freeze_trainable_layers") == 0 and f.get("finetuning_type") == "freeze",
        "freeze_trainable_layers is 0, so nothing would be trained; give the number of layers",
    ),
    Rule(
        lambda f: set(f.reporters) - set(REPORTERS),
        f"report_to {{report_to}} is no reporter of the trainer; choose of {', '.join(REPORTERS)}, none",
    ),
    Rule(
        lambda f: f.get("push_to_hub") and not (os.environ.get("HF_TOKEN") or _hub_login()),
        "push_to_hub needs a token; export HF_TOKEN, or set push_to_hub: false",
    ),
)


def _are_shares(shares: list[str], datasets: list[str]) -> bool:
    try:
        numbers = [float(share) for share in shares]
    except ValueError:
        return False
    return len(numbers) == len(datasets) and min(numbers) > 0 and math.isclose(sum(numbers), 1, abs_tol=1e-6)


def _cached_config(model: str, revision: str | None) -> Path | None:
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        found = try_to_load_from_cache(model, "config.json", revision=revision)
    except HFValidationError:  # no name of a hub model
        return None
    return Path(found) if isinstance(found, str) else None


def _hub_login() -> str | None:
    from huggingface_hub import get_token

    return get_token()


def problems(recipe: Recipe) -> Iterator[str]:
    """What is wrong with a recipe, as far as reading it tells: cause and remedy, the worst first."""
    facts = Facts(recipe)
    for key in ("stage", "template", "output_dir", "model_name_or_path", "dataset", "eval_dataset"):
        if not isinstance(recipe.get(key, ""), str):
            yield f"{key} is {recipe[key]!r}; write one text"
            return
    yield from _number_problems(recipe)
    for rule in RULES:
        if rule.wrong(facts):
            values = re.findall(r"{(\w+)", rule.says)
            yield rule.says.format(**{key: recipe.get(key) for key in values})


def _number_problems(recipe: Recipe) -> Iterator[str]:
    for key, value in recipe.items():
        if isinstance(value, float) and not math.isfinite(value):
            yield f"{key} is {value}; give a finite number"
        elif key in NUMBERS:
            try:
                if isinstance(value, bool):
                    raise TypeError
                pydantic.TypeAdapter(NUMBERS[key]).validate_python(value)
            except pydantic.ValidationError as error:
                reason = error.errors()[0]["msg"].lower()
                yield f"{key}: {value!r} won't do, {reason}"
            except TypeError:
                yield f"{key}: {value!r} won't do, input should be a number"
    if recipe.get("max_steps") == 0:
        yield "max_steps is 0; give a number of steps, or remove it and set num_train_epochs"


def refuse_problems(recipe: Recipe, path: Path | str) -> None:
    """Raise `Refusal` for the first thing that reading the recipe tells; nothing large is imported."""
    try:
        problem = next(problems(recipe), None)
    except Refusal as refusal:  # of the DeepSpeed file
        problem = str(refusal)
    if problem:
        raise Refusal(f"{path}: {problem}")
