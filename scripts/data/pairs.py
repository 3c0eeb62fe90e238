"""DPO pairs: a person's answer against the differing answer of somebody else to the same question.

"Demographic-contrastive": the prompt keeps the focal person, so what tells chosen from rejected is
who is asked. Draws are keyed by row, so pairs don't depend on the order of rows or on workers.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from common.draws import draw, lowest, study_keys
from scripts.data.facts import Rows
from scripts.data.settings import PairSettings

TRIES = 16  # redraws of an own answer before the exact search
BLOCK = 200_000  # rows that are paired at once, as far as studies allow


@dataclass(frozen=True)
class Pairs:
    """`rejected[i]` is the row whose answer is rejected for row i, or -1 when row i has no pair."""

    rejected: np.ndarray
    groups: int  # items or cells with training rows
    without_disagreement: int  # groups in which no two people differ
    rows_without: int  # training rows for which nobody else differs
    beyond_cap: int  # rows left out by most_per_cell

    @property
    def count(self) -> int:
        return int(np.sum(self.rejected >= 0))


def build_pairs(rows: Rows, train: np.ndarray, settings: PairSettings, seed: int) -> Pairs:
    """Draw a rejected answer for every training row that somebody else of its group contradicts.

    Parameters: `train`, bool for each row, the only rows that are drawn from. Scheme `uniform` draws
    uniformly among the group's rows with another answer by another person (as published, so frequent
    answers are rejected often); `balanced` first draws one of the other answers uniformly, then a row.
    """
    keys = study_keys(rows.studies)
    rejected = np.full(len(rows), -1, np.int32)
    counts = np.zeros(4, np.int64)
    for chosen in _blocks(rows, train):
        counts += _pair_block(rows, chosen, settings, seed, keys, rejected)
    return Pairs(rejected, *counts.tolist())


def pair_counts(pairs: Pairs | None) -> dict[str, int] | None:
    """What the manifest says of the pairs."""
    if pairs is None:
        return None
    return {
        "pairs": pairs.count,
        "groups": pairs.groups,
        "groups_without_disagreement": pairs.without_disagreement,
        "rows_without_disagreement": pairs.rows_without,
        "rows_beyond_most_per_cell": pairs.beyond_cap,
    }


def _blocks(rows: Rows, train: np.ndarray) -> Iterator[np.ndarray]:
    """The training rows, as blocks of whole studies: groups stay together, and memory small."""
    chosen = np.flatnonzero(train).astype(np.int32)
    study = rows.study[chosen]
    order = chosen[np.argsort(study, kind="stable")]
    ends = np.cumsum(np.bincount(study, minlength=len(rows.studies)))
    start = 0
    for end in ends.tolist():
        if end - start >= BLOCK or (end == len(order) and end > start):
            yield order[start:end]
            start = end


def _pair_block(
    rows: Rows, chosen: np.ndarray, settings: PairSettings, seed: int, keys: np.ndarray, rejected: np.ndarray
) -> np.ndarray:
    """Fill in `rejected` for the rows `chosen`; return the counts of `Pairs`, in its order."""
    item = rows.item[chosen]
    group = item if settings.within == "item" else rows.items.cell[item]
    # Groups of equal answers lie side by side; inside them the key order, not the order of the file.
    order = np.lexsort((rows.sample[chosen], rows.response[chosen], group))
    chosen, group = chosen[order], group[order]
    response, person = rows.response[chosen], rows.person[chosen]
    key = (keys[rows.study[chosen]], rows.sample[chosen])
    pick = _Picker(group, response, settings.scheme)
    partner = np.full(len(chosen), -1, np.int64)
    open_ = np.flatnonzero(pick.others > 0)
    for attempt in range(TRIES):
        if not len(open_):
            break
        drawn = pick.draw(open_, *(draw(seed, f"pair {attempt} {n}", *(k[open_] for k in key)) for n in "ab"))
        good = person[drawn] != person[open_]
        partner[open_[good]] = drawn[good]
        open_ = open_[~good]
    for row in open_.tolist():
        partner[row] = _search(row, pick, response, person)
    beyond = 0
    if settings.most_per_cell:
        have = np.flatnonzero(partner >= 0)
        cell = rows.items.cell[rows.item[chosen[have]]]
        spare = have[~lowest(draw(seed, "pair cap", *(k[have] for k in key)), cell, settings.most_per_cell)]
        beyond = len(spare)
        partner[spare] = -2
    paired = partner >= 0
    rejected[chosen[paired]] = chosen[partner[paired]]
    groups = len(np.unique(group))
    with_pair = len(np.unique(group[partner != -1]))
    return np.array([groups, groups - with_pair, np.sum(partner == -1), beyond])


class _Picker:
    """Where each row's group and block of equal answers begin and end, in sorted order."""

    def __init__(self, group: np.ndarray, response: np.ndarray, scheme: str) -> None:
        n = len(group)
        new_group: np.ndarray = np.r_[True, group[1:] != group[:-1]][:n]
        new_block = new_group | np.r_[True, response[1:] != response[:-1]][:n]
        self.group_start, self.group_end = _bounds(new_group)
        self.block_start, self.block_end = _bounds(new_block)
        self.block_first = np.flatnonzero(new_block)  # the first row of each block
        self.block_last = np.r_[self.block_first[1:], n]
        self.block = np.cumsum(new_block) - 1
        self.scheme = scheme
        self.others = (self.group_end - self.group_start) - (self.block_end - self.block_start)

    def draw(self, rows: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        """A row of the same group with another answer, for each of `rows`."""
        if self.scheme == "balanced":
            low = self.block[self.group_start[rows]]
            blocks = self.block[self.group_end[rows] - 1] - low  # other blocks of the group
            block = low + _below(first, blocks)
            block += block >= self.block[rows]
            start, end = self.block_first[block], self.block_last[block]
            return start + _below(second, end - start)
        row = self.group_start[rows] + _below(first, self.others[rows])
        skipped = self.block_end[rows] - self.block_start[rows]
        return row + np.where(row >= self.block_start[rows], skipped, 0)


def _bounds(new: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    starts = np.flatnonzero(new)
    ends = np.r_[starts[1:], len(new)][: len(starts)]
    return np.repeat(starts, ends - starts), np.repeat(ends, ends - starts)


def _below(draws: np.ndarray, count: np.ndarray) -> np.ndarray:
    """Uniform in 0..count-1 (the bias of the remainder is below count / 2**64)."""
    return (draws % count.astype(np.uint64)).astype(np.int64)


def _search(row: int, pick: _Picker, response: np.ndarray, person: np.ndarray) -> int:
    """For the few rows whose draws all hit their own person: the first fitting row, or -1."""
    here = slice(int(pick.group_start[row]), int(pick.group_end[row]))
    fits = np.flatnonzero((person[here] != person[row]) & (response[here] != response[row]))
    return here.start + int(fits[0]) if len(fits) else -1
