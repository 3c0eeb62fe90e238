"""Predictions for rows: three modes and three back ends behind one function.

`predict_rows(rows, model, settings)` is what the command line, the simulation and notebooks call.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl

from common.errors import Refusal
from common.scale import Scale
from eval.prediction.asking import Generator, Request, Sampling, row_seed
from eval.prediction.sampled import sampled_records
from eval.prediction.verbalised import verbalised_records
from eval.settings import ExactSettings, Settings

ROW_COLUMNS = (
    "study_id", "sample_id", "system", "prompt", "scale_kind", "scale_low", "scale_high", "scale_step",
    "scale_labels",
)  # fmt: skip
_SCHEMA: dict[str, Any] = {
    "study_id": pl.String,
    "sample_id": pl.Int64,
    "mode": pl.String,
    "answers": pl.List(pl.Int64),
    "probs": pl.List(pl.Float32),
    "draws": pl.List(pl.Int64),
    "off_scale_mass": pl.Float32,
    "n_requested": pl.Int32,
    "n_parsed": pl.Int32,
    "n_bare": pl.Int32,
}
PREDICTION_SCHEMA = pl.Schema(_SCHEMA)
# Exact mode, and the prompt is longer than the model can read
_NO_PREDICTION: dict[str, Any] = {
    "mode": "exact", "answers": [], "probs": [], "draws": [], "off_scale_mass": None,
    "n_requested": 1, "n_parsed": 0, "n_bare": None,
}  # fmt: skip


class Predictor:
    """A loaded model (or a connection to one) that predicts rows by `settings`."""

    def __init__(self, model: str, settings: Settings) -> None:
        self.settings = settings
        self.local: Any = None
        self.generator: Generator
        if settings.backend == "transformers":
            from eval.prediction.backends.local import LocalGenerator
            from eval.prediction.local_model import LocalModel
            from eval.prediction.trie import TrieBuilder

            self.local = LocalModel(model, settings.local)
            self.tries = TrieBuilder(self.local.tokenizer)
            self.generator = LocalGenerator(self.local, self.tries)
        elif settings.backend == "vllm":
            from eval.prediction.backends.vllm import VllmGenerator

            if settings.mode == "exact":
                raise Refusal("--backend vllm can't be exact; use --backend transformers, or --mode sampled")
            self.generator = VllmGenerator(model, settings)
        else:
            from eval.prediction.backends.server import ServerGenerator

            if settings.mode == "exact" and settings.exact != ExactSettings():
                raise Refusal("a server's probabilities have temperature 1 and top_p 1; set exact's to these")
            self.server = self.generator = ServerGenerator(model, settings)

    def predict(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Predictions of `rows` (the columns ROW_COLUMNS, others are ignored), in their order."""
        missing = [name for name in ROW_COLUMNS if name not in rows.columns]
        if missing:
            raise Refusal(
                f"the rows have no column {missing[0]}; evaluation rows are described in data/README.md"
            )
        scales = _scales(rows)
        requests = [
            Request(system, prompt, row_seed(self.settings.seed, study, sample))
            for system, prompt, study, sample in rows.select(
                "system", "prompt", "study_id", "sample_id"
            ).iter_rows()
        ]
        try:
            records = self._records(requests, scales)
        except RuntimeError as error:
            if type(error).__name__ != "OutOfMemoryError":  # torch's own; torch may not be loaded here
                raise
            raise Refusal("the GPU's memory is full; lower local.batch_tokens in the settings") from None
        keys = rows.select("study_id", "sample_id").to_dicts()
        return pl.DataFrame(
            [key | record for key, record in zip(keys, records, strict=True)], schema=PREDICTION_SCHEMA
        )

    def _records(self, requests: list[Request], scales: list[Scale]) -> list[dict[str, Any]]:
        """Each row by the mode of the settings; exact mode samples what it can't enumerate or read."""
        settings = self.settings
        if settings.mode == "verbalised":
            return verbalised_records(self.generator, requests, scales, reply_sampling(settings))
        enumerable = [scale.answers() for scale in scales]
        records: list[dict[str, Any]] = [{} for _ in requests]
        if settings.mode == "exact":
            exact, readable = (self._exact, bool) if self.local else (self._first_tokens, _one_character)
            places = [place for place, answers in enumerate(enumerable) if answers and readable(answers)]
            found = exact([requests[p] for p in places], [enumerable[p] or () for p in places])
            for place, record in zip(places, found, strict=True):
                records[place] = record
        rest = [place for place, record in enumerate(records) if not record]
        asked = [
            replace(requests[place], answers=enumerable[place] if settings.sampled.constrained else None)
            for place in rest
        ]
        if asked:
            drawn = sampled_records(self.generator, asked, reply_sampling(settings))
            for place, record in zip(rest, drawn, strict=True):
                records[place] = record
        return records

    def _exact(self, requests: Sequence[Request], answers: Sequence[tuple[int, ...]]) -> list[dict[str, Any]]:
        """Exact distributions; rows with the same question and answers are computed once."""
        from eval.prediction.exact import exact_distributions

        keys = [(r.system, r.prompt, a) for r, a in zip(requests, answers, strict=True)]
        distinct = list(dict.fromkeys(keys))
        encoded = self.local.encoder.encode([s for s, _, _ in distinct], [p for _, p, _ in distinct])
        asked = [
            (key, ids, trie)
            for key, ids in zip(distinct, encoded, strict=True)
            if self.local.fits(ids, (trie := self.tries.build(key[2])).depths.max())
        ]
        settings = self.settings.exact
        masses = exact_distributions(
            self.local, [a[1] for a in asked], [a[2] for a in asked], settings.temperature, settings.top_p
        )
        found = {
            key: exact_record(trie.answers, mass) for (key, _, trie), mass in zip(asked, masses, strict=True)
        }
        return [found.get(key, _NO_PREDICTION) for key in keys]

    def _first_tokens(
        self, requests: Sequence[Request], answers: Sequence[tuple[int, ...]]
    ) -> list[dict[str, Any]]:
        """What a server's `logprobs` say: one-character answers, the end of the turn taken for granted."""
        masses = self.server.first_token_masses(requests, answers)
        return [
            _NO_PREDICTION if mass is None else exact_record(choices, mass)
            for choices, mass in zip(answers, masses, strict=True)
        ]


def _one_character(answers: tuple[int, ...]) -> bool:
    """True if no answer can begin another one or take a second token, whatever the tokenizer."""
    return all(0 <= answer <= 9 for answer in answers)


def predict_rows(rows: pl.DataFrame, model: str, settings: Settings) -> pl.DataFrame:
    """Predict `rows` with `model` (a checkpoint folder, a hub id, or the name a server knows it by).

    rows: the columns ROW_COLUMNS of data/README.md's evaluation rows. Returns PREDICTION_SCHEMA, one
    row each, in their order. A row without a prediction has empty lists.
    """
    return Predictor(model, settings).predict(rows)


def reply_sampling(settings: Settings) -> Sampling:
    """How replies are drawn.

    What exact mode can't enumerate is drawn at exact mode's own temperature and top_p: both then
    describe the same distribution.
    """
    if settings.mode == "verbalised":
        return Sampling(1, settings.verbalised.temperature, 1.0, settings.verbalised.max_new_tokens)
    drawn = settings.sampled
    source = settings.exact if settings.mode == "exact" else drawn
    return Sampling(drawn.samples, source.temperature, source.top_p, drawn.max_new_tokens)


def exact_record(answers: tuple[int, ...], mass: np.ndarray) -> dict[str, Any]:
    """A prediction from the mass of each answer; none when the model gives all of them no probability."""
    total = float(mass.sum())
    known: dict[str, Any] = {"off_scale_mass": max(0.0, 1.0 - total)}
    if total > 0:
        known |= {"answers": answers, "probs": mass / total, "n_parsed": 1}
    return _NO_PREDICTION | known


def _scales(rows: pl.DataFrame) -> list[Scale]:
    """Each row's `Scale`, made once for every distinct one."""
    names = ["scale_kind", "scale_low", "scale_high", "scale_step", "scale_labels"]
    known: dict[Any, Scale] = {}
    scales = []
    for kind, low, high, step, labels in rows.select(names).iter_rows():
        pairs = tuple((label["value"], label["label"]) for label in labels or ())
        key = (kind, low, high, step, pairs)
        if key not in known:
            known[key] = Scale(kind, low, high, step or 1, pairs)
        scales.append(known[key])
    return scales
