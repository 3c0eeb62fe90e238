"""The whole evaluation at SocSci210's size: predict (a stand-in model that costs nothing), score, report.

    socrates bench full [--rows 482642]

482,642 evaluation rows in 801 cells of 40 studies, with prompts as long as the real ones. Each step runs
in a process of its own; printed are its seconds and peak memory, the page's size, and how much longer a
headless browser takes to open it than an empty page. Limits for the default size: the page opens in 3 s and
has at most 15 MB.
"""

import os
import platform
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from common.errors import Refusal
from common.prompts import SYSTEM_PROMPT, user_prompt
from common.scale import Scale
from eval.prediction.asking import Masses, Request
from eval.settings import ExactSettings

STUDIES, CELLS, ROWS = 40, 801, 482_642
SCALES = ((1, 7), (0, 1), (0, 100), (1, 5))
LIMIT_SECONDS, LIMIT_MB = 3.0, 15.0
SPLIT = Path("data/socsci210/study")


def generate(rows: int) -> None:
    """Write eval.parquet and train_counts.parquet of invented people, arms and outcomes."""
    rng = np.random.default_rng(0)
    cell = np.sort(rng.integers(0, CELLS, rows))
    study, arm, task = cell % STUDIES, cell // STUDIES % 5, cell // STUDIES // 5
    person = rng.integers(0, max(2, rows // STUDIES // 7), rows)
    low, high = np.array(SCALES)[(study + task) % len(SCALES)].T
    centre = rng.uniform(0.2, 0.8, CELLS)[cell]
    share = np.clip(rng.normal(centre, 0.25), 0, 1)
    texts = [
        "In this study you read about a proposal. " * 22
        + f"(Study {s}, arm {a}, outcome {t}.)\n\n{Scale('bounded', *SCALES[(s + t) % 4]).sentence()}"
        for s in range(STUDIES)
        for a in range(5)
        for t in range(CELLS // STUDIES // 5 + 1)
    ]
    text = (study * 5 + arm) * (CELLS // STUDIES // 5 + 1) + task
    genders, ages = np.array(["Female", "Male"])[person % 2], 18 + person % 70
    personas = {
        (gender, age): user_prompt({"gender": gender, "age": age}, "")
        for gender in ("Female", "Male")
        for age in range(18, 88)
    }
    heads = np.array([personas[key] for key in zip(genders.tolist(), ages.tolist(), strict=True)])
    labels = pl.List(pl.Struct({"value": pl.Int64, "label": pl.String}))
    table = pl.DataFrame(
        {
            "study_id": np.char.add("s", np.char.zfill(study.astype(str), 4)), "sample_id": np.arange(rows),
            "participant": person, "condition_num": arm, "task_num": task, "item_num": np.zeros(rows, int),
            "stimuli": pl.Series(texts).gather(text), "head": heads,
            "response": np.rint(low + share * (high - low)).astype(int), "scale_low": low, "scale_high": high,
            "gender": genders, "age": ages,
        }
    ).with_columns(
        system=pl.lit(SYSTEM_PROMPT), prompt=pl.col("head") + pl.col("stimuli"), off_scale=pl.lit(False),
        scale_kind=pl.lit("bounded"), scale_step=pl.lit(1, pl.Int64), scale_labels=pl.lit([], labels),
        demographic=pl.struct("age", "gender"),
    )  # fmt: skip
    table = table.drop("head", "gender", "age")
    SPLIT.mkdir(parents=True, exist_ok=True)
    table.write_parquet(SPLIT / "eval.parquet")
    keys = ["study_id", "condition_num", "task_num", "item_num", "scale_kind", "scale_low", "scale_high"]
    table.head(0).select(*keys, "response", count=pl.lit(0, pl.Int64)).write_parquet(
        SPLIT / "train_counts.parquet"
    )


class Standin:
    """A back end whose every answer distribution is a bell around the middle of the scale."""

    def replies(self, *_: Any) -> Iterator[Any]:
        """Never asked: every scale here can be enumerated."""
        raise NotImplementedError

    def can_enumerate(self, answers: Sequence[int]) -> bool:
        """See `asking.Backend`."""
        return True

    def masses(
        self, requests: Sequence[Request], exact: ExactSettings, done: Collection[int] = ()
    ) -> Iterator[tuple[int, Masses | None]]:
        """See `asking.Backend`."""
        bells: dict[tuple[int, ...], np.ndarray] = {}
        for row, request in enumerate(requests):
            answers = request.answers or ()
            if answers not in bells:
                bell = np.exp(-0.5 * np.linspace(-2, 2, len(answers)) ** 2)
                bells[answers] = 0.99 * bell / bell.sum()
            if row not in done:
                yield row, Masses(bells[answers], 0.0)


def predict_all() -> None:
    """The prediction step with the stand-in for a model."""
    from eval.prediction import predictor
    from eval.prediction.run import predict

    predictor.connect = lambda model, settings: Standin()
    predict(SPLIT / "eval.parquet", "stand-in", folder="outputs/socsci210/study/eval/stand-in")


def score_all() -> None:
    """The scoring step."""
    from eval.scoring.run import score_models

    print(score_models("socsci210", "study"))


def report_all() -> None:
    """The report step."""
    from eval.reporting.run import report

    print(report("socsci210", "study"))


STEPS: dict[str, Callable[..., None]] = {
    "generate": generate, "predict": predict_all, "score": score_all, "report": report_all,
}  # fmt: skip


def time_step(step: str, rows: int, home: Path) -> str:
    """Run a step in a process of its own: its seconds and peak memory."""
    code = f"from eval.bench.full import STEPS; STEPS[{step!r}]({rows if step == 'generate' else ''})"
    before, begun = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    path = os.pathsep.join([str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")])
    env = os.environ | {"SOCRATES_HOME": str(home), "PYTHONPATH": path}
    with (home / f"{step}.log").open("w") as log:
        done = subprocess.run([sys.executable, "-c", code], cwd=home, env=env, stdout=log, stderr=log)
    if done.returncode:
        raise Refusal(f"{step} failed: {(home / f'{step}.log').read_text()[-600:]}")
    seconds = time.monotonic() - begun
    peak = max(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss, before.ru_maxrss) / 1024**2
    rate = f"{rows / seconds:10,.0f} rows/s" if step != "report" else ""
    return f"  {step:10} {seconds:7.1f} s   peak so far {peak:5.2f} GB {rate}"


def open_page(page: Path) -> float | None:
    """Seconds that a headless browser takes longer to load the page than an empty one; None without one."""
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if not browser:
        return None
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--dump-dom"]
    flags.append(f"--user-data-dir={page.parent / 'profile'}")
    took = []
    for address in ("about:blank", "about:blank", page.resolve().as_uri()):  # the first makes the profile
        begun = time.monotonic()
        subprocess.run(
            [browser, *flags, address], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True,
            timeout=120,
        )  # fmt: skip
        took.append(time.monotonic() - begun)
    return max(0.0, took[2] - took[1])


def measure_evaluation(rows: int = ROWS) -> Iterator[str]:
    """Run all steps in a temporary folder; yield a line a step. Refuses a page that misses its limits."""
    yield f"{rows:,} rows, {CELLS} cells, {STUDIES} studies; {os.cpu_count()} cores, {platform.machine()}"
    with tempfile.TemporaryDirectory(prefix="bench-full-") as folder:
        home = Path(folder)
        for step in STEPS:
            yield time_step(step, rows, home)
        page = home / "outputs/socsci210/study/report.html"
        size, seconds = page.stat().st_size / 1e6, open_page(page)
        opened = "no browser here" if seconds is None else f"opens in {seconds:.1f} s"
        yield f"  report.html {size:.1f} MB, {opened}"
        if size > LIMIT_MB or (seconds or 0) > LIMIT_SECONDS:
            raise Refusal(
                f"the page misses its limits of {LIMIT_MB:g} MB and {LIMIT_SECONDS:g} s; figures above"
            )
