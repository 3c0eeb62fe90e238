"""A small data set in the hub's layout, with the traps of the real one, for tests."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from common.prompts import DEMOGRAPHIC_FIELDS, user_prompt

# Quotes, line separators, control characters, other scripts: one line a row in every reader all the same.
NASTY = 'He said "no"\\ yes\u2028next\u2029par\u0085nel\x0bvt\x0cff\x1ctab\there, naïve 日本 🙂'
SENTENCES = (
    "Only return an integer from 1 to 7, where 1 means never and 7 means always, nothing else.",
    "Only return an integer: 0 = no, 1 = yes, nothing else.",
    "Only return an integer from -3 to 3, nothing else.",
    "Only return an integer representing dollars, nothing else.",
)
RANGES = ((1, 7), (0, 1), (-3, 3), (0, 5000))


def small_rows(
    studies: int = 4, people: int = 24, arms: int = 3, tasks: int = 3, seed: int = 0
) -> list[dict]:
    """Rows in order: sample ids restart in each study; task 0 has two texts; some answers are off scale."""
    rng = np.random.default_rng(seed)
    rows = []
    for study in range(studies):
        sample = 0
        for person in range(people):
            arm = person % arms
            demographic: dict[str, Any] = dict.fromkeys(DEMOGRAPHIC_FIELDS)
            if person % 5:
                demographic |= {"age": 20 + person, "gender": "Female", "party_id": f'"{person}"'}
                demographic |= {"household_size": str(person % 4)}
            for task in range(tasks):
                for text in range(2 if task == 0 else 1):
                    number = (study + task) % len(SENTENCES)
                    stimuli = (
                        f"Story {study}.{arm}.{task}.{text} {NASTY if person % 2 or arm else ''}".strip()
                    )
                    stimuli = f"{stimuli}\nWhat now? {SENTENCES[number]}"
                    low, high = RANGES[number]
                    rows.append(
                        {
                            "study_id": f"st{study}",
                            "sample_id": sample,
                            "participant": person,
                            "demographic": demographic,
                            "stimuli": stimuli,
                            "response": 99 if sample % 17 == 3 else int(rng.integers(low, high + 1)),
                            "condition_num": arm,
                            "task_num": task,
                            "prompt": user_prompt(demographic, stimuli),
                            "reasoning": None if sample % 7 == 0 else f'Because "so" {sample}\nthen.',
                        }
                    )
                    sample += 1
    return rows


def mappings(studies: int = 4, arms: int = 3, tasks: int = 3) -> dict[str, Any]:
    """The three released mappings; the last study is in none of the last two."""
    named = [f"st{number}" for number in range(studies)]
    sides = {
        name: {
            study: {"train": list(range(count - 1)), "eval": [count - 1]}
            for study, count in zip(named[:-1], [count] * studies, strict=False)
        }
        for name, count in (("task", tasks), ("condition", arms))
    }
    return {"participant": {"seen": named[:-1], "unseen": named[-1:]}, **sides}


def write_source(
    folder: Path, rows: list[dict] | None = None, shards: int = 2, **columns: pa.DataType
) -> Path:
    """Write rows and mappings as a folder in the hub's layout; `columns` overrides column types."""
    rows = small_rows() if rows is None else rows
    (folder / "data").mkdir(parents=True, exist_ok=True)
    (folder / "metadata").mkdir(exist_ok=True)
    bounds = np.linspace(0, len(rows), shards + 1).astype(int)
    for number in range(shards):
        part = rows[bounds[number] : bounds[number + 1]]
        fields = DEMOGRAPHIC_FIELDS if number % 2 == 0 else DEMOGRAPHIC_FIELDS[::-1]
        kind = pa.struct([(name, pa.int64() if name == "age" else pa.string()) for name in fields])
        types = {"demographic": kind, "reasoning": pa.string(), **columns}
        table = pa.table(
            {name: pa.array([row[name] for row in part], types.get(name)) for name in (part or rows)[0]}
        )
        path = folder / f"data/train-{number:05d}-of-{shards:05d}.parquet"
        pq.write_table(table, path, row_group_size=100)
    for name, mapping in mappings().items():
        (folder / f"metadata/{name}_mapping.json").write_text(json.dumps(mapping))
    return folder
