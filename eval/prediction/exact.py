"""Exact mode: the probability of every admissible answer, from the model's own token probabilities.

Definition. Let p(t | x) be the model's next-token distribution after the temperature and the top_p
filter, over the whole vocabulary, as when sampling freely. The mass of an answer a is

    m(a) = sum over the token sequences s that spell a:  prod_i p(s_i | prompt, s_<i) * p(stop | prompt, s)

The prediction is m(a) / sum m, the off-scale mass 1 - sum m. So it is the limit of sampling free
answers and keeping the bare admissible ones. A row's prompt is read once; the nodes of the answer trie
are then read in one forward pass, each seeing its own ancestors only. Spellings other than the
tokenizer's own are left out where they provably hold less than NEGLIGIBLE of the distribution.
"""

from collections.abc import Sequence

import numpy as np
import torch

from eval.prediction.batches import Batch, plan_batches
from eval.prediction.local_model import LocalModel, State
from eval.prediction.trie import AnswerTrie

NEGLIGIBLE = 1e-6  # share of an answer distribution that unread spellings may hold


def token_logprobs(logits: torch.Tensor, temperature: float, top_p: float) -> torch.Tensor:
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


def exact_distributions(
    model: LocalModel,
    prompts: Sequence[list[int]],
    tries: Sequence[AnswerTrie],
    temperature: float = 1.0,
    top_p: float = 1.0,
) -> list[np.ndarray]:
    """Unnormalised mass m(a) of every answer, float64 (A,), for each prompt (token ids) and its trie.

    1 - mass.sum() is the off-scale mass. Every prompt must fit (`LocalModel.fits`) with its answers.
    """
    masses: list[np.ndarray] = [np.empty(0)] * len(prompts)
    settings = model.settings
    sizes = [len(trie) for trie in tries]
    for batch in plan_batches(prompts, sizes, settings.batch_tokens, settings.reuse_prefixes):
        with torch.inference_mode():
            state, hidden = read_prompts(model, prompts, batch)
            first = token_logprobs(model.logits(hidden), temperature, top_p)
            for trie in {id(tries[row]): tries[row] for row in batch.rows}.values():
                places = [place for place, row in enumerate(batch.rows) if tries[row] is trie]
                found = _trie_masses(model, state, places, first[places], trie, temperature, top_p)
                for place, mass in zip(places, found, strict=True):
                    masses[batch.rows[place]] = mass
    return masses


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
    places: list[int],
    first: torch.Tensor,
    trie: AnswerTrie,
    temperature: float,
    top_p: float,
) -> np.ndarray:
    """float64 (B, A): the mass of each answer for the rows `places` of `state`.

    first: their first token's log-probabilities (B, vocabulary). The tokenizer's own spellings are read
    first; that also says what any other spelling can amount to at most. Rows in which the others
    together could change a probability by more than NEGLIGIBLE read the others, too.
    """
    usual, others = np.flatnonzero(trie.usual), np.flatnonzero(~trie.usual)
    part = model.select(state, places)
    steps = read_nodes(model, part, start_steps(first, trie), trie, usual, usual[:0], temperature, top_p)
    masses, unread = weigh(steps, trie, trie.usual)
    again = np.flatnonzero(unread > NEGLIGIBLE * masses.sum(axis=1))
    if len(again) and len(others):
        part, more = model.select(part, again.tolist()), steps[:, again.tolist()]
        more = read_nodes(model, part, more, trie, others, usual, temperature, top_p)
        masses[again], _ = weigh(more, trie, np.ones(len(trie), dtype=bool))
    return masses


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
    nodes: np.ndarray,
    before: np.ndarray,
    temperature: float,
    top_p: float,
) -> torch.Tensor:
    """Read nodes (ascending; their ancestors among them or among `before`, which `state` has read).

    Enters into `steps` what they say of themselves and their children, and returns it.
    """
    ancestors = trie.ancestors()[np.ix_(nodes, np.concatenate([before, nodes]))]
    hidden = model.read_tree(state, trie.tokens[nodes], trie.depths[nodes], ancestors)
    place_of = np.full(len(trie), -1)  # where a node stands among those read
    place_of[nodes] = np.arange(len(nodes))
    roots = int((trie.parents < 0).sum())
    children = roots + np.flatnonzero(place_of[trie.parents[roots:]] >= 0)
    parents = place_of[trie.parents[children]]  # ascending, as the trie's parents are
    device = hidden.device
    tokens = torch.from_numpy(trie.tokens).to(device)
    width = max(1, model.logit_budget // (len(hidden) * model.head.weight.shape[0]))
    for begin in range(0, len(nodes), width):
        end = min(begin + width, len(nodes))
        logprobs = token_logprobs(model.logits(hidden[:, begin:end]), temperature, top_p)
        read = torch.from_numpy(nodes[begin:end]).to(device)
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
