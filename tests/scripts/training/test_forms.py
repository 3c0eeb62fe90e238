"""What making data sets writes is what LLaMA-Factory reads: every form, format and order."""

import polars as pl
import pytest
from llamafactory.data.loader import _get_merged_dataset
from llamafactory.hparams import DataArguments, ModelArguments
from transformers import Seq2SeqTrainingArguments

from common.prompts import SYSTEM_PROMPT, user_prompt
from scripts.data.make import make_data
from scripts.data.settings import DataSettings
from tests.helpers.small_source import small_rows, write_source

ROWS = {(row["study_id"], row["sample_id"]): row for row in small_rows()}


@pytest.mark.whole
def test_every_form_is_read_by_llamafactory_as_the_rows_that_were_meant(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_source(tmp_path / "small")
    training = Seq2SeqTrainingArguments(output_dir="out", report_to=[])
    model = ModelArguments(model_name_or_path="none")
    for form in ("alpaca", "sharegpt"):
        for format in ("jsonl", "parquet"):
            for order in ("persona-first", "stimulus-first"):
                outputs = ("sft", "sft_reasoning", "dpo", "kto")
                settings = DataSettings(
                    form=form, format=format, order=order, outputs=outputs, validation_fraction=0.1
                )
                folder = make_data("small", "study", settings).folder
                for name in (*outputs, "sft_validation"):
                    arguments = DataArguments(
                        dataset=f"small_study_{name}", dataset_dir="data", overwrite_cache=True
                    )
                    stage = {"dpo": "rm", "kto": "kto"}.get(name, "sft")
                    loaded = _get_merged_dataset(arguments.dataset, model, arguments, training, stage=stage)
                    _check_loaded(loaded, folder, name, form, format, order)


def _check_loaded(loaded, folder, name, form, format, order):
    path = folder / f"{name}.{format}"
    read = pl.read_ndjson if path.suffix == ".jsonl" else pl.read_parquet
    wanted = read(path).to_dicts()
    assert len(loaded) == len(wanted) > 0
    for got, line in zip(loaded, wanted, strict=True):
        row = ROWS[line["study_id"], line["sample_id"]]
        assert got["_system"] == SYSTEM_PROMPT
        prompt = user_prompt(row["demographic"], row["stimuli"], order)
        assert got["_prompt"] == [{"role": "user", "content": prompt}]
        answers = [str(row["response"])]
        if name == "dpo":
            answers.append(str(ROWS[line["study_id"], line["rejected_sample_id"]]["response"]))
        if name == "kto":  # LLaMA-Factory puts the answer first where it is wanted, else second
            other = str(ROWS[line["study_id"], line["rejected_sample_id"]]["response"])
            answers = [answers[0], ""] if line["kto_tag"] else ["", other]
        if name == "sft_reasoning":
            answers = [f"{row['reasoning']}\n\nAnswer: {row['response']}"]
        assert [message["content"] for message in got["_response"]] == answers
