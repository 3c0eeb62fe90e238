"""GGUF, the file form of llama.cpp and Ollama: a model written as one, and read from one.

Only where the file says exactly what the model is: architectures whose tensors gguf's own map names, and
tokenizers whose way of splitting text llama.cpp knows by name. For everything else a `Refusal` gives the
command of llama.cpp's own script. The package gguf has the format, but no converter.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from common.chat import PromptEncoder
from common.errors import Refusal
from common.files import atomic_path
from common.prompts import SYSTEM_PROMPT
from common.readers import read_json

FILE, MODELFILE = "model.gguf", "Modelfile"
ARCHITECTURES = ("llama", "qwen2", "qwen3")  # under the same name in transformers and in GGUF
NORMAL, CONTROL, USER_DEFINED, UNUSED = 1, 3, 4, 5  # GGUF's types of tokens
_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}%s| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def splitters() -> dict[str, Any]:
    """llama.cpp's name of each way to split text before a byte-level BPE, and the splitter itself."""
    from tokenizers import Regex, pre_tokenizers

    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False)
    after_words = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)

    def words(digits: str) -> Any:
        split = pre_tokenizers.Split(Regex(_WORDS % digits), behavior="isolated")
        return pre_tokenizers.Sequence([split, after_words])

    digits = pre_tokenizers.Digits(individual_digits=True)
    return {
        "smollm": pre_tokenizers.Sequence([digits, byte_level]), "gpt-2": byte_level,
        "llama-bpe": words("{1,3}"), "qwen2": words(""),
    }  # fmt: skip


def write_gguf(folder: Path) -> Path:
    """Write `model.gguf` (16 bits, norms in 32) and `Modelfile` into a model's Hugging Face folder.

    The token ids of a prompt and the answer's probabilities are those of the folder, up to the rounding
    to 16 bits. Nothing is written, and a `Refusal` names llama.cpp's script, where that can't be promised.
    """
    import gguf
    from transformers import AutoConfig, AutoTokenizer

    config, tokenizer = AutoConfig.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    if problem := _problem(config, folder):
        raise Refusal(
            f"no GGUF file beside {folder}: it has {problem}, which can't be written here; llama.cpp's "
            f"script may: python convert_hf_to_gguf.py {folder} --outfile {folder / FILE}"
        )
    encoder = PromptEncoder(tokenizer, str(folder))
    with atomic_path(folder / FILE) as partial:
        writer = gguf.GGUFWriter(partial, config.model_type)
        _describe_model(writer, config, folder)
        _describe_tokenizer(writer, encoder, config.vocab_size, folder)
        for name, tensor in _tensors(folder, config):
            writer.add_tensor_info(name, tensor.shape, tensor.dtype, tensor.nbytes)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        for _, tensor in _tensors(folder, config):
            writer.write_tensor_data(tensor)
        writer.close()
    with atomic_path(folder / MODELFILE) as partial:
        partial.write_text(modelfile(encoder, config.max_position_embeddings), encoding="utf-8")
    return folder / FILE


def modelfile(encoder: PromptEncoder, context: int) -> str:
    """Ollama's description of the model: asked as the evaluator asks it, answers drawn as it would draw.

    Ollama's own sampling (temperature 0.8, the 40 likeliest tokens) would narrow the answers.
    """
    stops = [encoder.tokenizer.convert_ids_to_tokens(number) for number in encoder.stop_ids]
    lines = [
        f"FROM ./{FILE}",
        f'TEMPLATE """{ollama_template(encoder)}"""',
        f'SYSTEM """{SYSTEM_PROMPT}"""',
        *(f'PARAMETER stop "{stop}"' for stop in stops),
        "PARAMETER temperature 1",
        "PARAMETER top_k 0",
        "PARAMETER top_p 1",
        "PARAMETER repeat_penalty 1",
        f"PARAMETER num_ctx {context}",
    ]
    return "\n".join(lines) + "\n"


def ollama_template(encoder: PromptEncoder) -> str:
    """The encoder's prompt as a template of Ollama, system prompt or not."""
    before, between, after = encoder.pieces(system=True)
    alone, _ = encoder.pieces(system=False)
    start = f"{{{{ if .System }}}}{before}{{{{ .System }}}}{between}{{{{ else }}}}{alone}{{{{ end }}}}"
    return f"{start}{{{{ .Prompt }}}}{after}{{{{ .Response }}}}{encoder.stop_text}"


def _problem(config: Any, folder: Path) -> str | None:
    """What of the model GGUF can't say, or isn't known to say here; None if all is well."""
    rope = getattr(config, "rope_parameters", None) or {}
    if config.model_type not in ARCHITECTURES:
        return f"an architecture ({config.model_type}) other than {', '.join(ARCHITECTURES)}"
    if rope.get("rope_type", "default") != "default":
        return f"stretched positions (rope_type {rope['rope_type']})"
    if _splitter_name(folder) is None:
        return "a tokenizer that splits text in a way of its own"
    return None


def _splitter_name(folder: Path) -> str | None:
    import json

    described = read_json(folder / "tokenizer.json", "export the model again")
    steps = described["pre_tokenizer"]
    if described["model"].get("type") != "BPE" or not steps:
        return None
    for name, splitter in splitters().items():
        if _form(json.loads(splitter.__getstate__())) == _form(steps):
            return name
    return None


def _form(step: dict[str, Any]) -> Any:
    """A splitter's description without what doesn't change the tokens."""
    parts = step.get("pretokenizers")
    if parts:
        return [_form(part) for part in parts]
    return {key: value for key, value in step.items() if key != "trim_offsets"}


def _describe_model(writer: Any, config: Any, folder: Path) -> None:
    import gguf

    head = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    writer.add_name(folder.resolve().name)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(head)
    writer.add_value_length(head)
    writer.add_rope_dimension_count(head)
    writer.add_rope_freq_base(float(config.rope_parameters["rope_theta"]))
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(config.vocab_size)


def _describe_tokenizer(writer: Any, encoder: PromptEncoder, size: int, folder: Path) -> None:
    """Tokens with their types, merges, ends. The template writes the first token, so nothing else does."""
    tokenizer = encoder.tokenizer
    by_number = {number: token for token, number in tokenizer.get_vocab().items()}
    added = tokenizer.added_tokens_decoder
    types = [
        UNUSED if number not in by_number
        else NORMAL if number not in added
        else CONTROL if added[number].special else USER_DEFINED
        for number in range(size)
    ]  # fmt: skip
    merges = read_json(folder / "tokenizer.json", "export the model again")["model"]["merges"]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(_splitter_name(folder))
    writer.add_token_list([by_number.get(number, f"[PAD{number}]") for number in range(size)])
    writer.add_token_types(types)
    writer.add_token_merges([merge if isinstance(merge, str) else " ".join(merge) for merge in merges])
    writer.add_add_bos_token(False)
    ends = {"bos": writer.add_bos_token_id, "eos": writer.add_eos_token_id, "pad": writer.add_pad_token_id}
    for name, add in ends.items():
        number = getattr(tokenizer, f"{name}_token_id")
        if number is not None:
            add(number)
    writer.add_eot_token_id(tokenizer.convert_tokens_to_ids(encoder.stop_text))
    writer.add_chat_template(tokenizer.chat_template)


def _tensors(folder: Path, config: Any) -> Iterator[tuple[str, Any]]:
    """Each weight under GGUF's name, one at a time: matrices in 16 bits, vectors in 32."""
    import gguf
    import numpy as np
    import torch
    from safetensors import safe_open

    architecture = next(key for key, name in gguf.MODEL_ARCH_NAMES.items() if name == config.model_type)
    names = gguf.get_tensor_name_map(architecture, config.num_hidden_layers)
    for file in sorted(folder.glob("model*.safetensors")):
        with safe_open(file, framework="pt") as weights:
            for key in weights.keys():  # noqa: SIM118
                name = names.get_name(key, try_suffixes=(".weight", ".bias"))
                if name is None:
                    raise Refusal(
                        f"{file} has a weight {key} that GGUF has no name for in {config.model_type}"
                    )
                tensor = weights.get_tensor(key).to(torch.float32).numpy()
                if config.model_type == "llama" and ".self_attn." in key:
                    tensor = _rotary_in_turns(tensor, key, config)
                yield name, tensor.astype(np.float16 if tensor.ndim > 1 else np.float32)


def _rotary_in_turns(tensor: Any, key: str, config: Any) -> Any:
    """The two rotary halves of each head interleaved, as llama.cpp holds those of the Llama architecture."""
    heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}
    count = heads.get(key.split(".")[-2])
    if count is None:
        return tensor
    half = tensor.shape[0] // count // 2
    return tensor.reshape(count, 2, half, *tensor.shape[1:]).swapaxes(1, 2).reshape(tensor.shape)


def read_gguf(file: Path, folder: Path) -> None:
    """Write a language model in GGUF form as a Hugging Face folder: float32 weights and its tokenizer.

    Raises `Refusal` for a tokenizer that can't be rebuilt exactly.
    """
    import torch
    from gguf import GGUFReader
    from transformers import AutoModelForCausalLM, GenerationConfig
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    tokenizer = gguf_tokenizer({key: field.contents() for key, field in GGUFReader(file).fields.items()})
    model = AutoModelForCausalLM.from_pretrained(
        str(file.parent), gguf_file=file.name, dtype=torch.float32, local_files_only=True
    )
    ends = {key: getattr(tokenizer, key) for key in ("bos_token_id", "eos_token_id", "pad_token_id")}
    model.config.update(ends)
    model.generation_config = GenerationConfig(**ends)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def gguf_tokenizer(metadata: dict[str, Any]) -> Any:
    """The tokenizer that a GGUF file's metadata describe.

    transformers' own reader takes `<|im_start|>` for the end of sequence, leaves the padding token out and
    doesn't split digits; so the tokenizer is built here from tokens, merges, types and chat template.
    """
    from tokenizers import AddedToken, Tokenizer, decoders, models
    from transformers import PreTrainedTokenizerFast

    kind, splitting = metadata.get("tokenizer.ggml.model"), metadata.get("tokenizer.ggml.pre")
    if kind != "gpt2" or splitting not in splitters():
        raise Refusal(
            f"the GGUF file's tokenizer ({kind}, {splitting}) is none that can be rebuilt exactly; "
            "take the model's Hugging Face folder instead"
        )
    tokens, types = metadata["tokenizer.ggml.tokens"], metadata["tokenizer.ggml.token_type"]
    merges = [tuple(merge.split(" ")) for merge in metadata["tokenizer.ggml.merges"]]
    vocabulary = {token: number for number, token in enumerate(tokens) if types[number] != UNUSED}
    whole_words = splitting == "llama-bpe"  # a word that is a token needs no merges
    tokenizer = Tokenizer(models.BPE(vocabulary, merges, ignore_merges=whole_words))
    tokenizer.pre_tokenizer = splitters()[splitting]
    tokenizer.decoder = decoders.ByteLevel()
    for token, type_ in zip(tokens, types, strict=True):
        if type_ in (CONTROL, USER_DEFINED):
            tokenizer.add_special_tokens([AddedToken(token, normalized=False, special=type_ == CONTROL)])
    names = {"bos_token": "bos", "eos_token": "eos", "unk_token": "unknown", "pad_token": "padding"}
    numbers = {name: metadata.get(f"tokenizer.ggml.{key}_token_id") for name, key in names.items()}
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_max_length=metadata[f"{metadata['general.architecture']}.context_length"],
        clean_up_tokenization_spaces=False,
        **{name: tokens[number] for name, number in numbers.items() if number is not None},
    )
    wrapped.chat_template = metadata["tokenizer.chat_template"]
    return wrapped
