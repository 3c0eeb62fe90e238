"""Make the data sets of one split: SFT rows, DPO pairs, evaluation rows, their card and manifest.

    python -m scripts.data.make --data sample|socsci210|<folder> --split study|task|condition|participant
        [--config configs/data/default.yaml] [--workers 2] [--tokenizer FOLDER|HUB_ID] [--force]

Writes `data/<dataset>/<split>/` as a whole (the contract is data/README.md), after proof that nothing of
the evaluation is in training, and registers it in `data/dataset_info.json`. The data are streamed: memory
doesn't grow with the texts.
"""

import argparse
import os
import time
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import numpy as np

from common.contract import Manifest, write_record
from common.errors import run_cli
from common.files import atomic_path, file_stamp, fingerprint, up_to_date
from common.paths import SPLITS, dataset_name, root, source_dir, split_dir
from scripts.data import firewall, splits
from scripts.data.card import load_tokenizer, token_lengths, write_card
from scripts.data.facts import read_rows
from scripts.data.manifest import DataSet, read_manifest
from scripts.data.pairs import build_pairs, pair_counts
from scripts.data.register import register
from scripts.data.rows import Contents, PromptNotes, read_prompts, write_counts, write_files
from scripts.data.selection import (
    DROPPED,
    EVALUATION,
    TRAINING,
    refuse_empty_side,
    select,
)
from scripts.data.settings import DataSettings, load_settings
from scripts.data.shorten import shortened_texts
from scripts.data.source import open_source

FORMAT = 4  # raised when the same input gives other files


def make_data(
    data: str = "sample",
    split: str = "study",
    settings: DataSettings | None = None,
    *,
    workers: int = 1,
    force: bool = False,
    tokenizer: str | None = None,
) -> DataSet:
    """Make `data/<dataset>/<split>/`, or say that it is up to date.

    data: `sample`, `socsci210`, or a folder in the hub's layout. tokenizer: a folder or hub id, for the
    card's token counts; the tiny model's where there is one. force: make it although nothing changed.
    Raises `Refusal` for data, mappings or settings that don't fit; then nothing has changed on disk.
    """
    started = time.monotonic()
    settings = settings or DataSettings()
    tiny = root() / "outputs" / "models" / "tiny"
    if tokenizer is None and (tiny / "tokenizer.json").is_file():
        tokenizer = str(tiny)
    folder = split_dir(data, split)
    source = open_source(source_dir(data), data)
    mapping_file = splits.mapping_path(data, split, settings.mapping)
    mapping = splits.load_mapping(mapping_file, data) if mapping_file else None
    inputs = fingerprint([FORMAT, source.stamps(), mapping, settings.model_dump(), split, tokenizer])
    if not force and up_to_date(folder / "manifest.json", inputs):
        register(data, split, settings)
        return DataSet(folder, read_manifest(folder))
    named_tokenizer = load_tokenizer(tokenizer)  # before the work: a wrong one is refused at once
    rows = read_rows(source)
    if mapping is None:
        mapping = splits.generate(rows, split, settings.seed, settings.eval_fraction)
    assignment = splits.assign(rows, split, mapping)
    selection = select(rows, split, assignment, settings)
    stimuli = shortened_texts(rows.items.texts, settings.vignette_most_characters)
    contents = Contents(source, rows, selection, settings, stimuli)
    identical = settings.identical_prompts or ("count" if split == "participant" else "refuse")
    if identical == "drop":
        firewall.drop_identical(selection, read_prompts(contents, workers).hashes)
    refuse_empty_side(selection, split)
    checks = firewall.check_keys(rows, selection, split)
    if "dpo" in settings.outputs:
        pairs = build_pairs(rows, selection.part == TRAINING, settings.pairs, settings.seed)
        checks.append(firewall.check_pairs(rows, selection, pairs))
        contents = replace(contents, pairs=pairs)
    firewall.enforce(checks, f"give another mapping (`make splits`): {assignment.meaning} were read")
    with atomic_path(folder) as partial:
        partial.mkdir()
        files, notes = write_files(contents, partial, workers)
        prompts = firewall.check_prompts(rows, selection, notes.hashes, identical == "count")
        firewall.enforce([prompts], "set `identical_prompts: drop` or `count` in the data settings")
        files["train_counts.parquet"] = write_counts(contents, partial / "train_counts.parquet")
        manifest = Manifest.model_validate(
            {
                "inputs": inputs,
                "dataset": dataset_name(data),
                "split": split,
                "seed": settings.seed,
                "config": settings.model_dump(mode="json"),
                "versions": {name: version(name) for name in ("numpy", "polars", "pyarrow")}
                | {"format": FORMAT},
                "mapping": {
                    "file": mapping_file.name if mapping_file else None,
                    "meaning": assignment.meaning,
                },
                "source": [
                    dict(zip(("name", "bytes"), file_stamp(file), strict=False)) for file in source.files
                ],
                "rows": {"read": len(rows), **selection.counts(), "dropped": selection.dropped},
                "counted": counted(contents, notes),
                "pairs": pair_counts(contents.pairs),
                "firewall": [check.record() for check in [*checks, prompts]],
                "files": files,
            }
        )
        sampled = sorted(notes.sampled.items())
        tokens = token_lengths(
            named_tokenizer,
            [prompt for _, prompt in sampled],
            [str(rows.response[row]) for row, _ in sampled],
            notes.longest,
        )
        write_card(partial / "card.html", manifest, rows, selection, tokens)
        write_record(partial / "manifest.json", manifest)
    register(data, split, settings)
    return DataSet(folder, manifest, time.monotonic() - started)


def counted(contents: Contents, notes: PromptNotes) -> dict[str, int]:
    """Rows that are kept but worth knowing."""
    part, off = contents.selection.part, contents.selection.off_scale
    return {
        "off_scale_train": int(np.sum(off & (part == TRAINING))),
        "off_scale_eval": int(np.sum(off & (part == EVALUATION))),
        "vignettes_shortened": int(np.sum(contents.shortened & (part != DROPPED))),
        "prompts_not_ending_with_stimulus": notes.unsplit,
        "rows_without_reasoning": notes.without_reasoning,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", default="sample")
    parser.add_argument("--split", default="study", help=", ".join(SPLITS))
    parser.add_argument("--config", type=Path, help="default configs/data/default.yaml")
    parser.add_argument("--workers", type=int, default=min(4, os.cpu_count() or 1))
    parser.add_argument("--tokenizer", help="a folder or hub id, for the card's token counts")
    parser.add_argument("--force", action="store_true", help="make it again although nothing changed")
    args = parser.parse_args()
    settings, workers = load_settings(args.config), max(1, args.workers)
    print(make_data(args.data, args.split, settings, workers=workers, force=args.force,
                    tokenizer=args.tokenizer))  # fmt: skip


if __name__ == "__main__":
    run_cli(main)
