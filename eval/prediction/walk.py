"""Exact mode through a model that runs elsewhere: the answer trie is walked level by level.

The same masses as `exact.py` (see there for the definition), from a `Reader` that gives log-probabilities
of named next tokens: a vLLM server or its offline engine. A node is asked only where the way to it holds
more than `epsilon`. Of the answers that lack nothing but the end of the turn, the likeliest are asked for
it and a sample of the others, and more as long as the ends seen differ so much that leaving the rest at the
sample's mean could shift an answer's probability by more than TOLERANCE. So few are asked where a model
ends all answers alike, as fine-tuned ones do, or where most of its probability lies on few answers.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import numpy as np

from common.chat import PromptEncoder
from eval.prediction.asking import Masses, Request
from eval.prediction.trie import AnswerTrie, TrieBuilder

EPSILON = 1e-6  # ways less likely than this aren't followed; what they hold is bounded and reported
TOLERANCE = 2e-5  # how much the unasked ends of the turn may shift an answer's probability
FIRST_ENDS = 8  # ends of a row that are asked before the others are judged by them


class Seen(NamedTuple):
    """What a model says of the tokens that were asked for.

    logprobs: (wanted,) at temperature 1 over the whole vocabulary, minus infinity where it doesn't say.
    hidden: the most that those of which it doesn't say anything can hold together, 0 to 1.
    """

    logprobs: np.ndarray
    hidden: float = 0.0


class Reader(Protocol):
    """A model that names log-probabilities of next tokens."""

    def next_tokens(self, prompts: Sequence[list[int]], wanted: Sequence[Sequence[int]]) -> list[Seen | None]:
        """What the model says of each prompt's wanted tokens; None where it can't read the prompt."""


class RequestReader(Reader, Protocol):
    """A reader with its model's encoder and tries."""

    @property
    def encoder(self) -> PromptEncoder: ...
    @property
    def tries(self) -> TrieBuilder: ...


@dataclass
class _Row:
    """What is known of one row: log-probabilities of its trie's nodes, and of the end after each."""

    prompt: list[int]
    trie: AnswerTrie
    path: np.ndarray  # (N,) log-probability of the whole way to a node, minus infinity where unread
    stop: np.ndarray  # (N,) log-probability of ending the turn after a node, NaN where unread
    leaf: np.ndarray  # bool (N,): no node follows
    unread: float = 0.0  # probability of the ways that weren't followed
    failed: bool = False
    waiting: list[int] = field(default_factory=list)  # leaves whose end wasn't asked yet
    sample: list[int] = field(default_factory=list)  # leaves that were asked because they are like those

    def ends(self) -> np.ndarray:
        """The asked probabilities of ending the turn after a leaf."""
        return np.exp(self.stop[self.leaf & ~np.isnan(self.stop)])


def walk(
    reader: Reader,
    prompts: Sequence[list[int]],
    tries: Sequence[AnswerTrie],
    stop_ids: Sequence[int],
    epsilon: float = EPSILON,
) -> list[tuple[np.ndarray, float] | None]:
    """The mass of every answer, float64 (A,), and the most that unread ways hold, for each prompt.

    None where the reader can't read the prompt. One call of the reader a level, for all rows at once.
    """
    rows = [
        _Row(
            list(prompt),
            trie,
            np.full(len(trie), -np.inf),
            np.full(len(trie), np.nan),
            ~np.isin(np.arange(len(trie)), trie.parents),
        )
        for prompt, trie in zip(prompts, tries, strict=True)
    ]
    roots = [np.flatnonzero(row.trie.parents < 0) for row in rows]
    first = reader.next_tokens(
        [row.prompt for row in rows],
        [row.trie.tokens[r].tolist() for row, r in zip(rows, roots, strict=True)],
    )
    for row, nodes, seen in zip(rows, roots, first, strict=True):
        if seen is None:
            row.failed = True
        else:
            row.path[nodes], row.unread = seen
    deepest = max((int(row.trie.depths.max()) for row in rows), default=0)
    for depth in range(1, deepest + 1):
        _follow(reader, rows, depth, stop_ids, epsilon)
    while _ask_ends(reader, rows, stop_ids):
        pass
    return [None if row.failed else _weigh(row) for row in rows]


def walk_requests(
    reader: RequestReader, requests: Sequence[Request], rows: Sequence[int]
) -> list[tuple[int, Masses | None]]:
    """(row, masses) of those of the requests that `rows` numbers, walked together.

    None where the reader can't read the prompt.
    """
    chosen = [requests[row] for row in rows]
    prompts = reader.encoder.encode([r.system for r in chosen], [r.prompt for r in chosen])
    tries = [reader.tries.build(request.answers or ()) for request in chosen]
    walked = walk(reader, prompts, tries, reader.encoder.stop_ids)
    return [(row, Masses(*masses) if masses else None) for row, masses in zip(rows, walked, strict=True)]


def parts_of(count: int, size: int, done: Collection[int]) -> list[list[int]]:
    """The numbers below `count` that aren't `done`, in parts of `size`."""
    rows = [row for row in range(count) if row not in done]
    return [rows[start : start + size] for start in range(0, len(rows), size)]


def _follow(reader: Reader, rows: list[_Row], depth: int, stop_ids: Sequence[int], epsilon: float) -> None:
    """Ask the nodes of one depth that have children; leaves wait until all ways are known."""
    asked: list[tuple[_Row, int]] = []
    for row in rows:
        if row.failed:
            continue
        for node in np.flatnonzero(row.trie.depths == depth).tolist():
            probability = float(np.exp(row.path[node]))
            if row.leaf[node]:
                row.waiting.append(node)
            elif probability > epsilon:
                asked.append((row, node))
            else:
                row.unread += probability
    answers = _ask(reader, asked, stop_ids)
    for (row, node), seen in zip(asked, answers, strict=True):
        if seen is None:
            row.failed = True
            continue
        children = row.trie.children[node]
        row.path[children] = row.path[node] + seen.logprobs[: len(children)]
        row.stop[node] = np.logaddexp.reduce(seen.logprobs[len(children) :])
        row.unread += float(np.exp(row.path[node])) * seen.hidden


def _ask_ends(reader: Reader, rows: list[_Row], stop_ids: Sequence[int]) -> bool:
    """Ask more ends of each row whose unasked ones could still matter; False if there is none."""
    asked: list[tuple[_Row, int]] = []
    for row in rows:
        if row.failed or not row.waiting:
            continue
        likely, sample = _next_ends(row)
        asked += [(row, node) for node in (*likely, *sample)]
        row.sample += sample
        row.waiting = [node for node in row.waiting if node not in {*likely, *sample}]
    for (row, node), seen in zip(asked, _ask(reader, asked, stop_ids), strict=True):
        if seen is None:
            row.failed = True
        else:
            row.stop[node] = np.logaddexp.reduce(seen.logprobs)
            row.unread += float(np.exp(row.path[node])) * seen.hidden
    return bool(asked)


def _next_ends(row: _Row) -> tuple[list[int], list[int]]:
    """Leaves to ask next: those that matter by themselves, and a sample of the others.

    An answer with the share s of all ways that is left at the mean end m errs by s times (its end - m) / m
    at most; all others err by their own share times that of the sum, whose error falls with the sample.
    """
    waiting = sorted(row.waiting, key=lambda node: -row.path[node])
    if not row.sample:
        half = FIRST_ENDS // 2
        return waiting[:half], _evenly(waiting[half:], FIRST_ENDS - half)
    ends, mean = row.ends(), float(np.exp(row.stop[row.sample]).mean())
    ways = np.exp(row.path[row.trie.ends >= 0])
    if mean == 0 or ways.sum() == 0:
        return waiting, []
    shares = np.exp(row.path[waiting]) / ways.sum()
    likely = int((shares * np.ptp(ends) / mean > TOLERANCE).sum())
    largest = np.bincount(row.trie.ends[row.trie.ends >= 0], ways).max() / ways.sum()
    error = 2 * ends.std() / mean * shares[likely:].sum() * largest  # two standard errors of a sample of one
    return waiting[:likely], _evenly(waiting[likely:], int((error / TOLERANCE) ** 2) - len(row.sample))


def _evenly(nodes: list[int], number: int) -> list[int]:
    """`number` of the nodes at even distances, all if there are no more, none below 1."""
    return nodes[:: max(1, len(nodes) // number)][:number] if number > 0 else []


def _ask(reader: Reader, asked: Sequence[tuple[_Row, int]], stop_ids: Sequence[int]) -> list[Seen | None]:
    """What the reader says of each node's children, then of the tokens that end the turn."""
    if not asked:
        return []
    return reader.next_tokens(
        [row.prompt + _way(row.trie, node) for row, node in asked],
        [[*row.trie.tokens[row.trie.children.get(node, [])].tolist(), *stop_ids] for row, node in asked],
    )


def _way(trie: AnswerTrie, node: int) -> list[int]:
    """The token ids from the prompt to a node."""
    ids: list[int] = []
    while node >= 0:
        ids.append(int(trie.tokens[node]))
        node = int(trie.parents[node])
    return ids[::-1]


def _weigh(row: _Row) -> tuple[np.ndarray, float]:
    """The mass of each answer; a leaf that wasn't asked ends as the sampled ones do on average."""
    trie = row.trie
    path, stop = np.exp(row.path), np.exp(row.stop)
    stop[row.waiting] = stop[row.sample].mean() if row.sample else 0.0
    masses = np.zeros(len(trie.answers))
    whole = (trie.ends >= 0) & ~np.isnan(stop) & np.isfinite(row.path)
    np.add.at(masses, trie.ends[whole], path[whole] * stop[whole])
    return masses, row.unread
