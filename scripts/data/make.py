"""Make the data sets of one split: SFT rows, DPO pairs, evaluation rows, their card and manifest.

Writes `data/<dataset>/<split>/` as a whole (the contract is data/README.md), after proof that nothing of
the evaluation is in training, and registers it in `data/dataset_info.json`. The data are streamed: memory
doesn't grow with the texts.
"""

import time
from dataclasses import replace
from importlib.metadata import version
from typing import Any

import numpy as np

from common.contract import (
    CheckRecord,
    FileRecord,
    Manifest,
    MappingRecord,
    RowCounts,
    SourceFile,
    write_record,
)
from common.files import atomic_path, fingerprint
from common.names import read_names
from common.paths import DIVIDED, dataset_name, root, source_dir, split_dir
from common.step import Step
from scripts.data import firewall
from scripts.data.card import load_tokenizer, token_lengths, write_card
from scripts.data.facts import Rows, read_rows
from scripts.data.item_checks import item_counts
from scripts.data.manifest import DataSet, read_manifest
from scripts.data.mappings import EVAL, TRAIN, Assignment, assign, load_mapping, mapping_path, undivided
from scripts.data.pairs import build_pairs, pair_counts
from scripts.data.register import register
from scripts.data.rows import Contents, PromptNotes
from scripts.data.selection import DROPPED, EVALUATION, TRAINING, refuse_empty_side, select
from scripts.data.settings import PAIRED, DataSettings
from scripts.data.shorten import shortened_texts
from scripts.data.source import open_source
from scripts.data.splits import generate
from scripts.data.write import read_prompts, write_counts, write_files

FORMAT = 6  # raised when the same input gives other files
# Evaluation prompts that are training prompts to the byte, where the settings don't say. Real data repeat
# prompts between arms of one study (arms that share a text), never between studies.
IDENTICAL = {"study": "refuse", "participant": "count", "condition": "drop", "task": "drop"}


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
    folder = split_dir(data, split)
    tokenizer = tokenizer or _tiny_tokenizer()
    source = open_source(source_dir(data), data)
    names = read_names(source_dir(data) / "metadata")
    mapping_file = mapping_path(data, split, settings.mapping)
    mapping = load_mapping(mapping_file, data) if mapping_file else None
    described = [mapping, settings.model_dump(), names.model_dump()]
    inputs = fingerprint([FORMAT, source.stamps(), split, tokenizer, *described])
    with Step(folder / "manifest.json", inputs, whole=True) as step:
        if step.done and not force:
            manifest = read_manifest(folder)
            register(data, split, settings, manifest.files)
            return DataSet(folder, manifest)
        named_tokenizer = load_tokenizer(tokenizer)  # before the work: a wrong one is refused at once
        rows = read_rows(source)
        assignment = assign_rows(rows, split, settings, mapping)
        selection = select(rows, split, assignment, settings)
        stimuli = shortened_texts(rows.items.texts, settings.vignette_most_characters)
        contents = Contents(source, rows, selection, settings, stimuli, names)
        identical = settings.identical_prompts or IDENTICAL.get(split, "drop")
        if identical == "drop" and split in DIVIDED:
            firewall.drop_identical(selection, read_prompts(contents, workers).hashes)
        refuse_empty_side(selection, split, only_side(split, settings))
        checks = firewall.check_keys(rows, selection, split)
        if set(PAIRED) & set(settings.outputs) and np.any(selection.part == TRAINING):
            pairs = build_pairs(rows, selection.part == TRAINING, settings.pairs, settings.seed)
            checks.append(firewall.check_pairs(rows, selection, pairs))
            contents = replace(contents, pairs=pairs)
        firewall.enforce(checks, f"give another mapping (`make splits`): {assignment.meaning} were read")
        with atomic_path(folder) as partial:
            partial.mkdir()
            files, notes = write_files(contents, partial, workers)
            checks.append(firewall.check_prompts(rows, selection, notes.hashes, identical == "count"))
            firewall.enforce(checks, "set `identical_prompts: drop` or `count` in the data settings")
            files["train_counts.parquet"] = write_counts(contents, partial / "train_counts.parquet")
            manifest = Manifest(
                inputs=inputs,
                dataset=dataset_name(data),
                split=split,
                seed=settings.seed,
                config=settings.model_dump(mode="json"),
                versions={name: version(name) for name in ("numpy", "polars", "pyarrow")}
                | {"format": FORMAT},
                mapping=MappingRecord(
                    file=mapping_file.name if mapping_file else None,
                    meaning=assignment.meaning,
                    entries=assignment.entries,
                    absent=list(assignment.absent),
                ),
                source=[SourceFile(name=file.name, bytes=file.stat().st_size) for file in source.files],
                rows=RowCounts(read=len(rows), **selection.counts(), dropped=selection.dropped),
                counted=counted(contents, notes),
                pairs=pair_counts(contents.pairs),
                firewall=[CheckRecord(**check.record()) for check in checks],
                files={name: FileRecord(**sums) for name, sums in files.items()},
            )
            if names.studies:
                names.write(partial)
            tokens = token_lengths(named_tokenizer, *notes.sample_of(rows), notes.longest)
            write_card(partial / "card.html", manifest, rows, selection, tokens)
            write_record(partial / "manifest.json", manifest)
        register(data, split, settings, manifest.files)
        return DataSet(folder, manifest, time.monotonic() - started)


def _tiny_tokenizer() -> str | None:
    """The tiny model's, if it was built."""
    folder = root() / "outputs" / "models" / "tiny"
    return str(folder) if (folder / "tokenizer.json").is_file() else None


def only_side(split: str, settings: DataSettings) -> str | None:
    """The one side that all rows of an undivided data set are on, None for a split."""
    if split in DIVIDED:
        return None
    return "evaluation" if split == "all" or settings.all == "eval" else "training"


def assign_rows(rows: Rows, split: str, settings: DataSettings, mapping: Any) -> Assignment:
    """The side of each row, by the mapping or, without one, drawn from the seed."""
    side = only_side(split, settings)
    if side is not None:
        return undivided(rows, EVAL if side == "evaluation" else TRAIN)
    if mapping is None:
        mapping = generate(rows, split, settings.seed, settings.eval_fraction)
    return assign(rows, split, mapping)


def counted(contents: Contents, notes: PromptNotes) -> dict[str, int]:
    """Rows that are kept but worth knowing."""
    part, off = contents.selection.part, contents.selection.off_scale
    return {
        "off_scale_train": int(np.sum(off & (part == TRAINING))),
        "off_scale_eval": int(np.sum(off & (part == EVALUATION))),
        "vignettes_shortened": int(np.sum(contents.shortened & (part != DROPPED))),
        "prompts_not_ending_with_stimulus": len(part) - notes.ending,
        "prompts_not_in_published_form": len(part) - notes.published,
        "rows_without_reasoning": notes.without_reasoning,
        **item_counts(contents.rows, contents.selection),
    }
