"""What a prediction run gives back: the table, what a reader must know before trusting it, where it lies."""

import html
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import polars as pl

from common.contract import PredictionCounts
from eval.prediction.store import TABLE

MUCH = 0.5  # share of rows without a prediction, or of probability off the scale, from which a warning is due


class Counts(PredictionCounts):
    """The counts of a table, and what is to be said about them."""

    @classmethod
    def of(cls, table: pl.DataFrame) -> "Counts":
        replied = table.filter(pl.col("mode") != "exact")
        return cls(
            rows=len(table),
            rows_by_mode=dict(sorted(table["mode"].value_counts().iter_rows())),
            rows_without_prediction=int((table["answers"].list.len() == 0).sum()),
            replies_requested=int(replied["n_requested"].sum()),
            replies_parsed=int(replied["n_parsed"].sum()),
            replies_bare=int(replied["n_bare"].sum()),
            mean_off_scale_mass=_mean(table["off_scale_mass"]),
            mean_unread_mass=_mean(table["unread_mass"]),
        )

    def __str__(self) -> str:
        modes = ", ".join(f"{number:,} {mode}" for mode, number in self.rows_by_mode.items())
        parts = [f"{self.rows:,} rows ({modes})"]
        if self.mean_off_scale_mass is not None:
            parts.append(f"mean off-scale mass {self.mean_off_scale_mass:.4f}")
        if self.mean_unread_mass is not None and self.mean_unread_mass >= 1e-4:
            parts.append(f"of which up to {self.mean_unread_mass:.4f} may be answers that weren't read")
        if self.replies_requested:
            parts.append(
                f"of {self.replies_requested:,} replies {self.replies_parsed:,} could be read, "
                f"{self.replies_bare:,} were bare"
            )
        if self.rows_without_prediction:
            parts.append(f"{self.rows_without_prediction:,} rows have no prediction")
        return "; ".join(parts)

    def warnings(self) -> list[str]:
        """Sentences for the top of whatever shows these predictions; empty when all is well."""
        warnings = []
        if (self.mean_off_scale_mass or 0) > MUCH:
            warnings.append(
                f"{self.mean_off_scale_mass:.1%} of the model's probability lies off the answer scales: it "
                "mostly doesn't answer as asked, and only the rest is scored"
            )
        if self.rows_without_prediction > MUCH * self.rows:
            warnings.append(f"{self.rows_without_prediction / self.rows:.0%} of the rows have no prediction")
        if self.replies_requested and self.replies_parsed < (1 - MUCH) * self.replies_requested:
            share = self.replies_parsed / self.replies_requested
            warnings.append(f"only {share:.0%} of the replies could be read")
        return warnings


def _mean(values: pl.Series) -> float | None:
    numbers = values.drop_nulls().to_numpy()
    return float(numbers.mean(dtype=np.float64)) if len(numbers) else None


@dataclass(frozen=True)
class Predictions:
    """Predictions of a model. `folder`: where they are kept; None when they exist in memory only.

    inputs: the fingerprint of everything they depend on. resumed: how many rows an earlier run had done.
    up_to_date: True when nothing was to do. usage: tokens that a server counted in this run.
    """

    name: str
    counts: Counts
    folder: Path | None = None
    inputs: str | None = None
    resumed: int = 0
    up_to_date: bool = False
    usage: dict[str, int] | None = None
    in_memory: pl.DataFrame | None = field(default=None, repr=False)

    @cached_property
    def table(self) -> pl.DataFrame:
        """One row for each evaluation row, in their order; the columns of `common.contract.PREDICTIONS`."""
        if self.in_memory is not None:
            return self.in_memory
        assert self.folder
        return pl.read_parquet(self.folder / TABLE)

    def __str__(self) -> str:
        first = f"{self.name}: {self.counts}"
        if self.up_to_date and self.folder:
            first = f"nothing to do, {self.folder / TABLE} is up to date: {first}"
        return "\n".join([first, *map("warning: {}".format, self.counts.warnings())])

    def _repr_html_(self) -> str:
        warnings = "".join(f"<p><b>{html.escape(text)}</b></p>" for text in self.counts.warnings())
        return f"<p>{html.escape(self.name)}: {self.counts}</p>{warnings}{self.table._repr_html_()}"
