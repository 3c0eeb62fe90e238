"""Several data sets in one recipe: in which order their sequences are trained on, and whose share is what."""

from pathlib import Path
from typing import Any

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


def add_shares(sets: list[dict[str, Any]], order: Any) -> None:
    """Add to each data set's counts how many of the sequences of an epoch are its own, and their share."""
    import numpy as np

    sizes = [one["sequences"] for one in sets]
    ends = np.cumsum(sizes)
    used = sizes if order is None else np.bincount(np.searchsorted(ends, order, "right"), minlength=len(sets))
    for one, count in zip(sets, used, strict=True):
        one["used"], one["share"] = int(count), round(int(count) / max(int(sum(used)), 1), 6)
