"""Damaged checkpoints: each is refused in one line before anything is predicted."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import huggingface_hub
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from common.errors import Refusal
from eval.prediction import checkpoint
from eval.prediction.local_model import LocalModel
from eval.settings import LocalSettings
from tests.helpers import tiny_models

LFS = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_models.make("llama", tmp_path_factory.mktemp("whole"))


@pytest.fixture(scope="module")
def adapter(whole: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A LoRA adapter on `whole`."""
    from peft import LoraConfig, get_peft_model

    folder = tmp_path_factory.mktemp("adapter")
    base = AutoModelForCausalLM.from_pretrained(whole)
    lora = LoraConfig(task_type="CAUSAL_LM", target_modules=["q_proj", "v_proj"], init_lora_weights=False)
    get_peft_model(base, lora).save_pretrained(folder)
    AutoTokenizer.from_pretrained(whole).save_pretrained(folder)
    return folder


def edit(name: str, **values: Any) -> Callable[[Path], None]:
    """Change keys of a JSON file; a key given as None is null in it."""

    def change(folder: Path) -> None:
        file = folder / name
        file.write_text(json.dumps(json.loads(file.read_text()) | values))

    return change


def text(name: str, content: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_text(content)


def tear(name: str, keep: float) -> Callable[[Path], object]:
    def cut(folder: Path) -> None:
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content[: int(len(content) * keep)])

    return cut


def weights(name: str, change: Callable[[dict[str, torch.Tensor]], object]) -> Callable[[Path], None]:
    def rewrite(folder: Path) -> None:
        tensors = load_file(folder / name)
        change(tensors)
        save_file(tensors, folder / name, metadata={"format": "pt"})

    return rewrite


def index(**tensors: str) -> Callable[[Path], object]:
    """An index instead of the one file; the tensors' names have __ for a dot."""

    def write(folder: Path) -> None:
        (folder / "model.safetensors").rename(folder / "part.safetensors")
        names = {name.replace("__", "."): file for name, file in tensors.items()}
        (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": names}))

    return write


def pickled(stem: str) -> Callable[[Path], object]:
    name = {"model": "pytorch_model.bin", "adapter_model": "adapter_model.bin"}[stem]
    return lambda folder: (folder / f"{stem}.safetensors").rename(folder / name)


def nan(tensors: dict[str, torch.Tensor]) -> None:
    tensors["model.norm.weight"][0] = float("nan")


WEIGHTS, NORM = "model.safetensors", "model.norm.weight"
DAMAGED: dict[str, tuple[Callable[[Path], object], str]] = {
    "a tensor is missing": (weights(WEIGHTS, lambda t: t.pop(NORM)), "lacks a tensor.*model.norm.weight"),
    "a layer is missing": (
        weights(WEIGHTS, lambda t: [t.pop(name) for name in list(t) if "layers.1" in name]),
        "layers.1|parameters",
    ),
    "a tensor is left over": (
        weights(WEIGHTS, lambda t: t.update({"score.weight": torch.zeros(2)})),
        "no place for: score.weight",
    ),
    "a tensor has another shape": (
        weights(WEIGHTS, lambda t: t.update({NORM: torch.zeros(33)})), r"norm.weight has shape \[33\]",
    ),
    "another architecture": (edit("config.json", model_type="gpt2"), "tensor|parameters|layers"),
    "weights of nothing": (weights(WEIGHTS, lambda t: t.clear()), "holds no tensors"),
    "weights that aren't numbers": (weights(WEIGHTS, nan), "aren't numbers"),
    "torn weights": (tear(WEIGHTS, 0.7), "is damaged"),
    "a torn header": (tear(WEIGHTS, 0.001), "is damaged"),
    "empty weights": (text(WEIGHTS, ""), "is damaged"),
    "weights that are text": (text(WEIGHTS, "<html>not found</html>" * 9), "is damaged"),
    "weights not fetched from LFS": (text(WEIGHTS, LFS), "git lfs pull"),
    "settings not fetched from LFS": (text("config.json", LFS), "git lfs pull"),
    "no weights": (lambda folder: (folder / WEIGHTS).unlink(), "has no model.safetensors"),
    "pickled weights": (pickled("model"), r"pickled weights \(pytorch_model.bin\).*save_pretrained"),
    "no config": (lambda folder: (folder / "config.json").unlink(), "config.json is missing"),
    "config is a list": (text("config.json", "[1, 2]"), "must hold an object"),
    "config is null": (text("config.json", "null"), "must hold an object"),
    "config is torn": (tear("config.json", 0.5), "not valid JSON"),
    "config is empty": (text("config.json", "{}"), "describes no model"),
    "config has no type": (edit("config.json", model_type=None), "describes no model"),
    "config of an unknown type": (edit("config.json", model_type="llama9"), "describes no model"),
    "heads don't divide": (edit("config.json", num_attention_heads=5, head_dim=None), "config.json"),
    "no heads": (edit("config.json", num_attention_heads=0, head_dim=None), "config.json"),
    "a text as size": (edit("config.json", hidden_size="wide"), "config.json"),
    "a billion layers": (edit("config.json", num_hidden_layers=10**9), "num_hidden_layers is 1000000000"),
    "one layer more": (edit("config.json", num_hidden_layers=3), "lacks a tensor.*layers.2|parameters"),
    "one layer fewer": (edit("config.json", num_hidden_layers=1), "no place for.*layers.1"),
    "an enormous vocabulary": (edit("config.json", vocab_size=10**12), "config.json says"),
    "an index that leaves the folder": (index(lm_head__weight="../part.safetensors"), "isn't a .safetensors"),
    "an index to an absolute path": (index(lm_head__weight="/etc/passwd"), "isn't a .safetensors"),
    "an index to a number": (index(lm_head__weight=3), "isn't a .safetensors"),  # type: ignore[arg-type]
    "an index to a pickle": (index(lm_head__weight="part.bin"), "isn't a .safetensors"),
    "an index to a missing file": (index(lm_head__weight="more.safetensors"), "more.safetensors is missing"),
    "an index of nothing": (index(), "has no weight_map"),
    "an index to a missing tensor": (index(no__tensor="part.safetensors"), "holds no.tensor, and it doesn't"),
    "a torn generation_config": (tear("generation_config.json", 0.5), "not valid JSON"),
    "a text as end of turn": (edit("generation_config.json", eos_token_id="<eos>"), "eos_token_id"),
    "an end of turn outside": (edit("generation_config.json", eos_token_id=10**6), "uses token 1000000"),
    "a torn tokenizer": (tear("tokenizer.json", 0.5), "not valid JSON"),
    "a tokenizer of nothing": (text("tokenizer.json", "{}"), "can't load the tokenizer"),
    "no tokenizer": (lambda folder: (folder / "tokenizer.json").unlink(), "can't load the tokenizer"),
    "another model's tokenizer": (lambda folder: _add_words(folder, 5000), "don't belong together"),
}  # fmt: skip
ADAPTERS: dict[str, tuple[Callable[[Path], object], str]] = {
    "no base": (edit("adapter_config.json", base_model_name_or_path=None), "names no base model"),
    "a base that is gone": (edit("adapter_config.json", base_model_name_or_path="/none"), "/none is missing"),
    "a base that is a number": (edit("adapter_config.json", base_model_name_or_path=7), "names no base"),
    "an unknown kind": (edit("adapter_config.json", peft_type="MAGIC"), "'MAGIC' can't be merged"),
    "a kind without weights to merge": (edit("adapter_config.json", peft_type="PROMPT_TUNING"), "merged"),
    "settings that are a list": (text("adapter_config.json", "[]"), "must hold an object"),
    "torn settings": (tear("adapter_config.json", 0.5), "not valid JSON"),
    "pickled": (pickled("adapter_model"), r"pickled weights \(adapter_model.bin\).*AutoPeftModel"),
    "torn": (tear("adapter_model.safetensors", 0.5), "is damaged"),
    "another rank": (edit("adapter_config.json", r=4), "can't load the adapter"),
    "a tensor is missing": (
        weights("adapter_model.safetensors", lambda t: t.pop(min(t))), "lacks base_model",
    ),
    "a tensor is left over": (
        weights("adapter_model.safetensors", lambda t: t.update(more=torch.zeros(1))), "no place for, more",
    ),
    "modules that the base lacks": (edit("adapter_config.json", target_modules=["other"]), "can't load"),
}  # fmt: skip


def _add_words(folder: Path, count: int) -> None:
    file = folder / "tokenizer.json"
    content = json.loads(file.read_text())
    words = content["model"]["vocab"]
    words |= {f"word{number}": len(words) + number for number in range(count)}
    file.write_text(json.dumps(content))


@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_checkpoint_is_refused(whole: Path, tmp_path: Path, name: str) -> None:
    damage, reason = DAMAGED[name]
    folder = tmp_path / "model"
    shutil.copytree(whole, folder)
    damage(folder)
    with pytest.raises(Refusal, match=reason) as refusal:
        LocalModel(str(folder), LocalSettings())
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("name", ADAPTERS)
def test_a_damaged_adapter_is_refused(adapter: Path, tmp_path: Path, name: str) -> None:
    damage, reason = ADAPTERS[name]
    folder = tmp_path / "adapter"
    shutil.copytree(adapter, folder)
    damage(folder)
    with pytest.raises(Refusal, match=reason) as refusal:
        LocalModel(str(folder), LocalSettings())
    assert "\n" not in str(refusal.value)


def test_a_whole_checkpoint_in_parts_or_with_an_adapter_is_read(
    whole: Path, adapter: Path, tmp_path: Path
) -> None:
    parts = tmp_path / "parts"
    AutoModelForCausalLM.from_pretrained(whole).save_pretrained(parts, max_shard_size="100KB")
    AutoTokenizer.from_pretrained(whole).save_pretrained(parts)
    assert (parts / "model.safetensors.index.json").is_file()
    for folder in (parts, adapter):
        LocalModel(str(folder), LocalSettings())


@pytest.mark.parametrize("stored", ["once", "twice"])
def test_tied_weights_may_be_stored_once_or_twice(whole: Path, tmp_path: Path, stored: str) -> None:
    shutil.copytree(whole, tmp_path / "tied")
    edit("config.json", tie_word_embeddings=True)(tmp_path / "tied")

    def tie(tensors: dict[str, torch.Tensor]) -> None:
        tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"].clone()
        if stored == "once":
            del tensors["lm_head.weight"]

    weights(WEIGHTS, tie)(tmp_path / "tied")
    LocalModel(str(tmp_path / "tied"), LocalSettings())


def test_a_model_larger_than_the_machine_is_refused_before_it_is_loaded(
    whole: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = type("Memory", (), {"total": 1000})
    monkeypatch.setattr(checkpoint.psutil, "virtual_memory", lambda: memory)
    with pytest.raises(Refusal, match="this machine has"):
        LocalModel(str(whole), LocalSettings())


@pytest.mark.parametrize(
    ("path", "reason"),
    [("./none", "is missing"), ("outputs/none/sft", "is missing"), ("a b c", "is missing")],
)
def test_a_folder_that_is_missing_is_named(path: str, reason: str) -> None:
    with pytest.raises(Refusal, match=reason):
        checkpoint.locate(path)


@pytest.mark.parametrize("path", ["owner/name", "owner/name@main", f"owner/name@{'6' * 40}"])
def test_a_hub_that_is_not_there_is_one_line_with_or_without_a_revision(
    path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: object, **named: object) -> None:
        raise httpx.ConnectError("Connection refused")

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(httpx.Client, "send", refuse)
    with pytest.raises(Refusal, match="fetch the model owner/name: the hub can't be reached"):
        checkpoint.locate(path)


def test_a_file_is_no_checkpoint(tmp_path: Path) -> None:
    np.save(tmp_path / "model.npy", np.zeros(1))
    with pytest.raises(Refusal, match="is a file"):
        checkpoint.locate(str(tmp_path / "model.npy"))
