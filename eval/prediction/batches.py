"""Which prompts are read together, and which beginnings they share.

Prompts that begin alike (one person's tasks when the persona comes first, one item's people when the
stimulus does) are read as a tree of three levels: what the whole batch shares, what a group of rows
shares, and the rest of each row. The plan minimises the number of padded tokens that are computed.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

OVERHEAD = 256  # a batch's fixed cost, in tokens: keeps the plan from making many tiny batches


@dataclass(frozen=True)
class Batch:
    """rows: indices of prompts. shared: tokens that all rows begin with.

    groups: (place of its first row, number of tokens its rows begin with); empty when nothing is to be
    gained. group_of: each row's group (or 0). cost: padded tokens computed.
    """

    rows: list[int]
    shared: int
    groups: list[tuple[int, int]] = field(repr=False)
    group_of: list[int] = field(repr=False)
    cost: int


def plan_batches(
    prompts: Sequence[Sequence[int]], extra: Sequence[int], budget: int, reuse: bool = True
) -> list[Batch]:
    """Batches that hold every prompt once. `extra`: tokens read after each prompt (its answer trie).

    A batch has at most `budget` padded tokens, or one prompt. With `reuse` the cheaper of two orders
    is taken: alphabetical (long shared beginnings) or by length (little padding).
    """
    if not prompts:
        return []
    arrays = [np.asarray(prompt) for prompt in prompts]
    by_length = sorted(range(len(prompts)), key=lambda row: len(prompts[row]))
    orders = [by_length]
    if reuse:
        orders.append(sorted(range(len(prompts)), key=lambda row: list(prompts[row])))
    plans = [_cut(arrays, extra, order, budget, reuse) for order in orders]
    return min(plans, key=lambda plan: sum(batch.cost + OVERHEAD for batch in plan))


def _cut(
    arrays: list[np.ndarray], extra: Sequence[int], order: list[int], budget: int, reuse: bool
) -> list[Batch]:
    """Cut an order into batches as large as the budget allows."""
    common = [0, *(common_beginning(arrays[a], arrays[b]) for a, b in itertools.pairwise(order))]
    batches, begin, longest = [], 0, 0
    for position, row in enumerate(order):
        size = max(longest, len(arrays[row]) + extra[row])
        if position > begin and size * (position + 1 - begin) > budget:
            batches.append(_batch(arrays, order[begin:position], common[begin + 1 : position], reuse))
            begin, size = position, len(arrays[row]) + extra[row]
        longest = size
    batches.append(_batch(arrays, order[begin:], common[begin + 1 :], reuse))
    return batches


def _batch(arrays: list[np.ndarray], rows: list[int], common: list[int], reuse: bool) -> Batch:
    """The cheapest grouping of neighbouring rows; `common`: tokens shared by each two neighbours."""
    lengths = [len(arrays[row]) for row in rows]
    plain = Batch(rows, 0, [], [0] * len(rows), max(lengths) * len(rows))
    if not reuse or len(rows) == 1:
        return plain
    shared = min(common)
    best = Batch(rows, shared, [], [0] * len(rows), shared + (max(lengths) - shared) * len(rows))
    for least in sorted({shared + more for more in (8, 32, 128, 512)}):
        grouped = _group(rows, lengths, common, shared, least)
        best = min(best, grouped, key=lambda batch: batch.cost)
    return min(best, plain, key=lambda batch: batch.cost)


def _group(rows: list[int], lengths: list[int], common: list[int], shared: int, least: int) -> Batch:
    """Group neighbours that share at least `least` tokens; a row on its own is a group, too."""
    groups: list[tuple[int, int]] = []
    group_of = []
    for position in range(len(rows)):
        joins = position > 0 and common[position - 1] >= least
        if joins:
            first, length = groups[-1]
            groups[-1] = (first, min(length, common[position - 1]))
        else:
            # A row always keeps a token of its own to be read: the last one's output is what counts.
            groups.append((position, lengths[position] - 1))
        group_of.append(len(groups) - 1)
    heads = max(length for _, length in groups) - shared
    tails = max(lengths[position] - groups[group][1] for position, group in enumerate(group_of))
    cost = shared + heads * len(groups) + tails * len(rows)
    return Batch(rows, shared, groups, group_of, cost)


def common_beginning(one: np.ndarray, other: np.ndarray) -> int:
    """How many tokens two prompts begin with alike, leaving at least one of each."""
    size = min(len(one), len(other)) - 1
    different = np.flatnonzero(one[:size] != other[:size])
    return int(different[0]) if len(different) else size
