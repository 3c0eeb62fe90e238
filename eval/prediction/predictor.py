"""A model and settings, and what they predict for rows: three modes and three back ends behind one class."""

from collections.abc import Collection, Iterator
from dataclasses import replace
from typing import Any

import polars as pl

from common.contract import KEY, PREDICTIONS, SCALE
from common.errors import Refusal
from common.scale import Scale, from_columns
from eval.prediction.asking import Backend, Request, Sampling, row_seed
from eval.prediction.modes import QUESTION, exact_record, sampled_record, verbalised_record
from eval.rows import check_rows
from eval.settings import Settings

COLUMNS = (*KEY, "system", "prompt", *SCALE)


class Predictor:
    """A loaded model (or a connection to one) that predicts rows by `settings`.

    model: a checkpoint folder, a hub id, or the name by which a server knows it.
    """

    def __init__(self, model: str, settings: Settings | None = None) -> None:
        self.settings = settings or Settings()
        self.backend = connect(model, self.settings)

    def predict(self, rows: pl.DataFrame) -> pl.DataFrame:
        """`common.contract.PREDICTIONS`, one row for each of `rows` (COLUMNS at least), in their order.

        A row without a prediction has empty lists.
        """
        rows = check_rows(rows, COLUMNS)
        return as_table(rows, dict(self.stream(rows)))

    def stream(self, rows: pl.DataFrame, done: Collection[int] = ()) -> Iterator[tuple[int, dict[str, Any]]]:
        """(row number, record) of each row as it is predicted; those in `done` may be left out."""
        scales = from_columns(rows)
        requests = [
            Request(system, prompt, row_seed(self.settings.seed, study, sample))
            for system, prompt, study, sample in rows.select("system", "prompt", *KEY).iter_rows()
        ]
        try:
            if self.settings.mode == "verbalised":
                yield from self._verbalised(requests, scales, done)
            else:
                yield from self._by_answers(requests, scales, done)
        except RuntimeError as error:
            if type(error).__name__ != "OutOfMemoryError":  # torch's own; torch may not be loaded here
                raise
            raise Refusal("the GPU's memory is full; lower local.batch_tokens in the settings") from None

    def _verbalised(
        self, requests: list[Request], scales: list[Scale], done: Collection[int]
    ) -> Iterator[tuple[int, dict[str, Any]]]:
        asked = [replace(request, prompt=f"{request.prompt}\n\n{QUESTION}") for request in requests]
        for row, (reply,) in self.backend.replies(asked, reply_sampling(self.settings), done):
            yield row, verbalised_record(reply, scales[row])

    def _by_answers(
        self, requests: list[Request], scales: list[Scale], done: Collection[int]
    ) -> Iterator[tuple[int, dict[str, Any]]]:
        """Exact and sampled mode; exact mode samples the rows whose answers can't be enumerated."""
        settings, backend = self.settings, self.backend
        answers = [scale.answers() for scale in scales]
        exact = [
            row
            for row, admissible in enumerate(answers)
            if settings.mode == "exact" and admissible and backend.can_enumerate(admissible)
        ]
        if exact:
            asked = [replace(requests[row], answers=answers[row]) for row in exact]
            for number, masses in backend.masses(asked, settings.exact, _numbers(exact, done)):
                row = exact[number]
                yield row, exact_record(answers[row] or (), masses)
        rest = sorted(set(range(len(requests))).difference(exact))
        if rest:
            constrained = settings.sampled.constrained
            asked = [replace(requests[row], answers=answers[row] if constrained else None) for row in rest]
            for number, replies in backend.replies(asked, reply_sampling(settings), _numbers(rest, done)):
                yield rest[number], sampled_record(replies)


def connect(model: str, settings: Settings) -> Backend:
    """The back end of the settings, imported only now: each needs libraries that the others don't."""
    if settings.backend == "transformers":
        from eval.prediction.backends.local import LocalBackend
        from eval.prediction.local_model import LocalModel

        return LocalBackend(LocalModel(model, settings.local))
    if settings.backend == "vllm":
        from eval.prediction.backends.vllm import VllmBackend

        return VllmBackend(model, settings)
    from eval.prediction.backends.server import ServerBackend

    server = ServerBackend(model, settings)
    if settings.mode == "exact":
        from eval.prediction.backends.token_server import tokens_of

        server.tokens = tokens_of(server)
    return server


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


def as_table(rows: pl.DataFrame, records: dict[int, dict[str, Any]]) -> pl.DataFrame:
    """The records (by row number) as `common.contract.PREDICTIONS`, in the order of their rows."""
    numbers = sorted(records)
    keys = rows.select(KEY)[numbers]
    schema = {name: kind for name, kind in PREDICTIONS.items() if name not in KEY}
    values = pl.DataFrame([records[number] for number in numbers], schema=schema)
    return pl.concat([keys, values], how="horizontal").select(list(PREDICTIONS))


def _numbers(rows: list[int], done: Collection[int]) -> set[int]:
    """The positions in `rows` of those that are done."""
    return {number for number, row in enumerate(rows) if row in done} if done else set()
