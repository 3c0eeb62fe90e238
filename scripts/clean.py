"""Remove one split's data sets, checkpoints and scores: what `make data` to `make report` made.

    python -m scripts.clean --data sample --split study

The source of a built-in data set stays (fetching it again takes long), and so do the tiny models.
"""

import argparse
import shutil
from pathlib import Path

from common.errors import run_cli
from common.paths import dataset_name, output_dir, split_dir


def main() -> None:
    """Read the command line, and remove the two folders."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", required=True)
    parser.add_argument("--split", required=True)
    args = parser.parse_args()
    tokens = Path("outputs", "tokenised").glob(f"{dataset_name(args.data)}_{args.split}_*")
    for folder in (split_dir(args.data, args.split), output_dir(args.data, args.split), *tokens):
        if folder.exists():
            shutil.rmtree(folder)
            print(f"{folder}: removed")
        else:
            print(f"{folder}: nothing to do")


if __name__ == "__main__":
    run_cli(main)
