"""Rows as token ids: LLaMA-Factory's converter, template and processor, the tokenizer called in batches."""

from pathlib import Path
from typing import Any

from common.errors import Refusal
from scripts.training import llamafactory
from scripts.training.recipe import Recipe

UNLIMITED = 10**9
# The data arguments that decide the tokens of a row
KEYS = (
    "template", "cutoff_len", "packing", "neat_packing", "train_on_prompt", "mask_history",
    "default_system", "enable_thinking", "preserve_thinking", "tool_format",
)  # fmt: skip


class BatchedTokenizer:
    """A tokenizer that first notes the texts it is asked for, then encodes them in one call.

    LLaMA-Factory's templates encode one text at a time. Asked once in `noting` mode (which answers
    with nothing) and once more after `encode_noted`, they get the same ids from one batched call.
    """

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer, self._ids, self.noting = tokenizer, {}, True  # type: ignore[var-annotated]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tokenizer, name)

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        return self._tokenizer(*arguments, **options)

    def encode(self, text: str, add_special_tokens: bool = False) -> list[int]:
        if self.noting:
            self._ids[text] = None
            return []
        return self._ids[text]

    def encode_noted(self) -> None:
        texts = list(self._ids)
        if texts:
            ids = self._tokenizer(texts, add_special_tokens=False, return_attention_mask=False)["input_ids"]
            self._ids = dict(zip(texts, ids, strict=True))
        self.noting = False

    def forget(self) -> None:
        self._ids, self.noting = {}, True


class Tokeniser:
    """LLaMA-Factory's converter, template and processor for one recipe, ready to take chunks of rows.

    Raises `Refusal` for a model whose tokenizer can't be had, and for a template that doesn't fit it.
    """

    def __init__(self, recipe: Recipe) -> None:
        self.recipe, self.stage = recipe, recipe["stage"]
        keys = {key: recipe[key] for key in KEYS if key in recipe}
        self.data_args = llamafactory.data_arguments({"dataset": recipe["dataset"], **keys})
        if self.data_args.packing is None:
            self.data_args.packing = self.stage == "pt"
        self.plain_tokenizer = load_tokenizer(recipe)
        _check_end_of_turn(recipe, self.plain_tokenizer)
        self.template = llamafactory.fit_template(self.plain_tokenizer, self.data_args)
        self.tokenizer = BatchedTokenizer(self.plain_tokenizer)
        self.cutoff = self.data_args.cutoff_len
        self.plain = self._processor(cutoff_len=UNLIMITED, packing=False, neat_packing=False)
        self.packed: Any = self._processor(cutoff_len=self.cutoff) if self.data_args.packing else None

    def _processor(self, **changed: Any) -> Any:
        arguments = llamafactory.data_arguments({**self.data_args.to_dict(), **changed})
        arguments.cutoff_len = changed["cutoff_len"]  # packing lowers it by one; that is done already
        return llamafactory.data_processor(self.stage, self.template, self.tokenizer, arguments)

    def convert(self, examples: list[dict[str, Any]], entry: dict[str, Any]) -> dict[str, list[Any]]:
        """Rows as the data set holds them, in the columns that LLaMA-Factory's processors take."""
        converter = llamafactory.row_converter(entry, self.data_args)
        try:
            converted = [converter(row) for row in examples]
        except (KeyError, TypeError, IndexError) as error:
            raise Refusal(
                f"{entry['file_name']} has a row without what its entry in dataset_info.json names "
                f"({type(error).__name__}: {error}); fix the entry's columns or the row"
            ) from None
        return {key: [row[key] for row in converted] for key in converted[0]}

    def encode(
        self, examples: list[dict[str, Any]], entry: dict[str, Any], pack: bool
    ) -> tuple[dict[str, Any], list[int]]:
        """(columns, row lengths in tokens); the columns leave out the rows longer than the cutoff."""
        converted = self.convert(examples, entry)
        self.tokenizer.forget()
        if self.stage != "pt":
            self.plain.preprocess_dataset(converted)
        self.tokenizer.encode_noted()
        columns = dict(self.plain.preprocess_dataset(converted))
        ids = [key for key in columns if key.endswith("input_ids")]
        if not ids or len(columns[ids[0]]) != len(examples):
            raise Refusal(
                f"{entry['file_name']} has rows without a prompt or an answer text; run `make data` again"
            )
        lengths = [max(len(columns[key][row]) for key in ids) for row in range(len(examples))]
        if pack and self.stage == "pt":  # texts follow one another, and blocks of them are cut
            return dict(self.packed.preprocess_dataset(converted)), lengths
        fitting = [row for row, length in enumerate(lengths) if length <= self.cutoff]
        if pack and self.packed is not None:
            converted = {key: [values[row] for row in fitting] for key, values in converted.items()}
            columns = dict(self.packed.preprocess_dataset(converted)) if fitting else {}
        elif len(fitting) < len(examples):
            columns = {key: [values[row] for row in fitting] for key, values in columns.items()}
        return columns, lengths


def load_tokenizer(recipe: Recipe) -> Any:
    """The tokenizer of the recipe's model; a `Refusal` with the cause if it can't be had."""
    model = str(recipe["model_name_or_path"])
    if Path(model).is_file():
        raise Refusal(f"model_name_or_path {model} is a file; name the model's folder")
    try:
        return llamafactory.load_tokenizer(recipe)
    except Exception as error:  # whatever the hub, the file system and transformers raise
        text = " ".join(str(error).split())
        if "gated" in text or "401" in text or "403" in text:
            remedy = f"accept its licence at https://huggingface.co/{model} and export HF_TOKEN"
        elif "trust_remote_code" in text:
            remedy = "it brings code of its own; TRUST=1 with trust_remote_code: true runs it"
        elif Path(model).is_dir():
            remedy = "its folder holds no tokenizer that can be read; copy the model again"
        else:
            remedy = "is the name right, and the hub reached? A folder with the model works without"
        raise Refusal(f"the tokenizer of {model} can't be had ({text[:160]}); {remedy}") from None


def _check_end_of_turn(recipe: Recipe, tokenizer: Any) -> None:
    """The template's end of turn must be a token of this model (LLaMA-Factory would add it, untrained)."""
    template = recipe.get("template")
    if template is None:
        return
    ends = llamafactory.templates()[template].stop_words[:1]
    if ends and ends[0] not in tokenizer.get_vocab():
        raise Refusal(
            f"template {template} ends answers with {ends[0]}, which is no token of "
            f"{recipe['model_name_or_path']}; set the template of the model's family"
        )
