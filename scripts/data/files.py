"""The two kinds of files that rows are written to. Each knows its SHA-256, bytes and rows at the end."""

import hashlib
import io
from pathlib import Path
from typing import NamedTuple

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from common.files import sha256_file

GROUP_ROWS = 8_192  # rows of a row group, at least: fewer aren't worth reading at once
# Line separators that some readers of lines honour inside a text; polars leaves them as they are.
SEPARATORS = ((b"\xc2\x85", rb"\u0085"), (b"\xe2\x80\xa8", rb"\u2028"), (b"\xe2\x80\xa9", rb"\u2029"))


class Encoded(NamedTuple):
    """Rows as a file takes them."""

    content: bytes | pa.Table
    rows: int


class JsonLines:
    """A JSON-lines file, hashed while it is written."""

    def __init__(self, path: Path) -> None:
        self.path, self.rows = path, 0
        self._file, self._sum = path.open("wb", buffering=0), hashlib.sha256()

    @staticmethod
    def encode(frame: pl.DataFrame) -> Encoded:
        """One object a row, on one line in every reader."""
        buffer = io.BytesIO()
        frame.write_ndjson(buffer)
        content = buffer.getvalue()
        for raw, escaped in SEPARATORS:
            if raw[-1:] in content:  # looking for one byte is ten times as fast as for three
                content = content.replace(raw, escaped)
        return Encoded(content, len(frame))

    def write(self, encoded: Encoded) -> None:
        view = memoryview(encoded.content)
        self._sum.update(view)
        self.rows += encoded.rows
        while len(view):
            view = view[self._file.write(view) :]

    def close(self) -> dict[str, str | int]:
        """Complete the file; return its sha256, bytes and rows."""
        self._file.close()
        return {"sha256": self._sum.hexdigest(), "bytes": self.path.stat().st_size, "rows": self.rows}


class Parquet:
    """A parquet file. Small tables are gathered into row groups of at least GROUP_ROWS."""

    def __init__(self, path: Path, plain: tuple[str, ...] = ()) -> None:
        self.path, self.rows, self._plain = path, 0, plain
        self._writer: pq.ParquetWriter | None = None
        self._waiting: list[pa.Table] = []

    @staticmethod
    def encode(frame: pl.DataFrame) -> Encoded:
        return Encoded(frame.to_arrow(compat_level=pl.CompatLevel.oldest()), len(frame))

    def write(self, encoded: Encoded) -> None:
        self._waiting.append(encoded.content)
        self.rows += encoded.rows
        if sum(part.num_rows for part in self._waiting) >= GROUP_ROWS:
            self._flush()

    def close(self) -> dict[str, str | int]:
        """Complete the file; return its sha256, bytes and rows."""
        self._flush()
        assert self._writer is not None
        self._writer.close()
        return {"sha256": sha256_file(self.path), "bytes": self.path.stat().st_size, "rows": self.rows}

    def _flush(self) -> None:
        if not self._waiting:
            return
        table = pa.concat_tables(self._waiting)
        self._waiting = []
        if self._writer is None:
            self._writer = pq.ParquetWriter(
                self.path,
                table.schema,
                compression="zstd",
                use_dictionary=[name for name in table.schema.names if name not in self._plain],
                dictionary_pagesize_limit=2**26,
                store_schema=False,  # readers then see plain text, whatever it was in memory
            )
        if table.num_rows:
            self._writer.write_table(table, row_group_size=table.num_rows)
