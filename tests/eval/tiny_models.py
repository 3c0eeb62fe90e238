"""Random tiny Llama and Qwen2 models with their families' chat templates, made in a second for tests.

Their vocabularies write numbers differently: the Llama one has tokens for all numbers up to 999, the
Qwen one for single digits only, as the real ones do.
"""

from pathlib import Path

import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

LLAMA3_TEMPLATE = (
    "{% set loop_messages = messages %}{% for message in loop_messages %}{% set content = '<|start_header_id|>' + "
    "message['role'] + '<|end_header_id|>\n\n'+ message['content'] | trim + '<|eot_id|>' %}{% if loop.index0 == 0 %}"
    "{% set content = bos_token + content %}{% endif %}{{ content }}{% endfor %}{% if add_generation_prompt %}"
    "{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
)
QWEN_TEMPLATE = (
    "{% if messages[0]['role'] != 'system' %}{{ '<|im_start|>system\nYou are Qwen, created by Alibaba Cloud. You are "
    "a helpful assistant.<|im_end|>\n' }}{% endif %}{% for message in messages %}{{ '<|im_start|>' + message['role'] "
    "+ '\n' + message['content'] + '<|im_end|>' + '\n' }}{% endfor %}{% if add_generation_prompt %}"
    "{{ '<|im_start|>assistant\n' }}{% endif %}"
)
_WORDS = "you are simulating a survey respondent answer exactly only return an integer from to nothing else " * 4


def _tokenizer(family: str) -> PreTrainedTokenizerFast:
    digits = "[0-9]{1,3}" if family == "llama" else "[0-9]"
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(rf"{digits}| ?[A-Za-z]+|\s+|[^0-9A-Za-z\s]+"), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    if family == "llama":
        special = ["<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>"]
        special += ["<|eom_id|>", "<|eot_id|>"]
        template, eos, bos = LLAMA3_TEMPLATE, "<|end_of_text|>", "<|begin_of_text|>"
        numbers = " ".join(str(number) for number in [*range(10)] * 40 + [*range(10, 100)] * 8 + [*range(1000)] * 3)
    else:
        special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
        template, eos, bos, numbers = QWEN_TEMPLATE, "<|im_end|>", None, "0 1 2 3 4 5 6 7 8 9"
    trainer = trainers.BpeTrainer(
        vocab_size=1600,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([numbers, _WORDS], trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=bos,
        eos_token=eos,
        pad_token=special[1],
        additional_special_tokens=special,
        chat_template=template,
        clean_up_tokenization_spaces=False,
    )


def make(family: str, folder: Path) -> Path:
    """Write a random model of `family` (llama or qwen) into `folder`; sharp enough to tell answers apart."""
    torch.manual_seed(0)
    tokenizer = _tokenizer(family)
    shape = {
        "vocab_size": len(tokenizer) + 4,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 1024,
        "initializer_range": 0.3,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
    }
    if family == "llama":
        model = LlamaForCausalLM(LlamaConfig(**shape, rope_theta=500000.0))
        model.generation_config.eos_token_id = [tokenizer.eos_token_id, tokenizer.convert_tokens_to_ids("<|eot_id|>")]
    else:
        model = Qwen2ForCausalLM(Qwen2Config(**shape))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
