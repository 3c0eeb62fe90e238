"""The admissible answers as a trie of token sequences.

A model may write 100 as one token or as several, so an answer is every sequence of vocabulary pieces
that spells it. Each node of the trie is one token; the probability of an answer is the sum over its
sequences of the tokens' probabilities times that of ending the turn there.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

MAX_NODES = 4096  # beyond it only the tokenizer's own spelling of each answer is kept
_NUMERIC = re.compile(r"-?[0-9]*")


@dataclass(frozen=True)
class AnswerTrie:
    """Nodes in breadth-first order, so that a parent precedes its children and siblings are neighbours.

    answers: the A admissible integers, ascending. tokens, parents, depths, ends: one entry a node (N):
    its token id, its parent's index (-1: the prompt), its depth (1: first answer token), and the index
    of the answer that is complete there (-1: none), and in `usual` whether it belongs to the tokenizer's
    own spelling of an answer.
    """

    answers: tuple[int, ...]
    tokens: np.ndarray
    parents: np.ndarray
    depths: np.ndarray
    ends: np.ndarray
    usual: np.ndarray
    children: dict[int, list[int]] = field(repr=False)

    def __len__(self) -> int:
        return len(self.tokens)

    def ancestors(self) -> np.ndarray:
        """bool (N, N): entry [i, j] says that node j is node i or lies on the way to it."""
        matrix = np.eye(len(self), dtype=bool)
        for node, parent in enumerate(self.parents):
            if parent >= 0:
                matrix[node] |= matrix[parent]
        return matrix


class TrieBuilder:
    """Builds (and keeps) the trie of each scale for one tokenizer.

    answer_prefix: white space that the chat template puts before an answer.
    """

    def __init__(self, tokenizer: Any, answer_prefix: str = "") -> None:
        self.tokenizer, self.answer_prefix = tokenizer, answer_prefix
        special = set(tokenizer.all_special_tokens)
        self.pieces = {
            text: token
            for text, token in tokenizer.get_vocab().items()
            if text and text not in special and _NUMERIC.fullmatch(text)
        }
        self._tries: dict[tuple[int, ...], AnswerTrie] = {}

    def build(self, answers: Sequence[int]) -> AnswerTrie:
        """The trie of `answers` (distinct integers)."""
        key = tuple(sorted(answers))
        if key not in self._tries:
            canonical = {
                answer: tuple(
                    self.tokenizer.encode(f"{self.answer_prefix}{answer}", add_special_tokens=False)
                )
                for answer in key
            }
            spelled = {answer: {canonical[answer], *spellings(str(answer), self.pieces)} for answer in key}
            trie = make_trie(spelled, canonical)
            if len(trie) > MAX_NODES:
                trie = make_trie({answer: {ids} for answer, ids in canonical.items()}, canonical)
            self._tries[key] = trie
        return self._tries[key]


def spellings(text: str, pieces: dict[str, int]) -> list[tuple[int, ...]]:
    """Every sequence of `pieces` (piece -> token id) whose concatenation is `text`."""
    endings: list[list[tuple[int, ...]]] = [[] for _ in text] + [[()]]
    for start in range(len(text) - 1, -1, -1):
        for stop in range(start + 1, len(text) + 1):
            if text[start:stop] in pieces:
                endings[start] += [(pieces[text[start:stop]], *rest) for rest in endings[stop]]
    return endings[0]


def make_trie(spelled: dict[int, set[tuple[int, ...]]], usual: dict[int, tuple[int, ...]]) -> AnswerTrie:
    """The trie of answer -> token sequences, and of answer -> the tokenizer's own sequence (one of them).

    Two answers never share a sequence: the text would differ.
    """
    answers = tuple(sorted(spelled))
    ends_of = {ids: index for index, answer in enumerate(answers) for ids in spelled[answer]}
    prefixes = {ids[:length] for ids in ends_of for length in range(1, len(ids) + 1)}
    index_of: dict[tuple[int, ...], int] = {}
    parent_of: list[int] = []
    for depth in range(1, max(map(len, ends_of)) + 1):
        level = [ids for ids in prefixes if len(ids) == depth]
        for ids in sorted(level, key=lambda ids: (index_of.get(ids[:-1], -1), ids[-1])):
            parent_of.append(index_of.get(ids[:-1], -1))
            index_of[ids] = len(index_of)
    beginnings = {ids[:length] for ids in usual.values() for length in range(1, len(ids) + 1)}
    children: dict[int, list[int]] = {}
    for node, parent in enumerate(parent_of):
        children.setdefault(parent, []).append(node)
    return AnswerTrie(
        answers=answers,
        tokens=np.array([ids[-1] for ids in index_of]),
        parents=np.array(parent_of),
        depths=np.array([len(ids) for ids in index_of]),
        ends=np.array([ends_of.get(ids, -1) for ids in index_of]),
        usual=np.array([ids in beginnings for ids in index_of]),
        children=children,
    )
