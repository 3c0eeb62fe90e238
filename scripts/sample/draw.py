"""Make the synthetic sample: a population of known answer distributions, in SocSci210's exact layout.

    socrates data sample [--seed N]

Writes to `data/sample/source/` (as a whole, or not at all):

    data/train-0000N-of-00003.parquet       the ten columns of SocSci210
    metadata/{participant,task,condition}_mapping.json    the split mappings, as released
    truth.parquet                           the true distribution of every item's answers
    truth_rows.parquet                      every row's true distribution: what a perfect model predicts
    sample.json                             the record, written last

**The generating process.** People are drawn with 16 correlated fields (`scripts/sample/people.py`); each
study has its own people and assigns them to its arms at random. For person i and proposal p in an arm
with frame f (`scripts/sample/studies.py`), the latent support is

    eta_i = popularity_p + sum_t loading_pt * trait_it + effect_f + sum_t by_ft * trait_it
    y_i   = eta_i + u_i + e_i,   u_i ~ N(0, 0.5^2) once a person,   e_i ~ N(0, 1 - 0.5^2)

and the answer is the scale's point nearest to centre + sign * width * y_i. On long scales a person
rounds to tens, to fives or not at all, and open questions are answered in round numbers. Without an
order of the answers, an option is drawn from softmax(utilities). In some studies a small share gives a
code outside the stated scale. So the true distribution of a row is, per answer, a difference of normal
distribution functions (mixed over rounding and stray codes): that of a model which knows all of the
person's fields but not u_i. An item's truth is the mean over the people who answered it.

truth.parquet: study_id, condition_num, task_num, item_num, n (answers), form, scale_kind, scale_low,
scale_high, scale_step, answers list<int64> (ascending), probs list<float64>.
truth_rows.parquet: study_id, sample_id, answers list<int64>, probs list<float32>: the columns of foreign
predictions, so that `eval` can score a perfect model.

Same seed, same bytes.
"""

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from common.files import atomic_path, fingerprint, sha256_file, write_json
from common.paths import source_dir
from common.prompts import DEMOGRAPHIC_FIELDS, user_prompt
from common.readers import read_json
from common.step import Step, describe
from scripts.sample.answers import PERSON_SD, draw_answers
from scripts.sample.people import draw_people, with_gaps
from scripts.sample.studies import FORMS, FRAMES, PROPOSALS, STUDIES, Form, Study

SEED = 210
SHARDS = 3
MISSING = 0.04  # share of a recorded field's values that are missing all the same
LEADS = ("Here is a proposal: {}.", "Lawmakers discuss {}.", "Think about {}.")
# Unseen studies have their own, so that no text of theirs stands in a seen study.
UNSEEN_LEADS = ("Lawmakers discuss a proposal: {}.", "Think about a proposal: {}.")

INTEGER_FIELDS = ("age", "household_size")
DEMOGRAPHIC = pa.struct(
    [(name, pa.int64() if name in INTEGER_FIELDS else pa.string()) for name in DEMOGRAPHIC_FIELDS]
)
SCHEMA = pa.schema(
    [
        ("study_id", pa.string()),
        ("sample_id", pa.int64()),
        ("participant", pa.int64()),
        ("demographic", DEMOGRAPHIC),
        ("stimuli", pa.string()),
        ("response", pa.int64()),
        ("condition_num", pa.int64()),
        ("task_num", pa.int64()),
        ("prompt", pa.string()),
        ("reasoning", pa.string()),
    ]
)
TRUTH = pa.schema(
    [
        ("study_id", pa.string()),
        ("condition_num", pa.int64()),
        ("task_num", pa.int64()),
        ("item_num", pa.int64()),
        ("n", pa.int64()),
        ("form", pa.string()),
        ("scale_kind", pa.string()),
        ("scale_low", pa.int64()),
        ("scale_high", pa.int64()),
        ("scale_step", pa.int64()),
        ("answers", pa.list_(pa.int64())),
        ("probs", pa.list_(pa.float64())),
    ]
)
TRUTH_ROWS = pa.schema(
    [
        ("study_id", pa.string()),
        ("sample_id", pa.int64()),
        ("answers", pa.list_(pa.int64())),
        ("probs", pa.list_(pa.float32())),
    ]
)


def stimulus(study_index: int, proposal: str, frame: str, form: Form) -> str:
    """The stimulus text: proposal, frame, question, answer format. Studies differ in their wordings."""
    wordings = FRAMES[frame].wordings
    leads = LEADS if STUDIES[study_index].seen else UNSEEN_LEADS
    lead = leads[study_index % len(leads)].format(PROPOSALS[proposal].text)
    parts = (lead, wordings[study_index % len(wordings)], form.question, form.answer_format())
    return " ".join(part for part in parts if part)


def _asked(study: Study, arm: int) -> list[tuple[int, int, str, str]]:
    """What the people of an arm are asked, in order: (task_num, item_num, form, proposal)."""
    renamed = study.arm_forms.get(arm, {})
    return [
        (task, item, renamed.get(name, name), proposal)
        for task, (name, proposals) in enumerate(study.tasks)
        for item, proposal in enumerate(proposals)
    ]


def draw_study(study: Study, index: int, seed: int) -> tuple[pa.Table, pa.Table, pa.Table]:
    """Draw one study: its rows (by participant, then task), its items' truths, its rows' truths."""
    rng = np.random.default_rng([seed, index])
    fields, traits = draw_people(rng, study.people)
    people = with_gaps(rng, fields, study.fields, MISSING)
    deviation = rng.normal(0, PERSON_SD, study.people)
    arm_of = rng.permutation(np.arange(study.people) % len(study.arms))
    rows: list[tuple[int, int, dict[str, Any]]] = []
    items = []
    for arm, frame in enumerate(study.arms):
        member = np.flatnonzero(arm_of == arm)
        local = {name: values[member] for name, values in traits.items()}
        for position, (task, item, name, proposal) in enumerate(_asked(study, arm)):
            form = FORMS[name]
            answers, probs, given = draw_answers(
                form, proposal, frame, local, deviation[member], study.stray, rng
            )
            cell = {"study_id": study.study_id, "condition_num": arm, "task_num": task}
            scale = {f"scale_{key}": getattr(form.scale, key) for key in ("kind", "low", "high", "step")}
            truth = {"answers": answers.tolist(), "probs": probs.mean(axis=0).tolist()}
            items.append(cell | {"item_num": item, "n": len(member), "form": name} | scale | truth)
            shared = cell | {"stimuli": stimulus(index, proposal, frame, form), "answers": answers}
            for who, response, chances in zip(member.tolist(), given.tolist(), probs, strict=True):
                of_person = {"participant": who, "response": response, "probs": chances.astype(np.float32)}
                rows.append((who, position, shared | of_person))
    rows.sort(key=lambda entry: entry[:2])
    whole = []
    for sample_id, (who, _, row) in enumerate(rows):
        person = people[who]
        prompt, reasoning = user_prompt(person, row["stimuli"]), _reasoning(person, row["response"])
        whole.append(
            row | {"sample_id": sample_id, "demographic": person, "prompt": prompt, "reasoning": reasoning}
        )
    return (
        pa.Table.from_pylist(whole, SCHEMA),
        pa.Table.from_pylist(items, TRUTH),
        pa.Table.from_pylist(whole, TRUTH_ROWS),
    )


def _reasoning(person: Mapping[str, Any], response: int) -> str:
    traits = [str(person[name]) for name in ("ideology", "party_id", "education") if person[name] is not None]
    who = ", ".join(traits).lower() or "little known"
    return f"The person is described so: {who}. With these views an answer of {response} is plausible."


def split_mappings(seed: int) -> dict[str, Any]:
    """The three mappings in the released shape: about a quarter of each study's arms and tasks held out."""
    rng = np.random.default_rng([seed, len(STUDIES)])
    conditions: dict[str, dict[str, list[int]]] = {}
    tasks: dict[str, dict[str, list[int]]] = {}
    for study in STUDIES:
        for mapping, count in ((conditions, len(study.arms)), (tasks, len(study.tasks))):
            held = int(rng.integers(count))
            mapping[study.study_id] = {"train": [n for n in range(count) if n != held], "eval": [held]}
    return {
        "participant": {
            "seen": [study.study_id for study in STUDIES if study.seen],
            "unseen": [study.study_id for study in STUDIES if not study.seen],
        },
        "condition": conditions,
        "task": tasks,
    }


def draw_sample(seed: int) -> tuple[pa.Table, pa.Table, pa.Table]:
    """All studies: the rows, the items' truths, the rows' truths."""
    drawn = [draw_study(study, index, seed) for index, study in enumerate(STUDIES)]
    rows, items, truths = (pa.concat_tables(tables) for tables in zip(*drawn, strict=True))
    return rows, items, truths


@dataclass(frozen=True)
class Sample:
    """The drawn sample on disk. new: it was written now, not before."""

    folder: Path
    rows: int
    people: int
    studies: int
    new: bool

    def __str__(self) -> str:
        if not self.new:
            return f"{self.folder}: nothing to do, the sample is up to date"
        return f"{self.folder}: {self.rows:,} answers of {self.people:,} people in {self.studies} studies"


def make_sample(seed: int = SEED, folder: Path | None = None) -> Sample:
    """Write the sample to `folder` (data/sample/source), replacing it as a whole, unless it is there."""
    folder = folder or source_dir("sample")
    inputs = fingerprint({"seed": seed, "sources": source_sums()})
    with Step(folder / "sample.json", inputs, whole=True) as step:
        new = not step.done
        if new:
            _write(folder, seed, inputs)
        record = read_json(step.record, f"remove {folder} and run the same command again")
    return Sample(folder, record["rows"], record["people"], record["studies"], new)


def _write(folder: Path, seed: int, inputs: str) -> None:
    rows, items, truths = draw_sample(seed)
    with atomic_path(folder) as partial:
        (partial / "data").mkdir(parents=True)
        (partial / "metadata").mkdir()
        bounds = np.linspace(0, len(rows), SHARDS + 1).astype(int)
        for shard, (start, stop) in enumerate(itertools.pairwise(bounds)):
            name = f"train-{shard:05d}-of-{SHARDS:05d}.parquet"
            pq.write_table(rows.slice(start, stop - start), partial / "data" / name, compression="zstd")
        for name, mapping in split_mappings(seed).items():
            write_json(partial / "metadata" / f"{name}_mapping.json", mapping)
        pq.write_table(items, partial / "truth.parquet", compression="zstd")
        pq.write_table(truths, partial / "truth_rows.parquet", compression="zstd")
        files = sorted(str(path.relative_to(partial)) for path in partial.rglob("*.*") if path.is_file())
        record = {
            "inputs": inputs,
            "seed": seed,
            "rows": len(rows),
            "studies": len(STUDIES),
            "people": sum(study.people for study in STUDIES),
            "files": describe(partial, files),
        }
        write_json(partial / "sample.json", record)


def source_sums() -> list[str]:
    """SHA-256 of every source file that decides what the sample holds."""
    here = Path(__file__).parent
    common = here.parents[1] / "common"
    sources = [
        *(here / f"{m}.py" for m in ("draw", "people", "studies", "answers")),
        *(common / f"{m}.py" for m in ("prompts", "scale")),
    ]
    return [sha256_file(path) for path in sources]
