"""Several processes give the predictions of one."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from common.errors import Refusal
from eval import predict
from eval.prediction import blocks, run
from eval.prediction.blocks import predict_into
from eval.prediction.predictor import Predictor
from eval.prediction.store import Store
from tests.helpers import tiny_models
from tests.helpers.rows import make_rows


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_models.make("llama", tmp_path_factory.mktemp("tiny"))


def test_shares_together_hold_each_row_once_whatever_their_number(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blocks, "BLOCK", 8)
    rows, predictor = run._select(make_rows(49), run.Settings()), Predictor(str(tiny))
    alone = predict(rows, tiny, folder=tmp_path / "alone").table
    store = Store(tmp_path / "shared", "x" * 16)
    counted: list[int] = []
    predict_into(store, rows, predictor, lambda: counted.append(1), (1, 3))  # one of three, then stopped
    assert 0 < len(counted) < 49
    for number in (1, 0):  # gone on with by two
        predict_into(store, rows, predictor, lambda: counted.append(1), (number, 2))
    assert len(counted) == 49
    assert store.read(49).equals(alone)


@pytest.mark.whole
def test_two_processes_write_the_same_bytes_as_one(tiny: Path, tmp_path: Path) -> None:
    rows = make_rows(1400)  # three blocks
    for processes in (1, 2):
        predict(rows, tiny, folder=tmp_path / str(processes), processes=processes)
    one, two = ((tmp_path / name / "predictions.parquet").read_bytes() for name in ("1", "2"))
    assert one == two
    assert not (tmp_path / "2/.parts").exists()


@pytest.mark.whole
def test_a_killed_parent_takes_its_processes_along_and_another_number_goes_on(
    tiny: Path, tmp_path: Path
) -> None:
    rows = tmp_path / "eval.parquet"
    make_rows(1400).write_parquet(rows)
    code = (
        f"from eval import predict; predict({str(rows)!r}, {str(tiny)!r}, folder={str(tmp_path / 'out')!r}, "
    )
    parent = subprocess.Popen([sys.executable, "-c", f"{code} processes=2)"], stderr=subprocess.DEVNULL)
    while not list((tmp_path / "out").glob(".parts/*/*.parquet")) and parent.poll() is None:
        time.sleep(0.02)
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait()
    time.sleep(2)
    listed = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True).stdout
    assert str(tmp_path / "out") not in listed
    done = predict(rows, tiny, folder=tmp_path / "out")
    assert 0 < done.resumed <= 1400
    alone = predict(rows, tiny, folder=tmp_path / "alone")
    assert done.table.equals(alone.table)


def test_a_process_that_fails_says_why(tmp_path: Path) -> None:
    with pytest.raises(Refusal, match=r"process [12] of 2 failed: the model folder .*none is missing"):
        predict(make_rows(7), tmp_path / "none", folder=tmp_path / "out", processes=2)


@pytest.mark.parametrize("processes", [0, -1, 2])
def test_a_number_of_processes_that_cannot_share_is_refused(tmp_path: Path, processes: int) -> None:
    with pytest.raises(Refusal, match="processes can't share"):
        predict(make_rows(7), tmp_path, processes=processes)
