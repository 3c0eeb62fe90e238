"""One person, one question: a model's whole answer distribution, as bars in the terminal."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import polars as pl

from common.errors import Refusal
from common.prompts import SYSTEM_PROMPT, user_prompt
from common.scale import Scale, to_columns
from eval.prediction.run import predict
from eval.settings import Settings

WIDTH = 40  # characters of the longest bar


@dataclass(frozen=True)
class Answers:
    """answers and probs (they sum to 1) of one person; off_scale: the mass on anything else, if known."""

    answers: list[int]
    probs: list[float]
    off_scale: float | None

    @property
    def mean(self) -> float:
        """The expected answer."""
        return float(np.dot(self.answers, self.probs))

    def __str__(self) -> str:
        most = max(self.probs)
        lines = [
            f"{answer:>6}  {'█' * round(WIDTH * prob / most):<{WIDTH}} {prob:6.1%}"
            for answer, prob in zip(self.answers, self.probs, strict=True)
        ]
        rest = (
            "" if self.off_scale is None else f"; {self.off_scale:.1%} of the mass is on no admissible answer"
        )
        return "\n".join([*lines, f"mean {self.mean:.2f}{rest}"])


def ask(
    model: str,
    question: str,
    scale: tuple[int, int],
    persona: Mapping[str, str],
    settings: Settings | None = None,
) -> Answers:
    """What a person would answer.

    scale: the lowest and highest answer; its sentence is put behind the question. persona: demographic
    fields by SocSci210's names (age, gender, education, ...). Raises `Refusal` for a scale that isn't one.
    """
    low, high = scale
    if not low < high:
        raise Refusal(f"the scale {low} to {high} has no two answers; give the lowest and the highest")
    described = Scale("ordinal" if high - low < 11 else "bounded", low, high)
    stimuli = f"{question.strip()}\n\n{described.sentence()}"
    row = pl.DataFrame(
        {
            "study_id": ["chat"], "sample_id": [0], "system": [SYSTEM_PROMPT],
            "prompt": [user_prompt(persona, stimuli)],
        }
    ).hstack(to_columns([described]))  # fmt: skip
    predicted = predict(row, model, settings).table.row(0, named=True)
    return Answers(predicted["answers"], predicted["probs"], predicted["off_scale_mass"])


def read_persona(text: str) -> dict[str, str]:
    """`age=34, gender=Female` as a mapping."""
    pairs = [part.partition("=") for part in text.split(",") if part.strip()]
    if any(not sign for _, sign, _ in pairs):
        raise Refusal("a persona is written as field=value, ...: age=34, gender=Female")
    return {name.strip(): value.strip() for name, _, value in pairs}


def read_scale(text: str) -> tuple[int, int]:
    """`1-7` or `-3..3` as two integers."""
    parts = text.split("..") if ".." in text else text.rsplit("-", 1)
    try:
        low, high = (int(part) for part in parts)
    except ValueError:
        raise Refusal(f"--scale {text}: give the lowest and highest answer, such as 1-7 or -3..3") from None
    return low, high
