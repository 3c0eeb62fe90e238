"""Predict with a recipe's base model and every checkpoint trained from it, then score them together.

    python -m eval.evaluate --model tiny --data sample --split study

Evaluates the base that `configs/<model>/sft.yaml` names and each finished run (a folder with run.json)
under `outputs/<dataset>/<split>/<model>/`. Every part that is done already is skipped.
"""

import argparse
from pathlib import Path

import yaml

from common.errors import Refusal, run_cli
from common.paths import output_dir, safe_name, split_dir
from eval.prediction import run as predict
from eval.scoring import run as score


def models_of(model: str, data: str, split: str) -> dict[str, str]:
    """Model names and where each is: `<model>-base` first, then the finished runs, SFT before DPO.

    Raises `Refusal` for an unknown model, and when nothing has been trained.
    """
    recipe = Path("configs", safe_name(model, "MODEL"), "sft.yaml")
    if not recipe.is_file():
        known = ", ".join(sorted(path.parent.name for path in Path("configs").glob("*/sft.yaml")))
        raise Refusal(f"unknown MODEL={model}; choose one of {known}")
    trained = output_dir(data, split) / model
    runs = sorted(path.parent for path in trained.glob("*/run.json") if ".old-" not in path.parent.name)
    if not runs:
        raise Refusal(f"nothing is trained in {trained}; run `make train-sft` with the same settings first")
    runs.sort(key=lambda folder: (not folder.name.startswith("sft"), folder.name))
    base = yaml.safe_load(recipe.read_text(encoding="utf-8"))["model_name_or_path"]
    return {f"{model}-base": base} | {f"{model}-{folder.name}": str(folder) for folder in runs}


def main() -> None:
    """Read the command line; predict with each model, then score them all."""
    layout = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=layout)
    parser.add_argument("--model", required=True, help="a folder of configs/")
    parser.add_argument("--data", required=True)
    parser.add_argument("--split", required=True)
    parser.add_argument("--config", help="evaluation settings, default configs/eval/default.yaml")
    args = parser.parse_args()
    if not (split_dir(args.data, args.split) / "eval.parquet").is_file():
        raise Refusal(f"no evaluation rows; run `make data DATA={args.data} SPLIT={args.split}` first")
    where = ["--data", args.data, "--split", args.split, *(["--config", args.config] if args.config else [])]
    models = models_of(args.model, args.data, args.split)
    for name, place in models.items():
        print(f"predicting with {name}")
        predict.main(["--model", place, "--name", name, *where])
    score.main(["--models", ",".join(models), *where])


if __name__ == "__main__":
    run_cli(main)
