"""Measure the converter on data in the real proportions, against the floor and the plain ways.

    socrates bench convert [--rows 2901390] [--folder FOLDER] [--plain-rows 50000] [--runs 2]

Generates 210 studies, 5,998 cells and 400,491 people (fewer people and rows with smaller --rows), then
runs each way in a process of its own: whole time with start and sync, peak memory of the process (and
of a quarter of the rows).
Floor: read the parquet columns that a conversion must read while another thread writes as many bytes.
The plain ways write SFT lines only: a polars script all of them, `datasets.map` with `to_json` and a pandas
loop the first --plain-rows; they are compared by row with the floor of the lines that polars writes.
Every figure is of this run on this machine; the folder is removed after.
"""

import json
import os
import platform
import queue
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from common.errors import Refusal
from common.files import write_json
from common.prompts import DEMOGRAPHIC_FIELDS, SYSTEM_PROMPT, user_prompt

FULL_ROWS, PEOPLE, STUDIES, CELLS, SHARDS = 2_901_390, 400_491, 210, 5_998, 17
ARMS = 6  # arms of a study; outcomes fill up the cells
GROUP_ROWS = 50_000
WORDS = (
    "the policy would raise taxes on families and firms while public services in the city improve and "
    "people who read the news say that leaders should listen to citizens before they decide what to do"
)
COLUMNS = (
    "study_id", "sample_id", "participant", "demographic", "stimuli", "condition_num", "task_num", "prompt",
)  # fmt: skip


@dataclass
class World:
    """What the generated rows are drawn from."""

    study_of: np.ndarray  # the study of each person
    turns: np.ndarray  # rows of each person
    names: list[str]
    outcomes: list[int]  # outcomes of each study
    stimuli: dict[tuple[int, int, int, int], str]  # by study, arm, outcome and one of two texts


def generate(folder: Path, rows: int) -> None:
    """Write `rows` rows in the hub's layout: shards in the order of studies and people, as the real ones."""
    (folder / "data").mkdir(parents=True)
    rng = np.random.default_rng(0)
    world = _world(rng, rows)
    bounds = np.linspace(0, len(world.study_of), SHARDS + 1).astype(int)
    sample = [0] * STUDIES
    for shard in range(SHARDS):
        path = folder / f"data/train-{shard:05d}-of-{SHARDS:05d}.parquet"
        _write_shard(path, world, range(bounds[shard], bounds[shard + 1]), sample, rng)
    (folder / "metadata").mkdir()
    mapping = {"seen": world.names[:170], "unseen": world.names[170:]}
    write_json(folder / "metadata/participant_mapping.json", mapping)


def _world(rng: np.random.Generator, rows: int) -> World:
    people = max(STUDIES, PEOPLE * rows // FULL_ROWS)
    names = [f"st{number:03d}" for number in range(STUDIES)]
    least, more = divmod(CELLS // ARMS, STUDIES)
    outcomes = [least + (number < more) for number in range(STUDIES)]
    turns = np.full(people, rows // people)
    turns[: rows - int(turns.sum())] += 1
    stimuli = {
        (study, arm, task, text): _stimulus(rng, f"{task}.{text} of arm {arm} of {names[study]}")
        for study in range(STUDIES)
        for arm in range(ARMS)
        for task in range(outcomes[study])
        for text in range(2)
    }
    study_of = np.sort(np.r_[np.arange(STUDIES), rng.integers(0, STUDIES, people - STUDIES)])
    return World(study_of, turns, names, outcomes, stimuli)


def _stimulus(rng: np.random.Generator, name: str) -> str:
    length = int(np.clip(rng.lognormal(6.35, 0.75), 30, 4500))
    vocabulary = WORDS.split()
    words = " ".join(vocabulary[n] for n in rng.integers(0, len(vocabulary), length // 5))[:length]
    return (
        f'{words}\n\n"Question {name}": do you agree? Only return an integer from 1 to 7, where 1 means '
        "strongly disagree and 7 means strongly agree, nothing else."
    )


def _write_shard(
    path: Path, world: World, people: range, sample: list[int], rng: np.random.Generator
) -> None:
    columns: dict[str, list[Any]] = {name: [] for name in COLUMNS}
    writer: pq.ParquetWriter | None = None
    for person in people:
        study = int(world.study_of[person])
        arm = person % ARMS
        demographic: dict[str, Any] = {name: f"{name} {person % 17} of a kind" for name in DEMOGRAPHIC_FIELDS}
        demographic |= {"age": 18 + person % 70, "ethnicity": None, "education": f"degree number {person}"}
        for turn in range(int(world.turns[person])):
            task, text = turn % world.outcomes[study], turn // world.outcomes[study] % 2
            stimulus = world.stimuli[study, arm, task, text]
            prompt = user_prompt(demographic, stimulus)
            row = (world.names[study], sample[study], person, demographic, stimulus, arm, task, prompt)
            sample[study] += 1
            for column, value in zip(columns.values(), row, strict=True):
                column.append(value)
        if len(columns["prompt"]) >= GROUP_ROWS or person == people[-1]:
            count = len(columns["prompt"])
            reasoning = ["Somebody like this would answer so."] * count
            table = pa.table(columns | {"response": rng.integers(1, 8, count), "reasoning": reasoning})
            writer = writer or pq.ParquetWriter(path, table.schema)
            writer.write_table(table)
            columns = {name: [] for name in COLUMNS}
    if writer:
        writer.close()


def floor(folder: str, total: int) -> None:
    """Read what a conversion must read; write `total` bytes of it meanwhile; sync."""
    waiting: queue.Queue[Any] = queue.Queue(4)
    target = Path(folder, "floor.bin")

    def write() -> None:
        left = total
        with target.open("wb", buffering=0) as file:
            while (data := waiting.get()) is not None:
                while left > 0 and len(data):
                    written = file.write(data[: min(left, len(data))])
                    data, left = data[written:], left - written
            while left > 0:
                left -= file.write(b"x" * min(left, 2**24))
            os.fsync(file.fileno())

    thread = threading.Thread(target=write)
    thread.start()
    columns = [
        "study_id",
        "sample_id",
        "participant",
        "response",
        "condition_num",
        "task_num",
        "prompt",
        "stimuli",
    ]
    for path in sorted(Path(folder, "data").glob("*.parquet")):
        for batch in pq.ParquetFile(path, read_dictionary=["stimuli"]).iter_batches(16_384, columns=columns):
            waiting.put(memoryview(batch.column("prompt").buffers()[2]))
    waiting.put(None)
    thread.join()
    target.unlink()


def plain_datasets(folder: str, rows: int) -> None:
    """`datasets.map`, row by row, then `to_json`: what most people write first."""
    import datasets

    datasets.disable_progress_bars()
    table = datasets.load_dataset("parquet", data_files=_first_shard(folder), split=f"train[:{rows}]")
    lines = table.map(
        lambda row: {"system": SYSTEM_PROMPT, "instruction": row["prompt"], "output": str(row["response"])},
        remove_columns=table.column_names,
    )
    lines.to_json(str(Path(folder, "datasets.jsonl")))


def plain_pandas(folder: str, rows: int) -> None:
    """A pandas loop with `json.dumps`."""
    import pandas

    frame = pandas.read_parquet(_first_shard(folder)).head(rows)
    with Path(folder, "pandas.jsonl").open("w") as file:
        for _, row in frame.iterrows():
            line = {"system": SYSTEM_PROMPT, "instruction": row["prompt"], "output": str(row["response"])}
            file.write(json.dumps(line) + "\n")


def _first_shard(folder: str) -> str:
    return str(min(Path(folder, "data").glob("*.parquet")))


def plain_polars(folder: str) -> None:
    """A polars script that writes SFT lines of every row: no split, keys, checks or sums."""
    import polars

    rows = polars.scan_parquet(Path(folder, "data/*.parquet"))
    system = polars.lit(SYSTEM_PROMPT).alias("system")
    output = polars.col("response").cast(polars.String).alias("output")
    lines = rows.select(system, polars.col("prompt").alias("instruction"), output)
    lines.sink_ndjson(Path(folder, "polars.jsonl"))


def ours(folder: str, settings: str, workers: int) -> None:
    """The converter itself, on the study split."""
    from scripts.data.make import make_data
    from scripts.data.settings import DataSettings

    make_data(folder, "study", DataSettings.model_validate_json(settings), workers=workers, force=True)


Figures = tuple[float, float, float]  # seconds, CPU seconds, peak MB
WAYS: dict[str, Callable[..., None]] = {
    way.__name__: way for way in (floor, plain_datasets, plain_pandas, plain_polars, ours)
}


def time_way(way: str, folder: Path, *arguments: Any) -> Figures:
    """(seconds, CPU seconds, peak MB) of one way, in a process of its own."""
    script = f"from scripts.bench.convert import WAYS; WAYS[{way!r}]({str(folder)!r}, *{arguments!r})"
    code = str(Path(__file__).parents[2])
    environment = os.environ | {"PYTHONPATH": code, "SOCRATES_HOME": str(folder.parent),
                                "HF_DATASETS_CACHE": str(folder / "cache")}  # fmt: skip
    started = time.monotonic()
    process = subprocess.Popen([sys.executable, "-c", script], cwd=folder.parent, env=environment,
                               stdout=subprocess.DEVNULL)  # fmt: skip
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    seconds = time.monotonic() - started
    if process.returncode:
        raise Refusal(f"the way `{way}` ended with exit code {process.returncode}; its message is above")
    return seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def written(folder: Path) -> int:
    """Bytes of the data set that the converter wrote."""
    out = folder.parent / "data" / folder.name / "study"
    return sum(file.stat().st_size for file in out.iterdir())


def measure_conversion(
    rows: int = FULL_ROWS,
    plain_rows: int = 50_000,
    runs: int = 2,
    workers: int = 2,
    folder: Path | None = None,
) -> Iterator[str]:
    """Generate rows, convert them, and yield the table's lines as they are measured.

    runs: of so many the best is shown. plain_rows: what the slow plain ways get. folder: where to work,
    default a temporary one. The last line says what it was measured on.
    """
    with tempfile.TemporaryDirectory(prefix="bench-convert-", dir=folder) as name:
        home = Path(name).resolve()
        folder = home / "bench"
        yield _generate_apart(home, rows)
        yield f"{'way':28}{'s':>7}{'CPU s':>7}{'rows/s':>11}{'x floor':>9}{'CPU x':>7}{'peak MB':>9}{'MB':>8}"
        for form in ("jsonl", "parquet"):
            yield from _measure_form(home, form, rows, runs, workers)
        yield from _measure_plain_ways(folder, rows, plain_rows, runs)
    yield (
        f"{platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, Python "
        f"{platform.python_version()}, pyarrow {pa.__version__}; best of {runs} whole processes, {workers} "
        "workers; the plain ways are compared by row with the floor of their lines"
    )


def _generate_apart(home: Path, rows: int) -> str:
    """Generate all rows and a quarter of them, in another process: its memory must not count as ours."""
    started = time.monotonic()
    process = os.fork()
    if process == 0:
        generate(home / "bench", rows)
        generate(home / "quarter", rows // 4)
        os._exit(0)
    os.waitpid(process, 0)
    size = sum(file.stat().st_size for file in (home / "bench/data").iterdir())
    return f"generated {rows:,} rows, {size / 1e6:,.0f} MB of parquet, in {time.monotonic() - started:.0f} s"


def _measure_form(home: Path, form: str, rows: int, runs: int, workers: int) -> Iterator[str]:
    """SFT and DPO in one format, each against its floor, and how memory grows with the rows."""
    folder, best = home / "bench", {}
    for stage in ("sft", "dpo"):
        settings = json.dumps({"format": form, "outputs": [stage]})
        ours, bases = [], []
        for _ in range(runs):  # by turns, so that other work on the machine meets both
            ours.append(time_way("ours", folder, settings, workers))
            total = written(folder)
            bases.append(time_way("floor", folder, total))
        best[stage], base = min(ours), min(bases)
        yield _line(f"{stage} to {form}", best[stage], rows, base, rows, total)
        yield _line("  its floor", base, rows, base, rows, total)
    yield f"{form}: DPO takes {best['dpo'][0] / best['sft'][0]:.2f} times SFT"
    most = max(peak for _, _, peak in best.values())
    less = time_way("ours", home / "quarter", json.dumps({"format": form, "outputs": ["dpo"]}), workers)[2]
    grown = (most - less) * 1e6 / (rows - rows // 4)
    sizes = f"{less:.0f} MB at {rows // 4:,} rows, {most:.0f} MB at {rows:,}"
    yield f"{form}: peak {sizes}: {grown:.0f} bytes a row"


def _measure_plain_ways(folder: Path, rows: int, plain_rows: int, runs: int) -> Iterator[str]:
    """What a script of one's own would take for SFT lines alone: polars, `datasets.map`, a pandas loop."""
    polars = [time_way("plain_polars", folder) for _ in range(runs)]
    size = (folder / "polars.jsonl").stat().st_size
    base = min(time_way("floor", folder, size) for _ in range(runs))
    yield _line("plain_polars, SFT lines only", min(polars), rows, base, rows, size)
    count = min(plain_rows, rows // SHARDS)
    for way in ("plain_datasets", "plain_pandas"):
        yield _line(f"{way}, {count:,} rows", time_way(way, folder, count), count, base, rows, 0)


def _line(name: str, figures: Figures, rows: int, base: Figures, base_rows: int, total: int) -> str:
    seconds, cpu, peak = figures
    ratio, cpu_ratio = (figures[n] / rows / (base[n] / base_rows) for n in (0, 1))
    size = f"{total / 1e6:8,.0f}" if total else ""
    rate = f"{rows / seconds:11,.0f}"
    return f"{name:28}{seconds:7.1f}{cpu:7.1f}{rate}{ratio:9.2f}{cpu_ratio:7.2f}{peak:9.0f}{size}"
