"""Exact mode: the probability of every admissible answer, from the model's own token probabilities.

Definition. Let p(t | x) be the model's next-token distribution after the temperature and the top_p
filter, over the whole vocabulary, as when sampling freely. The mass of an answer a is

    m(a) = sum over the token sequences s that spell a:  prod_i p(s_i | prompt, s_<i) * p(stop | prompt, s)

The prediction is m(a) / sum m, the off-scale mass 1 - sum m. So it is the limit of sampling free
answers and keeping the bare admissible ones. A row's prompt is read once; the nodes of the answer trie
are then read in one forward pass, each seeing its own ancestors only. Spellings other than the
tokenizer's own are left out where they provably hold less than NEGLIGIBLE of the distribution.
"""

from collections.abc import Collection, Iterator, Sequence

import numpy as np
import torch

from eval.prediction.asking import Masses
from eval.prediction.batches import Batch, plan_batches
from eval.prediction.local_model import LocalModel, State
from eval.prediction.trie import AnswerTrie
from eval.settings import ExactSettings

NEGLIGIBLE = 1e-6  # share of an answer distribution that unread spellings may hold


def token_logprobs(logits: torch.Tensor, temperature: float = 1.0, top_p: float = 1.0) -> torch.Tensor:
    """Log-probabilities of the next token (..., vocabulary) after temperature and nucleus filter.

    A token stays if the tokens before it, in falling order of probability, hold less than top_p
    (Holtzman et al. 2020); the first one always stays. The others get minus infinity.
    """
    logprobs = torch.log_softmax(logits if temperature == 1 else logits / temperature, dim=-1)
    if top_p >= 1:
        return logprobs
    ordered, order = logprobs.sort(dim=-1, descending=True, stable=True)
    before = ordered.exp().cumsum(dim=-1) - ordered.exp()
    ordered = ordered.masked_fill(before >= top_p, -torch.inf)
    ordered = torch.log_softmax(ordered, dim=-1)
    return torch.empty_like(logprobs).scatter_(-1, order, ordered)


def exact_masses(
    model: LocalModel,
    prompts: Sequence[list[int]],
    tries: Sequence[AnswerTrie],
    exact: ExactSettings,
    done: Collection[int] = (),
) -> Iterator[tuple[int, Masses]]:
    """(index, masses) of each prompt (token ids) and its trie, as its batch is read.

    Every prompt must fit (`LocalModel.fits`) with its answers. A batch whose prompts are all in `done`
    isn't read; the batches are the same whatever is in it, so that the results are the same, too.
    """
    settings = model.settings
    sizes = [len(trie) for trie in tries]
    for batch in plan_batches(prompts, sizes, settings.batch_tokens, settings.reuse_prefixes):
        if all(row in done for row in batch.rows):
            continue
        with torch.inference_mode():
            state, hidden = read_prompts(model, prompts, batch)
            first = token_logprobs(model.logits(hidden), exact.temperature, exact.top_p)
            results: list[tuple[int, Masses]] = []
            for trie in {id(tries[row]): tries[row] for row in batch.rows}.values():
                members = [number for number, row in enumerate(batch.rows) if tries[row] is trie]
                masses, unread = _trie_masses(model, state, members, first[members], trie, exact)
                for number, mass, most in zip(members, masses, unread, strict=True):
                    results.append((batch.rows[number], Masses(mass, float(most))))
        yield from results


def read_prompts(model: LocalModel, prompts: Sequence[list[int]], batch: Batch) -> tuple[State, torch.Tensor]:
    """Read a batch's prompts, shared beginnings once; the state and the last hidden states, (B, hidden)."""
    state = model.empty()
    start = 0
    if batch.shared:
        state, _ = model.extend(state, [prompts[batch.rows[0]][: batch.shared]])
        start = batch.shared
    if batch.groups:
        state = model.select(state, [0] * len(batch.groups))
        heads = [prompts[batch.rows[first]][start:length] for first, length in batch.groups]
        state, _ = model.extend(state, heads)
    state = model.select(state, batch.group_of)
    starts = [batch.groups[group][1] if batch.groups else start for group in batch.group_of]
    return model.extend(state, [prompts[row][begin:] for row, begin in zip(batch.rows, starts, strict=True)])


def _trie_masses(
    model: LocalModel,
    state: State,
    members: list[int],
    first: torch.Tensor,
    trie: AnswerTrie,
    exact: ExactSettings,
) -> tuple[np.ndarray, np.ndarray]:
    """The mass of each answer for the rows `members` of `state`, (B, A), and what is unread at most, (B,).

    first: their first token's log-probabilities (B, vocabulary). The tokenizer's own spellings are read
    first; that also says what any other spelling can amount to at most. Rows in which the others
    together could change a probability by more than NEGLIGIBLE read the others, too.
    """
    usual, others = np.flatnonzero(trie.usual), np.flatnonzero(~trie.usual)
    part = model.select(state, members)
    steps = read_nodes(model, part, start_steps(first, trie), trie, (usual[:0], usual), exact)
    masses, unread = weigh(steps, trie, trie.usual)
    again = np.flatnonzero(unread > NEGLIGIBLE * masses.sum(axis=1))
    if len(again) and len(others):
        part, more = model.select(part, again.tolist()), steps[:, again.tolist()]
        more = read_nodes(model, part, more, trie, (usual, others), exact)
        masses[again], unread[again] = weigh(more, trie, np.ones(len(trie), dtype=bool))
    return masses, unread


def start_steps(first: torch.Tensor, trie: AnswerTrie) -> torch.Tensor:
    """(2, B, N): each node's log p after its parent, and log p of ending the turn after it.

    Minus infinity where not yet read; only the first tokens' are known, from `first` (B, vocabulary).
    """
    steps = torch.full((2, len(first), len(trie)), -torch.inf, device=first.device)
    roots = int((trie.parents < 0).sum())
    steps[0, :, :roots] = first[:, torch.from_numpy(trie.tokens[:roots]).to(first.device)]
    return steps


def read_nodes(
    model: LocalModel,
    state: State,
    steps: torch.Tensor,
    trie: AnswerTrie,
    nodes: tuple[np.ndarray, np.ndarray],
    exact: ExactSettings,
) -> torch.Tensor:
    """Enter into `steps` what nodes say of themselves and their children, and return it.

    nodes: those that `state` has read already and those to read now (ascending), whose ancestors are all
    among the two.
    """
    before, now = nodes
    ancestors = trie.ancestors()[np.ix_(now, np.concatenate([before, now]))]
    hidden = model.read_tree(state, trie.tokens[now], trie.depths[now], ancestors)
    index_of = np.full(len(trie), -1)  # a node's index among those read now
    index_of[now] = np.arange(len(now))
    roots = int((trie.parents < 0).sum())
    children = roots + np.flatnonzero(index_of[trie.parents[roots:]] >= 0)
    parents = index_of[trie.parents[children]]  # ascending, as the trie's parents are
    device = hidden.device
    tokens = torch.from_numpy(trie.tokens).to(device)
    width = max(1, model.logit_budget // (len(hidden) * model.head.weight.shape[0]))
    for begin in range(0, len(now), width):
        end = min(begin + width, len(now))
        logprobs = token_logprobs(model.logits(hidden[:, begin:end]), exact.temperature, exact.top_p)
        read = torch.from_numpy(now[begin:end]).to(device)
        steps[1][:, read] = logprobs[..., model.stop_ids].logsumexp(dim=-1)
        low, high = np.searchsorted(parents, [begin, end])
        below = torch.from_numpy(children[low:high]).to(device)
        above = torch.from_numpy(parents[low:high] - begin).to(device)
        steps[0][:, below] = logprobs[:, above, tokens[below]]
    return steps


def weigh(steps: torch.Tensor, trie: AnswerTrie, read: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The mass of each answer in the spellings that were read, float64 (B, A).

    And the most that all other spellings can hold, float64 (B,): the probability of the way to the
    first node of each that wasn't `read` (bool, (N,)).
    """
    step, stop = steps.double().cpu().numpy()
    path = _path_logprobs(step, trie)
    whole = trie.ends >= 0
    masses = np.zeros((len(step), len(trie.answers)))
    np.add.at(masses.T, trie.ends[whole], np.exp(path[:, whole] + stop[:, whole]).T)
    unread = ~read & ((trie.parents < 0) | read[trie.parents])
    return masses, np.exp(path[:, unread]).sum(axis=1)


def _path_logprobs(step: np.ndarray, trie: AnswerTrie) -> np.ndarray:
    """Log-probability of the whole way to each node, (B, N), from that of each step."""
    path = step.copy()
    for depth in range(2, int(trie.depths.max()) + 1):
        level = trie.depths == depth
        path[:, level] += path[:, trie.parents[level]]
    return path
