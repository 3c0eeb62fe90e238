"""The command line: what it writes, what it refuses, and how it goes on after a kill."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from common.errors import Refusal
from common.step import Step
from eval.prediction import blocks
from eval.prediction import run as predict
from eval.prediction.predictor import Predictor
from eval.prediction.result import Counts
from eval.settings import ExactSettings, LocalSettings, ServerSettings, Settings
from socrates import app
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


def main(words: list[str]) -> None:
    """Run `socrates predict`."""
    app(["predict", *words], standalone_mode=False)


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
        ".predictions.json.lock", "predictions.json", "predictions.parquet",
    ]  # fmt: skip
    capsys.readouterr()
    main(call)
    assert "nothing to do" in capsys.readouterr().out
    main([*call, "--max-rows", "10"])
    assert pl.read_parquet(tmp_path / "out/predictions.parquet").height == 10


def test_a_torn_part_is_predicted_again_and_the_whole_ones_are_kept(
    model_folder: Path, rows_file: Path, config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blocks, "BLOCK", 16)
    monkeypatch.setattr(blocks, "SAVE_S", 0)
    main(arguments(model_folder, rows_file, config, tmp_path / "whole"))

    class Killed(Exception):
        pass

    stream, yielded = Predictor.stream, []

    def cut_short(predictor: Predictor, rows: pl.DataFrame, done: Any = ()) -> Any:
        for result in stream(predictor, rows, done):
            if len(yielded) == 37:  # in the middle of the third block
                raise Killed
            yielded.append(result)
            yield result

    monkeypatch.setattr(Predictor, "stream", cut_short)
    call = arguments(model_folder, rows_file, config, tmp_path / "torn")
    with pytest.raises(Killed):
        main(call)
    assert not (tmp_path / "torn/predictions.json").exists()
    parts = sorted((tmp_path / "torn/.parts").glob("*/*.parquet"))
    torn = pl.read_parquet(parts[1]).height
    parts[1].write_bytes(parts[1].read_bytes()[:-7])
    monkeypatch.setattr(Predictor, "stream", stream)
    main(call)
    record = json.loads((tmp_path / "torn/predictions.json").read_text())
    assert record["rows_resumed"] == 37 - torn
    one, other = (tmp_path / name / "predictions.parquet" for name in ("whole", "torn"))
    assert one.read_bytes() == other.read_bytes()


@pytest.mark.whole
def test_killed_at_any_moment_it_goes_on_and_gives_the_same_bytes(config: Path, tmp_path: Path) -> None:
    model = tiny_models.make("llama", tmp_path / "model")
    rows = tmp_path / "eval.parquet"
    make_rows(3000).write_parquet(rows)
    often = "from eval.prediction import blocks; blocks.SAVE_S = 0.5; import socrates; socrates.main()"
    whole, call = (
        [sys.executable, "-c", often, "predict", *arguments(model, rows, config, tmp_path / name)]
        for name in ("whole", "killed")
    )
    subprocess.run(whole, check=True)

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
    assert record["rows_resumed"] >= 100
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
    with Step(tmp_path / "out/predictions.json", "x"), pytest.raises(Refusal, match="another run"):
        main(arguments(model_folder, rows_file, config, tmp_path / "out"))


def test_a_table_of_rows_is_predicted_in_memory_or_kept_in_a_folder(
    model_folder: Path, tmp_path: Path
) -> None:
    rows = make_rows(21)
    in_memory = predict.predict(rows, model_folder, name="tiny")
    assert in_memory.folder is None
    assert list(tmp_path.iterdir()) == []
    first = predict.predict(rows, model_folder, folder=tmp_path / "out", name="tiny")
    again = predict.predict(rows.clone(), model_folder, folder=tmp_path / "out")
    assert (first.up_to_date, again.up_to_date) == (False, True)
    assert again.counts == first.counts == in_memory.counts
    assert again.table.equals(in_memory.table)
    changed = rows.with_columns(prompt=pl.col("prompt") + "!")
    assert not predict.predict(changed, model_folder, folder=tmp_path / "out").up_to_date


def counts(**changes: Any) -> Counts:
    """Counts of ten rows without anything wrong, but for the changes."""
    good = dict.fromkeys(
        ("rows_without_prediction", "replies_requested", "replies_parsed", "replies_bare"), 0
    )
    masses = {"mean_off_scale_mass": 0.1, "mean_unread_mass": 0.0}
    return Counts(rows=10, **({"rows_by_mode": {"exact": 10}} | good | masses | changes))


def test_a_result_prints_its_counts_and_warns_of_a_model_that_does_not_answer() -> None:
    bad = counts(
        rows_by_mode={"exact": 9, "sampled": 1},
        rows_without_prediction=8,
        replies_requested=4,
        replies_parsed=1,
        replies_bare=1,
        mean_off_scale_mass=0.997,
    )
    result = predict.Predictions("<b>base</b>", bad, in_memory=make_rows(1))
    assert "99.7% of the model's probability lies off the answer scales" in str(result)
    assert "80% of the rows have no prediction" in str(result)
    assert "only 25% of the replies could be read" in str(result)
    assert "&lt;b&gt;base&lt;/b&gt;: 10 rows" in result._repr_html_()
    assert counts().warnings() == []


def test_a_run_without_any_prediction_has_failed_and_keeps_nothing(
    model_folder: Path, tmp_path: Path
) -> None:
    rows = make_rows(14).with_columns(prompt=pl.col("prompt") + " why" * 600)
    with pytest.raises(Refusal, match="not one of 14 rows got a prediction"):
        predict.predict(rows, model_folder, folder=tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == [".predictions.json.lock"]
