"""Several data sets in one recipe: their order in training, whose share is what, and no leak by another's."""

from pathlib import Path
from typing import Any

from common.errors import Refusal
from scripts.training import llamafactory, rows
from scripts.training.recipe import Recipe, names_of


def mixture(recipe: Recipe, sizes: list[int]) -> Any:
    """The order of the sequences of several data sets of these sizes, None for one data set after the other.

    Drawn as LLaMA-Factory does (`mix_strategy`, `interleave_probs`, `seed`). Packed sequences are drawn
    whole, so the shares are then of packs.
    """
    strategy = recipe.get("mix_strategy", "concat")
    if strategy == "concat" or len(sizes) < 2:
        return None
    import numpy as np
    from datasets import Dataset, interleave_datasets

    stops: Any = {
        "interleave_under": "first_exhausted", "interleave_over": "all_exhausted",
        "interleave_once": "all_exhausted_without_replacement",
    }  # fmt: skip
    starts = np.cumsum([0, *sizes])
    numbered = [
        Dataset.from_dict({"row": np.arange(start, start + size)})
        for start, size in zip(starts[:-1], sizes, strict=True)
    ]
    shares = [float(share) for share in names_of(recipe.get("interleave_probs"))] or None
    mixed = interleave_datasets(
        numbered, probabilities=shares, seed=recipe.get("seed", 42), stopping_strategy=stops[strategy]
    )
    return np.asarray(mixed["row"])


def rewrite(folder: Path, order: Any) -> None:
    """Write the sequences of a tokenised part in another order; some twice, some not at all."""
    from datasets import load_from_disk

    mixed = folder.with_name(f"{folder.name}-mixed")
    load_from_disk(str(folder)).select(order).save_to_disk(str(mixed))
    for file in folder.iterdir():
        file.unlink()
    for file in mixed.iterdir():
        file.rename(folder / file.name)
    mixed.rmdir()


def add_shares(sets: list[dict[str, Any]], order: Any, lengths: Any) -> None:
    """Add to each data set's counts what of an epoch is its own: sequences, their share, and tokens.

    lengths: tokens of each sequence in the order of the data sets; None for packs, whose tokens are then
    shared out by their number.
    """
    import numpy as np

    sizes = [one["sequences"] for one in sets]
    order = np.arange(sum(sizes)) if order is None else order
    owner = np.repeat(np.arange(len(sets)), sizes)[order]
    used = np.bincount(owner, minlength=len(sets))
    tokens: Any
    if lengths is None:
        tokens = [one["tokens"] * count / one["sequences"] for one, count in zip(sets, used, strict=True)]
    else:
        tokens = np.bincount(owner, lengths[order], minlength=len(sets))
    for one, count, tokens_of_set in zip(sets, used, tokens, strict=True):
        one["used"], one["share"] = int(count), round(int(count) / max(int(sum(used)), 1), 6)
        one["tokens_used"] = round(float(tokens_of_set))


def shares_text(sets: list[dict[str, Any]]) -> str:
    """Whose share of an epoch is what, in one line; "" for one data set alone."""
    tokens = [one.get("tokens_used", one["tokens"]) for one in sets]
    parts = [
        f"{one['dataset']}: {one['share']:.1%} of the sequences ({one['used']:,}) and "
        f"{tokens_of_set / max(sum(tokens), 1):.1%} of the tokens"
        for one, tokens_of_set in zip(sets, tokens, strict=True)
    ]
    return "; ".join(parts) if len(parts) > 1 else ""


def refuse_leaks(recipe: Recipe, evaluation: Path) -> None:
    """Refuse a further data set that holds a prompt which `evaluation` (eval.parquet) asks.

    Ours went through the firewall when they were made. White space at the ends doesn't count.
    """
    foreign = [data for data in map(rows.find, names_of(recipe["dataset"])) if not data.is_ours]
    if not foreign or not evaluation.is_file():
        return
    import polars as pl

    asked = pl.scan_parquet(evaluation).select(pl.col("prompt").str.strip_chars().hash()).unique().collect()
    arguments = llamafactory.data_arguments(recipe)
    for data in foreign:
        convert = llamafactory.row_converter(data.entry, arguments)
        for chunk in range(rows.count_chunks(data.file)):
            texts = [
                turn["content"]
                for row in rows.read_chunk(data.file, chunk)
                for turn in convert(row)["_prompt"]
            ]
            prompts = pl.DataFrame({"prompt": texts}, schema={"prompt": pl.String})
            hashed = pl.col("prompt").str.strip_chars().hash()
            leaks = prompts.filter(hashed.is_in(asked["prompt"].implode()))["prompt"]
            if len(leaks):
                raise Refusal(
                    f"{data.file} holds {len(leaks):,} or more prompts that {evaluation} asks, "
                    f"such as {' '.join(leaks[0].split())[:60]!r}; remove these rows"
                )
