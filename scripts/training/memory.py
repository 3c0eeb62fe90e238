"""How much memory training needs, by part, for any architecture.

Model states follow DeepSpeed's own estimators (`estimate_zero2/3_model_states_mem_needs`): 2 bytes a
parameter for the weights, 6 for gradients (4 in ZeRO-3), 12 for the optimizer with its 32-bit
weights. Activations and logits are counted from what a layer allocates; the counts were fitted to, and
are tested against, the allocations of small models and published peaks of models of 7B and 8B.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from common.errors import Refusal
from common.paths import configs
from common.readers import read_json
from scripts.training.recipe import Recipe
from scripts.training.rules import Facts

SETTINGS = ("no ZeRO", "ZeRO-2", "ZeRO-3", "ZeRO-3 offload")
PARTS = ("weights", "gradients", "optimizer", "reference", "activations", "logits", "buffers")
FOUR_BIT = 0.516  # bytes a weight in nf4 with double quantisation (QLoRA, arXiv 2305.14314, section 3)
BUCKETS = 2 * 5e8 * 2  # bytes: ZeRO's two communication buckets of 5e8 16-bit values
EIGHT_BIT = ("adamw_8bit", "adamw_bnb_8bit", "paged_adamw_8bit")
# Bytes a trained weight that an optimizer holds; Adam's default, two values of the weight's own width, aside.
STATES = {
    **dict.fromkeys(EIGHT_BIT, 2.0), "paged_adamw": 8.0, "paged_adamw_32bit": 8.0,
    "adafactor": 0.0, "sgd": 0.0,
    "lion_32bit": 4.0, "paged_lion_32bit": 4.0, "lion_8bit": 1.0, "paged_lion_8bit": 1.0,
}  # fmt: skip
ADAM = ("adamw_torch", "adamw_torch_fused")
NOT_MODELLED = {
    "use_unsloth_gc": "moves checkpointed activations to main memory",
    "use_adam_mini": "holds fewer states than Adam",
    "use_muon": "holds one state where Adam holds two",
    "upcast_lmhead_output": "adds a 32-bit copy of the logits",
    "use_dora": "adds magnitudes and a normalised copy of a layer",
    "additional_target": "trains whole modules beside the adapters",
    "fsdp": "splits by FSDP, where the table has ZeRO",
    "neat_packing": "counts as packing",
}


@dataclass(frozen=True)
class Architecture:
    """What memory and time depend on.

    largest: the largest single module's parameters; modules: names of the linear layers, for LoRA;
    linear: (inputs, outputs) of each linear layer but the output's, for low-rank optimizers.
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
    linear: tuple[tuple[int, int], ...] = ()


def architecture(path: Path, lora_rank: int = 0, lora_target: str = "all") -> Architecture:
    """Read `config.json`-like figures and count the model's parameters, without allocating any.

    `lora_rank` > 0 also counts the adapters, on the linear layers named in `lora_target` (comma-separated;
    `all`: every one but the output's).
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
    sizes = [sum(p.numel() for p in module.parameters(recurse=False)) for module in model.modules()]
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
    targets = {name.strip() for name in str(lora_target).split(",")}
    adapted = [m for name, m in linear.items() if targets & {"all", name.rpartition(".")[2]}]
    return Architecture(
        parameters=sum(p.numel() for p in model.parameters()),
        largest=max(sizes), embeddings=sum(tables.values()),
        hidden=text.hidden_size, layers=text.num_hidden_layers, mlp=text.intermediate_size,
        heads=text.num_attention_heads, vocabulary=text.vocab_size,
        adapters=sum(lora_rank * (m.in_features + m.out_features) for m in adapted),
        linear=tuple((m.in_features, m.out_features) for m in linear.values()),
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
    tokens = per_device * longest * (2 if recipe.get("stage") == "dpo" else 1)
    share = gpus if setting.startswith("ZeRO-3") else 1
    offload = 0 if setting.endswith("offload") else 1
    parts = dict.fromkeys(PARTS, 0.0)
    trained = trained_weights(arch, recipe)
    frozen = frozen_bytes(arch, recipe, trained)
    if setting == "no ZeRO":
        parts |= whole_states(arch, recipe, trained)
        parts["weights"] += frozen
    elif is_lora(recipe):
        parts["weights"] = offload * frozen / share + trained * 4
        parts["gradients"] = 4 * trained / gpus
        parts["optimizer"] = offload * split_states(recipe) * trained / gpus
    else:
        parts["weights"] = offload * (2 * trained + frozen) / share
        parts["gradients"] = offload * (6 if setting == "ZeRO-2" else 4) * trained / gpus
        parts["optimizer"] = offload * (4 + split_states(recipe)) * trained / gpus  # with 32-bit weights
    if setting.startswith("ZeRO-3"):
        parts["buffers"] = 4.0 * arch.largest
    if setting != "no ZeRO":
        parts["buffers"] += min(BUCKETS, 4.0 * trained)
    if needs_reference(recipe) and not is_lora(recipe):
        parts["reference"] = offload * 2.0 * arch.parameters / share
    parts |= activations(arch, recipe, tokens)
    if setting == "no ZeRO" and recipe.get("optim") == "adamw_torch":
        # The unfused AdamW holds one more copy of the gradients while it steps; activations are gone by then.
        copy = width_of(recipe) * trained
        if copy > parts["activations"] + parts["logits"]:
            parts |= {"activations": 0.0, "logits": 0.0, "buffers": copy}
    return parts


def is_lora(recipe: Recipe) -> bool:
    """Whether adapters are trained: LLaMA-Factory's default."""
    return str(recipe.get("finetuning_type", "lora")) in ("lora", "oft")


def needs_reference(recipe: Recipe) -> bool:
    """Whether a reference model's probabilities are computed: DPO and KTO, but not SimPO and ORPO."""
    free = recipe.get("pref_loss", "sigmoid") in ("orpo", "simpo")
    return recipe.get("stage") == "kto" or (recipe.get("stage") == "dpo" and not free)


def width_of(recipe: Recipe) -> int:
    """Bytes of a trained weight without ZeRO: LLaMA-Factory holds them in 32 bits, unless told otherwise."""
    return 2 if recipe.get("pure_bf16") or recipe.get("use_badam") else 4


def split_states(recipe: Recipe) -> float:
    """Bytes of optimizer states a trained weight under ZeRO, whose optimizers see 32-bit weights."""
    return STATES.get(str(recipe.get("optim", "adamw_torch_fused")), 8.0)


def layer_weights(arch: Architecture) -> float:
    return (arch.parameters - arch.embeddings) / arch.layers


def trained_weights(arch: Architecture, recipe: Recipe) -> float:
    """Number of weights that are trained: adapters, the last layers of `freeze`, or all."""
    if is_lora(recipe):
        return float(arch.adapters)
    if recipe.get("finetuning_type") == "freeze":
        layers = min(abs(int(recipe.get("freeze_trainable_layers", 2))), arch.layers)
        return layers * layer_weights(arch)
    return float(arch.parameters)


def frozen_bytes(arch: Architecture, recipe: Recipe, trained: float) -> float:
    """Bytes of the weights that aren't trained: 16 bits each, or 4 or 8 if quantised."""
    frozen = arch.parameters - (0 if is_lora(recipe) else trained)
    bits = recipe.get("quantization_bit")
    if not bits:
        return 2 * frozen
    return (arch.parameters - arch.embeddings) * (FOUR_BIT if int(bits) == 4 else int(bits) / 8) + (
        2 * arch.embeddings
    )


def whole_states(arch: Architecture, recipe: Recipe, trained: float) -> dict[str, float]:
    """Weights, gradients and optimizer of `trained` weights on one GPU, in bytes, without ZeRO.

    8-bit optimizers hold the input embedding's states in 32 bits; paged ones are counted on the GPU, as
    they leave it only when it is full. GaLore and APOLLO hold states of rank x the longer side of a
    layer, GaLore also its projections (arXiv 2403.03507, table 1); layer by layer they hold one layer's
    gradients. BAdam holds 32-bit weights, gradients and states of one block (arXiv 2404.02827, table 1).
    """
    width = width_of(recipe)
    name = str(recipe.get("optim", "adamw_torch_fused"))
    states = STATES.get(name, 2.0 * width)
    parts = {"weights": width * trained, "gradients": width * trained, "optimizer": states * trained}
    if name in EIGHT_BIT and trained == arch.parameters:
        parts["optimizer"] += 6.0 * arch.hidden * arch.vocabulary
    method = next((name for name in ("galore", "apollo") if recipe.get(f"use_{name}")), None)
    if method:
        rank = int(recipe.get(f"{method}_rank", 16))
        projected = sum(inputs * outputs for inputs, outputs in arch.linear)
        sides = sum(rank * max(pair) for pair in arch.linear)
        projections = sum(rank * min(pair) for pair in arch.linear) if method == "galore" else 0
        rest = states * max(trained - projected + sides, 0)
        parts["optimizer"] = rest + width * projections
        if recipe.get(f"{method}_layerwise"):
            parts["gradients"] = width * arch.largest
    if recipe.get("use_badam") and recipe.get("badam_mode", "layer") == "layer":
        block = max(layer_weights(arch), arch.largest)
        parts |= {"gradients": 2 * block, "optimizer": 16 * block}
    return parts


def activations(arch: Architecture, recipe: Recipe, tokens: float) -> dict[str, float]:
    """Bytes of activations and of logits at the peak of `tokens` tokens on one GPU.

    With gradient checkpointing each layer holds its input, and one layer at a time is recomputed.
    """
    width = 2 if recipe.get("bf16") or recipe.get("fp16") or recipe.get("pure_bf16") else 4
    layer, head = layer_and_head(arch, recipe, width)
    if recipe.get("disable_gradient_checkpointing"):
        held = arch.layers * width * (4.0 * arch.mlp + 9.0 * arch.hidden)
    else:
        held = width * arch.hidden * arch.layers
    if head > layer:
        return {"activations": tokens * held, "logits": tokens * head}
    return {"activations": tokens * (held + layer), "logits": 0.0}


def layer_and_head(arch: Architecture, recipe: Recipe, width: int) -> tuple[float, float]:
    """(bytes a token while one layer is recomputed, bytes a token while the loss is computed).

    Only one of them is there at a time. A layer with a gated MLP allocates 6 values a token for each
    MLP unit and 10 for each hidden unit; the loss three 32-bit copies of the logits, four with a
    preference, five with a reference model, whose logits are computed while the policy's are held.
    Liger's loss holds no logits; LLaMA-Factory uses it where no preference needs them.
    """
    copies = 5 if needs_reference(recipe) else 4 if recipe.get("stage") == "dpo" else 3
    if recipe.get("enable_liger_kernel") and copies == 3:
        copies = 0
    layer = width * (6.0 * arch.mlp + 10.0 * arch.hidden)
    return layer, 4.0 * copies * arch.vocabulary + 3.0 * width * arch.hidden


def not_modelled(recipe: Recipe, settings: Sequence[str] = ()) -> list[str]:
    """What the recipe sets and the figures of these ZeRO settings don't count: `key: what it does`."""
    unknown = [f"{key}: {text}" for key, text in NOT_MODELLED.items() if recipe.get(key)]
    name = recipe.get("optim")
    if name and name not in STATES and name not in ADAM:
        unknown.append(f"optim={name}: counted as AdamW")
    if recipe.get("use_badam") and "ZeRO-3" in settings:
        unknown.append("use_badam: under ZeRO-3 counted as AdamW of all weights")
    if recipe.get("pure_bf16") and "ZeRO-2" in settings:
        unknown.append("pure_bf16: under ZeRO-2 counted as bf16, with 32-bit weights in the optimizer")
    if recipe.get("use_badam") and recipe.get("badam_mode", "layer") != "layer":
        unknown.append(f"badam_mode={recipe['badam_mode']}: counted as AdamW in 16 bits")
    if recipe.get("finetuning_type") == "freeze" and recipe.get("freeze_trainable_modules", "all") != "all":
        unknown.append("freeze_trainable_modules: all modules of the trained layers are counted")
    if (facts := Facts(recipe)).packed:
        unknown.append(f"{facts.prequantised}: the model's quantised weights are counted with 16 bits each")
    return unknown


def host_memory(arch: Architecture, setting: str, gpus: int) -> float:
    """Bytes of main memory that a machine needs beside the data: what is offloaded, or one copy a process."""
    return arch.parameters * (
        18 * 1.5 if setting.endswith("offload") else 4 if setting == "ZeRO-3" else 4 * gpus
    )


def flops(arch: Architecture, recipe: Recipe, tokens: float, mean_length: float) -> float:
    """Floating-point operations of training on `tokens` tokens (Kaplan et al. 2020, section 2.1).

    Forward 2, backward 4 a parameter and token, and once more forward by gradient checkpointing;
    LoRA spares half of the backward pass, `freeze` that of frozen layers; a reference model adds a forward
    pass, and KTO's estimate of the KL divergence one more of either model.
    """
    backward = 2.0 if is_lora(recipe) else 4.0
    if recipe.get("finetuning_type") == "freeze":
        backward *= trained_weights(arch, recipe) / arch.parameters
    again = 0 if recipe.get("disable_gradient_checkpointing") else 2
    reference = 2 * needs_reference(recipe) + 4 * (recipe.get("stage") == "kto")
    passes = 2 + backward + again + reference
    attention = 2.0 * arch.layers * arch.hidden * mean_length
    return tokens * passes * (arch.parameters - arch.embeddings / 2 + attention)


def checkpoint_bytes(arch: Architecture, recipe: Recipe) -> float:
    """Bytes of one checkpoint: weights in 16 bits (32 without ZeRO) and what the optimizer needs to go on."""
    if is_lora(recipe):
        return 12.0 * arch.adapters
    return (14.0 if recipe.get("deepspeed") else 12.0) * arch.parameters
