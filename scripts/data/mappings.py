"""Split mappings: find the file of a split, read its lists in either meaning, divide the rows by them."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from common.errors import Refusal
from common.paths import BUILT_IN, UNDIVIDED, dataset_name, root, source_dir
from common.readers import read_json
from scripts.data.facts import Rows

TRAIN, EVAL, UNMAPPED = 0, 1, 2
RELEASED = {
    "study": "participant_mapping.json",  # so named by its authors; it splits studies
    "task": "task_mapping.json",
    "condition": "condition_mapping.json",
}
STUDY_KEYS = ("seen", "unseen")
SIDE_KEYS = ("train", "eval")
REMEDY = "make a mapping that fits with `make splits`"
Lists = dict[str, dict[str, list[int]]]  # study: side: entries


@dataclass(frozen=True)
class Assignment:
    """Which side each row is on (TRAIN, EVAL or UNMAPPED), and how the mapping was read.

    meaning: what the lists hold. entries: how many of the entries exist in the data, by meaning, and how
    many there are (`listed`). absent: studies that the mapping names and the data lacks.
    """

    side: np.ndarray
    meaning: str
    entries: dict[str, int] = field(default_factory=dict)
    absent: tuple[str, ...] = ()


def metadata_dir(data: str) -> Path:
    """`metadata/<dataset>/`: where `make_splits` writes mappings."""
    return root() / "metadata" / dataset_name(data)


def mapping_path(data: str, split: str, chosen: str | None) -> Path | None:
    """The mapping file of a split: the chosen one, the released one, or what `make splits` wrote.

    None where there is none and a split is drawn from the seed. The built-in data sets must have theirs.
    """
    if split in UNDIVIDED:
        return None
    if chosen:
        return root() / chosen
    released = source_dir(data) / "metadata" / RELEASED[split] if split in RELEASED else None
    if released and (released.exists() or data in BUILT_IN):
        return released
    drawn = metadata_dir(data) / f"{split}.json"
    return drawn if drawn.exists() else None


def load_mapping(path: Path, data: str) -> Any:
    """The content of a mapping file. Raises `Refusal` for one that isn't JSON, or is empty."""
    remedy = f"run `make data DATA={data}` again, or {REMEDY}" if data in BUILT_IN else REMEDY
    mapping = read_json(path, remedy)
    if not isinstance(mapping, dict) or not mapping:
        raise Refusal(f"{path}: the mapping must name studies, see metadata/README.md; {REMEDY}")
    return mapping


def assign(rows: Rows, split: str, mapping: Any) -> Assignment:
    """Divide the rows by a mapping. Raises `Refusal` for one that doesn't fit the data."""
    if split == "study":
        return _assign_studies(rows, mapping)
    lists = _lists(mapping)
    present = {study: sides for study, sides in lists.items() if study in rows.studies}
    absent = tuple(sorted(set(lists) - set(present)))
    if not present:
        raise Refusal(f"the data has none of the mapping's studies ({some(absent)}); {REMEDY}")
    by_study = rows_by_study(rows)
    candidates = {f"{split} numbers": units(rows, split)}
    if split != "participant":
        candidates["sample ids"] = rows.sample
    fits = {name: _fit(present, by_study, values) for name, values in candidates.items()}
    meaning = max(fits, key=lambda name: fits[name].overlap)
    entries = {name: fit.existing for name, fit in fits.items()}
    if misfit := fits[meaning].misfit:
        counts = " and ".join(f"{count:,} as {name}" for name, count in entries.items())
        raise Refusal(
            f"the mapping's lists were read as {meaning}, but study {misfit[0]} has no {meaning[:-1]} "
            f"{some(misfit[1])}; of {fits[meaning].listed:,} entries exist {counts}; {REMEDY}"
        )
    side = np.full(len(rows), UNMAPPED, np.int8)
    for study, sides in present.items():
        here = by_study[study]
        for number, key in ((TRAIN, "train"), (EVAL, "eval")):
            listed = np.array(sides.get(key, []), np.int64)
            side[here[np.isin(candidates[meaning][here], listed)]] = number
    return Assignment(side, meaning, entries | {"listed": fits[meaning].listed}, absent)


def undivided(rows: Rows, side: int) -> Assignment:
    """All rows on one side."""
    return Assignment(np.full(len(rows), side, np.int8), "no split")


def rows_by_study(rows: Rows) -> dict[str, np.ndarray]:
    """The row numbers of each study."""
    order = np.argsort(rows.study, kind="stable")
    bounds = np.searchsorted(rows.study[order], np.arange(len(rows.studies) + 1))
    return {name: order[bounds[i] : bounds[i + 1]] for i, name in enumerate(rows.studies)}


def units(rows: Rows, split: str) -> np.ndarray:
    """The number that a split divides by, for each row."""
    if split == "participant":
        return rows.people[rows.person]
    return (rows.items.task if split == "task" else rows.items.condition)[rows.item]


def some(values: Any) -> str:
    """The first few of `values` in a line."""
    ordered = sorted(values)
    more = f" and {len(ordered) - 5} more" if len(ordered) > 5 else ""
    return ", ".join(str(value) for value in ordered[:5]) + more


@dataclass(frozen=True)
class _Fit:
    """How one meaning of a mapping's lists fits the data.

    overlap: entries that exist, divided by all that is listed or exists (Jaccard). Not the share of
    entries alone: small task numbers always are sample ids, too.
    """

    listed: int
    existing: int
    overlap: float
    misfit: tuple[str, set[int]] | None


def _fit(lists: Lists, by_study: dict[str, np.ndarray], values: np.ndarray) -> _Fit:
    listed = existing = union = 0
    misfit = None
    for study, sides in lists.items():
        named = {entry for entries in sides.values() for entry in entries}
        present = set(np.unique(values[by_study[study]]).tolist())
        listed += len(named)
        existing += len(named & present)
        union += len(named | present)
        if misfit is None and named - present:
            misfit = (study, named - present)
    return _Fit(listed, existing, existing / max(1, union), misfit)


def _assign_studies(rows: Rows, mapping: Any) -> Assignment:
    if not (isinstance(mapping, dict) and set(mapping) == set(STUDY_KEYS)):
        raise Refusal(f'the study mapping must be {{"seen": [ids], "unseen": [ids]}}; {REMEDY}')
    seen, unseen = (_study_ids(mapping[key], key) for key in STUDY_KEYS)
    if both := seen & unseen:
        raise Refusal(f"the mapping names studies as seen and unseen: {some(both)}; {REMEDY}")
    absent = (seen | unseen) - set(rows.studies)
    if len(absent) == len(seen | unseen):
        raise Refusal(f"the data has none of the mapping's studies ({some(absent)}); {REMEDY}")
    of_study = [TRAIN if s in seen else EVAL if s in unseen else UNMAPPED for s in rows.studies]
    return Assignment(np.array(of_study, np.int8)[rows.study], "studies", {}, tuple(sorted(absent)))


def _study_ids(value: Any, key: str) -> set[str]:
    if not isinstance(value, list) or not all(isinstance(study, str) for study in value):
        raise Refusal(f"the study mapping's `{key}` must be a list of study ids; {REMEDY}")
    return set(value)


def _lists(mapping: Any) -> Lists:
    """The mapping with its entries as integers. Raises `Refusal` for another layout."""
    if not isinstance(mapping, dict) or not mapping:
        raise Refusal(f'the mapping must be {{study: {{"train": [...], "eval": [...]}}}}; {REMEDY}')
    lists: Lists = {}
    for study, sides in mapping.items():
        if not isinstance(sides, dict) or not set(sides) <= set(SIDE_KEYS):
            raise Refusal(f'the mapping of study {study} must be {{"train": [...], "eval": [...]}}; {REMEDY}')
        lists[study] = {key: list(_entries(entries, study, key)) for key, entries in sides.items()}
        if both := set(lists[study].get("train", [])) & set(lists[study].get("eval", [])):
            raise Refusal(f"the mapping of study {study} names {some(both)} on both sides; {REMEDY}")
    return lists


def _entries(entries: Any, study: str, key: str) -> Iterator[int]:
    if not isinstance(entries, list):
        raise Refusal(f"the mapping of study {study}, `{key}`, must be a list of integers; {REMEDY}")
    for entry in entries:
        number = _whole(entry)
        if number is None or not -(2**63) <= number < 2**63:
            raise Refusal(
                f"the mapping of study {study}, `{key}`, must be a list of integers, not "
                f"{str(entry)[:40]!r}; {REMEDY}"
            )
        yield number


def _whole(entry: Any) -> int | None:
    """An integer, also as text or with a decimal point, as some programs write them."""
    if type(entry) is int:
        return entry
    if isinstance(entry, float):
        return int(entry) if entry.is_integer() else None
    match = re.fullmatch(r"\s*(-?[0-9]{1,19})(?:\.0*)?\s*", entry) if isinstance(entry, str) else None
    return int(match[1]) if match else None
