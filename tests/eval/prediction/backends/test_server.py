"""A server back end: what a server may do to us, and the real one of LLaMA-Factory."""

import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from common.errors import Refusal, run_cli
from eval.prediction.asking import Request, Sampling
from eval.prediction.backends.server import ServerBackend, estimate
from eval.prediction.backends.token_server import TokenServer
from eval.prediction.predictor import Predictor
from eval.prediction.run import predict
from eval.settings import ExactSettings, SampledSettings, ServerSettings, Settings
from socrates import app
from tests.helpers import tiny_models
from tests.helpers.fake_server import Answer, FakeServer, answer_all, completion, shown, tokens_shown
from tests.helpers.rows import make_rows


@pytest.fixture
def server() -> Iterator[FakeServer]:
    fake = FakeServer()
    yield fake
    fake.http.shutdown()


def settings(url: str, samples: int = 1, **server: Any) -> Settings:
    return Settings(
        mode="sampled",
        backend="server",
        sampled=SampledSettings(samples=samples),
        server=ServerSettings(url=url, **{"retries": 2, "timeout_s": 5, "concurrency": 4} | server),
    )


def test_the_published_way_of_sampling_is_what_is_asked_for(server: FakeServer, monkeypatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "from-the-environment")
    table = predict(make_rows(7), "some-model", settings(server.url, samples=3)).table
    assert table["draws"].to_list() == [[5, 5, 5]] * 7
    body = server.seen[0]
    assert (body["temperature"], body["top_p"], body["n"], body["model"]) == (0.6, 0.9, 3, "some-model")
    assert [turn["role"] for turn in body["messages"]] == ["system", "user"]
    assert {turn["content"] for turn in (seen["messages"][1] for seen in server.seen)} == set(
        make_rows(7)["prompt"]
    )
    assert server.keys == {"Bearer from-the-environment"}
    assert len({seen["seed"] for seen in server.seen}) == 7


def test_requests_run_together_but_no_more_than_allowed(server: FakeServer) -> None:
    def slowly(body: dict[str, Any], number: int) -> Answer:
        time.sleep(0.05)
        return completion("5")

    server.behave = slowly
    predict(make_rows(21), "m", settings(server.url, concurrency=3))
    assert server.most_busy == 3


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_rate_limit_or_a_failure_is_waited_out(server: FakeServer, status: int) -> None:
    server.behave = lambda body, number: (status, {"error": "busy"}) if number <= 2 else completion("5")
    table = predict(make_rows(4), "m", settings(server.url, retries=4)).table
    assert table["n_parsed"].to_list() == [1] * 4


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (429, "went on failing after 0 retries"),
        (401, "OPENAI_API_KEY"),
        (404, "knows no model"),
        (400, "every request"),
    ],
)
def test_what_waiting_cannot_mend_is_refused(server: FakeServer, status: int, reason: str) -> None:
    server.behave = lambda body, number: (status, {"error": {"message": "no"}})
    with pytest.raises(Refusal, match=reason):
        predict(make_rows(4), "m", settings(server.url, retries=0))


def test_a_server_that_does_not_answer_in_time_or_at_all_is_refused(server: FakeServer) -> None:
    server.behave = lambda body, number: (time.sleep(1), completion("5"))[1]
    with pytest.raises(Refusal, match="timeout_s"):
        predict(make_rows(2), "m", settings(server.url, retries=0, timeout_s=0.2))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        nobody = f"http://127.0.0.1:{free.getsockname()[1]}/v1"
    with pytest.raises(Refusal, match="no server answers"):
        predict(make_rows(2), "m", settings(nobody, retries=0))


def test_a_single_wrong_request_costs_its_row_alone(server: FakeServer) -> None:
    def picky(body: dict[str, Any], number: int) -> Answer:
        return (
            (400, {"error": "too long"})
            if "Question 3" in body["messages"][1]["content"]
            else completion("5")
        )

    server.behave = picky
    table = predict(make_rows(7), "m", settings(server.url)).table
    assert table["n_parsed"].to_list() == [1, 1, 1, 0, 1, 1, 1]
    assert table["answers"].to_list()[3] == []


@pytest.fixture
def another() -> Iterator[FakeServer]:
    fake = FakeServer()
    yield fake
    fake.http.shutdown()


def slowly(body: dict[str, Any], number: int) -> Answer:
    time.sleep(0.02)
    return completion("5")


def test_several_servers_share_the_requests(server: FakeServer, another: FakeServer) -> None:
    server.behave = another.behave = slowly
    predict(make_rows(40), "m", settings(f"{server.url}, {another.url}", concurrency=2))
    assert server.most_busy == another.most_busy == 2
    assert min(len(server.seen), len(another.seen)) > 10
    assert len(server.seen) + len(another.seen) == 40


@pytest.mark.parametrize("death", ["closed", "hanging", "failing", "half an answer"])
def test_one_of_several_servers_may_die_in_the_middle(
    server: FakeServer, another: FakeServer, death: str, capsys
) -> None:
    answered = []

    def dies(body: dict[str, Any], number: int) -> Answer:
        if number > 5:
            if death == "closed":
                raise ConnectionAbortedError
            if death == "hanging":
                time.sleep(1)
            if death == "half an answer":
                return 200, {"choices": None}
            return 500, {"error": "dead"}
        answered.append(body["messages"][1]["content"])
        return completion("3")

    def lives(body: dict[str, Any], number: int) -> Answer:
        answered.append(body["messages"][1]["content"])
        return slowly(body, number)

    server.behave, another.behave = dies, lives
    servers = settings(f"{server.url},{another.url}", retries=2, timeout_s=0.4, concurrency=2)
    rows = make_rows(30)
    table = predict(rows, "m", servers).table
    assert table["n_parsed"].to_list() == [1] * 30
    assert sorted(answered) == sorted(rows["prompt"])  # nothing was lost, and nothing answered twice
    assert "going on with 1 other" in capsys.readouterr().err


def test_when_the_last_of_several_servers_dies_the_run_stops(server: FakeServer, another: FakeServer) -> None:
    server.behave = another.behave = lambda body, number: (500, {"error": "dead"})
    with pytest.raises(Refusal, match="went on failing"):
        predict(make_rows(8), "m", settings(f"{server.url},{another.url}", retries=0))


@pytest.mark.parametrize("body", [{"error": {"message": "overloaded"}}, [], None, "busy", {"choices": None}])
def test_an_answer_that_is_no_completion_is_refused(server: FakeServer, body: Any) -> None:
    server.behave = lambda asked, number: (200, body)
    with pytest.raises(Refusal, match="no completion"):
        predict(make_rows(2), "m", settings(server.url, retries=0))


@pytest.mark.parametrize("status", [413, 422])
def test_a_row_that_is_too_much_for_the_server_costs_itself_alone(server: FakeServer, status: int) -> None:
    def picky(body: dict[str, Any], number: int) -> Answer:
        wrong = "Question 3" in body["messages"][1]["content"]
        return (status, {"error": "too long"}) if wrong else completion("5")

    server.behave = picky
    table = predict(make_rows(7), "m", settings(server.url, retries=0)).table
    assert table["n_parsed"].to_list() == [1, 1, 1, 0, 1, 1, 1]


def test_prompts_are_not_sent_on_to_another_address(server: FakeServer) -> None:
    server.behave = lambda body, number: (307, {"error": "elsewhere"})
    with pytest.raises(Refusal, match="sends requests on"):
        predict(make_rows(1), "m", settings(server.url, retries=0))
    assert len(server.seen) == 1


def test_cut_off_and_empty_replies_are_not_parsed(server: FakeServer) -> None:
    replies = [completion("5", reason="length"), completion("five"), (200, completion()[1]), completion("5")]
    server.behave = lambda body, number: replies[(number - 1) % 4]
    table = predict(make_rows(4), "m", settings(server.url, concurrency=1)).table
    assert sorted(table["n_parsed"].to_list()) == [0, 0, 0, 1]


def test_a_server_that_gives_one_reply_at_a_time_is_asked_again(server: FakeServer) -> None:
    server.behave = lambda body, number: completion("5")
    generator = ServerBackend("m", settings(server.url))
    ((_, replies),) = generator.replies([Request(None, "p", (1,))], Sampling(3, 1.0, 1.0, 5))
    assert [reply.text for reply in replies] == ["5"] * 3
    assert [body["n"] for body in server.seen] == [3, 2, 1]
    assert len({body["seed"] for body in server.seen}) == 3
    assert generator.usage == {"prompt_tokens": 30, "completion_tokens": 3}


def test_what_a_server_cannot_do_is_refused(server: FakeServer, monkeypatch) -> None:
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    with pytest.raises(Refusal, match="--url"):
        Predictor("m", settings(server.url).model_copy(update={"server": ServerSettings()}))
    with pytest.raises(Refusal, match="gives no logprobs"):
        predict(make_rows(1), "m", settings(server.url).model_copy(update={"mode": "exact"}))
    warm = {"mode": "exact", "exact": ExactSettings(temperature=0.6)}
    with pytest.raises(Refusal, match="temperature 1"):
        Predictor("m", settings(server.url).model_copy(update=warm))


def test_one_character_answers_are_read_from_logprobs_and_the_others_sampled(server: FakeServer) -> None:
    shares = {"1": 0.2, "7": 0.5, "8": 0.1, " 7": 0.05, "70": 0.05}

    def behave(body: dict[str, Any], number: int) -> Answer:
        if body.get("logprobs"):
            assert (body["top_logprobs"], body["max_tokens"], body["temperature"]) == (20, 1, 1)
            return shown(shares)
        return completion("5")

    server.behave = behave
    rows = make_rows(4)  # 1-7, -10 to 20, a choice of 1, 2 and 9, open
    table = predict(rows, "m", settings(server.url).model_copy(update={"mode": "exact"})).table
    assert table["mode"].to_list() == ["exact", "sampled", "exact", "sampled"]
    assert table["answers"].to_list() == [[1, 2, 3, 4, 5, 6, 7], [5], [1, 2, 9], [5]]
    assert table["probs"].to_list()[0] == pytest.approx([2 / 7, 0, 0, 0, 0, 0, 5 / 7])
    assert table["off_scale_mass"].to_list()[0] == pytest.approx(0.3)
    assert table["probs"].to_list()[2] == pytest.approx([1, 0, 0])


def exact(url: str, **server: Any) -> Settings:
    return settings(url, **server).model_copy(update={"mode": "exact"})


def test_answers_that_a_server_does_not_show_are_bounded_and_reported(server: FakeServer) -> None:
    shares = {"1": 0.2, "7": 0.5, "8": 0.1, " 7": 0.05, "70": 0.05}  # five where twenty were asked for
    server.behave = lambda body, number: shown(shares)
    predicted = predict(make_rows(1), "m", exact(server.url))
    assert predicted.table["unread_mass"][0] == pytest.approx(0.1)  # 1 - all that is shown
    assert "of which up to 0.1000 may be answers that weren't read" in str(predicted)
    server.behave = lambda body, number: shown({"1": 0.2, "7": 0.5, "8": 0.1, " 7": 0.1, "x": 0.01})
    unread = predict(make_rows(1), "m", exact(server.url)).table["unread_mass"][0]
    assert unread == pytest.approx(5 * 0.01)  # five answers, each below the least that is shown


def test_tokens_that_a_server_without_named_ones_leaves_out_are_bounded(
    server: FakeServer, model_folder: Path
) -> None:
    def five(body: dict[str, Any], number: int) -> Answer:
        return tokens_shown(body, lambda prompt, named: dict.fromkeys(range(5), 0.1))

    server.behave = five
    tokens = TokenServer(ServerBackend("m", exact(server.url)), str(model_folder))
    assert not tokens.named
    assert all("logprob_token_ids" not in body for body in server.seen[1:])
    ((seen),) = tokens.next_tokens([[1, 2]], [[3, 4, 900, 901]])
    assert seen.logprobs.tolist() == [np.log(0.1), np.log(0.1), -np.inf, -np.inf]
    assert seen.hidden == pytest.approx(2 * 0.1)


def test_tokens_with_a_leading_blank_are_no_answers_and_a_run_of_them_has_failed(
    server: FakeServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server.behave = lambda body, number: shown({f" {digit}": 0.1 for digit in range(10)})
    make_rows(7).filter(pl.col("scale_kind") == "ordinal").write_parquet(tmp_path / "rows.parquet")
    words = ["predict", "--model", "m", "--url", server.url, "--mode", "exact"]
    words += ["--rows", str(tmp_path / "rows.parquet"), "--out", str(tmp_path / "out")]
    with pytest.raises(SystemExit) as ended:
        run_cli(lambda: app(words, standalone_mode=False))
    assert ended.value.code == 2
    assert "not one of 2 rows got a prediction" in capsys.readouterr().err
    assert not (tmp_path / "out/predictions.parquet").exists()


@pytest.mark.parametrize("mode", ["sampled", "verbalised", "exact"])
def test_vllm_is_sent_every_sampling_parameter_so_that_the_checkpoints_own_play_no_part(
    server: FakeServer, model_folder: Path, mode: str
) -> None:
    server.listed = [{"id": "m", "object": "model", "created": 0, "owned_by": "vllm"}]
    server.behave = answer_all
    asked = settings(server.url, tokenizer=str(model_folder)).model_copy(update={"mode": mode})
    Predictor("m", asked).predict(make_rows(4))
    sent = {"temperature", "top_p", "top_k", "min_p", "repetition_penalty", "max_tokens"}
    assert all(sent <= set(body) for body in server.seen)
    off = [(body["top_k"], body["min_p"], body["repetition_penalty"]) for body in server.seen]
    assert set(off) == {(-1, 0.0, 1.0)}


def test_an_answer_of_one_digit_holds_what_the_end_of_the_turn_leaves_it(
    server: FakeServer, model_folder: Path
) -> None:
    stops: list[int] = []

    def half(prompt: list[int], named: list[int]) -> dict[int, float]:
        return {token: 0.5 / len(stops) if token in stops else 0.1 for token in named}

    server.behave = lambda body, number: tokens_shown(body, half)
    predictor = Predictor("m", exact(server.url, tokenizer=str(model_folder)))
    stops += predictor.backend.tokens.encoder.stop_ids  # type: ignore[attr-defined]
    row = predictor.predict(make_rows(1)).row(0, named=True)
    assert row["probs"] == pytest.approx([1 / 7] * 7)
    assert row["off_scale_mass"] == pytest.approx(1 - 7 * 0.1 * 0.5)


def test_a_paid_run_shows_its_cost_and_needs_a_yes(server: FakeServer, tmp_path: Path, capsys) -> None:
    make_rows(30).write_parquet(tmp_path / "rows.parquet")
    config = tmp_path / "settings.yaml"
    config.write_text("mode: sampled\nserver: {price_input: 3, price_output: 15}\n")
    call = ["--model", "m", "--url", server.url, "--rows", str(tmp_path / "rows.parquet")]
    call += ["--config", str(config), "--out", str(tmp_path / "out")]
    with pytest.raises(Refusal, match="--yes"):
        app(["predict", *call], standalone_mode=False)
    assert server.seen == []
    app(["predict", *call, "--yes"], standalone_mode=False)
    assert "at most about" in capsys.readouterr().err
    record = json.loads((tmp_path / "out/predictions.json").read_text())
    assert record["usage"] == {"prompt_tokens": 300, "completion_tokens": 30}
    assert record["counts"]["replies_parsed"] == 30


def test_the_estimate_multiplies_prices_and_tokens() -> None:
    prices = ServerSettings(price_input=2, price_output=10, concurrency=10)
    cost, sentence = estimate(4_000_000, 1200, Sampling(5, 0.6, 0.9, 16), prices)
    assert cost == pytest.approx(2 + 1200 * 5 * 16 * 10 / 1e6)
    assert "1,200 requests" in sentence
    assert "2 min" in sentence


@pytest.mark.whole
def test_llamafactorys_own_server_draws_what_exact_mode_computes(tmp_path: Path) -> None:
    model = tiny_models.make("llama", tmp_path / "model")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [Path(sys.executable).with_name("llamafactory-cli"), "api", "--model_name_or_path", model]
    command += ["--template", "llama3", "--infer_backend", "huggingface", "--infer_dtype", "float32"]
    environment = os.environ | {"API_HOST": "127.0.0.1", "API_PORT": str(port), "HF_HUB_OFFLINE": "1"}
    log = (tmp_path / "log").open("w")
    running = subprocess.Popen(list(map(str, command)), env=environment, stdout=log, stderr=log)
    url = f"http://127.0.0.1:{port}/v1"
    try:
        for _ in range(240):
            assert running.poll() is None, (tmp_path / "log").read_text()[-2000:]
            try:
                urllib.request.urlopen(f"{url}/models", timeout=1)
                break
            except OSError:
                time.sleep(0.5)
        rows = (
            make_rows(7)
            .filter(pl.col("scale_kind") == "ordinal")
            .with_columns(prompt=" \n" + pl.col("prompt") + "\n")
        )
        sampled = SampledSettings(samples=1500, temperature=1, top_p=1)
        drawn = predict(
            rows, "tiny", settings(url, concurrency=2, timeout_s=120).model_copy(update={"sampled": sampled})
        ).table
        with pytest.raises(Refusal, match="gives no logprobs"):
            predict(rows, "tiny", settings(url).model_copy(update={"mode": "exact"}))
    finally:
        running.terminate()
        running.wait(20)
        log.close()
    exact = predict(rows, str(model), Settings()).table
    assert len(rows) == 2
    for sample, truth in zip(drawn.iter_rows(named=True), exact.iter_rows(named=True), strict=True):
        for answer, prob in zip(truth["answers"], truth["probs"], strict=True):
            mass = prob * (1 - truth["off_scale_mass"])
            error = np.sqrt(mass * (1 - mass) / sample["n_requested"])
            assert abs(sample["draws"].count(answer) / sample["n_requested"] - mass) < 4.5 * error
