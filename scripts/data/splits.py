"""Split mappings: read the released ones in either meaning, make new seeded ones, divide the rows.

    python -m scripts.data.splits --data sample|socsci210|<folder> --split study|task|condition|participant
        [--seed 0] [--eval-fraction 0.25] [--participants-fraction 1.0] [--name NAME]

Writes `metadata/<dataset>/<name>.json` in the released layout: `{"seen": [ids], "unseen": [ids]}` for
the study split, `{study: {"train": [...], "eval": [...]}}` with task, condition or participant numbers
for the others. Give it to `make data` as `mapping:` in a settings file. A participants fraction below
1 names that share of each study's training people only; a smaller share is part of a larger one.
"""

import argparse
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from common.draws import draw, lowest, study_keys
from common.errors import Refusal, run_cli
from common.files import write_json
from common.paths import SPLITS, dataset_name, root, safe_name, source_dir, split_dir
from common.readers import read_json
from scripts.data.facts import Rows, first_rows, read_rows
from scripts.data.source import open_source

TRAIN, EVAL, UNMAPPED = 0, 1, 2
RELEASED = {
    "study": "participant_mapping.json",  # so named by its authors; it splits studies
    "task": "task_mapping.json",
    "condition": "condition_mapping.json",
}
SIDES = {"study": ("seen", "unseen")}
REMEDY = "make a mapping that fits with `make splits`"


@dataclass(frozen=True)
class Assignment:
    """Which side each row is on (TRAIN, EVAL or UNMAPPED), and how the mapping was read."""

    side: np.ndarray
    meaning: str


def metadata_dir(data: str) -> Path:
    """`metadata/<dataset>/`: where mappings are that `make_splits` wrote."""
    return root() / "metadata" / dataset_name(data)


def mapping_path(data: str, split: str, chosen: str | None) -> Path | None:
    """The mapping file of a split: the chosen one, else the released one (none for participants)."""
    if chosen:
        return root() / chosen
    return source_dir(data) / "metadata" / RELEASED[split] if split in RELEASED else None


def load_mapping(path: Path, data: str) -> Any:
    remedy = f"run `make data DATA={data}` again" if data in ("sample", "socsci210") else REMEDY
    return read_json(path, f"{remedy}, or {REMEDY}" if remedy != REMEDY else REMEDY)


def assign(rows: Rows, split: str, mapping: Any) -> Assignment:
    """Divide the rows by a mapping. Raises `Refusal` for one that doesn't fit the data."""
    if split == "study":
        return _assign_studies(rows, mapping)
    _check_layout(rows, mapping)
    units = _units(rows, split)
    meaning = "participant numbers" if split == "participant" else _meaning(rows, split, units, mapping)
    values = rows.sample if meaning == "sample ids" else units
    side = np.full(len(rows), UNMAPPED, np.int8)
    for name, study_rows in rows_by_study(rows).items():
        for number, key in ((TRAIN, "train"), (EVAL, "eval")):
            if name in mapping:
                listed = np.array(mapping[name].get(key, []), np.int64)
                side[study_rows[np.isin(values[study_rows], listed)]] = number
    return Assignment(side, meaning)


def rows_by_study(rows: Rows) -> dict[str, np.ndarray]:
    """The row numbers of each study."""
    order = np.argsort(rows.study, kind="stable")
    bounds = np.searchsorted(rows.study[order], np.arange(len(rows.studies) + 1))
    return {name: order[bounds[i] : bounds[i + 1]] for i, name in enumerate(rows.studies)}


def _units(rows: Rows, split: str) -> np.ndarray:
    """The number that a split divides by, for each row."""
    if split == "participant":
        return rows.people[rows.person]
    return (rows.items.task if split == "task" else rows.items.condition)[rows.item]


def _assign_studies(rows: Rows, mapping: Any) -> Assignment:
    if not (isinstance(mapping, dict) and set(mapping) == set(SIDES["study"])):
        raise Refusal(f'the study mapping must be {{"seen": [ids], "unseen": [ids]}}; {REMEDY}')
    listed = {key: _strings(mapping[key], key) for key in SIDES["study"]}
    _refuse_unknown_studies(rows, listed["seen"] | listed["unseen"])
    if both := listed["seen"] & listed["unseen"]:
        raise Refusal(f"the mapping names studies as seen and unseen: {_some(both)}; {REMEDY}")
    of_study = [
        TRAIN if s in listed["seen"] else EVAL if s in listed["unseen"] else UNMAPPED for s in rows.studies
    ]
    return Assignment(np.array(of_study, np.int8)[rows.study], "studies")


def _strings(value: Any, key: str) -> set[str]:
    if not isinstance(value, list) or not all(isinstance(study, str) for study in value):
        raise Refusal(f"the study mapping's `{key}` must be a list of study ids; {REMEDY}")
    return set(value)


def _check_layout(rows: Rows, mapping: Any) -> None:
    if not isinstance(mapping, dict) or not mapping:
        raise Refusal(f'the mapping must be {{study: {{"train": [...], "eval": [...]}}}}; {REMEDY}')
    _refuse_unknown_studies(rows, set(mapping))
    for study, sides in mapping.items():
        if not isinstance(sides, dict) or not {"train", "eval"} >= set(sides):
            raise Refusal(f'the mapping of study {study} must be {{"train": [...], "eval": [...]}}; {REMEDY}')
        for key, entries in sides.items():
            if not isinstance(entries, list) or not all(type(entry) is int for entry in entries):
                raise Refusal(f"the mapping of study {study}, `{key}`, must be a list of integers; {REMEDY}")
        if both := set(sides.get("train", [])) & set(sides.get("eval", [])):
            raise Refusal(f"the mapping of study {study} names {_some(both)} on both sides; {REMEDY}")


def _refuse_unknown_studies(rows: Rows, named: set[str]) -> None:
    if unknown := named - set(rows.studies):
        raise Refusal(
            f"the mapping names {len(unknown)} studies that the data lacks: {_some(unknown)}; "
            f"fetch the missing shards, or {REMEDY}"
        )


def _some(values: Any, most: int = 5) -> str:
    values = sorted(values)
    more = f" and {len(values) - most} more" if len(values) > most else ""
    return ", ".join(str(value) for value in values[:most]) + more


def _meaning(rows: Rows, split: str, units: np.ndarray, mapping: Mapping[str, Any]) -> str:
    """Decide from the data whether the lists hold task/condition numbers or sample ids.

    A meaning fits when every entry of every study exists in that study. When both fit (small
    numbers), the one whose entries cover the larger share of what exists is taken.
    """
    numbers = f"{split} numbers"
    misfit: dict[str, str] = {}
    covered = {numbers: 0.0, "sample ids": 0.0}
    for study, study_rows in rows_by_study(rows).items():
        listed = {entry for side in mapping.get(study, {}).values() for entry in side}
        for meaning, values in ((numbers, units), ("sample ids", rows.sample)):
            if listed:
                existing = set(np.unique(values[study_rows]).tolist())
                covered[meaning] += len(listed & existing) / len(existing)
                if wrong := listed - existing:
                    misfit.setdefault(meaning, f"study {study} has no {meaning[:-1]} {_some(wrong)}")
    fitting = [meaning for meaning in (numbers, "sample ids") if meaning not in misfit]
    if not fitting:
        raise Refusal(
            f"the mapping's lists are neither {split} numbers ({misfit[numbers]}) nor sample ids "
            f"({misfit['sample ids']}); {REMEDY}"
        )
    return max(fitting, key=lambda meaning: covered[meaning])


def generate(
    rows: Rows, split: str, seed: int, eval_fraction: float, participants_fraction: float = 1.0
) -> Any:
    """A new mapping in the released layout. Studies with one arm or outcome aren't named.

    At least one unit of a study is on each side. Draws are keyed, so a study's split doesn't depend
    on which other studies are in the data.
    """
    keys = study_keys(rows.studies)
    if split == "study":
        chosen = _pick(draw(seed, "split study", keys), eval_fraction)
        named = {name: bool(held) for name, held in zip(rows.studies, chosen, strict=True)}
        seen, unseen = ([name for name in sorted(named) if named[name] is side] for side in (False, True))
        return {"seen": seen, "unseen": unseen}
    mapping = {}
    units = rows.people if split == "participant" else _units(rows, split)
    study_of = rows.people_study if split == "participant" else rows.study
    for number, study in enumerate(rows.studies):
        values = np.unique(units[study_of == number])
        if len(values) < 2:
            continue
        held = _pick(draw(seed, f"split {split}", np.full(len(values), keys[number]), values), eval_fraction)
        train = values[~held]
        if split == "participant" and participants_fraction < 1:
            share = draw(seed, "participants", np.full(len(train), keys[number]), train)
            train = train[_pick(share, participants_fraction, leave=0)]
        mapping[study] = {"train": train.tolist(), "eval": values[held].tolist()}
    return dict(sorted(mapping.items()))


def _pick(draws: np.ndarray, fraction: float, leave: int = 1) -> np.ndarray:
    """True for the given share of entries: at least one, and at most all but `leave`."""
    count = min(max(1, round(fraction * len(draws))), max(0, len(draws) - leave))
    return lowest(draws, np.zeros(len(draws), np.int8), count)


def validation_rows(rows: Rows, train: np.ndarray, split: str, seed: int, fraction: float) -> np.ndarray:
    """True for training rows held out for early selection: whole cells, or whole people.

    `train`: bool, the rows that may be taken. At least one cell is taken when `fraction` isn't 0,
    and one always stays in training.
    """
    held = np.zeros(len(rows), bool)
    if fraction == 0 or not train.any():
        return held
    keys = study_keys(rows.studies)
    if split == "participant":
        unit = rows.person
        of: tuple[np.ndarray, ...] = (keys[rows.people_study], rows.people)
    else:
        unit = rows.cell
        first = first_rows(rows.items.cell)
        of = (keys[rows.items.study[first]], rows.items.condition[first], rows.items.task[first])
    present = np.unique(unit[train])
    chosen = np.zeros(int(unit.max()) + 1, bool)
    chosen[present[_pick(draw(seed, "validation", *(key[present] for key in of)), fraction)]] = True
    return train & chosen[unit]


@dataclass(frozen=True)
class Splits:
    """A mapping that was written, and how many rows it puts where."""

    path: Path
    mapping: dict[str, Any]
    train: int
    eval: int
    unnamed: int

    def __str__(self) -> str:
        return (
            f"{self.path}: {self.train:,} training rows, {self.eval:,} evaluation rows, "
            f"{self.unnamed:,} not named"
        )


def make_splits(
    data: str = "sample",
    split: str = "participant",
    *,
    seed: int = 0,
    eval_fraction: float = 0.25,
    participants_fraction: float = 1.0,
    name: str | None = None,
) -> Splits:
    """Draw a new mapping and write it to `metadata/<dataset>/<name>.json` (default `<split>-seed<seed>`).

    participants_fraction: the share of each study's training people that a participant split names; a
    smaller share is part of a larger one. Raises `Refusal` for shares out of range.
    """
    split_dir(data, split)  # refuses unknown ones
    if not 0 < eval_fraction < 1:
        raise Refusal(f"--eval-fraction {eval_fraction} must lie between 0 and 1")
    if not 0 < participants_fraction <= 1:
        raise Refusal(f"--participants-fraction {participants_fraction} must lie above 0 and at most at 1")
    if participants_fraction < 1 and split != "participant":
        raise Refusal("--participants-fraction belongs to --split participant")
    part = f"-{participants_fraction:g}" if participants_fraction < 1 else ""
    name = safe_name(name or f"{split}-seed{seed}{part}", "--name")
    rows = read_rows(open_source(source_dir(data), data))
    mapping = generate(rows, split, seed, eval_fraction, participants_fraction)
    path = metadata_dir(data) / f"{name}.json"
    write_json(path, mapping)
    side = assign(rows, split, mapping).side
    counts = (int(np.sum(side == number)) for number in (TRAIN, EVAL, UNMAPPED))
    return Splits(path, mapping, *counts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", default="sample")
    parser.add_argument("--split", default="participant", help=", ".join(SPLITS))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--eval-fraction", type=float, default=0.25)
    parser.add_argument("--participants-fraction", type=float, default=1.0)
    parser.add_argument("--name", help="name of the file, default <split>-seed<seed>")
    print(make_splits(**vars(parser.parse_args())))


if __name__ == "__main__":
    run_cli(main)
