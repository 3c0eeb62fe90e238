"""The profiles of a forced-choice conjoint: attributes, levels, forbidden combinations, and their text.

Attributes that forbidden combinations tie together form a block; the blocks are independent of one another,
and each draws uniformly from its allowed combinations (Hainmueller, Hopkins and Yamamoto 2014, section 3).
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from common.experiment_file import ExperimentFile, Mistake, suggestion

MOST_COMBINATIONS = 5000  # of attributes that are tied together


@dataclass(frozen=True)
class Block:
    """Attributes whose levels restrict one another (or a single attribute).

    attributes: their positions. combinations: int (C, attributes), the allowed positions of levels.
    """

    attributes: tuple[int, ...]
    combinations: np.ndarray


@dataclass(frozen=True)
class Profiles:
    """What profiles can be. attributes: {attribute: {level: text}}; of each the first level is the base."""

    attributes: dict[str, dict[str, str]]
    blocks: tuple[Block, ...]

    def level(self, attribute: int, level: int) -> tuple[str, str]:
        """Names of an attribute and of one of its levels, by their positions."""
        name = list(self.attributes)[attribute]
        return name, list(self.attributes[name])[level]

    def draw(self, rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        """Profiles at random, each allowed one equally likely: int (*shape, attributes), positions."""
        drawn = np.empty((*shape, len(self.attributes)), np.int64)
        for block in self.blocks:
            drawn[..., block.attributes] = block.combinations[
                rng.integers(len(block.combinations), size=shape)
            ]
        return drawn

    def text(self, pair: Sequence[Sequence[int]], names: Sequence[str], order: Sequence[int]) -> str:
        """Profiles one after the other, an attribute a line. order: of the attributes, by position."""
        attributes = list(self.attributes.items())
        parts = []
        for name, profile in zip(names, pair, strict=True):
            lines = [name]
            for at in order:
                attribute, levels = attributes[at]
                lines.append(f"- {attribute}: {list(levels.values())[profile[at]]}")
            parts.append("\n".join(lines))
        return "\n\n".join(parts)


def make_profiles(file: ExperimentFile) -> Profiles:
    """The checked profiles of an experiment file with `profiles: 2`. Raises `Mistake`."""
    attributes = file.attributes or {}
    for name in ("arms", "factors", "control"):
        if getattr(file, name) is not None:
            raise Mistake((name,), f"a choice between profiles has attributes, no {name}; remove it")
    if not attributes:
        raise Mistake(("profiles",), "profiles need `attributes`: {attribute: [levels]}")
    for attribute, levels in attributes.items():
        if len(levels) < 2:
            raise Mistake(("attributes", attribute), f"the attribute {attribute} needs two or more levels")
    forbidden = [_forbidden(rule, index, attributes) for index, rule in enumerate(file.forbidden)]
    blocks = tuple(_block(group, forbidden, attributes) for group in _tied(len(attributes), forbidden))
    for block in blocks:
        for column, position in enumerate(block.attributes):
            name = list(attributes)[position]
            for level, word in enumerate(attributes[name]):
                if not (block.combinations[:, column] == level).any():
                    raise Mistake(
                        ("forbidden",), f"every profile with {name}: {word} is forbidden; drop that level"
                    )
    return Profiles({name: dict(levels) for name, levels in attributes.items()}, blocks)


Rule = dict[int, set[int]]  # attribute -> levels, by position: profiles that have all of it are forbidden


def _forbidden(
    rule: Mapping[str, Sequence[str]], index: int, attributes: Mapping[str, Mapping[str, str]]
) -> Rule:
    if len(rule) < 2:
        raise Mistake(("forbidden", index), "a forbidden combination names levels of two attributes or more")
    positions = {}
    for name, words in rule.items():
        if name not in attributes:
            hint = suggestion(name, list(attributes)) or f"there are {', '.join(attributes)}"
            raise Mistake(("forbidden", index, name), f"no attribute is named {name!r}; {hint}".rstrip())
        levels = list(attributes[name])
        for word in words:
            if word not in levels:
                hint = suggestion(word, levels) or f"there are {', '.join(levels)}"
                raise Mistake(("forbidden", index, name), f"{name} has no level {word!r}; {hint}".rstrip())
        positions[list(attributes).index(name)] = {levels.index(word) for word in words}
    return positions


def _tied(count: int, forbidden: Sequence[Rule]) -> list[tuple[int, ...]]:
    """Positions of attributes in groups that no forbidden combination crosses."""
    group = list(range(count))
    for rule in forbidden:
        members = {group[at] for at in rule}
        group = [min(members) if one in members else one for one in group]
    return [tuple(at for at in range(count) if group[at] == one) for one in sorted(set(group))]


def _block(
    group: tuple[int, ...], forbidden: Sequence[Rule], attributes: Mapping[str, Mapping[str, str]]
) -> Block:
    names = list(attributes)
    sizes = [len(attributes[names[at]]) for at in group]
    if math.prod(sizes) > MOST_COMBINATIONS:
        tied = ", ".join(names[at] for at in group)
        raise Mistake(
            ("forbidden",),
            f"it ties {tied} together, which have {math.prod(sizes)} combinations; at most "
            f"{MOST_COMBINATIONS} can be told apart: forbid fewer",
        )
    combinations = np.array(list(itertools.product(*map(range, sizes))), np.int64)
    allowed = np.ones(len(combinations), bool)
    for rule in forbidden:
        if set(rule) <= set(group):
            inside = [np.isin(combinations[:, group.index(at)], list(levels)) for at, levels in rule.items()]
            allowed &= ~np.all(inside, axis=0)
    return Block(group, combinations[allowed])
