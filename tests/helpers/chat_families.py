"""Tiny tokenizers of four families: the family's special tokens, way of splitting, and chat template.

The templates are short forms of the published ones: what they write for a system, a user and an
assistant turn is the same, tools and images are left out.
"""

from typing import Any

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

TEXTS = [
    "How fair is measure 3?\nOnly return an integer from 1 to 7, nothing else.",
    "You are a person. -12 100",
]

CHATML = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>' + '\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
SMOLLM2 = (
    "{% if messages[0].role != 'system' %}"
    "{{ '<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face' }}"
    "{{ '<|im_end|>\n' }}{% endif %}" + CHATML
)
QWEN3 = (  # the last answer is written after its thought, an empty one where there is none
    "{% for message in messages %}{% if message.role == 'assistant' %}"
    "{{ '<|im_start|>assistant\n<think>\n\n</think>\n\n' + message.content + '<|im_end|>\n' }}{% else %}"
    "{{ '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>\n' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
GEMMA = (
    "{{ bos_token }}{% if messages[0].role == 'system' %}"
    "{{ raise_exception('System role not supported') }}{% endif %}"
    "{% for message in messages %}{% set role = 'model' if message.role == 'assistant' else message.role %}"
    "{{ '<start_of_turn>' + role + '\n' + message.content | trim + '<end_of_turn>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"
)
MISTRAL = (
    "{% if messages[0].role == 'system' %}{% set system = messages[0].content + '\n\n' %}"
    "{% set turns = messages[1:] %}{% else %}{% set system = '' %}{% set turns = messages %}{% endif %}"
    "{{ bos_token }}"
    "{% for message in turns %}{% if message.role == 'user' %}"
    "{{ '[INST] ' + (system if loop.first else '') + message.content + '[/INST]' }}"
    "{% else %}{{ ' ' + message.content + eos_token }}{% endif %}{% endfor %}"
)
CHAT_MARKS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]


def byte_level(chat: str, extra: tuple[str, ...] = ()) -> Any:
    """As Qwen's and SmolLM2's: bytes, digits one by one."""
    raw = Tokenizer(models.BPE())
    digits = pre_tokenizers.Digits(individual_digits=True)
    raw.pre_tokenizer = pre_tokenizers.Sequence([digits, pre_tokenizers.ByteLevel(add_prefix_space=False)])
    raw.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    marks = [*CHAT_MARKS, *extra]
    raw.train_from_iterator(TEXTS, trainers.BpeTrainer(special_tokens=marks, initial_alphabet=alphabet))
    return _wrapped(raw, chat, eos_token="<|im_end|>", pad_token="<|endoftext|>")


def sentence_piece(chat: str, marks: list[str], prepend: bool, **special: str) -> Any:
    """As Gemma's and Mistral's: a space is a low line; Mistral's writes one before each text, too."""
    raw = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True))
    steps = [normalizers.Prepend("▁")] if prepend else []
    raw.normalizer = normalizers.Sequence([*steps, normalizers.Replace(" ", "▁")])
    raw.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    byte_tokens = [f"<0x{byte:02X}>" for byte in range(256)]
    spaces = ["▁", "▁▁"]
    trainer = trainers.BpeTrainer(special_tokens=["<unk>", *marks, *byte_tokens], vocab_size=360)
    raw.train_from_iterator([*(text.replace(" ", "▁") for text in TEXTS), *spaces * 9], trainer)
    return _wrapped(raw, chat, unk_token="<unk>", **special)


def _wrapped(raw: Tokenizer, chat: str, **special: str) -> Any:
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=raw, clean_up_tokenization_spaces=False, **special)
    tokenizer.chat_template = chat
    return tokenizer


def family(name: str) -> Any:
    """A new tokenizer of the family: qwen3, smollm2, gemma or mistral."""
    if name == "qwen3":
        return byte_level(QWEN3, ("<think>", "</think>"))
    if name == "smollm2":
        return byte_level(SMOLLM2)
    if name == "gemma":
        marks = ["<pad>", "<bos>", "<eos>", "<start_of_turn>", "<end_of_turn>"]
        return sentence_piece(GEMMA, marks, False, bos_token="<bos>", eos_token="<eos>", pad_token="<pad>")
    marks = ["<s>", "</s>", "[INST]", "[/INST]"]
    return sentence_piece(MISTRAL, marks, True, bos_token="<s>", eos_token="</s>", pad_token="</s>")
