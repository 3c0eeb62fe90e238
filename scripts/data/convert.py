"""Make the data sets of one split: SFT rows, DPO pairs, evaluation rows, their card and manifest.

    python -m scripts.data.convert --data sample|socsci210|<folder> --split study|task|condition|participant
        [--config configs/data/default.yaml] [--workers 2] [--tokenizer FOLDER|HUB_ID] [--force]

Writes `data/<dataset>/<split>/` as a whole (the contract stands in data/README.md), after proof that
nothing of the evaluation stands in training, and registers it in `data/dataset_info.json`.
The data are streamed: memory doesn't grow with the texts. Says "nothing to do" when nothing changed.
"""

import argparse
import ctypes
import os
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from common.errors import Refusal, run_cli
from common.files import atomic_path, file_stamp, fingerprint, sha256_file, up_to_date, write_json
from common.paths import SPLITS, dataset_name, source_dir, split_dir
from scripts.data import splits
from scripts.data.assemble import Stimuli
from scripts.data.card import load_tokenizer, token_lengths, write_card
from scripts.data.facts import Rows, combine, first_rows, read_rows
from scripts.data.firewall import FORBIDDEN, REJECTED, Check, compare, compare_prompts, enforce, shared
from scripts.data.index import register
from scripts.data.pairs import Pairs, build_pairs
from scripts.data.selection import EVALUATION, TRAINING, VALIDATION, Selection, refuse_empty_side, select
from scripts.data.settings import DEFAULT, DataSettings, load_settings
from scripts.data.shorten import shortened_texts
from scripts.data.source import open_source
from scripts.data.writing import Job, hash_prompts, write_files

TOKENIZER = Path("outputs/models/tiny")
FORMAT = 2  # raised when the same input gives other files


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", default="sample")
    parser.add_argument("--split", default="study", help=", ".join(SPLITS))
    parser.add_argument("--config", type=Path, default=DEFAULT)
    parser.add_argument("--workers", type=int, default=min(4, os.cpu_count() or 1))
    parser.add_argument("--tokenizer", help="a folder or hub id, for the card's token counts")
    parser.add_argument("--force", action="store_true", help="make it again although nothing changed")
    args = parser.parse_args()
    tokenizer = args.tokenizer or (str(TOKENIZER) if (TOKENIZER / "tokenizer.json").is_file() else None)
    convert(args.data, args.split, load_settings(args.config), max(1, args.workers), args.force, tokenizer)


def convert(
    data: str,
    split: str,
    settings: DataSettings,
    workers: int = 1,
    force: bool = False,
    tokenizer: str | None = None,
) -> Path:
    """Make `data/<dataset>/<split>/` and return it. Raises `Refusal`; then nothing has changed."""
    started = time.monotonic()
    tune_process()
    folder = split_dir(data, split)
    source = open_source(source_dir(data), data)
    mapping_file = splits.mapping_path(data, split, settings.mapping)
    mapping = splits.load_mapping(mapping_file, data) if mapping_file else None
    inputs = fingerprint([FORMAT, source.stamps(), mapping, settings.model_dump(), split, tokenizer])
    if not force and up_to_date(folder / "manifest.json", inputs):
        register(data, split, settings)
        print(f"{folder} is up to date: nothing to do")
        return folder
    named = load_tokenizer(tokenizer)  # before the work: a wrong one is refused at once
    rows = read_rows(source)
    if mapping is None:
        mapping = splits.generate(rows, split, settings.seed, settings.eval_fraction)
    assignment = splits.assign(rows, split, mapping)
    chosen = select(rows, split, assignment, settings)
    written = shortened_texts(rows.items.texts, settings.vignette_most_characters)
    job = Job(source, rows, chosen, settings, Stimuli(rows.items.texts, written))
    identical = settings.identical_prompts or ("count" if split == "participant" else "refuse")
    if identical == "drop":
        drop_identical(job, workers)
    refuse_empty_side(chosen, split)
    checks = check_keys(rows, chosen, split)
    if "dpo" in settings.outputs:
        job.pairs = build_pairs(rows, chosen.part == TRAINING, settings.pairs, settings.seed)
        checks.append(check_pairs(rows, chosen, job.pairs))
    enforce(checks, f"give another mapping (`make splits`): {assignment.meaning} were read")
    with atomic_path(folder) as partial:
        partial.mkdir()
        files = write_files(job, partial, workers)
        prompts = check_prompts(job, identical == "count")
        enforce([prompts], "set `identical_prompts: drop` or `count` in the data settings")
        files["train_counts.parquet"] = write_counts(rows, chosen, partial / "train_counts.parquet")
        manifest = {
            "inputs": inputs,
            "dataset": dataset_name(data),
            "split": split,
            "seed": settings.seed,
            "config": settings.model_dump(mode="json"),
            "versions": {name: version(name) for name in ("numpy", "pyarrow", "numba")} | {"format": FORMAT},
            "mapping": {"file": mapping_file.name if mapping_file else None, "meaning": assignment.meaning},
            "source": [dict(zip(("name", "bytes"), file_stamp(file), strict=False)) for file in source.files],
            "rows": {"read": len(rows), **chosen.counts(), "dropped": chosen.dropped},
            "counted": job.counted(),
            "pairs": pair_counts(job.pairs),
            "firewall": [check.record() for check in [*checks, prompts]],
            "files": files,
        }
        sampled = sorted(job.sampled.items())
        tokens = token_lengths(
            named,
            [prompt for _, prompt in sampled],
            [str(rows.response[row]) for row, _ in sampled],
            max((job.longest[start] for start in sorted(job.longest)), key=len),
        )
        write_card(partial / "card.html", manifest, rows, chosen, tokens)
        write_json(partial / "manifest.json", manifest)
    register(data, split, settings)
    print(summary(folder, manifest, time.monotonic() - started))
    return folder


def tune_process() -> None:
    """Return freed arrays to the system, and let threads take turns without delay.

    By default Arrow and glibc each keep hundreds of megabytes, and a thread that wants the interpreter
    waits 5 ms for it, as long as decoding a piece takes.
    """
    sys.setswitchinterval(0.001)
    if "jemalloc" in pa.supported_memory_backends():
        pa.set_memory_pool(pa.jemalloc_memory_pool())
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt:
        m_mmap_threshold, m_arena_max = -3, -8
        mallopt(m_mmap_threshold, 2**20)
        mallopt(m_arena_max, 2)


def check_keys(rows: Rows, chosen: Selection, split: str) -> list[Check]:
    """Compare rows, studies, people, arms and outcomes of the two sides (validation belongs to training)."""
    train = np.flatnonzero((chosen.part == TRAINING) | (chosen.part == VALIDATION))
    evaluation = chosen.rows(EVALUATION)
    items, studies = rows.items, rows.studies
    arm = combine(items.study, items.condition)
    outcome = combine(items.study, items.task)
    first_arm, first_outcome = first_rows(arm), first_rows(outcome)

    def named(kind: str, item: Any, number: np.ndarray) -> str:
        return f"{studies[items.study[item]]} {kind} {number[item]}"

    things: dict[str, tuple[np.ndarray, Any]] = {
        "rows": (np.arange(len(rows)), rows.name),
        "studies": (rows.study, lambda code: studies[code]),
        "people": (
            rows.person,
            lambda code: f"{studies[rows.people_study[code]]} participant {rows.people[code]}",
        ),
        "arms": (arm[rows.item], lambda code: named("condition", first_arm[code], items.condition)),
        "outcomes": (outcome[rows.item], lambda code: named("task", first_outcome[code], items.task)),
    }
    return [
        compare(name, codes[train], codes[evaluation], show, name not in ("rows", FORBIDDEN[split]))
        for name, (codes, show) in things.items()
    ]


def check_pairs(rows: Rows, chosen: Selection, pairs: Pairs) -> Check:
    """Rejected answers must come from training rows: neither from evaluation nor from validation."""
    if not pairs.count:
        raise Refusal(
            "there is no DPO pair: no two people of a training cell differ; take dpo out of `outputs`"
        )
    drawn = pairs.rejected[pairs.rejected >= 0]
    outside = np.flatnonzero(chosen.part != TRAINING)
    return compare(REJECTED, drawn, outside, rows.name)


def check_prompts(job: Job, allowed: bool) -> Check:
    """Evaluation prompts must not stand in training to the byte, unless the split allows it."""
    evaluation = job.chosen.rows(EVALUATION)
    train = np.flatnonzero((job.chosen.part == TRAINING) | (job.chosen.part == VALIDATION))
    return compare_prompts(
        job.hashes[train], job.hashes[evaluation], lambda row: job.rows.name(evaluation[row]), allowed
    )


def drop_identical(job: Job, workers: int) -> None:
    """Drop training rows whose prompt an evaluation row repeats to the byte."""
    hash_prompts(job, workers)
    part = job.chosen.part
    same = np.zeros(len(part), bool)
    train = (part == TRAINING) | (part == VALIDATION)
    same[train] = shared(job.hashes[train], np.sort(job.hashes[part == EVALUATION]))
    job.chosen.drop(same, "prompt stands in evaluation")


def pair_counts(pairs: Pairs | None) -> dict[str, int] | None:
    if pairs is None:
        return None
    return {
        "pairs": pairs.count,
        "groups": pairs.groups,
        "groups_without_disagreement": pairs.without_disagreement,
        "rows_without_disagreement": pairs.rows_without,
        "rows_beyond_most_per_cell": pairs.beyond_cap,
    }


def write_counts(rows: Rows, chosen: Selection, path: Path) -> dict[str, Any]:
    """`train_counts.parquet`: how often each training answer was given to each item."""
    train = chosen.rows(TRAINING)
    code = combine(rows.item[train], rows.response[train])
    first = train[first_rows(code)]
    item, response, count = rows.item[first], rows.response[first], np.bincount(code)
    items, scales = rows.items, rows.items.scales
    order = np.lexsort(
        (response, items.item_num[item], items.task[item], items.condition[item], items.study[item])
    )
    item, response, count = item[order], response[order], count[order]
    table = pa.table(
        {
            "study_id": pa.array([rows.studies[study] for study in items.study[item]], pa.string()),
            "condition_num": items.condition[item],
            "task_num": items.task[item],
            "item_num": items.item_num[item],
            "scale_kind": pa.array([scales[i].kind for i in item], pa.string()),
            "scale_low": pa.array([scales[i].low for i in item], pa.int64()),
            "scale_high": pa.array([scales[i].high for i in item], pa.int64()),
            "response": response.astype(np.int64),
            "count": count.astype(np.int64),
        }
    )
    pq.write_table(table, path, compression="zstd", store_schema=False)
    return {"sha256": sha256_file(path), "bytes": path.stat().st_size, "rows": table.num_rows}


def summary(folder: Path, manifest: dict[str, Any], seconds: float) -> str:
    rows = manifest["rows"]
    parts = [f"{rows[name]:,} {name}" for name in ("train", "validation", "eval")]
    parts += [f"{count:,} dropped ({reason})" for reason, count in rows["dropped"].items()]
    pairs = f"; {manifest['pairs']['pairs']:,} DPO pairs" if manifest["pairs"] else ""
    return (
        f"{folder}: {rows['read']:,} rows read = {' + '.join(parts)}{pairs}; "
        f"mapping read as {manifest['mapping']['meaning']}; {seconds:.1f} s"
    )


if __name__ == "__main__":
    run_cli(main)
