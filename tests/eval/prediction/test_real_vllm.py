"""vLLM itself, on a plain CPU, against the model read in this process (`make test-vllm`)."""

import json
import os
import socket
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from common.errors import Refusal
from common.scale import to_columns
from eval.bench.predict import SCALES, requests
from eval.prediction.predictor import Predictor
from eval.prediction.run import predict
from eval.settings import SampledSettings, ServerSettings, Settings
from tests.helpers import tiny_models
from tests.helpers.rows import make_rows

ROOT = Path(__file__).parents[3]
PYTHON = Path(os.environ.get("VLLM_PYTHON") or ROOT / ".venv-vllm/bin/python")
ENVIRONMENT = os.environ | {
    "VLLM_TARGET_DEVICE": "cpu",
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "VLLM_NO_USAGE_STATS": "1",
    "HF_HUB_OFFLINE": "1",
    "PYTHONPATH": str(ROOT),
}
ENGINE = ["--enforce-eager", "--dtype", "float32", "--max-logprobs", "1100", "--max-model-len", "2048"]
ENGINE += ["--max-num-batched-tokens", "16384"]  # a seeded prompt that is cut kills the CPU engine
ENGINE += ["--block-size", "32"]  # what a prompt has beyond whole blocks is read again for each answer

pytestmark = pytest.mark.vllm
Start = Callable[[], str]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model whose heads vLLM's CPU attention has a kernel for; another folder by VLLM_MODEL."""
    if not PYTHON.exists():
        pytest.skip(f"{PYTHON} is missing; `make test-vllm` makes it")
    if os.environ.get("VLLM_MODEL"):
        return Path(os.environ["VLLM_MODEL"])
    folder = tiny_models.make("llama", tmp_path_factory.mktemp("served"), head_size=32, positions=2048)
    file = folder / "generation_config.json"  # what vLLM puts in where a request leaves something out
    file.write_text(json.dumps(json.loads(file.read_text()) | {"top_k": 1, "repetition_penalty": 1.5}))
    return folder


@pytest.fixture(scope="module")
def start(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Start]:
    """Starts the server (again, if it was killed) and gives its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}/v1"
    log = tmp_path_factory.mktemp("log") / "server.log"
    running: list[subprocess.Popen[bytes]] = []

    def serve() -> str:
        command = [PYTHON, "-m", "vllm.entrypoints.openai.api_server", "--model", model, *ENGINE]
        command += ["--served-model-name", "tiny", "--port", str(port)]
        with log.open("ab") as out:
            running.append(
                subprocess.Popen(
                    list(map(str, command)), env=ENVIRONMENT, stdout=out, stderr=out, start_new_session=True
                )
            )
        for _ in range(1200):
            if running[-1].poll() is not None:
                pytest.skip(f"vLLM can't run on this machine: {log.read_text()[-400:]}")
            try:
                urllib.request.urlopen(f"{url}/models", timeout=1)
                return url
            except OSError:
                time.sleep(0.5)
        raise AssertionError(log.read_text()[-2000:])

    serve.kill = lambda: os.killpg(running[-1].pid, 9)  # type: ignore[attr-defined]
    yield serve
    for process in running:
        if process.poll() is None:
            os.killpg(process.pid, 9)
            process.wait()


@pytest.fixture(scope="module")
def url(start: Start) -> str:
    return start()


def settings(url: str, timeout_s: float = 60, **more: object) -> Settings:
    server = ServerSettings(url=url, timeout_s=timeout_s, retries=1)
    return Settings(backend="server", server=server, **more)


def worst(one: pl.DataFrame, other: pl.DataFrame) -> float:
    """The largest difference of two exact predictions: of a probability, or of the off-scale mass."""
    exact = pl.Series([mode == "exact" for mode in one["mode"]])
    assert one["answers"].to_list() == other["answers"].to_list() and exact.sum() >= 4
    apart = [
        np.abs(np.array(a) - np.array(b)).max()
        for a, b in zip(one["probs"].filter(exact), other["probs"].filter(exact), strict=True)
    ]
    off = (one["off_scale_mass"] - other["off_scale_mass"]).filter(exact).abs().max()
    return max(*map(float, apart), float(off))  # type: ignore[arg-type]


def enumerable(rows: int) -> pl.DataFrame:
    """Rows of every kind whose answers can be enumerated: one digit, 0 to 100, negative, a choice."""
    return make_rows(rows).filter(~pl.col("scale_kind").is_in(["open", "unstated"]))


def test_exact_through_the_server_equals_the_model_in_process(model: Path, url: str) -> None:
    rows = enumerable(56)
    served = predict(rows, "tiny", settings(url)).table
    assert worst(served, predict(rows, model, Settings()).table) < 1e-4
    assert served["unread_mass"].max() < 1e-3  # type: ignore[operator]


def timed(model: str, rows: pl.DataFrame, chosen: Settings) -> tuple[pl.DataFrame, float]:
    """Predictions, and rows a second once the model is loaded and has read something."""
    predictor = Predictor(model, chosen)
    predictor.predict(rows.head(1).with_columns(prompt=pl.lit("Warm up.")))
    begun = time.monotonic()
    return predictor.predict(rows), len(rows) / (time.monotonic() - begun)


PEOPLE = {"1-7": 4, "0-100": 1}  # with seven questions each


@pytest.mark.parametrize("scale", SCALES)
def test_each_scale_through_the_server_at_its_rate(model: Path, url: str, scale: str, capsys) -> None:
    asked = requests(PEOPLE[scale], "persona-first", SCALES[scale])
    rows = pl.DataFrame({"system": [one.system for one in asked], "prompt": [one.prompt for one in asked]})
    numbers = pl.Series("sample_id", range(len(rows)), pl.Int64)
    rows = rows.with_columns(numbers, study_id=pl.lit("s"))
    rows = rows.hstack(to_columns([SCALES[scale]] * len(rows)))
    served, through = timed("tiny", rows, settings(url, timeout_s=600))
    local, inside = timed(str(model), rows, Settings())
    with capsys.disabled():
        print(
            f"\n{model.name}, {scale}, {len(rows)} rows: in process {inside:.2f} rows/s, through the server "
            f"{through:.2f} rows/s ({through / inside:.2f} times), difference {worst(served, local):.1e}"
        )
    assert worst(served, local) < 1e-4


def test_the_servers_own_chat_template_plays_no_part(model: Path, url: str) -> None:
    rows = enumerable(14).with_columns(system=pl.lit("Another system prompt."))
    assert worst(predict(rows, "tiny", settings(url)).table, predict(rows, model, Settings()).table) < 1e-4


def test_sampling_draws_what_exact_mode_computes_whatever_the_checkpoint_would_have(
    model: Path, url: str
) -> None:
    rows = make_rows(7).head(1)
    sampled = SampledSettings(samples=1000, temperature=1, top_p=1)
    drawn = predict(rows, "tiny", settings(url, mode="sampled", sampled=sampled)).table.row(0, named=True)
    exact = predict(rows, model, Settings()).table.row(0, named=True)
    for answer, prob in zip(exact["answers"], exact["probs"], strict=True):
        mass = prob * (1 - exact["off_scale_mass"])
        error = np.sqrt(mass * (1 - mass) / drawn["n_requested"])
        assert abs(drawn["draws"].count(answer) / drawn["n_requested"] - mass) < 4.5 * error + 1e-3


def test_a_server_killed_in_the_middle_loses_nothing(model: Path, start: Start, url: str, tmp_path: Path):
    rows = enumerable(700)
    start.kill()  # type: ignore[attr-defined]
    with pytest.raises(Refusal, match="no server answers"):
        predict(rows, "tiny", settings(url), folder=tmp_path / "out")
    start()
    done = predict(rows, "tiny", settings(url), folder=tmp_path / "out")
    assert done.table["mode"].to_list() == ["exact"] * len(rows)


def test_the_offline_engine_equals_the_model_in_process(model: Path, tmp_path: Path) -> None:
    rows = enumerable(14)
    rows.write_parquet(tmp_path / "rows.parquet")
    code = (
        "from eval import Settings, predict\n"
        f"predict({str(tmp_path / 'rows.parquet')!r}, {str(model)!r}, "
        "Settings(backend='vllm', local={'dtype': 'float32'}), "
        f"folder={str(tmp_path / 'out')!r})"
    )
    done = subprocess.run([PYTHON, "-c", code], env=ENVIRONMENT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    offline = pl.read_parquet(tmp_path / "out/predictions.parquet")
    assert worst(offline, predict(rows, model, Settings()).table) < 1e-4
