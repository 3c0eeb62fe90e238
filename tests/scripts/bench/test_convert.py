"""The converter's benchmark shows every way beside its floor, in a small size."""

import pytest

from scripts.bench.convert import measure_conversion


@pytest.mark.whole
def test_every_way_stands_beside_a_floor(tmp_path):
    lines = list(measure_conversion(rows=40_000, plain_rows=300, runs=1, workers=1, folder=tmp_path))
    names = (
        "sft to jsonl",
        "dpo to jsonl",
        "sft to parquet",
        "dpo to parquet",
        "plain_polars",
        "plain_datasets",
    )
    for name in (*names, "plain_pandas"):
        line = next(line for line in lines if line.startswith(name))
        seconds, ratio = line[28:].split()[0], line[28:].split()[3]
        assert float(seconds) > 0 and float(ratio) > 0
    assert not list(tmp_path.iterdir())
