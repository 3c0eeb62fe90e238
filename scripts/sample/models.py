"""Make the tiny models: a Llama and a Qwen2 of well under a million parameters, each with its own tokenizer.

    socrates data tiny

They are to the pipeline what the 8B and the 14B are, only small enough for a plain CPU: the family's
architecture, its pre-tokeniser, special tokens, chat template and end-of-turn ids, so that LLaMA-Factory's
templates `llama3` and `qwen` fit as they do for the real ones. Weights are random (seeded): a tiny model
knows nothing before it is trained. The byte-level BPE is trained on texts of the synthetic sample.
As in the real families, Llama has one token for each number from 0 to 999, Qwen one for each digit.

Writes `outputs/models/tiny` (Llama) and `outputs/models/tiny-qwen` (Qwen2), loadable by `AutoTokenizer` and
`AutoModelForCausalLM`. Same versions, same bytes.
"""

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers

from common.files import atomic_path, fingerprint, sha256_file, write_json
from common.paths import root
from common.prompts import SYSTEM_PROMPT
from common.readers import read_json
from common.step import Step, describe
from scripts.sample.draw import SEED, draw_study, source_sums
from scripts.sample.studies import STUDIES

MERGES = 1000  # learned merges: nearly every word of the sample becomes one token
CONTEXT = 2048
# Heads of 32: vLLM has no kernel for smaller ones on a CPU.
HIDDEN, LAYERS, HEADS, KEY_VALUE_HEADS, FEED_FORWARD = 64, 2, 2, 1, 192
INITIAL_SD = 0.05

LETTERS_AND_SIGNS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}%s| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
LLAMA_CHAT = (
    "{% for message in messages %}{% if loop.first %}{{ bos_token }}{% endif %}"
    "{{ '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n' }}"
    "{{ message['content'] | trim }}{{ '<|eot_id|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
)
QWEN_CHAT = (
    "{% if messages[0]['role'] != 'system' %}{{ '<|im_start|>system\n"
    "You are Qwen, created by Alibaba Cloud. You are a helpful assistant.<|im_end|>\n' }}{% endif %}"
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' }}"
    "{{ message['content'] }}{{ '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


@dataclass(frozen=True)
class Family:
    """What differs between the two families. `ends`: tokens that end a reply, the end of turn first."""

    name: str
    folder: str
    digits: str
    number_tokens: bool
    special: tuple[str, ...]
    bos: str | None
    pad: str | None
    ends: tuple[str, ...]
    chat: str


FAMILIES = {
    "llama": Family(
        name="llama",
        folder="tiny",
        digits="{1,3}",
        number_tokens=True,
        special=(
            "<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>",
            "<|eom_id|>", "<|eot_id|>",
        ),
        bos="<|begin_of_text|>",
        pad=None,
        ends=("<|eot_id|>", "<|end_of_text|>"),
        chat=LLAMA_CHAT,
    ),
    "qwen": Family(
        name="qwen",
        folder="tiny-qwen",
        digits="",
        number_tokens=False,
        special=("<|endoftext|>", "<|im_start|>", "<|im_end|>"),
        bos=None,
        pad="<|endoftext|>",
        ends=("<|im_end|>", "<|endoftext|>"),
        chat=QWEN_CHAT,
    ),
}  # fmt: skip


def training_texts() -> list[str]:
    """Texts to learn merges from: the system prompt, and a share of every study's prompts and reasoning."""
    texts = [SYSTEM_PROMPT, *["system", "user", "assistant"] * 20]  # the names of the turns, one token each
    for index, study in enumerate(STUDIES):
        rows, _, _ = draw_study(study, index, SEED)
        for column in ("prompt", "reasoning"):
            texts += rows[column].to_pylist()[::20]
    return texts


def train_tokenizer(family: Family, texts: Iterable[str]) -> Tokenizer:
    """A byte-level BPE with the family's pre-tokeniser and special tokens.

    Merges are learned from the texts without their digits; how numbers split is the family's, not the
    data's. Ids: the bytes, then numbers (Llama), then learned merges, then special tokens, as in the
    real vocabularies, where special tokens come last.
    """
    split = pre_tokenizers.Split(Regex(LETTERS_AND_SIGNS % family.digits), behavior="isolated")
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    pre_tokenizer = pre_tokenizers.Sequence([split, byte_level])
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    learner = Tokenizer(models.BPE())
    learner.pre_tokenizer = pre_tokenizer
    trainer = trainers.BpeTrainer(
        vocab_size=len(alphabet) + MERGES, initial_alphabet=alphabet, show_progress=False
    )
    learner.train_from_iterator((re.sub(r"\d", "", text) for text in texts), trainer)
    learned = [tuple(pair) for pair in _model_of(learner)["merges"]]
    numbers = [(str(n // 10), str(n % 10)) for n in range(10, 1000)] if family.number_tokens else []
    merges = numbers + learned
    vocabulary = alphabet + [left + right for left, right in merges]
    tokenizer = Tokenizer(
        models.BPE(
            {token: number for number, token in enumerate(dict.fromkeys(vocabulary))},
            merges,
            ignore_merges=family.number_tokens,  # as Llama 3: a word that is a token needs no merges
        )
    )
    tokenizer.pre_tokenizer = pre_tokenizer
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(list(family.special))
    if family.bos:
        bos = (family.bos, tokenizer.token_to_id(family.bos))
        tokenizer.post_processor = processors.TemplateProcessing(f"{family.bos} $A", None, [bos])
    return tokenizer


def _model_of(tokenizer: Tokenizer) -> dict[str, Any]:
    return json.loads(tokenizer.to_str())["model"]


@dataclass(frozen=True)
class TinyModel:
    """A tiny model on disk. new: it was written now, not before."""

    folder: Path
    parameters: int
    new: bool

    def __str__(self) -> str:
        if not self.new:
            return f"{self.folder}: nothing to do, the model is up to date"
        return f"{self.folder}: {self.parameters:,} parameters"


def make_model(family: Family, folder: Path | None = None) -> TinyModel:
    """Write tokenizer, configuration and random weights to `folder` (outputs/models/...), once."""
    folder = folder or root() / "outputs" / "models" / family.folder
    libraries = [version(name) for name in ("torch", "transformers", "tokenizers")]
    inputs = fingerprint([family.name, libraries, sha256_file(__file__), source_sums()])
    with Step(folder / "tiny.json", inputs, whole=True) as step:
        new = not step.done
        if new:
            _write(family, folder, inputs)
        record = read_json(step.record, f"remove {folder} and run the same command again")
    return TinyModel(folder, record["parameters"], new)


def _write(family: Family, folder: Path, inputs: str) -> None:
    import torch
    from transformers import (
        AutoModelForCausalLM,
        GenerationConfig,
        LlamaConfig,
        PreTrainedTokenizerFast,
        Qwen2Config,
    )
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=train_tokenizer(family, training_texts()),
        bos_token=family.bos,
        eos_token=family.ends[0],
        pad_token=family.pad,
        model_max_length=CONTEXT,
        clean_up_tokenization_spaces=False,
    )
    tokenizer.chat_template = family.chat
    ends = [tokenizer.convert_tokens_to_ids(token) for token in family.ends]
    make = LlamaConfig if family.name == "llama" else Qwen2Config
    config = make(
        vocab_size=len(tokenizer),
        hidden_size=HIDDEN,
        intermediate_size=FEED_FORWARD,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        num_key_value_heads=KEY_VALUE_HEADS,
        max_position_embeddings=CONTEXT,
        initializer_range=INITIAL_SD,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=ends[0],
        pad_token_id=tokenizer.pad_token_id,
        tie_word_embeddings=False,
        dtype="float32",
    )
    torch.manual_seed(SEED)
    model = AutoModelForCausalLM.from_config(config)
    model.generation_config = GenerationConfig(
        do_sample=True, temperature=0.6, top_p=0.9, eos_token_id=ends,
        bos_token_id=tokenizer.bos_token_id, pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    with atomic_path(folder) as partial:
        model.save_pretrained(partial)
        tokenizer.save_pretrained(partial)
        files = describe(partial, sorted(path.name for path in partial.iterdir()))
        record = {"inputs": inputs, "parameters": model.num_parameters(), "files": files}
        write_json(partial / "tiny.json", record)
