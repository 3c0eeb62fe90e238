"""A GGUF file is the model: its logits, its token ids, and a Modelfile that asks as the evaluator does."""

import re
from pathlib import Path

import pytest

from common.chat import PromptEncoder
from common.errors import Refusal
from scripts.sample.models import FAMILIES, make_model
from scripts.training import gguf_files
from tests.helpers import chat_families

TEXT = "How fair is measure 3?\n  It's 1234 or -56.78 of 100%: yes/no — ünïcode 你好\n\n<|im_end|> Answer 7"


def qwen3(folder: Path) -> Path:
    """A random Qwen3, with normed queries and keys, and the heads of 128 that the reader expects."""
    import torch
    from transformers import Qwen3Config, Qwen3ForCausalLM

    tokenizer = chat_families.byte_level(chat_families.CHATML)
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "head_dim": 128}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": len(tokenizer) + 5}
    Qwen3ForCausalLM(Qwen3Config(**sizes, **heads)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module", params=["llama", "qwen", "qwen3"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model's folder with its GGUF file."""
    folder = tmp_path_factory.mktemp(request.param) / "model"
    if request.param == "qwen3":
        qwen3(folder)
    else:
        make_model(FAMILIES[request.param], folder)
    gguf_files.write_gguf(folder)
    return folder


def test_the_file_holds_the_weights_rounded_to_16_bits(folder: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    read = AutoModelForCausalLM.from_pretrained(folder, gguf_file=gguf_files.FILE, dtype=torch.float32).eval()
    ids = torch.arange(3, 60)[None]
    with torch.no_grad():
        assert torch.allclose(read(ids).logits, model(ids).logits, atol=0.02)
        for weight in model.parameters():
            weight.copy_(weight.half().float() if weight.ndim > 1 else weight)
        assert torch.allclose(read(ids).logits, model(ids).logits, atol=1e-5)


def test_the_file_holds_the_tokenizer(folder: Path) -> None:
    from gguf import GGUFReader
    from transformers import AutoTokenizer

    fields = GGUFReader(folder / gguf_files.FILE).fields
    rebuilt = gguf_files.gguf_tokenizer({key: field.contents() for key, field in fields.items()})
    tokenizer = AutoTokenizer.from_pretrained(folder)
    encoder, other = PromptEncoder(tokenizer, "model"), PromptEncoder(rebuilt, "model")
    assert other.encode(["Be brief."], [TEXT]) == encoder.encode(["Be brief."], [TEXT])
    assert (other.stop_ids, rebuilt.bos_token) == (encoder.stop_ids, tokenizer.bos_token)
    assert fields["tokenizer.ggml.add_bos_token"].contents() is False


@pytest.mark.parametrize("system", ["Be brief.", None])
def test_the_modelfile_asks_as_the_evaluator_does(folder: Path, system: str | None) -> None:
    from transformers import AutoTokenizer

    encoder = PromptEncoder(AutoTokenizer.from_pretrained(folder), "model")
    text = (folder / gguf_files.MODELFILE).read_text()
    template = re.search(r'TEMPLATE """(.*?)"""', text, re.DOTALL)[1]
    branches = re.fullmatch(
        r"{{ if \.System }}(.*){{ else }}(.*){{ end }}(.*){{ \.Response }}(.*)", template, re.DOTALL
    )
    start = branches[1].replace("{{ .System }}", system) if system else branches[2]
    assert start + branches[3].replace("{{ .Prompt }}", "Fair?") == encoder.text(system, "Fair?")
    assert f'PARAMETER stop "{encoder.stop_text}"' in text and branches[4] == encoder.stop_text
    assert "FROM ./model.gguf" in text and "temperature 1\n" in text


def test_what_the_file_cannot_say_is_refused_with_llama_cpps_command(tmp_path: Path) -> None:
    import json

    folder = tmp_path / "model"
    make_model(FAMILIES["llama"], folder)
    described = json.loads((folder / "tokenizer.json").read_text())
    described["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"] = r"\w+"
    (folder / "tokenizer.json").write_text(json.dumps(described))
    with pytest.raises(Refusal, match=r"convert_hf_to_gguf\.py") as refused:
        gguf_files.write_gguf(folder)
    assert "\n" not in str(refused.value) and not (folder / gguf_files.FILE).exists()
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"model_type": "mistral"}))
    with pytest.raises(Refusal, match="mistral"):
        gguf_files.write_gguf(folder)
