import collections
import shutil
from pathlib import Path

import pytest

from common.errors import Refusal
from scripts.training import preflight
from scripts.training.recipe import load_recipe
from scripts.training.request import Machines, RunRequest


@pytest.fixture
def without_gpu(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr(preflight, "check_disk", lambda *_: None)
    monkeypatch.setattr("os.sysconf", lambda _: 10**7)  # 100 TB of memory


def test_a_disk_too_small_for_the_checkpoints_is_refused_before_the_start(monkeypatch):
    usage = collections.namedtuple("usage", "free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10**11))
    with pytest.raises(Refusal, match="450 GB and 100 GB are free"):
        preflight.check_disk(load_recipe("configs/llama3-8b/sft.yaml"), "llama3-8b")
    preflight.check_disk(load_recipe("configs/llama3-8b/sft-lora.yaml"), "llama3-8b")


def test_a_model_too_large_for_a_machine_without_gpu_is_refused(without_gpu, monkeypatch):
    monkeypatch.setattr("os.sysconf", lambda _: 10**5)  # 10 GB
    with pytest.raises(Refusal, match="about 128 GB of memory, and this machine has 10 and no GPU"):
        preflight.preflight(RunRequest("sft", "llama3-8b", "socsci210"))


def test_half_precision_is_set_aside_on_a_cpu_and_said(without_gpu, monkeypatch):
    monkeypatch.setattr(preflight, "computes_in_bf16", lambda: False)
    ready = preflight.preflight(RunRequest("sft", settings={"bf16": True}))
    assert "bf16" not in ready.recipe and not ready.cuda
    assert "bf16: set aside, this machine has no GPU; training in 32 bits" in ready.notes


def test_a_processor_that_computes_in_bf16_keeps_it(without_gpu, monkeypatch):
    monkeypatch.setattr(preflight, "computes_in_bf16", lambda: True)
    ready = preflight.preflight(RunRequest("sft", settings={"bf16": True, "tf32": True}))
    assert ready.recipe["bf16"] and "tf32" not in ready.recipe and len(ready.notes) == 1


def test_a_quantised_recipe_on_a_cpu_is_refused_at_its_line(without_gpu, tmp_path, monkeypatch):
    monkeypatch.setattr(preflight, "refuse_missing", lambda *_: None)
    file = tmp_path / "my.yaml"
    text = Path("configs/tiny/sft.yaml").read_text().replace("type: full", "type: lora")
    file.write_text(f"quantization_bit: 4\n{text}")
    with pytest.raises(Refusal, match=r"my\.yaml:1: quantization_bit needs a GPU"):
        preflight.preflight(RunRequest("sft", recipe=file))


def test_more_gpus_than_there_are_are_refused(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.setattr(preflight, "check", lambda *_: [])
    with pytest.raises(Refusal, match="GPUS=8, but this machine has 2"):
        preflight.preflight(RunRequest("sft", machines=Machines(8)))


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"finetuning_type": "freeze", "freeze_trainable_layers": 900}, "layers, not 900"),
        ({"finetuning_type": "lora", "lora_target": "c_attn"}, "linear layer 'c_attn'; choose of q_proj"),
        (
            {"finetuning_type": "freeze", "use_llama_pro": True, "freeze_trainable_layers": 7},
            "32 layers can't be divided",
        ),
        ({"report_to": "comet_ml"}, "pip install 'comet_ml'"),
        ({"use_galore": True, "deepspeed": None}, "pip install 'galore-torch'"),
    ],
)  # fmt: skip
def test_what_the_model_or_the_machine_lacks_is_named_before_the_start(without_gpu, settings, says):
    with pytest.raises(Refusal, match=says):
        preflight.preflight(RunRequest("sft", "llama3-8b", "socsci210", settings=settings))


def test_what_works_in_one_process_only_is_refused_on_several(without_gpu, monkeypatch):
    monkeypatch.setattr(preflight, "refuse_missing", lambda *_: None)
    settings = {"use_badam": True, "deepspeed": None}
    with pytest.raises(Refusal, match="use_badam works in one process only; give GPUS=1"):
        preflight.preflight(RunRequest("sft", settings=settings, machines=Machines(2)))
