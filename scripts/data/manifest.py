"""The data set as an object: its folder, its manifest and its files as frames."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from common.contract import Manifest, MappingRecord, read_record
from common.errors import Refusal

REMEDY = "run `make data` again"


def mapping_in_words(mapping: MappingRecord) -> str:
    """How a mapping was read, in a line."""
    if mapping.meaning == "no split":
        return "not divided"
    read = f"mapping read as {mapping.meaning}"
    text = read if mapping.file else f"mapping drawn from the seed ({mapping.meaning})"
    if mapping.file and len(mapping.entries) > 1:
        counts = ", ".join(f"{n:,} as {name}" for name, n in mapping.entries.items() if name != "listed")
        text += f" (of {mapping.entries['listed']:,} entries exist {counts})"
    if mapping.absent:
        more = ", ..." if len(mapping.absent) > 5 else ""
        studies = ", ".join(mapping.absent[:5]) + more
        text += f"; it names {len(mapping.absent)} studies that the data lack ({studies})"
    return text


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a data set's folder. Raises `Refusal` when there is none, or one that isn't whole."""
    return read_record(folder / "manifest.json", Manifest, REMEDY)


@dataclass(frozen=True)
class DataSet:
    """A data set on disk. seconds: what making it took, None when nothing was to do."""

    folder: Path
    manifest: Manifest
    seconds: float | None = None

    @property
    def counts(self) -> Mapping[str, int]:
        """Rows by what became of them: train, validation, eval, and each reason for dropping."""
        rows = self.manifest.rows
        return {"train": rows.train, "validation": rows.validation, "eval": rows.eval} | rows.dropped

    def frame(self, name: str) -> pl.DataFrame:
        """One of the files as a frame: `eval`, `validation`, `sft`, `sft_validation`, `dpo`, ..."""
        files = {Path(file).stem: self.folder / file for file in self.manifest.files}
        if name not in files:
            raise Refusal(f"{self.folder} has no file {name!r}; there are {', '.join(sorted(files))}")
        return pl.read_ndjson(files[name]) if files[name].suffix == ".jsonl" else pl.read_parquet(files[name])

    def __str__(self) -> str:
        if self.seconds is None:
            return f"{self.folder} is up to date: nothing to do"
        rows, pairs = self.manifest.rows, self.manifest.pairs
        parts = [f"{count:,} {name}" for name, count in list(self.counts.items())[:3]]
        parts += [f"{count:,} dropped ({reason})" for reason, count in rows.dropped.items()]
        drawn = f"; {pairs['pairs']:,} DPO pairs" if pairs else ""
        lines = [
            f"{self.folder}: {rows.read:,} rows read = {' + '.join(parts)}{drawn}; "
            f"{mapping_in_words(self.manifest.mapping)}; {self.seconds:.1f} s"
        ]
        remaining = rows.train + rows.validation + rows.eval
        if remaining < rows.read / 2:
            lines.append(f"note: only {remaining:,} of {rows.read:,} rows are in it: see the reasons above")
        return "\n".join([*lines, self.prompts])

    @property
    def prompts(self) -> str:
        """What the prompts, made elsewhere or here, were found to be, in a line."""
        counted, read = self.manifest.counted, max(1, self.manifest.rows.read)
        shares = {
            "have the published form": 1 - counted["prompts_not_in_published_form"] / read,
            "end with their stimulus": 1 - counted["prompts_not_ending_with_stimulus"] / read,
            "state an answer scale": 1 - counted["rows_without_stated_scale"] / read,
        }
        text = ", ".join(f"{_percent(share)} {what}" for what, share in shares.items())
        odd = {
            "rows_whose_scale_disagrees_with_answers": "whose stated scale disagrees with the answers",
            "rows_with_text_not_filled_in": "with a text that wasn't filled in",
            "rows_with_text_of_several_arms": "with a text that several arms share",
        }
        counts = {what: counted.get(key, 0) for key, what in odd.items()}
        notes = [f"{count:,} row{'s' * (count != 1)} {what}" for what, count in counts.items() if count]
        return f"prompts: {text}" + (f"; {', '.join(notes)}; see card.html" if notes else "")


def _percent(share: float) -> str:
    """A share in per cent; 100% only for all, 0% only for none."""
    rounded = round(100 * share, 1)
    if rounded in (0, 100) and share not in (0, 1):
        return "below 0.1%" if share < 0.5 else "above 99.9%"
    return f"{rounded:g}%"
