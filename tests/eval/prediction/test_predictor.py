"""Three modes behind one function."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from common.contract import PREDICTIONS
from common.errors import Refusal
from eval.prediction.asking import Masses
from eval.prediction.modes import exact_record
from eval.prediction.predictor import Predictor
from eval.prediction.run import predict
from eval.settings import LocalSettings, SampledSettings, ServerSettings, Settings, VerbalisedSettings
from tests.helpers import fake_vllm
from tests.helpers.fake_server import FakeServer, answer_all
from tests.helpers.rows import make_rows


def settings(mode: str, **sections: object) -> Settings:
    return Settings(mode=mode, local=LocalSettings(batch_tokens=2048), **sections)


def test_exact_mode_gives_every_admissible_answer_and_samples_open_items(model_folder: Path) -> None:
    rows = make_rows(28)
    table = Predictor(str(model_folder), settings("exact")).predict(rows)
    assert table.schema == pl.Schema(PREDICTIONS)
    assert table.select("study_id", "sample_id").equals(rows.select("study_id", "sample_id"))
    for kind, record in zip(rows["scale_kind"], table.iter_rows(named=True), strict=True):
        assert record["mode"] == ("sampled" if kind == "open" else "exact")
        if kind == "ordinal":
            assert record["answers"] == [1, 2, 3, 4, 5, 6, 7]
        if kind == "bounded":
            assert record["answers"] == [-10, -5, 0, 5, 10, 15, 20]
        if kind == "choice":
            assert record["answers"] == [1, 2, 9]
        if kind != "open":
            assert sum(record["probs"]) == pytest.approx(1, abs=1e-6)
            assert 0 < record["off_scale_mass"] < 1
            assert record["draws"] == []
            assert record["n_bare"] is None


@pytest.mark.parametrize("constrained", [False, True])
def test_sampled_mode_gives_the_shares_of_its_draws(model_folder: Path, constrained: bool) -> None:
    rows = make_rows(28)
    sampled = SampledSettings(samples=5, temperature=1, top_p=1, constrained=constrained)
    predictor = Predictor(str(model_folder), settings("sampled", sampled=sampled))
    table = predictor.predict(rows)
    for kind, record in zip(rows["scale_kind"], table.iter_rows(named=True), strict=True):
        assert record["n_requested"] == 5
        assert record["n_parsed"] == len(record["draws"])
        assert record["off_scale_mass"] is None
        shares = [record["draws"].count(answer) / len(record["draws"]) for answer in record["answers"]]
        np.testing.assert_allclose(record["probs"], shares, rtol=1e-6)
        if constrained and kind == "choice":
            assert record["n_bare"] == 5
            assert set(record["draws"]) <= {1, 2, 9}
    if not constrained:
        assert 0 < table["n_parsed"].sum() < table["n_requested"].sum()


def test_a_row_is_sampled_the_same_whatever_rows_are_beside_it(model_folder: Path) -> None:
    rows = make_rows(21)
    predictor = Predictor(str(model_folder), settings("sampled", sampled=SampledSettings(samples=3)))
    together = predictor.predict(rows)
    apart = pl.concat([predictor.predict(rows[16:21]), predictor.predict(rows[:16])])
    wanted = pl.concat([together[16:21], together[:16]])
    assert apart["draws"].to_list() == wanted["draws"].to_list()


def test_verbalised_mode_counts_what_it_cannot_read(model_folder: Path) -> None:
    stated = settings("verbalised", verbalised=VerbalisedSettings(max_new_tokens=8))
    table = Predictor(str(model_folder), stated).predict(make_rows(7))
    assert table["mode"].to_list() == ["verbalised"] * 7
    assert table["n_parsed"].sum() == 0  # a tiny model can't state a distribution
    assert table["answers"].list.len().sum() == 0


def test_a_prompt_longer_than_the_model_reads_gets_no_prediction(model_folder: Path) -> None:
    rows = make_rows(14).with_columns(
        prompt=pl.when(pl.int_range(pl.len()) % 7 >= 3)
        .then(pl.col("prompt") + " why" * 600)
        .otherwise("prompt")
    )
    table = Predictor(str(model_folder), settings("exact")).predict(rows)
    empty = table["answers"].list.len() == 0
    assert empty.to_list() == [row % 7 >= 3 for row in range(14)]


def test_answers_without_any_probability_give_no_prediction() -> None:
    record = exact_record((1, 2), Masses(np.zeros(2), 0.0))
    assert record["answers"] == []
    assert record["n_parsed"] == 0
    assert record["off_scale_mass"] == 1


def test_a_missing_column_is_refused(model_folder: Path) -> None:
    with pytest.raises(Refusal, match="scale_low"):
        predict(make_rows(7).drop("scale_low"), str(model_folder), settings("exact"))


def test_a_lora_adapter_is_read_on_top_of_its_base(model_folder: Path, tmp_path: Path) -> None:
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM, AutoTokenizer

    torch.manual_seed(1)
    base = AutoModelForCausalLM.from_pretrained(model_folder)
    lora = LoraConfig(task_type="CAUSAL_LM", target_modules=["q_proj", "v_proj"], init_lora_weights=False)
    adapted = get_peft_model(base, lora)
    adapted.save_pretrained(tmp_path / "adapter")
    AutoTokenizer.from_pretrained(model_folder).save_pretrained(tmp_path / "adapter")
    adapted.merge_and_unload().save_pretrained(tmp_path / "merged")
    AutoTokenizer.from_pretrained(model_folder).save_pretrained(tmp_path / "merged")
    rows = make_rows(1)
    probs = [
        Predictor(str(folder), settings("exact")).predict(rows)["probs"][0].to_numpy()
        for folder in (tmp_path / "adapter", tmp_path / "merged", model_folder)
    ]
    np.testing.assert_allclose(probs[0], probs[1], atol=1e-5)
    assert np.abs(probs[0] - probs[2]).max() > 1e-3


@pytest.fixture
def backend(
    request: pytest.FixtureRequest, model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[str, dict[str, Any]]]:
    """A model's name and the settings of a back end; all but `transformers` are stand-ins."""
    if request.param == "transformers":
        yield str(model_folder), {}
    elif request.param == "vllm":
        fake_vllm.install(monkeypatch)
        yield str(model_folder), {"backend": "vllm"}
    else:
        server = FakeServer()
        server.behave = answer_all
        tokenizer = str(model_folder) if request.param == "server with token ids" else None
        address = ServerSettings(url=server.url, tokenizer=tokenizer, retries=0)
        yield "m", {"backend": "server", "server": address}
        server.http.shutdown()


@pytest.mark.parametrize("mode", ["exact", "sampled", "verbalised"])
@pytest.mark.parametrize(
    "kinds",
    [["open"], ["open", "ordinal"], ["ordinal", "open"], ["open", "ordinal", "open"], ["ordinal"]],
    ids="-".join,
)
@pytest.mark.parametrize(
    "backend", ["transformers", "vllm", "server", "server with token ids"], indirect=True
)
def test_rows_without_an_enumerable_scale_may_be_anywhere(
    backend: tuple[str, dict[str, Any]], mode: str, kinds: list[str]
) -> None:
    rows = make_rows(49)
    by_kind = {kind: rows.filter(pl.col("scale_kind") == kind) for kind in kinds}
    table = pl.concat([by_kind[kind][number : number + 1] for number, kind in enumerate(kinds)])
    model, chosen = backend
    predictor = Predictor(model, settings(mode, verbalised=VerbalisedSettings(max_new_tokens=4), **chosen))
    predicted = predictor.predict(table)
    assert predicted.select("study_id", "sample_id").equals(table.select("study_id", "sample_id"))
    wanted = {"exact": {"open": "sampled", "ordinal": "exact"}}.get(mode, {})
    assert predicted["mode"].to_list() == [wanted.get(kind, mode) for kind in table["scale_kind"]]
    if mode != "verbalised" and model == "m":
        assert predicted["answers"].list.len().min() > 0


def test_what_is_predicted_already_changes_nothing_of_the_rest(model_folder: Path) -> None:
    rows = make_rows(42)
    predictor = Predictor(str(model_folder), settings("exact"))
    every = dict(predictor.stream(rows))
    for done in (set(), {0, 1, 2, 17}, set(range(41))):
        some = dict(predictor.stream(rows, done))
        assert set(range(42)) - done <= set(some)
        assert all(record == every[row] for row, record in some.items())
