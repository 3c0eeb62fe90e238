"""Progress bars: drawn over themselves on a terminal, as lines in a log."""

import sys
from typing import Any


class Lines:
    """A stream that gets each state of a bar as a line of its own."""

    encoding = "utf-8"

    def write(self, text: str) -> None:
        """Write one state of the bar to standard error."""
        if text.strip():
            sys.stderr.write(text.strip("\r\n") + "\n")

    def flush(self) -> None:
        """Hand on what was written."""
        sys.stderr.flush()


def bar_file() -> Any:
    """Where tqdm draws: the terminal, else lines."""
    return sys.stderr if sys.stderr.isatty() else Lines()
