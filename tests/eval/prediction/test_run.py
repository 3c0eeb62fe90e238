"""The command line: what it writes, what it refuses, and how it goes on after a kill."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import polars as pl
import pytest

from common.errors import Refusal
from eval.prediction import run as predict
from eval.prediction.run import ITEM, main, read_rows, select_rows
from eval.settings import ExactSettings, LocalSettings, ServerSettings, Settings
from tests.helpers import tiny_models
from tests.helpers.rows import make_rows


@pytest.fixture
def rows_file(tmp_path: Path) -> Path:
    path = tmp_path / "eval.parquet"
    make_rows(60).write_parquet(path)
    return path


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "settings.yaml"
    path.write_text("mode: exact\n")
    return path


def arguments(model: Path, rows: Path, config: Path, out: Path) -> list[str]:
    return ["--model", str(model), "--rows", str(rows), "--config", str(config), "--out", str(out)]


def test_a_finished_run_has_nothing_to_do_and_a_changed_one_runs_again(
    model_folder: Path, rows_file: Path, config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    call = arguments(model_folder, rows_file, config, tmp_path / "out")
    main(call)
    record = json.loads((tmp_path / "out/predictions.json").read_text())
    assert record["counts"]["rows"] == 60
    assert record["counts"]["rows_by_mode"] == {"exact": 51, "sampled": 9}
    table = pl.read_parquet(tmp_path / "out/predictions.parquet")
    assert table.select("study_id", "sample_id").equals(make_rows(60).select("study_id", "sample_id"))
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        ".lock", "predictions.json", "predictions.parquet",
    ]  # fmt: skip
    capsys.readouterr()
    main(call)
    assert "nothing to do" in capsys.readouterr().out
    main([*call, "--max-rows", "10"])
    assert pl.read_parquet(tmp_path / "out/predictions.parquet").height == 10


def test_a_torn_shard_is_done_again_and_the_whole_ones_are_kept(
    model_folder: Path, rows_file: Path, config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(predict, "SHARD", 16)
    main(arguments(model_folder, rows_file, config, tmp_path / "whole"))

    class Killed(Exception):
        pass

    written = predict.Store.write
    numbers: list[int] = []

    def write(store: predict.Store, number: int, shard: pl.DataFrame) -> None:
        if len(numbers) == 3:
            raise Killed
        numbers.append(number)
        written(store, number, shard)

    monkeypatch.setattr(predict.Store, "write", write)
    call = arguments(model_folder, rows_file, config, tmp_path / "torn")
    with pytest.raises(Killed):
        main(call)
    assert not (tmp_path / "torn/predictions.json").exists()
    parts = sorted((tmp_path / "torn/.parts").glob("*/*.parquet"))
    assert len(parts) == 3
    parts[1].write_bytes(parts[1].read_bytes()[:-7])
    monkeypatch.setattr(predict.Store, "write", written)
    main(call)
    record = json.loads((tmp_path / "torn/predictions.json").read_text())
    assert record["rows_resumed"] == 32
    one, other = (tmp_path / name / "predictions.parquet" for name in ("whole", "torn"))
    assert one.read_bytes() == other.read_bytes()


@pytest.mark.whole
def test_killed_at_any_moment_it_goes_on_and_gives_the_same_bytes(config: Path, tmp_path: Path) -> None:
    model = tiny_models.make("llama", tmp_path / "model")
    rows = tmp_path / "eval.parquet"
    make_rows(3000).write_parquet(rows)
    whole = arguments(model, rows, config, tmp_path / "whole")
    subprocess.run([sys.executable, "-m", "eval.prediction.run", *whole], check=True)
    call = [sys.executable, "-m", "eval.prediction.run", *arguments(model, rows, config, tmp_path / "killed")]

    def saved() -> int:
        return len(list((tmp_path / "killed").glob(".parts/*/*.parquet")))

    for wait in (0, 0.03, 0.1):  # after the first save of each run
        run = subprocess.Popen(call, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        begun = saved()
        while run.poll() is None and saved() == begun:
            time.sleep(0.01)
        time.sleep(wait)
        os.kill(run.pid, signal.SIGKILL)
        run.communicate()
        assert run.returncode == -signal.SIGKILL
    assert saved() >= 3
    subprocess.run(call, check=True)
    record = json.loads((tmp_path / "killed/predictions.json").read_text())
    assert record["rows_resumed"] >= 1024
    one, other = (tmp_path / name / "predictions.parquet" for name in ("whole", "killed"))
    assert one.read_bytes() == other.read_bytes()


def test_a_run_goes_on_with_more_patience_or_less_memory(model_folder: Path, rows_file: Path) -> None:
    def inputs(**sections: object) -> str:
        return predict.fingerprint(predict._described(str(model_folder), rows_file, Settings(**sections)))

    assert inputs() == inputs(server=ServerSettings(concurrency=1, timeout_s=9, price_input=1))
    assert inputs() == inputs(local=LocalSettings(batch_tokens=999))
    assert inputs() != inputs(local=LocalSettings(dtype="bfloat16"))
    assert inputs() != inputs(exact=ExactSettings(temperature=0.6))
    assert inputs() != inputs(seed=1)


def test_max_rows_keeps_every_item_and_depends_on_keys_alone() -> None:
    rows = make_rows(70)
    chosen = select_rows(rows, 21, seed=3)
    assert chosen.height == 21
    assert chosen.select(ITEM).unique().height == rows.select(ITEM).unique().height
    backwards = select_rows(rows.reverse(), 21, seed=3)
    assert chosen.equals(backwards.reverse())
    assert not chosen.equals(select_rows(rows, 21, seed=4))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda rows: rows.drop("item_num"), "no column item_num"),
        (lambda rows: rows.clear(), "no rows"),
        (lambda rows: pl.concat([rows, rows[:1]]), "more than once"),
        (lambda rows: rows.with_columns(prompt=pl.lit(None, pl.String)), "null key or prompt"),
    ],
)
def test_broken_rows_are_refused(tmp_path: Path, change, reason: str) -> None:
    path = tmp_path / "eval.parquet"
    change(make_rows(7)).write_parquet(path)
    with pytest.raises(Refusal, match=reason):
        read_rows(path)


def test_a_torn_parquet_file_is_refused(rows_file: Path) -> None:
    rows_file.write_bytes(rows_file.read_bytes()[:100])
    with pytest.raises(Refusal, match="can't be read"):
        read_rows(rows_file)


def test_what_is_missing_is_named_with_the_command_that_makes_it(
    rows_file: Path, config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(Refusal, match="make train-sft"):
        main(arguments(Path("outputs/sample/study/tiny/sft-none"), rows_file, config, tmp_path / "out"))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(Refusal, match="make data DATA=sample SPLIT=study"):
        main(["--model", "x", "--config", str(config)])


def test_two_runs_do_not_write_to_one_folder(
    model_folder: Path, rows_file: Path, config: Path, tmp_path: Path
) -> None:
    with predict.Store(tmp_path / "out", "x").lock(), pytest.raises(Refusal, match="another run"):
        main(arguments(model_folder, rows_file, config, tmp_path / "out"))
