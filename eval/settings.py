"""The settings of prediction and scoring: `configs/eval/*.yaml`, checked before anything runs."""

from datetime import date
from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from common.paths import configs
from common.settings import Section, read_settings

DEFAULT = Path("configs/eval/default.yaml")  # in the project's folder

Mode = Literal["exact", "sampled", "verbalised"]
Backend = Literal["transformers", "vllm", "server"]


class ExactSettings(Section):
    """Exact mode. Temperature and top_p of 1 give the model's own probabilities."""

    temperature: float = Field(1.0, gt=0)
    top_p: float = Field(1.0, gt=0, le=1)


class SampledSettings(Section):
    """Sampled mode: `samples` answers a row. The defaults of temperature and top_p are the published ones."""

    samples: int = Field(1, ge=1)
    temperature: float = Field(0.6, gt=0)
    top_p: float = Field(0.9, gt=0, le=1)
    constrained: bool = False
    max_new_tokens: int = Field(16, ge=1)


class VerbalisedSettings(Section):
    """Verbalised mode: the model states its probabilities in words; greedy unless a temperature is set."""

    temperature: float = Field(0.0, ge=0)
    max_new_tokens: int = Field(512, ge=1)


class LocalSettings(Section):
    """The model in this process. `batch_tokens` bounds memory: padded tokens computed at once."""

    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    device: str = "auto"
    batch_tokens: int = Field(16384, ge=256)
    reuse_prefixes: bool = True


class ServerSettings(Section):
    """An OpenAI-compatible server. Prices are per million tokens, in whatever currency you pay.

    url: an address, or several by commas that serve the same model; `concurrency` is for each of them.
    tokenizer: the served model's folder or hub id; exact mode then covers every scale, where the server
    takes token ids (vLLM does). Not needed where the server names a folder of this machine.
    """

    url: str | None = None
    tokenizer: str | None = None
    concurrency: int = Field(16, ge=1)
    timeout_s: float = Field(60.0, gt=0)
    retries: int = Field(6, ge=0)
    price_input: float = Field(0.0, ge=0)
    price_output: float = Field(0.0, ge=0)

    @property
    def urls(self) -> tuple[str, ...]:
        """The addresses in `url`."""
        return urls_of(self.url or "")


class ScoreSettings(Section):
    """Scoring: numbers of resamples, and the fewest people that a subgroup's figure stands on.

    margin: the difference below which two models count as alike, in units of the answer range. study_dates,
    training_cut: when studies were published (CSV) and the last day of the base model's training data.
    """

    replicates: int = Field(1000, ge=100, le=100_000)
    ceiling_splits: int = Field(200, ge=10, le=100_000)
    permutations: int = Field(10_000, ge=100, le=10_000_000)
    min_group: int = Field(20, ge=2)
    margin: float = Field(0.01, gt=0, le=1)
    study_dates: Path | None = None
    training_cut: date | None = None

    @model_validator(mode="after")
    def _both_or_neither(self) -> "ScoreSettings":
        if (self.study_dates is None) != (self.training_cut is None):
            raise ValueError("study_dates and training_cut belong together; give both or neither")
        return self


class Settings(Section):
    """All of `configs/eval/*.yaml`."""

    mode: Mode = "exact"
    backend: Backend = "transformers"
    seed: int = Field(0, ge=0, lt=2**63, strict=True)
    max_rows: int | None = Field(None, ge=1)
    exact: ExactSettings = ExactSettings()
    sampled: SampledSettings = SampledSettings()
    verbalised: VerbalisedSettings = VerbalisedSettings()
    local: LocalSettings = LocalSettings()
    server: ServerSettings = ServerSettings()
    score: ScoreSettings = ScoreSettings()

    def at(self, url: str | None) -> "Settings":
        """These settings with the server (or several, by commas) at `url`, if there is one."""
        if not url:
            return self
        server = self.server.model_copy(update={"url": url})
        return self.model_copy(update={"backend": "server", "server": server})


def load_settings(path: str | Path | None = None, **overrides: object) -> Settings:
    """Read a settings file (default: DEFAULT); `overrides` (top-level keys, None: not given) win over it."""
    return read_settings(path or configs() / "eval/default.yaml", Settings, DEFAULT, **overrides)


def urls_of(text: str) -> tuple[str, ...]:
    """The addresses that commas separate, each once."""
    return tuple(dict.fromkeys(filter(None, (part.strip() for part in text.split(",")))))
