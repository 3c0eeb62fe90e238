"""What exact mode costs: against sampled answers, and with and without reading shared beginnings once.

    socrates bench predict [--model outputs/models/tiny] [--people 64] [--repeats 3]

Seven questions a person, on a scale of 1-7 and on one of 0-100, persona first and stimulus first. A
sampled answer is two tokens (a number and the end of the turn), the least that it can be; the prompt is
read once however many answers are drawn from it. Each figure is the fastest of the repeats, which take
turns. Prints seconds, rows a second, and what exact mode costs in sampled answers a row.
"""

import itertools
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch

from common.errors import Refusal
from common.paths import root
from common.prompts import SYSTEM_PROMPT, Order, user_prompt
from common.scale import Scale
from eval.prediction.asking import Request, Sampling
from eval.prediction.backends.local import LocalBackend
from eval.prediction.exact import exact_masses
from eval.prediction.local_model import LocalModel
from eval.prediction.trie import TrieBuilder
from eval.settings import ExactSettings, LocalSettings

LIMITS = {"1-7": 2.0, "0-100": 20.0}  # sampled answers a row that exact mode must cost less than
SCALES = {"1-7": Scale("ordinal", 1, 7), "0-100": Scale("bounded", 0, 100)}
TASKS = 7


def requests(people: int, order: Order, scale: Scale) -> list[Request]:
    """Each person's answers to the same seven questions, worded as in SocSci210."""
    regions = ("Northeast", "Midwest", "South", "West")
    personas = [
        {"age": 18 + n % 70, "gender": ("Female", "Male")[n % 2], "education": f"{n % 9} years after school",
         "employment": "Working full time", "marital_status": "Married", "location": regions[n % 4],
         "income": f"${n % 20 * 10}k", "household_size": 1 + n % 5, "ideology": f"{n % 7} of 7"}
        for n in range(people)
    ]  # fmt: skip
    stories = [
        f"Here is proposal number {task}. " + "Economists expect it to create many jobs in the region. " * 4
        for task in range(TASKS)
    ]
    rows = []
    for n, persona in enumerate(personas):
        for task, story in enumerate(stories):
            text = f"{story}How much do you support it? {scale.sentence()}"
            rows.append(Request(SYSTEM_PROMPT, user_prompt(persona, text, order), (n, task)))
    return rows


def seconds(works: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """The fastest of `repeats` runs of each; they take turns, so that other load falls on all alike."""
    best = dict.fromkeys(works, float("inf"))
    for _ in range(repeats):
        for name, work in works.items():
            start = time.perf_counter()
            work()
            best[name] = min(best[name], time.perf_counter() - start)
    return best


def _measure_scale(
    model: LocalModel, people: int, repeats: int, order: Order, scale_name: str
) -> tuple[bool, str]:
    """One prompt order and scale: (whether exact mode costs less than the limit, the lines to show)."""
    rows = requests(people, order, SCALES[scale_name])
    prompts = model.encoder.encode([r.system for r in rows], [r.prompt for r in rows])
    trie = TrieBuilder(model.tokenizer).build(SCALES[scale_name].answers() or ())
    backend = LocalBackend(model)
    shared, apart = model.settings, model.settings.model_copy(update={"reuse_prefixes": False})

    def exact(settings: LocalSettings) -> None:
        model.settings = settings
        list(exact_masses(model, prompts, [trie] * len(prompts), ExactSettings()))
        model.settings = shared

    works: dict[str, Callable[[], object]] = {
        "exact": lambda: exact(shared),
        "exact, nothing shared": lambda: exact(apart),
    }
    for samples in (1, 2, 20):
        works[f"{samples} sampled"] = lambda k=samples: list(backend.replies(rows, Sampling(k, 1.0, 1.0, 2)))  # type: ignore[misc]
    took = seconds(works, repeats)
    length = sum(map(len, prompts)) / len(prompts)
    lines = [
        f"\n{order}, {scale_name}: {len(rows)} rows of {length:.0f} tokens, {len(trie)} nodes in the trie"
    ]
    for name, second in took.items():
        relative = second / took["1 sampled"]
        lines.append(
            f"  {name:22} {second:7.2f} s  {len(rows) / second:7.0f} rows/s  {relative:6.2f} x one sampled"
        )
    ratio, limit = took["exact"] / took["1 sampled"], LIMITS[scale_name]
    gain = took["exact, nothing shared"] / took["exact"]
    verdict = "ok" if ratio < limit else "MISSED"
    lines.append(f"  sharing beginnings makes exact mode {gain:.2f} times as fast")
    lines.append(f"  exact costs {ratio:.2f} sampled answers a row; the limit is {limit:g}: {verdict}")
    return ratio < limit, "\n".join(lines)


def measure_prediction(model: Path | None = None, people: int = 64, repeats: int = 3) -> Iterator[str]:
    """Yield what exact mode costs in each prompt order and on each scale, as it is measured.

    model: its folder, default the tiny model. repeats: of so many the fastest counts. Raises `Refusal` at the
    end if exact mode costs more than its limit.
    """
    folder = model or root() / "outputs/models/tiny"
    if not folder.is_dir():
        raise Refusal(f"the model {folder} is missing; `socrates data tiny` makes the tiny ones")
    local = LocalModel(str(folder), LocalSettings())
    yield f"{folder} on {local.device}, {torch.get_num_threads()} threads, torch {torch.__version__}"
    orders: tuple[Order, ...] = ("persona-first", "stimulus-first")
    missed = False
    for order, scale in itertools.product(orders, SCALES):
        within, lines = _measure_scale(local, people, repeats, order, scale)
        missed = missed or not within
        yield lines
    if missed:
        raise Refusal("exact mode costs more than its limit; the figures are above")
