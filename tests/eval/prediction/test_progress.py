"""A long prediction says how long it will take, once, after its first rows."""

import time

import pytest

from eval.prediction.progress import Progress


def said(
    monkeypatch, capsys, rows_a_second: float, goes_on: bool, total: int = 6000, done: int = 1000
) -> list[str]:
    clock = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    bar = Progress(total, done, "exact", goes_on)
    clock[0] += 500  # a model is loaded, which says nothing of the rows
    for _ in range(int(30 * rows_a_second)):
        bar.update()
        clock[0] += 1 / rows_a_second
    bar.close()
    return [line for line in capsys.readouterr().err.splitlines() if "are left" in line]


def test_a_long_prediction_says_once_how_long_it_takes_and_that_it_goes_on(monkeypatch, capsys):
    (line,) = said(monkeypatch, capsys, 10, True)
    assert "4,899 of 6,000 rows are left, about 8 min; Ctrl-C stops, and the same command goes on" in line
    (line,) = said(monkeypatch, capsys, 10, False, total=600_000)
    assert "16.6 h" in line and "Ctrl-C" not in line


@pytest.mark.parametrize("rate", [100, 5000])
def test_a_short_prediction_says_nothing(monkeypatch, capsys, rate):
    assert said(monkeypatch, capsys, rate, True) == []
