"""Loading a checkpoint, or refusing it: whatever is damaged, missing or left over has one line.

A model with a tensor missing would be filled with random numbers and predicted with as if nothing were
wrong. So the files are checked before anything is allocated, and what was loaded afterwards.
"""

import json
import re
from pathlib import Path
from typing import Any

import httpx
import psutil
import torch
import transformers
from huggingface_hub import snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from safetensors import SafetensorError, safe_open
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from common.errors import Refusal
from common.paths import root
from common.readers import read_text
from common.runs import earlier_adapters, how_to_get
from eval.settings import LocalSettings

HUB_FILES = ["*.safetensors", "*.json", "*.jinja", "tokenizer*", "*.model", "*.txt"]
PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")
LFS = b"version https://git-lfs.github.com/spec/"
AGAIN = "copy or download it again, or give another model"
MOST_EXPERTS = 4096
LAYERS = re.compile(r"(num|n)_(\w+_)?layers?")  # not max_window_layers, which may be anything
Shapes = dict[str, list[int]]


def load(path: str, settings: LocalSettings, revision: str | None = None) -> tuple[Any, Any]:
    """Tokenizer and model of a checkpoint folder or hub id, on its device, ready to predict.

    CPU: float32; GPU: bfloat16 unless the settings say otherwise. A folder that holds an adapter is
    merged into the base model that it names. Raises `Refusal` for anything that isn't whole.
    """
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    folder = locate(path, revision)
    adapter = _read(folder / "adapter_config.json") if (folder / "adapter_config.json").is_file() else None
    base, added = folder, dict[Path, Shapes]()
    if adapter is not None:
        adapters = [*earlier_adapters(folder), folder]  # each learned on top of those before it
        added = {each: _weights(each, "adapter_model") for each in adapters}
        base = locate(_base_of(adapter, folder))
    shapes = _weights(base, "model")
    config = _config(base)
    expected = _expected(base, config, shapes)
    device, dtype = _device(settings)
    if device == "cpu":
        _check_memory(base, expected, dtype)
    tokenizer = _tokenizer(folder if (folder / "tokenizer_config.json").is_file() else base)
    loaded: Any
    try:
        loaded = AutoModelForCausalLM.from_pretrained(
            base, config=config, dtype=dtype, attn_implementation="sdpa", use_safetensors=True,
            trust_remote_code=False, ignore_mismatched_sizes=True, output_loading_info=True,
        )  # fmt: skip
    except Exception as error:  # transformers raises whatever a file makes it stumble over
        raise Refusal(f"can't load the model {base}: {_line(error)}; {AGAIN}") from None
    model, report = loaded
    _check_report(base, report)
    _check_ids(folder, tokenizer, model)
    for each, tensors in added.items():
        model = _merge(model, each, tensors)
    return tokenizer, model.to(torch.device(device)).eval()


def locate(path: str, revision: str | None = None) -> Path:
    """The folder of a checkpoint: itself, or what the hub has under that name (downloaded or cached).

    A hub id may carry a revision: `owner/name@commit`.
    """
    for folder in (Path(path).expanduser(), root() / path):
        if folder.is_dir():
            return folder
        if folder.exists():
            raise Refusal(f"{path} is a file; give the folder of a checkpoint, or a hub id")
    path, _, named = path.partition("@")
    revision = named or revision
    if path.startswith((".", "/", "~", "outputs/")) or not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", path):
        raise Refusal(
            f"the model folder {path} is missing; {how_to_get(root() / path)} makes it, or give another model"
        )
    try:
        return Path(snapshot_download(path, revision=revision, allow_patterns=HUB_FILES))
    except GatedRepoError:
        reason = "its owner wants a licence accepted: do so on its page, then `hf auth login` or set HF_TOKEN"
    except RevisionNotFoundError:
        reason = f"it has no revision {revision}"
    except RepositoryNotFoundError:
        reason = "it is neither a folder here nor public on the hub; check the name, or set HF_TOKEN"
    except (LocalEntryNotFoundError, httpx.TransportError):  # bare where a revision is asked for
        reason = "the hub can't be reached; give a folder, or set HF_ENDPOINT to a mirror"
    except (HfHubHTTPError, HFValidationError, httpx.HTTPError, OSError, ValueError) as error:
        reason = _line(error)
    raise Refusal(f"can't fetch the model {path}: {reason}")


def _line(error: object) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__


def _read(path: Path) -> dict[str, Any]:
    """A JSON file that must hold an object."""
    if path.is_file() and path.open("rb").read(len(LFS)) == LFS:
        raise Refusal(f"{path} is a Git LFS pointer, not the file; run `git lfs pull` in its folder")
    try:
        value = json.loads(read_text(path, AGAIN))  # real ones hold numbers beyond 64 bits
    except (ValueError, RecursionError) as error:
        raise Refusal(f"{path} is not valid JSON ({_line(error)}); {AGAIN}") from None
    if not isinstance(value, dict):
        raise Refusal(f"{path} must hold an object, not {type(value).__name__}; {AGAIN}")
    return value


def _base_of(adapter: dict[str, Any], folder: Path) -> str:
    """The base model of an adapter that can be merged."""
    from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING
    from peft.utils import PeftType

    file = folder / "adapter_config.json"
    kind, base = adapter.get("peft_type"), adapter.get("base_model_name_or_path")
    prompts = {PeftType.PROMPT_TUNING, PeftType.P_TUNING, PeftType.PREFIX_TUNING, PeftType.ADAPTION_PROMPT}
    if kind not in {each.value for each in PEFT_TYPE_TO_CONFIG_MAPPING if each not in prompts}:
        raise Refusal(f"{file}: an adapter of kind {kind!r} can't be merged into its base; use LORA")
    if not isinstance(base, str) or not base:
        raise Refusal(f"{file} names no base model; set base_model_name_or_path to a folder or hub id")
    return base


def _weights(folder: Path, stem: str) -> Shapes:
    """The shape of each tensor in `<stem>.safetensors`, or in the files that its index names."""
    index = folder / f"{stem}.safetensors.index.json"
    file = folder / f"{stem}.safetensors"
    if not file.is_file() and index.is_file():
        return _indexed(index)
    if not file.is_file():
        raise Refusal(_without_weights(folder, stem))
    if shapes := _header(file):
        return shapes
    raise Refusal(f"{file} holds no tensors; {AGAIN}")


def _indexed(index: Path) -> Shapes:
    """The tensors that an index names, in files that lie beside it."""
    tensors = _read(index).get("weight_map")
    if not isinstance(tensors, dict) or not tensors:
        raise Refusal(f"{index} has no weight_map; {AGAIN}")
    for name in tensors.values():
        if not isinstance(name, str) or Path(name).name != name or not name.endswith(".safetensors"):
            raise Refusal(f"{index} names {name!r}, which isn't a .safetensors file beside it; {AGAIN}")
    headers = {name: _header(index.parent / name) for name in sorted(set(tensors.values()))}
    for tensor, name in tensors.items():
        if tensor not in headers[name]:
            raise Refusal(f"{index} says that {name} holds {tensor}, and it doesn't; {AGAIN}")
    return {tensor: shape for header in headers.values() for tensor, shape in header.items()}


def _without_weights(folder: Path, stem: str) -> str:
    """Why a folder can't be loaded that has no safetensors."""
    pickles = sorted(path.name for pattern in PICKLES for path in folder.glob(pattern))
    pickles = [name for name in pickles if "training_args" not in name and "optimizer" not in name]
    adapter = stem == "adapter_model"
    kind = "peft import AutoPeftModelForCausalLM" if adapter else "transformers import AutoModelForCausalLM"
    if pickles:
        return (
            f"{folder} holds pickled weights ({pickles[0]}), which can run code when they are read; if you "
            f'trust them, convert them: python -c "from {kind} as M; '
            f"M.from_pretrained('{folder}').save_pretrained('{folder}-safetensors')\""
        )
    return (
        f"{folder} has no {stem}.safetensors; give the folder of a finished checkpoint (pickled weights, "
        ".bin, are neither downloaded nor read)"
    )


def _header(file: Path) -> Shapes:
    """The tensors of a safetensors file, from its header, which must fit the file's size."""
    if not file.is_file():
        raise Refusal(f"{file} is missing; {AGAIN}")
    with file.open("rb") as handle:
        if handle.read(len(LFS)) == LFS:
            raise Refusal(f"{file} is a Git LFS pointer, not the weights; run `git lfs pull` in its folder")
    try:
        with safe_open(file, framework="np") as tensors:
            return {name: list(tensors.get_slice(name).get_shape()) for name in tensors.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError) as error:
        raise Refusal(f"{file} is damaged ({_line(error)}); {AGAIN}") from None


def _config(folder: Path) -> Any:
    """The configuration, and the generation settings that are read with it."""
    _read(folder / "config.json")
    file = folder / "generation_config.json"
    stops = _read(file).get("eos_token_id") if file.is_file() else None
    if not all(type(stop) is int for stop in (stops if isinstance(stops, list) else [stops or 0])):
        raise Refusal(f"{file}: eos_token_id is {stops!r}; it must be a token id or a list of them")
    try:
        return AutoConfig.from_pretrained(folder, trust_remote_code=False)
    except Exception as error:  # transformers raises whatever a file makes it stumble over
        raise Refusal(f"{folder / 'config.json'} describes no model: {_line(error)}; {AGAIN}") from None


def _expected(folder: Path, config: Any, shapes: Shapes) -> int:
    """How many parameters the configuration describes; refused unless the weights hold them.

    Built on the meta device, which allocates nothing. Families whose weights are stored otherwise than
    they are used (fused experts) have other names there, so only names on both sides are compared.
    """
    file = folder / "config.json"
    for name, number in config.get_text_config().to_dict().items():
        if LAYERS.fullmatch(name) and isinstance(number, int) and number > len(shapes):
            raise Refusal(f"{file}: {name} is {number}, and the weights are {len(shapes)} tensors; {AGAIN}")
        if "experts" in name and isinstance(number, int) and number > MOST_EXPERTS:
            raise Refusal(f"{file}: {name} is {number}, more than any model has; {AGAIN}")
    try:
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(config, trust_remote_code=False)
    except Exception as error:
        raise Refusal(f"{file} describes no possible model: {_line(error)}; {AGAIN}") from None
    for name, tensor in model.state_dict().items():
        if name in shapes and list(tensor.shape) != shapes[name]:
            raise Refusal(
                f"{folder}: {name} has shape {shapes[name]}, config.json says {list(tensor.shape)}; {AGAIN}"
            )
    expected = sum(parameter.numel() for parameter in model.parameters())
    stored = sum(int(torch.Size(shape).numel()) for shape in shapes.values())
    if stored < 0.9 * expected and not getattr(config, "quantization_config", None):
        raise Refusal(f"{file} describes {expected:,} parameters, the weights hold {stored:,}; {AGAIN}")
    return expected


def _device(settings: LocalSettings) -> tuple[str, torch.dtype]:
    cuda = torch.cuda.is_available()
    device = settings.device if settings.device != "auto" else "cuda" if cuda else "cpu"
    automatic = "bfloat16" if device.startswith("cuda") else "float32"
    return device, getattr(torch, automatic if settings.dtype == "auto" else settings.dtype)


def _check_memory(folder: Path, parameters: int, dtype: torch.dtype) -> None:
    """Refuse a model that this machine can't hold, before it grinds to a halt."""
    needed, present = parameters * dtype.itemsize, psutil.virtual_memory().total
    if needed > present:
        raise Refusal(
            f"{folder} takes {needed / 1e9:.0f} GB in {str(dtype).removeprefix('torch.')}, this machine has "
            f"{present / 1e9:.0f} GB; set local.dtype: bfloat16, use a GPU, or a server (--url)"
        )


def _tokenizer(folder: Path) -> Any:
    for name in ("tokenizer_config.json", "tokenizer.json"):
        if (folder / name).is_file():
            _read(folder / name)
    try:
        return AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    except Exception as error:  # the tokenizers library raises bare Exceptions, and panics
        raise Refusal(f"can't load the tokenizer of {folder}: {_line(error)}; {AGAIN}") from None


def _check_report(folder: Path, report: dict[str, Any]) -> None:
    """Refuse a model in which anything was filled in or left out. Tied weights are neither."""
    for kind, says in (
        ("mismatched_keys", "has a tensor of another shape than config.json says"),
        ("missing_keys", "lacks a tensor, which would be filled with random numbers"),
        ("unexpected_keys", "holds a tensor that its architecture has no place for"),
    ):
        if names := sorted(str(name[0] if isinstance(name, tuple) else name) for name in report[kind]):
            raise Refusal(f"{folder} {says}: {names[0]} ({len(names)} in all); {AGAIN}")
    if errors := report.get("error_msgs"):
        raise Refusal(f"can't load the model {folder}: {_line(errors[0])}; {AGAIN}")


def _check_ids(folder: Path, tokenizer: Any, model: Any) -> None:
    """Refuse a tokenizer that was made for another model: ids that have no embedding.

    Added tokens may lie outside (Gemma 3's image token does); the encoder's own ids are checked when
    the model reads its first prompt.
    """
    size = model.get_input_embeddings().weight.shape[0]
    added = set(tokenizer.added_tokens_decoder)
    outside = [(token, text) for text, token in tokenizer.get_vocab().items() if token >= size]
    outside = sorted(pair for pair in outside if pair[0] not in added)
    if outside:
        raise Refusal(
            f"the tokenizer of {folder} has token {outside[0][0]} ({outside[0][1]!r}), the model has {size} "
            "embeddings: they don't belong together; copy the tokenizer of the base model"
        )


def _merge(model: Any, folder: Path, stored: Shapes) -> Any:
    """The model with the adapter in `folder`, whose tensors are `stored`, added to its weights."""
    from peft import PeftModel, get_peft_model_state_dict

    try:
        adapted = PeftModel.from_pretrained(model, folder, use_safetensors=True)
        expected = {name: list(t.shape) for name, t in get_peft_model_state_dict(adapted).items()}
    except Exception as error:  # peft raises whatever a file makes it stumble over
        raise Refusal(f"can't load the adapter {folder}: {_line(error)}; {AGAIN}") from None
    if odd := sorted(set(expected) ^ set(stored)):
        side = "lacks" if odd[0] in expected else "holds, and its base has no place for,"
        raise Refusal(f"the adapter {folder} {side} {odd[0]} ({len(odd)} in all); {AGAIN}")
    return adapted.merge_and_unload()
