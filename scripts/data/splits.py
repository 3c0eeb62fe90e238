"""New seeded splits of a data set, in the layout of the released mappings.

Writes `metadata/<dataset>/<split>.json`, for every split that the data allow unless one is named. `make
data` finds it where no mapping was released; otherwise name it as `mapping:` in a settings file.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from common.draws import draw, lowest, study_keys
from common.errors import Refusal
from common.files import write_json
from common.paths import DIVIDED, safe_name, source_dir, split_dir
from scripts.data.facts import Rows, read_rows
from scripts.data.mappings import EVAL, RELEASED, TRAIN, UNMAPPED, assign, metadata_dir, units
from scripts.data.source import open_source

UNITS = {
    "study": "study",
    "task": "outcome a study",
    "condition": "arm a study",
    "participant": "person a study",
}


def generate(
    rows: Rows, split: str, seed: int, eval_fraction: float, participants_fraction: float = 1.0
) -> dict[str, Any]:
    """A new mapping in the released layout. Studies with one arm or outcome aren't named.

    At least one unit of a study is on each side. Draws are keyed, so a study's split doesn't depend
    on which other studies are in the data. Raises `Refusal` when there is nothing to divide.
    """
    keys = study_keys(rows.studies)
    if split == "study":
        if len(rows.studies) < 2:
            raise _indivisible(split)
        chosen = pick(draw(seed, "split study", keys), eval_fraction)
        held_out = {name: bool(held) for name, held in zip(rows.studies, chosen, strict=True)}
        seen, unseen = (
            [name for name in sorted(held_out) if held_out[name] is side] for side in (False, True)
        )
        return {"seen": seen, "unseen": unseen}
    mapping = {}
    values_of = rows.people if split == "participant" else units(rows, split)
    study_of = rows.people_study if split == "participant" else rows.study
    for number, study in enumerate(rows.studies):
        values = np.unique(values_of[study_of == number])
        if len(values) < 2:
            continue
        held = pick(draw(seed, f"split {split}", np.full(len(values), keys[number]), values), eval_fraction)
        train = values[~held]
        if split == "participant" and participants_fraction < 1:
            share = draw(seed, "participants", np.full(len(train), keys[number]), train)
            train = train[pick(share, participants_fraction, leave=0)]
        mapping[study] = {"train": train.tolist(), "eval": values[held].tolist()}
    if not mapping:
        raise _indivisible(split)
    return dict(sorted(mapping.items()))


def _indivisible(split: str) -> Refusal:
    return Refusal(
        f"the data can't be divided by {split}: it has one {UNITS[split]}; choose another SPLIT, or none"
    )


def pick(draws: np.ndarray, fraction: float, leave: int = 1) -> np.ndarray:
    """True for the given share of entries: at least one, and at most all but `leave`."""
    count = min(max(1, round(fraction * len(draws))), max(0, len(draws) - leave))
    return lowest(draws, np.zeros(len(draws), np.int8), count)


@dataclass(frozen=True)
class WrittenSplit:
    """A mapping that was written, and how many rows it puts where."""

    path: Path
    mapping: dict[str, Any]
    train: int
    eval: int
    unnamed: int
    is_default: bool  # whether `make data` finds it by itself

    def __str__(self) -> str:
        use = "" if self.is_default else f"; to use it: `mapping: {self.path}` in the data settings"
        return (
            f"{self.path}: {self.train:,} training rows, {self.eval:,} evaluation rows, "
            f"{self.unnamed:,} not named{use}"
        )


@dataclass(frozen=True)
class Splits:
    """What `make_splits` wrote, by split; `refused`: why other splits can't be made."""

    written: dict[str, WrittenSplit]
    refused: dict[str, str]

    def __str__(self) -> str:
        return "\n".join([*map(str, self.written.values()), *self.refused.values()])


def make_splits(
    data: str = "sample",
    split: str | None = None,
    *,
    seed: int = 0,
    eval_fraction: float = 0.25,
    participants_fraction: float = 1.0,
    name: str | None = None,
) -> Splits:
    """Draw new mappings and write them to `metadata/<dataset>/<name>.json` (default: the split's name).

    split: one of study, task, condition, participant; None: every one that the data allow.
    participants_fraction: the share of each study's training people that a participant split names; a
    smaller share is part of a larger one. Raises `Refusal` for shares out of range.
    """
    if split is not None and split not in DIVIDED:
        raise Refusal(f"unknown SPLIT={split}; choose one of {', '.join(DIVIDED)}")
    if not 0 < eval_fraction < 1:
        raise Refusal(f"--eval-fraction {eval_fraction} must lie between 0 and 1")
    if not 0 < participants_fraction <= 1:
        raise Refusal(f"--participants-fraction {participants_fraction} must lie above 0 and at most at 1")
    if participants_fraction < 1 and split != "participant":
        raise Refusal("--participants-fraction belongs to --split participant")
    if name is not None:
        safe_name(name, "--name")
        if split is None:
            raise Refusal("--name names one file: give --split, too")
    split_dir(data, split or DIVIDED[0])  # refuses names of data sets that can't be
    rows = read_rows(open_source(source_dir(data), data))
    written, refused = {}, {}
    for kind in DIVIDED if split is None else (split,):
        try:
            mapping = generate(rows, kind, seed, eval_fraction, participants_fraction)
        except Refusal as refusal:
            if split is not None:
                raise
            refused[kind] = str(refusal)
            continue
        path = metadata_dir(data) / f"{name or kind}.json"
        write_json(path, mapping)
        side = assign(rows, kind, mapping).side
        train, held, unnamed = (int(np.sum(side == number)) for number in (TRAIN, EVAL, UNMAPPED))
        released = kind in RELEASED and (source_dir(data) / "metadata" / RELEASED[kind]).exists()
        is_default = name in (None, kind) and not released
        written[kind] = WrittenSplit(path, mapping, train, held, unnamed, is_default)
    return Splits(written, refused)
