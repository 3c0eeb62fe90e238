"""The scoring benchmark measures what it says, in a small size."""

from eval.bench import score as bench


def test_it_measures_what_it_says_and_agrees_with_scipy(monkeypatch):
    monkeypatch.setattr(bench, "_warm_up", lambda: None)
    monkeypatch.setattr(bench, "LOOP_CELLS", 20)
    lines = list(bench.measure_scoring(24_000, 1200, 100))
    assert lines[0].startswith("24,000 predictions, 1,200 cells, 100 replicates")
    assert float(lines[-1].rpartition("largest difference ")[2]) < 1e-12
