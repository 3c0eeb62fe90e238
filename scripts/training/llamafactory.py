"""All that this project takes from LLaMA-Factory: the one file that its next release can break.

Written for 0.9.5. Its private names (`_TRAIN_ARGS`, `_get_dataset_processor`) are used here and nowhere
else. Everything is imported on use: LLaMA-Factory takes five seconds to import.
"""

import dataclasses
import os
import typing
from collections.abc import Mapping
from typing import Any

os.environ.setdefault("LLAMAFACTORY_VERBOSITY", "ERROR")  # read once, when it is imported

# LLaMA-Factory's name for the data of a stage, where it differs from the stage's own
DATA_STAGE = {"dpo": "rm"}


def argument_types() -> dict[str, Any]:
    """Every key of a training recipe and the type that LLaMA-Factory's argument classes declare for it."""
    from llamafactory.hparams import parser

    types: dict[str, Any] = {}
    for group in parser._TRAIN_ARGS:
        hints = typing.get_type_hints(group)
        types |= {field.name: hints[field.name] for field in dataclasses.fields(group) if field.init}
    return types


def bind(recipe: dict[str, Any]) -> tuple[Any, ...]:
    """LLaMA-Factory's parsed arguments (model, data, training, fine-tuning, generating).

    Raises whatever its parser raises for settings that it refuses; no model is loaded.
    """
    from llamafactory.hparams import get_train_args

    return get_train_args(recipe)


def templates() -> Mapping[str, Any]:
    """Every chat template by its name."""
    from llamafactory.data.template import TEMPLATES

    return TEMPLATES


def default_template(model: str) -> str | None:
    """The template that LLaMA-Factory lists for a hub model, None if it doesn't know the model."""
    from llamafactory.extras.constants import DEFAULT_TEMPLATE, SUPPORTED_MODELS

    for name, hubs in SUPPORTED_MODELS.items():
        if model in hubs.values():
            return DEFAULT_TEMPLATE.get(name) or None
    return None


def data_arguments(recipe: dict[str, Any], **changes: Any) -> Any:
    """The recipe's data arguments; keys that are not of this group are left out."""
    from llamafactory.hparams import DataArguments

    fields = {key: value for key, value in recipe.items() if key in DataArguments.__dataclass_fields__}
    return DataArguments(**{**fields, **changes})


def load_tokenizer(recipe: dict[str, Any]) -> Any:
    """The tokenizer of the recipe's model, as training sees it before the template touches it."""
    from llamafactory.hparams import ModelArguments
    from llamafactory.model import load_tokenizer

    keys = ("model_name_or_path", "model_revision", "cache_dir", "trust_remote_code", "use_fast_tokenizer")
    return load_tokenizer(ModelArguments(**{key: recipe[key] for key in keys if key in recipe}))["tokenizer"]


def fit_template(tokenizer: Any, data_arguments: Any) -> Any:
    """The recipe's template; the tokenizer gets its end of turn and, where it has none, a chat template."""
    from llamafactory.data import get_template_and_fix_tokenizer

    return get_template_and_fix_tokenizer(tokenizer, data_arguments)


def data_processor(stage: str, template: Any, tokenizer: Any, data_arguments: Any) -> Any:
    """What turns converted rows into token ids and labels for a stage."""
    from llamafactory.data import loader

    kind: Any = DATA_STAGE.get(stage, stage)
    return loader._get_dataset_processor(data_arguments, kind, template, tokenizer, None)


def render(
    template: Any, tokenizer: Any, system: str | None, prompt: str, answer: str
) -> tuple[list[int], list[int]]:
    """(prompt ids, answer ids with the end of turn) of one question and answer, as they are trained on."""
    turns = [{"role": "user", "content": prompt}, {"role": "assistant", "content": answer}]
    prompt_ids, answer_ids = template.encode_oneturn(tokenizer, turns, system)
    return prompt_ids, answer_ids + ([tokenizer.eos_token_id] if template.efficient_eos else [])


def row_converter(entry: dict[str, Any], data_arguments: Any) -> Any:
    """What turns a row of a data set into messages; `entry` is the data set's in dataset_info.json."""
    from llamafactory.data.converter import get_dataset_converter
    from llamafactory.data.parser import DatasetAttr

    attributes = DatasetAttr("file", dataset_name=entry["file_name"])
    attributes.join(entry)
    return get_dataset_converter(attributes.formatting, attributes, data_arguments)


def load_dataset(recipe: dict[str, Any]) -> Any:
    """The training rows as LLaMA-Factory's own loader tokenises them: what ours is compared with."""
    from llamafactory.data import get_dataset

    model_args, data_args, training_args, *_ = bind(recipe)
    tokenizer = load_tokenizer(recipe)
    template = fit_template(tokenizer, data_args)
    stage: Any = DATA_STAGE.get(recipe["stage"], recipe["stage"])
    return get_dataset(template, model_args, data_args, training_args, stage, tokenizer)["train_dataset"]


def pack(lengths: list[int], capacity: int) -> list[list[int]]:
    """Rows of these lengths in packs of at most `capacity` tokens, as packing puts them together."""
    from llamafactory.data.processor.processor_utils import greedy_knapsack

    return greedy_knapsack(lengths, capacity)


def packed_attention_mask(marks: Any, dtype: Any) -> Any:
    """The mask in which the rows of a pack don't see one another."""
    from llamafactory.data.collator import prepare_4d_attention_mask

    return prepare_4d_attention_mask(marks, dtype)


def run(arguments: dict[str, Any], callbacks: list[Any]) -> None:
    """Train in this process."""
    from llamafactory.train.tuner import run_exp

    run_exp(arguments, callbacks)


def merge_adapter(arguments: dict[str, Any]) -> None:
    """Write a model with its adapters merged, to `export_dir`."""
    from llamafactory.train.tuner import export_model

    export_model(arguments)
