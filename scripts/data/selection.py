"""Which rows train, validate and evaluate, and why the others don't: every row is accounted for."""

from dataclasses import dataclass, field

import numpy as np

from common.draws import draw, lowest, study_keys
from common.errors import Refusal
from common.scale import admits
from scripts.data.facts import Rows, combine, first_rows
from scripts.data.mappings import EVAL, UNMAPPED, Assignment, some
from scripts.data.mismatch import mismatched
from scripts.data.settings import DataSettings
from scripts.data.splits import pick

TRAINING, VALIDATION, EVALUATION, DROPPED = 0, 1, 2, 3
PARTS = ("train", "validation", "eval")


@dataclass
class Selection:
    """`part` of each row (TRAINING, VALIDATION, EVALUATION or DROPPED), and rows dropped by reason."""

    part: np.ndarray
    off_scale: np.ndarray
    dropped: dict[str, int] = field(default_factory=dict)

    def rows(self, part: int) -> np.ndarray:
        return np.flatnonzero(self.part == part)

    def drop(self, rows: np.ndarray, reason: str) -> None:
        """Drop the rows that the mask `rows` names, as far as they aren't dropped already."""
        rows = rows & (self.part != DROPPED)
        count = int(rows.sum())
        if count:
            self.part[rows] = DROPPED
            self.dropped[reason] = self.dropped.get(reason, 0) + count

    def counts(self) -> dict[str, int]:
        sizes = np.bincount(self.part, minlength=4)
        return {name: int(sizes[part]) for part, name in enumerate(PARTS)}


def select(rows: Rows, split: str, assignment: Assignment, settings: DataSettings) -> Selection:
    """Divide the rows as the settings say."""
    side = assignment.side
    part = np.where(side == EVAL, EVALUATION, TRAINING).astype(np.int8)
    off_scale = ~admits(rows.items.text_scales, rows.items.text[rows.item], rows.response)
    chosen = Selection(part, off_scale)
    for study, reason in settings.leave_out.items():
        if study not in rows.studies:
            raise Refusal(f"`leave_out` names {study!r}; the data's studies are {some(rows.studies)}")
        chosen.drop(rows.study == rows.studies.index(study), f"study {study} left out: {reason}")
    if settings.scale_mismatch == "drop":
        disagrees = mismatched(rows, off_scale)
        chosen.drop(disagrees[rows.item], "stated scale disagrees with the answers")
    if settings.unmapped == "drop":
        chosen.drop(side == UNMAPPED, "not named by the mapping")
    keys = study_keys(rows.studies)
    person = draw(settings.seed, "participants", keys[rows.people_study], rows.people)
    if settings.participants_fraction < 1:
        in_share = _share(rows, part == TRAINING, person, settings.participants_fraction)
        chosen.drop((part == TRAINING) & ~in_share[rows.person], "beyond participants_fraction")
    if settings.training_studies is not None:
        studies = np.unique(rows.people_study[rows.person[part == TRAINING]])
        alike = np.zeros(len(studies), np.int64)
        few = studies[lowest(draw(settings.seed, "studies", keys[studies]), alike, settings.training_studies)]
        beyond = (part == TRAINING) & ~np.isin(rows.people_study[rows.person], few)
        chosen.drop(beyond, "beyond training_studies")
    if settings.off_scale == "drop":
        chosen.drop((part == TRAINING) & chosen.off_scale, "answer outside the stated scale")
    held = validation_rows(rows, part == TRAINING, split, settings.seed, settings.validation_fraction)
    part[held] = VALIDATION
    if settings.respondents_per_cell:
        spare = _beyond(rows, part == TRAINING, person, settings.respondents_per_cell)
        chosen.drop(spare, "beyond respondents_per_cell")
    return chosen


def validation_rows(rows: Rows, train: np.ndarray, split: str, seed: int, fraction: float) -> np.ndarray:
    """True for training rows held out for early selection: whole cells, or whole people.

    `train`: bool, the rows that may be taken. Cells, unless the split divides people, or cells are so large
    that one would be more than the share. Never more than the share is taken, but for one person, who is
    always taken when `fraction` isn't 0; and one always stays in training.
    """
    if fraction == 0 or not train.any():
        return np.zeros(len(rows), bool)
    keys = study_keys(rows.studies)
    if split != "participant":
        first = first_rows(rows.items.cell)
        items = rows.items
        of_cell = (keys[items.study[first]], items.condition[first], items.task[first])
        held = _held_out(rows.cell, of_cell, train, seed, fraction)
        if held.any():
            return held
    return _held_out(rows.person, (keys[rows.people_study], rows.people), train, seed, fraction, fewest=1)


def _held_out(
    unit: np.ndarray,
    keys: tuple[np.ndarray, ...],
    train: np.ndarray,
    seed: int,
    fraction: float,
    fewest: int = 0,
) -> np.ndarray:
    """True for the rows of a share of the units that train has; `keys`: what each unit is drawn by.

    Of the units' number no more than the share, lowest draws first, as long as their rows are no more than
    the share of rows either; but for `fewest` units.
    """
    present, rows = np.unique(unit[train], return_counts=True)
    draws = draw(seed, "validation", *(key[present] for key in keys))
    picked = np.flatnonzero(pick(draws, fraction))
    picked = picked[np.argsort(draws[picked], kind="stable")]
    fitting = int(np.searchsorted(rows[picked].cumsum(), fraction * rows.sum(), side="right"))
    chosen = np.zeros(int(unit.max()) + 1, bool)
    chosen[present[picked[: max(fitting, fewest)]]] = True
    return train & chosen[unit]


def refuse_empty_side(chosen: Selection, split: str, side: str | None = None) -> None:
    """Refuse a data set without training or evaluation rows. side: the only one that must be there."""
    for name, part in (("training", TRAINING), ("evaluation", EVALUATION)):
        if side in (None, name) and not np.any(chosen.part == part):
            reasons = [f"{count:,} dropped: {reason}" for reason, count in chosen.dropped.items()]
            dropped = ", ".join(reasons) or "none dropped"
            raise Refusal(
                f"the {split} split leaves no {name} rows of {len(chosen.part):,} ({dropped}); "
                "give a mapping that names both sides (`make splits`), change the settings that drop, or "
                + ("take SPLIT=all, which only evaluates" if name == "training" else "take SPLIT=none")
            )


def _share(rows: Rows, train: np.ndarray, person: np.ndarray, fraction: float) -> np.ndarray:
    """True for the people of each study that the fraction keeps: at least one, lowest draws first."""
    people = np.unique(rows.person[train])
    study = rows.people_study[people]
    most = np.maximum(1, np.round(fraction * np.bincount(study, minlength=len(rows.studies)))).astype(int)
    chosen = np.zeros(len(rows.people), bool)
    chosen[people[lowest(person[people], study, most)]] = True
    return chosen


def _beyond(rows: Rows, train: np.ndarray, person: np.ndarray, most: int) -> np.ndarray:
    """True for training rows of people beyond the `most` with the lowest draws of their cell."""
    chosen = np.flatnonzero(train)
    pair = combine(rows.cell[chosen], rows.person[chosen])
    first = first_rows(pair)
    taken = lowest(person[rows.person[chosen[first]]], rows.cell[chosen[first]], most)
    spare = np.zeros(len(rows), bool)
    spare[chosen[~taken[pair]]] = True
    return spare
