"""SIGINT and SIGTERM, at any moment of any command: one line, the exit code, and nothing alive after 5 s."""

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path

import psutil
import pytest

from tests.eval.prediction.test_real_vllm import ENVIRONMENT
from tests.eval.prediction.test_real_vllm import PYTHON as VLLM
from tests.helpers import tiny_models
from tests.helpers.rows import make_rows
from tests.helpers.small_home import EXPERIMENT, SWEEP, TRAIN, WAY, lines_of, make_home, run, start

LONG = ["max_steps=400", "save_steps=5", "save_total_limit=9", "eval_steps=100", "--restart"]
# words, and how many seconds a command works at least; N in them is another number in each trial
COMMANDS = {
    "help": (["--help"], 0.3),
    "data": (["data", "make", "--data", "small", "--force"], 1),
    "tokenise": (["tokenise", "sft", "--data", "small", "cutoff_len=1N"], 5),
    "train": ([*TRAIN, *LONG], 12),
    "two processes": ([*TRAIN, *LONG, "--gpus", "2"], 16),
    "selection": ([*TRAIN, *LONG, "--select", "wasserstein"], 20),
    "predict": (["predict", "--model", "outputs/models/tiny", "--name", "xN", "--data", "small"], 4),
    "eval": (["eval", "--model", "tiny", "--data", "small", "--gpus", "2", "--config", "N.yaml"], 8),
    "score": (["score", "--data", "small", "--config", "N.yaml"], 3),
    "report": (["report", "--data", "small", "--out", "N.html"], 1.5),
    "simulate": ([*EXPERIMENT, "--out", "N"], 5),
    "sweep": (["sweep", "N-steps.yaml"], 20),
}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = make_home(tmp_path_factory.mktemp("home"))
    for words in WAY[:3]:
        assert run(folder, words)[0] == 0
    return folder


def alive(mark: str) -> list[psutil.Process]:
    """All processes with this mark in their environment, whosever children and of whatever group."""
    marked = []
    for process in psutil.process_iter():
        try:
            if process.status() != "zombie" and process.environ().get("SOCRATES_MARK") == mark:
                marked.append(process)
        except psutil.Error:
            continue
    return marked


@pytest.mark.whole
@pytest.mark.parametrize("name", COMMANDS)
def test_a_signal_ends_a_command_and_all_that_it_started_within_five_seconds(home: Path, name: str):
    words, seconds = COMMANDS[name]
    chance = random.Random(name)
    for number in (signal.SIGINT, signal.SIGTERM):
        mark, trial = str(uuid.uuid4()), str(chance.randrange(1000, 9999))
        (home / f"{trial}.yaml").write_text(f"seed: {trial}\n")
        (home / f"{trial}-steps.yaml").write_text(SWEEP.replace("[2, 4]", f"[{trial}]"))
        process = start(home, [word.replace("N", trial) for word in words], SOCRATES_MARK=mark)
        time.sleep(chance.uniform(0.2, seconds))  # during imports, or at work
        if process.poll() is not None:
            assert process.returncode == 0, process.communicate()
            continue
        process.send_signal(number)
        begun = time.monotonic()
        while alive(mark) and time.monotonic() - begun < 5:
            time.sleep(0.05)
        left = alive(mark)
        assert not left, [one.cmdline() for one in left]
        _, err = process.communicate()
        if name == "help" and process.returncode == -number:
            continue  # Python itself was still ending
        assert process.returncode == {signal.SIGINT: 130, signal.SIGTERM: 143}[number], err
        stopped = [line for line in lines_of(err) if line.startswith("stopped: ")]
        assert len(stopped) == 1 and "Traceback" not in err, err


@pytest.mark.vllm
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["SIGINT", "SIGTERM"])
@pytest.mark.parametrize("moment", ["imports", "engine", "work"])
def test_a_signal_ends_vllm_and_its_engine_within_five_seconds(tmp_path: Path, moment: str, number: int):
    if not VLLM.exists():
        pytest.skip(f"{VLLM} is missing; `make test-vllm` makes it")
    model = tiny_models.make("llama", tmp_path / "model", head_size=32)
    make_rows(20_000).write_parquet(tmp_path / "rows.parquet")
    words = ["predict", "--backend", "vllm", "--model", str(model), "--rows", "rows.parquet", "--out", "out"]
    log = tmp_path / "log"
    with log.open("w") as stream:
        process = subprocess.Popen(
            [VLLM, "-m", "socrates", *words], cwd=tmp_path, start_new_session=True, stdout=stream,
            stderr=stream, env=ENVIRONMENT | {"SOCRATES_HOME": "."},
        )  # fmt: skip
    wanted = {"imports": "", "engine": "EngineCore", "work": "init engine"}[moment]
    time.sleep(3)
    while process.poll() is None and not any(
        wanted in text for text in (*session_of(process.pid), log.read_text())
    ):
        time.sleep(0.1)
    time.sleep(5 if moment == "work" else 0)
    assert process.poll() is None, log.read_text()[-2000:]
    # Ctrl-C reaches the whole group, SIGTERM the command alone
    os.killpg(process.pid, number) if number == signal.SIGINT else process.send_signal(number)
    begun = time.monotonic()
    while session_of(process.pid) and time.monotonic() - begun < 5:
        time.sleep(0.05)
    assert not session_of(process.pid)
    said = log.read_text()
    assert process.wait() == {signal.SIGINT: 130, signal.SIGTERM: 143}[number], said[-2000:]
    assert said.count("stopped: ") == 1 and "Traceback" not in said, said[-3000:]


def session_of(process: int) -> list[str]:
    """The lines of all living processes in a session. (vLLM's overwrite their environment by a name.)"""
    lines = []
    for one in psutil.process_iter():
        with contextlib.suppress(psutil.Error, ProcessLookupError):
            if os.getsid(one.pid) == process and one.status() != "zombie":
                lines.append(" ".join(one.cmdline()))
    return lines


def test_a_signal_during_a_commands_imports_is_one_line(tmp_path: Path):
    seconds = 0.1
    codes = set()
    while seconds < 0.4:
        process = start(tmp_path, ["data", "audit", "--data", "."])
        time.sleep(seconds)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=10)
        codes.add(process.returncode)
        if process.returncode == 130:
            assert lines_of(err) == ["stopped: nothing half-written was left; run the same command to go on"]
        seconds += 0.1
    assert 130 in codes


STUBBORN = """
import ctypes, sys
from common.errors import run_cli
def main():
    print("working", flush=True)
    ctypes.CDLL(None).sleep(60) if sys.argv[1] == "library" else swallow()
def swallow():
    while True:
        try:
            ctypes.PyDLL(None).usleep(10_000)
        except BaseException:
            pass
run_cli(main)
"""


@pytest.mark.parametrize("kind", ["library", "swallow"])
def test_what_does_not_listen_ends_all_the_same(kind: str):
    process = subprocess.Popen(
        [sys.executable, "-c", STUBBORN, kind], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout and process.stdout.readline() == "working\n"
    os.kill(process.pid, signal.SIGTERM)
    begun = time.monotonic()
    _, err = process.communicate(timeout=20)
    assert time.monotonic() - begun < 5 and process.returncode == 143
    assert err == "stopped: nothing half-written was left; run the same command to go on\n"
