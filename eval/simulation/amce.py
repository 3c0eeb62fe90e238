"""Marginal means and average marginal component effects (AMCEs) of profiles that were chosen or not.

The marginal mean of a level is how often profiles with it are chosen (Leeper, Hobolt and Tilley 2020). The
AMCE of a level is how much more often than those with the attribute's first level, whatever the other
attributes are (Hainmueller, Hopkins and Yamamoto 2014). Both are linear in the choices: estimate = sum of
part * chosen. So one formula gives every standard error: residuals, added up by person (clustered), with
the correction n / (n - 1) for n people, as R's `survey` has it and `cregg` reports it.

AMCEs come from one least squares regression on indicators of each block's combinations (see
`common/profiles.py`). Where attributes restrict each other, an AMCE averages, with equal weights, over the
combinations of the block's other attributes that occur with both levels.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from common.profiles import Block, Profiles

Level = tuple[int, int]  # positions of an attribute and of one of its levels


@dataclass(frozen=True)
class Shown:
    """R profiles that people saw.

    levels: int (R, attributes), positions. chosen: float64 (R,), 0 or 1, or the probability. person: int
    (R,). weight: float64 (R,).
    """

    levels: np.ndarray
    chosen: np.ndarray
    person: np.ndarray
    weight: np.ndarray

    def where(self, mask: np.ndarray) -> "Shown":
        """Some of the rows. mask: bool (R,)."""
        return Shown(self.levels[mask], self.chosen[mask], self.person[mask], self.weight[mask])


class Linear(NamedTuple):
    """An estimate that is linear in `chosen`. part: float64 (R,), each row's weight; residual: (R,)."""

    value: float
    part: np.ndarray
    residual: np.ndarray

    def variance(self, person: np.ndarray) -> float:
        """Its variance, clustered by person: int (R,)."""
        _, cluster = np.unique(person, return_inverse=True)
        sums = np.bincount(cluster, self.part * self.residual)
        return float(len(sums) / (len(sums) - 1) * (sums**2).sum()) if len(sums) > 1 else float("nan")


def marginal_means(shown: Shown, profiles: Profiles) -> dict[Level, Linear]:
    """The marginal mean of each level that was shown."""
    means = {}
    for attribute, levels in enumerate(profiles.attributes.values()):
        for level in range(len(levels)):
            weight = shown.weight * (shown.levels[:, attribute] == level)
            if weight.sum() > 0:
                part = weight / weight.sum()
                mean = float(part @ shown.chosen)
                means[attribute, level] = Linear(mean, part, shown.chosen - mean)
    return means


def amces(shown: Shown, profiles: Profiles) -> dict[Level, Linear]:
    """The AMCE of each level but the first; none where no combination occurs with both."""
    columns: list[np.ndarray] = [np.ones((len(shown.chosen), 1))]
    contrasts: dict[Level, dict[int, float]] = {}
    for block in profiles.blocks:
        present, cell = np.unique(shown.levels[:, block.attributes], axis=0, return_inverse=True)
        before = sum(part.shape[1] for part in columns)
        columns.append(np.eye(len(present))[cell.ravel()][:, 1:])  # the first combination is the base
        for level, weights in _contrasts(block, present):
            contrasts[level] = {before + at - 1: weight for at, weight in weights.items() if at}
    design = np.concatenate(columns, axis=1)
    weighted = design * shown.weight[:, None]
    inverse = np.linalg.pinv(weighted.T @ design)
    residual = shown.chosen - design @ (inverse @ (weighted.T @ shown.chosen))
    estimates = {}
    for level, weights in contrasts.items():
        contrast = np.zeros(design.shape[1])
        contrast[list(weights)] = list(weights.values())
        part = weighted @ (inverse @ contrast)
        estimates[level] = Linear(float(part @ shown.chosen), part, residual)
    return estimates


def _contrasts(block: Block, present: np.ndarray) -> Iterator[tuple[Level, Mapping[int, float]]]:
    """Each level of a block against its attribute's first: {position in `present`: weight}."""
    for column, attribute in enumerate(block.attributes):
        rows: dict[int, dict[tuple[int, ...], int]] = defaultdict(dict)
        for at, combination in enumerate(present.tolist()):
            rows[combination.pop(column)][tuple(combination)] = at
        base = rows[0]
        for level in sorted(rows.keys() - {0}):
            shared = [others for others in rows[level] if others in base]
            if shared:
                plus = {rows[level][others]: 1 / len(shared) for others in shared}
                yield (attribute, level), plus | {base[others]: -1 / len(shared) for others in shared}
