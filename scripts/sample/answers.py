"""How people of the synthetic sample answer: their true distributions, and draws from them.

The process is stated in `scripts/sample/draw.py`. Everything here is vectorised over people.
"""

from collections.abc import Mapping

import numpy as np
from scipy.special import ndtr, softmax

from scripts.sample.people import Rng, Table
from scripts.sample.studies import FRAMES, PROPOSALS, REASON_SHIFTS, REASONS, Form

PERSON_SD = 0.5  # the part of the latent answer that is the person's own, beyond the 16 fields
Mixture = list[tuple[float, np.ndarray, np.ndarray]]


def _loaded(loadings: Mapping[str, float], traits: Table) -> np.ndarray:
    return sum((weight * traits[name] for name, weight in loadings.items()), np.zeros(len(traits["age"])))


def latent_support(proposal: str, frame: str, traits: Table) -> np.ndarray:
    """`eta`: the mean latent support of each person, in standard deviations; shape (people,)."""
    base, added = PROPOSALS[proposal], FRAMES[frame]
    return base.popularity + added.effect + _loaded(base.loadings, traits) + _loaded(added.by, traits)


def _mixture(form: Form) -> Mixture:
    """How latent values become answers: (share of people, ascending answers, cuts between them)."""
    if form.ladder:
        grids = [(1.0, np.array(form.ladder), np.arange(len(form.ladder)))]
    else:
        assert form.scale.low is not None
        assert form.scale.high is not None
        rounded = ((form.heaps[0], 10), (form.heaps[1], 5), (1 - sum(form.heaps), form.scale.step))
        grids = [
            (share, points, points)
            for share, step in rounded
            if share > 0 and (points := np.arange(form.scale.low, form.scale.high + 1, step)).size
        ]
    return [
        (share, answers, ((positions[1:] + positions[:-1]) / 2 - form.centre) / form.width)
        for share, answers, positions in grids
    ]


def ordered_distribution(form: Form, eta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Ascending answers, shape (k,), and each person's true probabilities of them, shape (people, k)."""
    mixture = _mixture(form)
    answers = np.unique(np.concatenate([points for _, points, _ in mixture]))
    probs = np.zeros((len(eta), len(answers)))
    for share, points, cuts in mixture:
        below = ndtr(cuts[None, :] - form.sign * eta[:, None])
        edges = np.concatenate([np.zeros((len(eta), 1)), below, np.ones((len(eta), 1))], axis=1)
        probs[:, np.searchsorted(answers, points)] += share * np.diff(edges)
    return answers, probs


def ordered_answers(form: Form, latent: np.ndarray, rng: Rng) -> np.ndarray:
    """The answers that latent values (people,) turn into; each person draws how to round."""
    mixture = _mixture(form)
    which = rng.choice(len(mixture), len(latent), p=[share for share, _, _ in mixture])
    given = np.zeros(len(latent), np.int64)
    for part, (_, points, cuts) in enumerate(mixture):
        chosen = which == part
        given[chosen] = points[np.searchsorted(cuts, form.sign * latent[chosen])]
    return given


def choice_distribution(form: Form, frame: str, traits: Table) -> tuple[np.ndarray, np.ndarray]:
    """The options of an unordered choice and each person's true probabilities of them."""
    shifts = REASON_SHIFTS.get(frame, (0,) * len(REASONS))
    utilities = [
        base + shift + _loaded(by, traits) for (base, by), shift in zip(REASONS, shifts, strict=True)
    ]
    return np.array(form.scale.answers()), softmax(np.stack(utilities, axis=1), axis=1)


def _with_stray(
    answers: np.ndarray, probs: np.ndarray, code: int, share: float
) -> tuple[np.ndarray, np.ndarray]:
    """The distributions when a share of the answers is replaced by a code, whether on the scale or not."""
    widened = np.union1d(answers, [code])
    mixed = np.zeros((len(probs), len(widened)))
    mixed[:, np.searchsorted(widened, answers)] = (1 - share) * probs
    mixed[:, np.searchsorted(widened, code)] += share
    return widened, mixed


def draw_answers(
    form: Form,
    proposal: str,
    frame: str,
    traits: Table,
    deviation: np.ndarray,
    stray: tuple[int, float] | None,
    rng: Rng,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """One item's ascending answers (k,), each person's true probabilities (people, k), the drawn answers."""
    count = len(deviation)
    if form.scale.kind == "choice":
        answers, probs = choice_distribution(form, frame, traits)
        given = answers[(probs[:, :-1].cumsum(axis=1) < rng.random((count, 1))).sum(axis=1)]
    else:
        eta = latent_support(proposal, frame, traits)
        answers, probs = ordered_distribution(form, eta)
        noise = rng.normal(0, np.sqrt(1 - PERSON_SD**2), count)
        given = ordered_answers(form, eta + deviation + noise, rng)
    if stray:
        given = np.where(rng.random(count) < stray[1], stray[0], given)
        answers, probs = _with_stray(answers, probs, *stray)
    return answers, probs, given
