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

from eval.batches import Batch, plan_batches
from eval.local_model import LocalModel, State
from eval.trie import AnswerTrie

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
    together could change a probability by more than NEGLIGIBLE are read again with all of them.
    """
    usual = np.flatnonzero(trie.usual)
    masses, others = read_nodes(model, model.select(state, places), first, trie, usual, temperature, top_p)
    again = np.flatnonzero(others > NEGLIGIBLE * masses.sum(axis=1))
    if len(again):
        part = model.select(state, [places[row] for row in again])
        every = np.arange(len(trie))
        masses[again], _ = read_nodes(model, part, first[again], trie, every, temperature, top_p)
    return masses


def read_nodes(
    model: LocalModel,
    state: State,
    first: torch.Tensor,
    trie: AnswerTrie,
    nodes: np.ndarray,
    temperature: float,
    top_p: float,
) -> tuple[np.ndarray, np.ndarray]:
    """Read some nodes (ascending, with their ancestors) in one pass; `state` is used up.

    Returns the mass of each answer in the spellings that end in them, float64 (B, A), and the most that
    all other spellings can hold, float64 (B,).
    """
    rows, device = len(first), first.device
    hidden = model.read_tree(
        state, trie.tokens[nodes], trie.depths[nodes], trie.ancestors()[np.ix_(nodes, nodes)]
    )
    step = torch.full((rows, len(trie)), -torch.inf, device=device)  # log p of a token after its parent
    stop = torch.full((rows, len(trie)), -torch.inf, device=device)  # log p of ending the turn after it
    roots = int((trie.parents < 0).sum())
    tokens = torch.from_numpy(trie.tokens).to(device)
    step[:, :roots] = first[:, tokens[:roots]]
    place_of = np.full(len(trie), -1)  # where a node stands among those read
    place_of[nodes] = np.arange(len(nodes))
    children = roots + np.flatnonzero(place_of[trie.parents[roots:]] >= 0)
    parents = place_of[trie.parents[children]]  # ascending, as the trie's parents are
    width = max(1, model.logit_budget // (rows * first.shape[-1]))
    for begin in range(0, len(nodes), width):
        end = min(begin + width, len(nodes))
        logprobs = token_logprobs(model.logits(hidden[:, begin:end]), temperature, top_p)
        stop[:, torch.from_numpy(nodes[begin:end]).to(device)] = logprobs[..., model.stop_ids].logsumexp(
            dim=-1
        )
        low, high = np.searchsorted(parents, [begin, end])
        below = torch.from_numpy(children[low:high]).to(device)
        above = torch.from_numpy(parents[low:high] - begin).to(device)
        step[:, below] = logprobs[:, above, tokens[below]]
    path = _path_logprobs(step.double().cpu().numpy(), trie)
    whole = trie.ends >= 0
    masses = np.zeros((rows, len(trie.answers)))
    ending = np.exp(path[:, whole] + stop.double().cpu().numpy()[:, whole])
    np.add.at(masses.T, trie.ends[whole], ending.T)
    unread = (place_of < 0) & ((trie.parents < 0) | (place_of[trie.parents] >= 0))
    return masses, np.exp(path[:, unread]).sum(axis=1)


def _path_logprobs(step: np.ndarray, trie: AnswerTrie) -> np.ndarray:
    """Log-probability of the whole way to each node, (B, N), from that of each step."""
    path = step.copy()
    for depth in range(2, int(trie.depths.max()) + 1):
        level = trie.depths == depth
        path[:, level] += path[:, trie.parents[level]]
    return path
