"""How far a prediction is, and how long it will take: a bar, and one sentence for a long one."""

import sys
import time
from typing import Any

from tqdm import tqdm

from common.progress import bar_file
from eval.prediction.blocks import SAVE_S

SURE_S = 10.0  # seconds of work before the rest is estimated
LONG_S = 60.0  # what is worth a sentence


class Progress:
    """A bar over rows; `goes_on`: what is predicted is saved, so that the same command goes on."""

    def __init__(self, total: int, done: int, mode: str, goes_on: bool) -> None:
        every = 0.1 if sys.stderr.isatty() else SAVE_S  # a log file gets a line now and then
        self.bar: Any = tqdm(
            total=total,
            initial=done,
            unit="row",
            desc=mode,
            smoothing=0.1,
            mininterval=every,
            file=bar_file(),
        )
        self.total, self.done, self.goes_on = total, done, goes_on
        self.begun: float | None = (
            None  # with the first rows: what comes before them says nothing of the others
        )
        self.first, self.said = 0, False

    def update(self, rows: int = 1) -> None:
        """So many rows more are predicted."""
        self.bar.update(rows)
        self.done += rows
        if self.begun is None:
            self.begun, self.first = time.monotonic(), self.done
        elif not self.said and (seconds := time.monotonic() - self.begun) >= SURE_S:
            self.said = True
            left = seconds / max(1, self.done - self.first) * (self.total - self.done)
            if left >= LONG_S:
                self.bar.write(self._sentence(left), file=sys.stderr)

    def close(self) -> None:
        self.bar.close()

    def _sentence(self, seconds: float) -> str:
        minutes = round(seconds / 60)
        time_left = f"{minutes} min" if minutes < 120 else f"{minutes / 60:.1f} h"
        going_on = "; Ctrl-C stops, and the same command goes on" if self.goes_on else ""
        return f"{self.total - self.done:,} of {self.total:,} rows are left, about {time_left}{going_on}"
