"""Evaluation rows: keys, prompt, answer, scale and person, so that the evaluator needs nothing else."""

import numpy as np
import pyarrow as pa

from common.prompts import SYSTEM_PROMPT
from common.scale import Scale
from scripts.data.assemble import Stimuli
from scripts.data.facts import Rows
from scripts.data.outputs import Batch, prompt_column
from scripts.data.source import demographic_column

LABEL = pa.struct([("value", pa.int64()), ("label", pa.string())])


class EvaluationRows:
    """Builds tables of `eval.parquet` and `validation.parquet`; item facts are looked up, not recomputed."""

    def __init__(
        self, rows: Rows, off_scale: np.ndarray, demographic: pa.StructType, stimuli: Stimuli
    ) -> None:
        self.rows, self.off_scale, self.demographic, self.stimuli = rows, off_scale, demographic, stimuli
        items = rows.items
        self.by_text = scale_columns(items.text_scales)
        self.texts = pa.array(stimuli.texts, pa.string())
        self.by_item = pa.table(
            {
                "study_id": pa.array(rows.studies).take(pa.array(items.study)),
                "condition_num": items.condition,
                "task_num": items.task,
                "item_num": items.item_num,
            }
        )

    def table(self, batch: Batch, source: pa.Table) -> pa.Table:
        """The rows of `batch`; `source` is the part of the source that they stand in."""
        rows, number = self.rows, batch.number
        item = rows.item[number]
        keys = self.by_item.take(pa.array(item)).combine_chunks()
        text = rows.items.text[item]
        used, place = np.unique(text, return_inverse=True)
        stimuli = pa.DictionaryArray.from_arrays(place.astype(np.int32), self.texts.take(pa.array(used)))
        people = source.column("demographic").combine_chunks().take(pa.array(batch.at))
        system = pa.DictionaryArray.from_arrays(np.zeros(len(number), np.int32), pa.array([SYSTEM_PROMPT]))
        return pa.table(
            {
                "study_id": keys["study_id"],
                "sample_id": rows.sample[number].astype(np.int64),
                "participant": rows.people[rows.person[number]],
                "condition_num": keys["condition_num"],
                "task_num": keys["task_num"],
                "item_num": keys["item_num"],
                "system": system,
                "prompt": prompt_column(batch, self.stimuli),
                "stimuli": stimuli,
                "response": rows.response[number].astype(np.int64),
                **{name: column.take(pa.array(text)) for name, column in self.by_text.items()},
                "off_scale": self.off_scale[number],
                "demographic": demographic_column(people, self.demographic),
            }
        )


def scale_columns(scales: list[Scale]) -> dict[str, pa.Array]:
    """The scales as columns of the contract."""
    labels = [[{"value": value, "label": label} for value, label in scale.labels] for scale in scales]
    stated = [scale.low is not None for scale in scales]
    steps = [scale.step if known else None for scale, known in zip(scales, stated, strict=True)]
    return {
        "scale_kind": pa.array([scale.kind for scale in scales], pa.string()),
        "scale_low": pa.array([scale.low for scale in scales], pa.int64()),
        "scale_high": pa.array([scale.high for scale in scales], pa.int64()),
        "scale_step": pa.array(steps, pa.int64()),
        "scale_labels": pa.array(labels, pa.list_(LABEL)),
    }
