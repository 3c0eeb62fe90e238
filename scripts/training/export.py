"""Export a trained model as a plain Hugging Face folder that any tool loads.

    python -m scripts.training.export --model tiny --data sample --split study --stage sft --out my-model
    python -m scripts.training.export --model llama3-8b --data socsci210 --run dpo-soft-start --out my-model

Holds safetensors (LoRA adapters merged), tokenizer, chat template and a card. Never overwrites.
"""

import argparse
import os
import shutil
from pathlib import Path
from typing import Any

from common.errors import Refusal, run_cli
from common.files import atomic_path, sha256_file
from common.paths import SPLITS, output_dir, safe_name
from common.readers import read_json
from scripts.training import checkpoints
from scripts.training import recipe as recipes

KEEP = (
    "config.json", "generation_config.json", "model*.safetensors", "model.safetensors.index.json",
    "tokenizer*.json", "tokenizer.model", "special_tokens_map.json", "added_tokens.json", "vocab.json",
    "merges.txt", "chat_template.jinja",
)  # fmt: skip


def export(run: Path, out: Path, checkpoint: int | None = None) -> None:
    """Write the run's final weights (or those of one checkpoint) to the new folder `out`."""
    if out.exists():
        raise Refusal(f"{out} is there already and is never overwritten; give another OUT")
    record = read_json(run / "run.json", "train it first: make train-sft, make train-dpo")
    source = run if checkpoint is None else run / f"checkpoint-{checkpoint}"
    if checkpoint is not None and not checkpoints.is_whole(source):
        whole = ", ".join(str(checkpoints.step(path)) for path in checkpoints.numbered(run))
        raise Refusal(f"{source} is not a whole checkpoint; there are: {whole or 'none'}")
    with atomic_path(out) as partial:
        if (source / "adapter_config.json").is_file():
            _merge(source, record["arguments"], partial)
        else:
            partial.mkdir()
            for pattern in KEEP:
                for file in source.glob(pattern):
                    shutil.copy2(file, partial)
        if not list(partial.glob("*.safetensors")):
            raise Refusal(f"{source} holds no weights; run the training command again")
        (partial / "README.md").write_text(card(record, run, source), encoding="utf-8")


def _merge(source: Path, arguments: dict[str, Any], out: Path) -> None:
    """Merge the run's adapter, and those that were merged before it was trained, through LLaMA-Factory."""
    os.environ.setdefault("LLAMAFACTORY_VERBOSITY", "ERROR")
    from llamafactory.train.tuner import export_model

    before = [arguments["adapter_name_or_path"]] if arguments.get("create_new_adapter") else []
    export_model(
        {
            "model_name_or_path": arguments["model_name_or_path"],
            "adapter_name_or_path": ",".join([*before, str(source)]),
            "template": arguments["template"],
            "finetuning_type": "lora",
            "export_dir": str(out),
            "export_device": "cpu",
            "infer_dtype": "bfloat16" if arguments.get("bf16") else "float32",
        }
    )
    (out / "Modelfile").unlink(missing_ok=True)  # for another program; the chat template says the same


def card(record: dict[str, Any], run: Path, source: Path) -> str:
    """What a person should know before using the model, in Markdown."""
    arguments = record["arguments"]
    losses = [entry["loss"] for entry in record["losses"] if "loss" in entry]
    settings = (
        "stage", "finetuning_type", "num_train_epochs", "learning_rate", "lr_scheduler_type", "weight_decay",
        "pref_beta", "lora_rank", "cutoff_len", "seed",
    )  # fmt: skip
    batch = recipes.global_batch(arguments) * record["layout"]["processes"]
    lines = [
        "---", f"base_model: {arguments['model_name_or_path']}", "library_name: transformers", "---",
        f"# {arguments['model_name_or_path']} after {arguments['stage'].upper()} on human answers", "",
        "Predicts how a person with a given profile answers a question of a social-science experiment.",
        "It was made to predict distributions of answers, not to advise or to decide about a person.",
        "", "| setting | value |", "|---|---|",
        f"| data | {arguments['dataset']} |", f"| global batch | {batch} |",
        *(f"| {key} | {arguments[key]} |" for key in settings if key in arguments),
        f"| loss | {losses[0]:.4f} to {losses[-1]:.4f} |" if losses else "| loss | not logged |",
        f"| git commit | {record['git_commit']} |",
        f"| weights from | {source.relative_to(run.parent)} |",
        f"| run.json | sha256 {sha256_file(run / 'run.json')} |",
        "", "The data set states no licence; the base model's licence holds for these weights.", "",
    ]  # fmt: skip
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--stage", choices=("sft", "dpo"), default="sft")
    parser.add_argument("--model", default="tiny")
    parser.add_argument("--data", default="sample")
    parser.add_argument("--split", choices=SPLITS, default="study")
    parser.add_argument("--run", help="a variant's folder, such as sft-lora (default: the stage)")
    parser.add_argument("--checkpoint", type=int, help="a checkpoint's step (default: the final weights)")
    parser.add_argument("--out", required=True, help="the folder to write")
    options = parser.parse_args()
    if not options.out:
        raise Refusal("give the folder to write: OUT=my-model")
    model = safe_name(options.model, "MODEL")
    run = output_dir(options.data, options.split) / model / safe_name(options.run or options.stage, "run")
    export(run, Path(options.out), options.checkpoint)
    print(options.out)


if __name__ == "__main__":
    run_cli(main)
