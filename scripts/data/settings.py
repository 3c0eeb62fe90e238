"""The settings of a data set: `configs/data/*.yaml`, checked before any row is read."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from common.paths import configs
from common.prompts import Order
from common.settings import Section, read_settings

Output = Literal["sft", "sft_reasoning", "dpo", "kto"]
PAIRED = ("dpo", "kto")  # outputs that set a person's answer against another's
Fraction = Annotated[float, Field(gt=0, le=1)]


def _reasons(studies: Any) -> Any:
    """A list of studies, or {study: reason}."""
    if isinstance(studies, list):
        return dict.fromkeys(map(str, studies), "named in leave_out")
    if isinstance(studies, dict):
        return {study: reason or "named in leave_out" for study, reason in studies.items()}
    return {} if studies is None else studies


class PairSettings(Section):
    """How DPO pairs are drawn; see configs/data/default.yaml."""

    scheme: Literal["uniform", "balanced"] = "uniform"
    within: Literal["item", "cell"] = "item"
    most_per_cell: Annotated[int, Field(ge=1)] | None = None


class DataSettings(Section):
    """Which rows, in which form. The meaning of each key stands in configs/data/default.yaml."""

    seed: Annotated[int, Field(ge=0)] = 0
    outputs: tuple[Output, ...] = ("sft", "dpo")  # none: only evaluation rows and training counts
    form: Literal["alpaca", "sharegpt"] = "alpaca"
    format: Literal["jsonl", "parquet"] = "jsonl"
    order: Order = "persona-first"
    all: Literal["train", "eval"] = "train"
    leave_out: Annotated[dict[str, str], BeforeValidator(_reasons)] = Field(default_factory=dict)
    mapping: str | None = None
    unmapped: Literal["drop", "train"] = "drop"
    eval_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.25
    validation_fraction: Annotated[float, Field(ge=0, lt=1)] = 0.02
    participants_fraction: Fraction = 1.0
    training_studies: Annotated[int, Field(ge=1)] | None = None
    respondents_per_cell: Annotated[int, Field(ge=1)] | None = None
    off_scale: Literal["keep", "drop"] = "keep"
    scale_mismatch: Literal["keep", "drop"] = "keep"
    vignette_most_characters: Annotated[int, Field(ge=100)] | None = None
    identical_prompts: Literal["refuse", "drop", "count"] | None = None
    pairs: PairSettings = PairSettings()


def load_settings(path: str | Path | None = None) -> DataSettings:
    """Read and check a settings file, `configs/data/default.yaml` if none is named.

    Raises `Refusal` naming the wrong key and the nearest known one.
    """
    default = configs() / "data" / "default.yaml"
    return read_settings(path or default, DataSettings, default)
