"""A folder to train in: a tiny Llama with its tokenizer, small data sets, and the repository's configs."""

import json
import random
from pathlib import Path

import yaml

from common.prompts import SYSTEM_PROMPT, user_prompt
from scripts.sample.models import LLAMA_CHAT

REPOSITORY = Path(__file__).parents[2]
COLUMNS = {"prompt": "instruction", "response": "output", "system": "system"}
PAIRS = {"prompt": "instruction", "chosen": "chosen", "rejected": "rejected", "system": "system"}
MARKS = [
    "<|begin_of_text|>",
    "<|end_of_text|>",
    "<|start_header_id|>",
    "<|end_header_id|>",
    "<|eot_id|>",
    "<|eom_id|>",
]
RECIPE = {
    "model_name_or_path": "outputs/models/tiny", "template": "llama3", "stage": "sft", "do_train": True,
    "finetuning_type": "full", "dataset": "sample_study_sft", "cutoff_len": 512,
    "per_device_train_batch_size": 4, "gradient_accumulation_steps": 2, "learning_rate": 1e-3,
    "num_train_epochs": 1, "lr_scheduler_type": "cosine", "logging_steps": 1, "save_strategy": "steps",
    "save_steps": 6, "save_total_limit": 3, "report_to": "none", "seed": 1,
    "output_dir": "outputs/socsci210/study/any/sft",
}  # fmt: skip
DPO = RECIPE | {
    "stage": "dpo", "dataset": "sample_study_dpo", "model_name_or_path": "outputs/socsci210/study/any/sft",
    "pref_beta": 0.1, "learning_rate": 1e-4, "output_dir": "outputs/socsci210/study/any/dpo",
}  # fmt: skip


def make_rows(count: int, seed: int = 0) -> list[dict[str, object]]:
    """Answers that depend on age, to stimuli of different lengths."""
    draw = random.Random(seed)
    rows = []
    for number in range(count):
        age = draw.randint(18, 90)
        text = "A mayor raises a tax. " * draw.randint(1, 5) + f"Is measure {number % 7} fair?\n"
        text += "Only return an integer from 1 to 7, where 1 means no and 7 means yes, nothing else."
        prompt = user_prompt({"age": age, "income": None, "gender": draw.choice(["male", "female"])}, text)
        answer = 1 + 3 * (age > 50) + draw.randint(0, 2)
        rows.append(
            {
                "system": SYSTEM_PROMPT,
                "instruction": prompt,
                "output": str(answer),
                "study_id": "abcde",
                "sample_id": number,
                "participant": number // 4,
            }
        )
    return rows


def write_data(folder: Path, rows: list[dict[str, object]]) -> None:
    """`data/sample/study/` with sft, sft_validation and dpo rows, and LLaMA-Factory's index."""
    split = folder / "data" / "sample" / "study"
    split.mkdir(parents=True, exist_ok=True)
    pairs = [
        {
            "system": row["system"],
            "instruction": row["instruction"],
            "chosen": row["output"],
            "rejected": str(8 - int(str(row["output"]))),
            "study_id": row["study_id"],
            "participant": row["participant"],
        }
        for row in rows
        if row["output"] != "4"
    ]
    tagged = [
        {"system": pair["system"], "instruction": pair["instruction"], "output": pair[key], "kto_tag": tag}
        for pair in pairs
        for key, tag in (("chosen", True), ("rejected", False))
    ]
    written = {"sft": rows, "sft_validation": rows[:20], "dpo": pairs, "kto": tagged}
    for name, lines in written.items():
        (split / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    write_held_out(split / "validation.parquet", rows[:20])
    info = {
        f"sample_study_{name}": {"file_name": f"sample/study/{name}.jsonl", "columns": COLUMNS}
        for name in ("sft", "sft_validation")
    }
    info["sample_study_dpo"] = {"file_name": "sample/study/dpo.jsonl", "ranking": True, "columns": PAIRS}  # type: ignore[dict-item]
    info["sample_study_kto"] = {
        "file_name": "sample/study/kto.jsonl", "columns": COLUMNS | {"kto_tag": "kto_tag"},
    }  # type: ignore[dict-item]  # fmt: skip
    # A data set of the user's own, as instruction sets are: one JSON array, no system prompt, no keys.
    instructions = [
        {"instruction": f"What is {number} plus {number}?", "input": "", "output": f"It is {2 * number}."}
        for number in range(60)
    ]
    (folder / "data" / "my_instructions.json").write_text(json.dumps(instructions, indent=1))
    info["my_instructions"] = {"file_name": "my_instructions.json"}
    (folder / "data" / "dataset_info.json").write_text(json.dumps(info))


def write_held_out(file: Path, rows: list[dict[str, object]]) -> None:
    """The validation slice as evaluation rows, one cell."""
    import polars as pl

    held_out = [
        {
            "study_id": row["study_id"], "sample_id": row["sample_id"], "participant": row["sample_id"],
            "condition_num": 0, "task_num": 0, "item_num": 0, "system": row["system"],
            "prompt": row["instruction"], "stimuli": "", "response": int(str(row["output"])),
            "scale_kind": "ordinal", "scale_low": 1, "scale_high": 7, "scale_step": 1, "off_scale": False,
            "scale_labels": [{"value": 1, "label": "no"}, {"value": 7, "label": "yes"}],
        }
        for row in rows
    ]  # fmt: skip
    pl.DataFrame(held_out).write_parquet(file)


def write_model(folder: Path) -> None:
    """A Llama of some 30,000 parameters at `outputs/models/tiny`."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer, raw.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=MARKS, initial_alphabet=alphabet, show_progress=False
    )
    raw.train_from_iterator([str(row["instruction"]) for row in make_rows(50)], trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=raw, bos_token=MARKS[0], eos_token="<|eot_id|>", pad_token=MARKS[1]
    )
    tokenizer.chat_template = LLAMA_CHAT
    torch.manual_seed(0)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=2,
            num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=1024,
            tie_word_embeddings=True, pad_token_id=tokenizer.pad_token_id,
            bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id,
        )
    )  # fmt: skip
    model.save_pretrained(folder / "outputs/models/tiny")
    tokenizer.save_pretrained(folder / "outputs/models/tiny")


def make_workplace(folder: Path, count: int = 160) -> Path:
    """Everything a training run needs, in `folder`."""
    write_data(folder, make_rows(count))
    write_model(folder)
    (folder / "configs").symlink_to(REPOSITORY / "configs")
    (folder / "sft.yaml").write_text(yaml.safe_dump(RECIPE))
    (folder / "dpo.yaml").write_text(yaml.safe_dump(DPO))
    return folder
