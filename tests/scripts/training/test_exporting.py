import pytest

from common.errors import Refusal
from scripts.training import exporting, train
from tests.helpers.training_data import make_workplace


@pytest.fixture(scope="module")
def workplace(tmp_path_factory):
    return make_workplace(tmp_path_factory.mktemp("work"))


@pytest.mark.whole
@pytest.mark.parametrize("lora", [False, True])
def test_an_export_gives_the_same_logits_and_is_never_overwritten(workplace, lora, monkeypatch, tmp_path):
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    extra = {"finetuning_type": "lora", "lora_rank": 4} if lora else {}
    monkeypatch.chdir(workplace)
    run, out = train("sft", recipe="sft.yaml", max_steps=4, **extra), tmp_path / "model"
    (run.folder / "README.md").write_text("# The card that the report wrote")
    assert exporting.export(out, run=run.folder.name) == out
    ids = AutoTokenizer.from_pretrained(out)("How fair is it?", return_tensors="pt")["input_ids"]
    exported = AutoModelForCausalLM.from_pretrained(out, dtype=torch.float32)
    if lora:
        base = AutoModelForCausalLM.from_pretrained("outputs/models/tiny", dtype=torch.float32)
        trained = PeftModel.from_pretrained(base, run.folder)
    else:
        trained = AutoModelForCausalLM.from_pretrained(run.folder, dtype=torch.float32)
    with torch.no_grad():
        assert torch.allclose(exported.eval()(ids).logits, trained.eval()(ids).logits, atol=1e-5)
    assert not list(out.glob("*.bin")) and "the report wrote" in (out / "README.md").read_text()
    assert (out / "chat_template.jinja").is_file() or "chat_template" in (
        out / "tokenizer_config.json"
    ).read_text()
    with pytest.raises(Refusal, match="never overwritten"):
        exporting.export_run(run.folder, out)


def test_an_export_of_what_was_not_trained_names_the_command(tmp_path):
    with pytest.raises(Refusal, match="make train-sft"):
        exporting.export_run(tmp_path / "sft", tmp_path / "out")
