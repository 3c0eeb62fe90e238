"""Remove one split's data sets, checkpoints and scores: what `make data` to `make report` made.

The source of a built-in data set stays (fetching it again takes long), and so do the tiny models.
"""

import shutil

from common.paths import dataset_name, output_dir, root, split_dir


def clean(data: str, split: str) -> list[str]:
    """Remove what was made of a split; one line for each folder."""
    tokens = (root() / "outputs" / "tokenised").glob(f"{dataset_name(data)}_{split}_*")
    lines = []
    for folder in (split_dir(data, split), output_dir(data, split), *tokens):
        there = folder.exists()
        if there:
            shutil.rmtree(folder)
        lines.append(f"{folder}: {'removed' if there else 'nothing to do'}")
    return lines
