"""Evaluation rows for tests, as data/README.md describes them."""

from typing import Any

import polars as pl

from common.prompts import SYSTEM_PROMPT

LABELS = pl.List(pl.Struct({"value": pl.Int64, "label": pl.String}))
SCALES: list[dict[str, Any]] = [
    {"scale_kind": "ordinal", "scale_low": 1, "scale_high": 7, "scale_step": 1, "scale_labels": []},
    {"scale_kind": "bounded", "scale_low": -10, "scale_high": 20, "scale_step": 5, "scale_labels": []},
    {
        "scale_kind": "choice", "scale_low": 1, "scale_high": 9, "scale_step": 1,
        "scale_labels": [{"value": value, "label": "x"} for value in (1, 2, 9)],
    },
    {"scale_kind": "open", "scale_low": None, "scale_high": None, "scale_step": None, "scale_labels": []},
]  # fmt: skip


def make_rows(count: int) -> pl.DataFrame:
    """`count` rows of two studies: seven tasks a person, the four kinds of scale in turn."""
    rows = [
        {
            "study_id": f"study{row % 2}",
            "sample_id": row // 2,
            "participant": row // 7,
            "condition_num": 1,
            "task_num": row % 7,
            "item_num": 0,
            "system": SYSTEM_PROMPT,
            "prompt": f"- Age: {20 + row // 7}\n\nQuestion {row % 7}: {'how ' * (row % 7)}?",
        }
        | SCALES[row % 7 % 4]
        for row in range(count)
    ]
    return pl.DataFrame(
        rows, schema_overrides={"scale_labels": LABELS, "scale_low": pl.Int64}, infer_schema_length=None
    )
