"""The data card: what a person should know of a data set before trusting it, as one page of HTML.

Every text from the data is escaped (a study may be named anything); the page needs nothing else.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup
from tokenizers import Tokenizer

from common.contract import Manifest
from common.errors import Refusal
from common.page.render import render
from common.prompts import SYSTEM_PROMPT
from common.scale import KINDS
from scripts.data.facts import Rows, first_rows
from scripts.data.item_checks import unfilled_items
from scripts.data.mismatch import items_to_look_at
from scripts.data.selection import DROPPED, EVALUATION, TRAINING, VALIDATION, Selection

PLOTS, BARS = 24, 21
MOST_ITEMS = 500  # listed by name; the page stays small
WIDTH, HEIGHT = 210, 70
CUTOFFS = (512, 1024, 2048, 4096)


def write_card(path: Path, manifest: Manifest, rows: Rows, chosen: Selection, tokens: Any) -> None:
    """Write the card. `tokens`: what `token_lengths` found, or None."""
    plots, hidden = histograms(rows, chosen)
    odd, left = items_to_look_at(rows, chosen.off_scale), unfilled_items(rows)
    tables: dict[str, Any] = {
        "kinds": by_kind(rows, chosen),
        "studies": by_study(rows, chosen),
        "items": odd.head(MOST_ITEMS).to_dicts(),
        "more_items": len(odd) - MOST_ITEMS,
        "unfilled": left.head(MOST_ITEMS).to_dicts(),
    }
    render(
        path,
        Path(__file__).parent / "card.html.j2",
        title=f"{manifest.dataset}, {manifest.split} split: data card",
        m=manifest,
        **tables,
        plots=plots,
        hidden=hidden,
        tokens=tokens,
    )


def by_kind(rows: Rows, chosen: Selection) -> list[tuple[Any, ...]]:
    """(kind, items, training rows, off scale, evaluation rows, off scale) for every kind that occurs."""
    kinds = np.array([KINDS.index(scale.kind) for scale in rows.items.scales])
    of_row = kinds[rows.item]
    table = []
    for number, kind in enumerate(KINDS):
        if not np.any(kinds == number):
            continue
        here = of_row == number
        counts = []
        for part in (TRAINING, EVALUATION):
            of_part = here & (chosen.part == part)
            counts += [int(of_part.sum()), int(np.sum(of_part & chosen.off_scale))]
        table.append((kind, int(np.sum(kinds == number)), *counts))
    return table


def by_study(rows: Rows, chosen: Selection) -> list[tuple[Any, ...]]:
    """(study, people, cells, training, validation, evaluation and dropped rows), by name."""
    count = len(rows.studies)
    cells = rows.items.study[first_rows(rows.items.cell)]
    columns = [np.bincount(rows.people_study, minlength=count), np.bincount(cells, minlength=count)]
    for part in (TRAINING, VALIDATION, EVALUATION, DROPPED):
        columns.append(np.bincount(rows.study[chosen.part == part], minlength=count))
    return sorted((name, *(int(column[n]) for column in columns)) for n, name in enumerate(rows.studies))


def histograms(rows: Rows, chosen: Selection) -> tuple[list[dict[str, Any]], int]:
    """Pictures of the answers to the most frequent scales, and how many scales have none."""
    scales = rows.items.scales
    names = [(scale.kind, scale.low, scale.high) for scale in scales]
    numbers = {name: number for number, name in enumerate(dict.fromkeys(names))}
    group = np.array([numbers[name] for name in names])[rows.item]
    used = (chosen.part == TRAINING) | (chosen.part == EVALUATION)
    sizes = np.bincount(group[used], minlength=len(numbers))
    plots = []
    for number in np.argsort(-sizes, kind="stable")[:PLOTS]:
        if sizes[number]:
            here = np.flatnonzero(used & (group == number))
            kind, low, high = list(numbers)[number]
            answers = rows.response[here]
            edges = _edges(answers, low, high)
            shares = []
            for part in (TRAINING, EVALUATION):
                counts = np.histogram(rows.response[here[chosen.part[here] == part]], edges)[0]
                shares.append(counts / max(1, counts.sum()))
            stated = f"{low} to {high}" if low is not None else "no stated limits"
            caption = f"{kind}, {stated}: {sizes[number]:,} answers, {answers.min()} to {answers.max()}"
            plots.append({"svg": bars(shares[0], shares[1], edges), "caption": caption})
    return plots, int(np.sum(sizes > 0)) - len(plots)


def _edges(answers: np.ndarray, low: int | None, high: int | None) -> np.ndarray:
    """Edges of at most about BARS bins, of equal width on paper; the outer ones take what lies beyond.

    One bin an answer where the scale or the answers are few, else equal widths over a stated scale,
    equal shares of the answers where no limits are stated.
    """
    distinct = np.unique(answers).astype(float)
    if low is not None and high is not None:
        whole = high - low < BARS
        inner = np.arange(low, high + 2.0) if whole else np.linspace(low, high + 1.0, BARS)
    elif len(distinct) <= BARS:
        inner = np.r_[distinct, distinct[-1] + 1]
    else:
        inner = np.unique(np.quantile(distinct, np.linspace(0, 1, BARS)))
    return np.unique(np.r_[min(distinct[0], inner[0]), inner, max(distinct[-1] + 1, inner[-1])])


def bars(train: np.ndarray, evaluation: np.ndarray, edges: np.ndarray) -> Markup:
    """A small SVG: training shares as filled bars, evaluation shares as outlines."""
    top = max(float(train.max(initial=0)), float(evaluation.max(initial=0)), 1e-9)
    width = WIDTH / len(train)
    parts = []
    for number, (filled, outlined) in enumerate(zip(train, evaluation, strict=True)):
        x = number * width
        title = f"{edges[number]:.0f}: training {filled:.1%}, evaluation {outlined:.1%}"
        for share, style in ((filled, 'fill="#8fb3d9"'), (outlined, 'fill="none" stroke="#b5532a"')):
            height = HEIGHT * share / top
            parts.append(
                f'<rect x="{x + 1:.1f}" y="{HEIGHT - height:.1f}" width="{max(width - 2, 1):.1f}" '
                f'height="{height:.1f}" {style}><title>{title}</title></rect>'
            )
    return Markup(f'<svg width="{WIDTH}" height="{HEIGHT}" role="img">{"".join(parts)}</svg>')


def load_tokenizer(source: str | None) -> tuple[str, Tokenizer] | None:
    """The tokenizer of a folder or a hub id; None when none was asked for. Runs no code of a model's."""
    if source is None:
        return None
    file = Path(source, "tokenizer.json")
    try:
        return source, Tokenizer.from_file(str(file)) if file.is_file() else Tokenizer.from_pretrained(source)
    except Exception as error:  # the library raises bare Exception
        cause = str(error).splitlines()[0][:120]
        raise Refusal(
            f"no tokenizer at {source} ({cause}); give a folder that holds tokenizer.json"
        ) from None


def token_lengths(
    named: tuple[str, Tokenizer] | None, prompts: Sequence[str], answers: Sequence[str], extreme: str
) -> dict[str, Any] | None:
    """Token counts of sampled rows and of the longest prompt, and what common cut-offs would cut."""
    if named is None:
        return None
    name, tokenizer = named
    texts = [f"{SYSTEM_PROMPT}\n{prompt}\n{answer}" for prompt, answer in zip(prompts, answers, strict=True)]
    counts = np.array([len(encoding.ids) for encoding in tokenizer.encode_batch(texts)])
    longest = len(tokenizer.encode(f"{SYSTEM_PROMPT}\n{extreme}").ids)
    cuts = [
        {"length": cut, "share": float(np.mean(counts > cut)), "extreme": longest > cut} for cut in CUTOFFS
    ]
    return {
        "tokenizer": name,
        "rows": len(counts),
        "median": int(np.median(counts)),
        "p99": int(np.percentile(counts, 99)),
        "longest": int(counts.max()),
        "extreme": longest,
        "cuts": cuts,
    }
