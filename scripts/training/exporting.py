"""Export a trained model as a plain Hugging Face folder that any tool loads.

    socrates export --model tiny --data sample --stage sft --out my-model
    socrates export --model llama3-8b --data socsci210 --run dpo-soft-start --out my-model

    socrates export --model llama3-8b --data socsci210 --out my-model --push owner/name     # needs HF_TOKEN

Holds safetensors (LoRA adapters merged), tokenizer, chat template and a card. Never overwrites.
"""

import os
import re
import shutil
from pathlib import Path
from typing import Any

from common.errors import Refusal
from common.files import atomic_path
from common.paths import output_dir, safe_name
from common.runs import earlier_adapters
from scripts.training import checkpoints, llamafactory, record

CARD = "README.md"
KEEP = (
    "config.json", "generation_config.json", "model*.safetensors", "model.safetensors.index.json",
    "tokenizer*.json", "tokenizer.model", "special_tokens_map.json", "added_tokens.json", "vocab.json",
    "merges.txt", "chat_template.jinja",
)  # fmt: skip


def export(
    out: Path | str,
    stage: str = "sft",
    model: str = "tiny",
    data: str = "sample",
    split: str = "study",
    run: str | None = None,
    checkpoint: int | None = None,
) -> Path:
    """Write a trained model as a plain Hugging Face folder; gives the folder, which must not exist yet.

    run: a variant's folder, such as sft-lora (default: the stage). checkpoint: a step, None for the
    run's model.
    """
    if not str(out):
        raise Refusal("give the folder to write: OUT=my-model")
    name = safe_name(run or stage, "run")
    return export_run(output_dir(data, split) / safe_name(model, "MODEL") / name, Path(out), checkpoint)


def export_run(run: Path, out: Path, checkpoint: int | None = None) -> Path:
    """As `export`, of the run in a folder."""
    if out.exists():
        raise Refusal(f"{out} is there already and is never overwritten; give another OUT")
    arguments = record.read(run).record.arguments
    source = run if checkpoint is None else run / f"checkpoint-{checkpoint}"
    if checkpoint is not None and not checkpoints.is_whole(source):
        whole = ", ".join(str(checkpoints.step(path)) for path in checkpoints.numbered(run))
        raise Refusal(f"{source} is not a whole checkpoint; there are: {whole or 'none'}")
    with atomic_path(out) as partial:
        if (source / "adapter_config.json").is_file():
            _merge(source, arguments, partial)
        else:
            partial.mkdir()
            for pattern in KEEP:
                for file in source.glob(pattern):
                    shutil.copy2(file, partial)
        if not list(partial.glob("*.safetensors")):
            raise Refusal(f"{source} holds no weights; run the training command again")
        card = run / CARD
        if checkpoint is None and card.is_file():  # written by `make report`, with the scores
            shutil.copyfile(card, partial / CARD)
    return out


def push(folder: Path, repository: str) -> str:
    """Upload an exported folder to the hub as the private model `repository`; gives its address.

    The token is HF_TOKEN's, never a stored login; HF_ENDPOINT names another hub.
    """
    import httpx
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError

    token = check_push(repository)
    api = HfApi(endpoint=os.environ.get("HF_ENDPOINT"), token=token)
    try:
        url = api.create_repo(repository, private=True, exist_ok=True)
        api.upload_folder(repo_id=repository, folder_path=folder, commit_message="Exported model")
    except (HfHubHTTPError, httpx.HTTPError, OSError, ValueError) as error:  # ValueError: names, addresses
        reason = str(error).strip().splitlines()[-1]
        raise Refusal(
            f"{folder} is written, but {repository} was not uploaded: {reason}; check the name, the network "
            f"and that HF_TOKEN may write, then: hf upload {repository} {folder}"
        ) from None
    return str(url)


def check_push(repository: str) -> str:
    """The token to push with; refuses a name that isn't `owner/name` and a missing HF_TOKEN."""
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", repository):
        raise Refusal(f"--push {repository}: give owner/name, as in my-lab/my-model")
    token = os.environ.get("HF_TOKEN", "").strip()
    if not token:
        raise Refusal("--push needs a token that may write: export HF_TOKEN=hf_...")
    return token


def _merge(source: Path, arguments: dict[str, Any], out: Path) -> None:
    """Merge the run's adapter, and those that were merged before it was trained, through LLaMA-Factory."""
    llamafactory.merge_adapter(
        {
            "model_name_or_path": arguments["model_name_or_path"],
            "adapter_name_or_path": ",".join(map(str, [*earlier_adapters(source), source])),
            "template": arguments["template"],
            "finetuning_type": "lora",
            "export_dir": str(out),
            "export_device": "cpu",
            "infer_dtype": "bfloat16" if arguments.get("bf16") else "float32",
        }
    )
    (out / "Modelfile").unlink(missing_ok=True)  # for another program; the chat template says the same
