"""How much memory training needs, by part, for any architecture.

Model states follow DeepSpeed's own estimators (`estimate_zero2/3_model_states_mem_needs`): 2 bytes a
parameter for the weights, 6 for gradients (4 in ZeRO-3), 12 for the optimizer with its 32-bit
weights. Activations and logits are counted from what a gradient-checkpointed layer allocates; the
counts were fitted to, and are tested against, the allocations of small models.
"""

from dataclasses import dataclass
from pathlib import Path

from common.errors import Refusal
from common.readers import read_json
from scripts.training.recipe import Recipe, configs

SETTINGS = ("no ZeRO", "ZeRO-2", "ZeRO-3", "ZeRO-3 offload")
PARTS = ("weights", "gradients", "optimizer", "reference", "activations", "logits", "buffers")
FOUR_BIT = 0.516  # bytes a weight in nf4 with double quantisation (QLoRA, arXiv 2305.14314, section 3)
BUCKETS = 2 * 5e8 * 2  # bytes: ZeRO's two communication buckets of 5e8 16-bit values


@dataclass(frozen=True)
class Architecture:
    """What memory and time depend on.

    largest: the largest single module's parameters; modules: names of the linear layers, for LoRA.
    """

    parameters: int
    largest: int
    embeddings: int
    hidden: int
    layers: int
    mlp: int
    heads: int
    vocabulary: int
    adapters: int = 0
    modules: tuple[str, ...] = ()


def architecture(path: Path, lora_rank: int = 0) -> Architecture:
    """Read `config.json`-like figures and count the model's parameters, without allocating any.

    `lora_rank` > 0 also counts the adapters on every linear layer but the output's.
    """
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    figures = read_json(path, "give the model's config.json with --architecture")
    try:
        config = AutoConfig.for_model(
            **{key: value for key, value in figures.items() if key != "architectures"}
        )
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(config)
    except (ValueError, KeyError, TypeError) as error:
        raise Refusal(
            f"{path} is no causal language model's config.json: {' '.join(str(error).split())}"
        ) from None
    own = [sum(p.numel() for p in module.parameters(recurse=False)) for module in model.modules()]
    tables = {
        id(module.weight): module.weight.numel()
        for module in (model.get_input_embeddings(), model.get_output_embeddings())
    }
    linear = {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear) and "lm_head" not in name
    }
    text = config.get_text_config()
    return Architecture(
        parameters=sum(p.numel() for p in model.parameters()),
        largest=max(own), embeddings=sum(tables.values()),
        hidden=text.hidden_size, layers=text.num_hidden_layers, mlp=text.intermediate_size,
        heads=text.num_attention_heads, vocabulary=text.vocab_size,
        adapters=sum(lora_rank * (m.in_features + m.out_features) for m in linear.values()),
        modules=tuple(dict.fromkeys(name.rpartition(".")[2] for name in linear)),
    )  # fmt: skip


def find_architecture(recipe: Recipe, model: str) -> Path:
    """The figures of the recipe's model: its own config.json if it is here, else the shipped ones."""
    local = Path(str(recipe["model_name_or_path"]), "config.json")
    if local.is_file():
        return local
    shipped = configs() / model / "architecture.json"
    if shipped.is_file():
        return shipped
    raise Refusal(f"neither {local} nor {shipped} is there; copy the model's config.json to {shipped}")


def memory(
    arch: Architecture, recipe: Recipe, setting: str, gpus: int, per_device: int, longest: int
) -> dict[str, float]:
    """Bytes on one GPU at the peak of a step, by part.

    setting: one of SETTINGS; per_device: rows (or pairs) a GPU holds at once; longest: tokens of the
    longest row, which decides the peak.
    """
    dpo = recipe.get("stage") == "dpo"
    lora = recipe.get("finetuning_type", "lora") == "lora"
    tokens = per_device * longest * (2 if dpo else 1)
    share = gpus if setting.startswith("ZeRO-3") else 1
    offload = 0 if setting.endswith("offload") else 1
    parts = dict.fromkeys(PARTS, 0.0)
    trained = arch.adapters if lora else arch.parameters
    if lora:
        dense = arch.parameters - arch.embeddings
        frozen = dense * (FOUR_BIT if recipe.get("quantization_bit") else 2) + arch.embeddings * 2
        parts["weights"] = offload * frozen / share + trained * 4
        parts["gradients"] = 4 * trained / (1 if setting == "no ZeRO" else gpus)
        parts["optimizer"] = offload * 8 * trained / (1 if setting == "no ZeRO" else gpus)
    elif setting == "no ZeRO":  # LLaMA-Factory keeps trained weights in 32 bits there
        parts["weights"], parts["gradients"], parts["optimizer"] = 4.0 * trained, 4.0 * trained, 8.0 * trained
    else:
        parts["weights"] = offload * 2 * trained / share
        parts["gradients"] = offload * (6 if setting == "ZeRO-2" else 4) * trained / gpus
        parts["optimizer"] = offload * 12 * trained / gpus
    if setting.startswith("ZeRO-3"):
        parts["buffers"] = 4.0 * arch.largest
    if setting != "no ZeRO":
        parts["buffers"] += min(BUCKETS, 4.0 * trained)
    if dpo and not lora and recipe.get("pref_loss", "sigmoid") not in ("orpo", "simpo"):
        parts["reference"] = offload * 2.0 * arch.parameters / share
    width = 2 if recipe.get("bf16") or recipe.get("fp16") or recipe.get("pure_bf16") else 4
    layer, head = layer_and_head(arch, width)
    parts["activations"] = tokens * width * arch.hidden * arch.layers
    if head > layer:
        parts["logits"] = tokens * head
    else:
        parts["activations"] += tokens * layer
    return parts


def layer_and_head(arch: Architecture, width: int) -> tuple[float, float]:
    """(bytes a token while one layer is recomputed, bytes a token while the loss is computed).

    Only one of them is there at a time. A layer with a gated MLP allocates 6 values a token for each
    MLP unit and 10 for each hidden unit; the loss three 32-bit copies of the logits.
    """
    return width * (6.0 * arch.mlp + 10.0 * arch.hidden), 12.0 * arch.vocabulary + 3.0 * width * arch.hidden


def host_memory(arch: Architecture, setting: str, gpus: int) -> float:
    """Bytes of main memory that a machine needs beside the data: what is offloaded, or one copy a process."""
    return arch.parameters * (
        18 * 1.5 if setting.endswith("offload") else 4 if setting == "ZeRO-3" else 4 * gpus
    )


def flops(arch: Architecture, recipe: Recipe, tokens: float, mean_length: float) -> float:
    """Floating-point operations of training on `tokens` tokens (Kaplan et al. 2020, section 2.1).

    Forward 2, backward 4 a parameter and token, and once more forward by gradient checkpointing;
    LoRA spares half of the backward pass; DPO adds the reference model's forward pass.
    """
    lora = recipe.get("finetuning_type", "lora") == "lora"
    passes = 2 + (2 if lora else 4) + 2 + (2 if recipe.get("stage") == "dpo" else 0)
    attention = 2.0 * arch.layers * arch.hidden * mean_length
    return tokens * passes * (arch.parameters - arch.embeddings / 2 + attention)


def checkpoint_bytes(arch: Architecture, recipe: Recipe) -> float:
    """Bytes of one checkpoint: weights in 16 bits (32 without ZeRO) and what the optimizer needs to go on."""
    if recipe.get("finetuning_type", "lora") == "lora":
        return 12.0 * arch.adapters
    return (14.0 if recipe.get("deepspeed") else 12.0) * arch.parameters
