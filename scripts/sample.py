"""Make the synthetic sample: a population of known answer distributions, in SocSci210's exact layout.

    python -m scripts.sample [--seed N] [--out FOLDER]

Writes to `data/sample/source/` (as a whole, or not at all):

    data/train-0000N-of-00003.parquet       the ten columns of SocSci210
    metadata/{participant,task,condition}_mapping.json    the split mappings, as released
    truth.parquet                           the true distribution of every item's answers
    truth_rows.parquet                      every row's true distribution: what a perfect model predicts
    sample.json                             the record, written last

**The generating process.** People are drawn with 16 correlated fields (`scripts/sample_people.py`); each
study has its own people and assigns them to its arms at random. For person i and proposal p in an arm
with frame f (`scripts/sample_studies.py`), the latent support is

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

import argparse
import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from scipy.special import ndtr, softmax

from common.files import atomic_path, fingerprint, read_json, run_cli, sha256_file, up_to_date, write_json
from common.paths import source_dir
from common.prompts import DEMOGRAPHIC_FIELDS, user_prompt
from scripts.sample_people import Rng, Table, draw_people, with_gaps
from scripts.sample_studies import FORMS, FRAMES, PROPOSALS, REASON_SHIFTS, REASONS, STUDIES, Form, Study

SEED = 210
SHARDS = 3
MISSING = 0.04  # share of a recorded field's values that are missing all the same
PERSON_SD = 0.5  # the part of the latent answer that is the person's own, beyond the 16 fields
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
Mixture = list[tuple[float, np.ndarray, np.ndarray]]


def _loaded(loadings: Mapping[str, float], traits: Table) -> np.ndarray:
    return sum((weight * traits[name] for name, weight in loadings.items()), np.zeros(len(traits["age"])))


def latent_support(proposal: str, frame: str, traits: Table) -> np.ndarray:
    """`eta`: the mean latent support of each person, in standard deviations; shape (people,)."""
    base, added = PROPOSALS[proposal], FRAMES[frame]
    return base.popularity + added.effect + _loaded(base.loadings, traits) + _loaded(added.by, traits)


def _mixture(form: Form) -> Mixture:
    """How latent values become answers: (share of people, ascending answers, cuts between them)."""
    if form.ladder:
        grids = [(1.0, np.array(form.ladder), np.arange(len(form.ladder)))]
    else:
        assert form.scale.low is not None
        assert form.scale.high is not None
        rounded = ((form.heaps[0], 10), (form.heaps[1], 5), (1 - sum(form.heaps), form.scale.step))
        grids = [
            (share, points, points)
            for share, step in rounded
            if share > 0 and (points := np.arange(form.scale.low, form.scale.high + 1, step)).size
        ]
    return [
        (share, answers, ((places[1:] + places[:-1]) / 2 - form.centre) / form.width)
        for share, answers, places in grids
    ]


def ordered_distribution(form: Form, eta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Ascending answers, shape (k,), and each person's true probabilities of them, shape (people, k)."""
    mixture = _mixture(form)
    answers = np.unique(np.concatenate([points for _, points, _ in mixture]))
    probs = np.zeros((len(eta), len(answers)))
    for share, points, cuts in mixture:
        below = ndtr(cuts[None, :] - form.sign * eta[:, None])
        edges = np.concatenate([np.zeros((len(eta), 1)), below, np.ones((len(eta), 1))], axis=1)
        probs[:, np.searchsorted(answers, points)] += share * np.diff(edges)
    return answers, probs


def ordered_answers(form: Form, latent: np.ndarray, rng: Rng) -> np.ndarray:
    """The answers that latent values (people,) turn into; each person draws how to round."""
    mixture = _mixture(form)
    which = rng.choice(len(mixture), len(latent), p=[share for share, _, _ in mixture])
    given = np.zeros(len(latent), np.int64)
    for place, (_, points, cuts) in enumerate(mixture):
        chosen = which == place
        given[chosen] = points[np.searchsorted(cuts, form.sign * latent[chosen])]
    return given


def choice_distribution(form: Form, frame: str, traits: Table) -> tuple[np.ndarray, np.ndarray]:
    """The options of an unordered choice and each person's true probabilities of them."""
    shifts = REASON_SHIFTS.get(frame, (0,) * len(REASONS))
    utilities = [
        base + shift + _loaded(by, traits) for (base, by), shift in zip(REASONS, shifts, strict=True)
    ]
    return np.array(form.scale.answers()), softmax(np.stack(utilities, axis=1), axis=1)


def _add_stray(
    answers: np.ndarray, probs: np.ndarray, stray: tuple[int, float] | None
) -> tuple[np.ndarray, np.ndarray]:
    if stray is None:
        return answers, probs
    code, share = stray
    widened = np.union1d(answers, [code])
    mixed = np.zeros((len(probs), len(widened)))
    mixed[:, np.searchsorted(widened, answers)] = (1 - share) * probs
    mixed[:, np.searchsorted(widened, code)] += share
    return widened, mixed


def stimulus(study_index: int, proposal: str, frame: str, form: Form) -> str:
    """The stimulus text: proposal, frame, question, answer format. Studies differ in their wordings."""
    wordings = FRAMES[frame].wordings
    leads = LEADS if STUDIES[study_index].seen else UNSEEN_LEADS
    lead = leads[study_index % len(leads)].format(PROPOSALS[proposal].text)
    parts = (lead, wordings[study_index % len(wordings)], form.question, form.answer_format())
    return " ".join(part for part in parts if part)


def draw_study(study: Study, index: int, seed: int) -> tuple[pa.Table, list[dict[str, Any]], pa.Table]:
    """Draw one study: its rows (by participant, then task), its items' truths, its rows' truths."""
    rng = np.random.default_rng([seed, index])
    fields, traits = draw_people(rng, study.people)
    people = with_gaps(rng, fields, study.fields, MISSING)
    own = rng.normal(0, PERSON_SD, study.people)
    arm_of = rng.permutation(np.arange(study.people) % len(study.arms))
    questions = [(task, name, p) for task, (name, ps) in enumerate(study.tasks) for p in ps]
    rows: list[tuple[int, int, dict[str, Any]]] = []
    items = []
    for arm, frame in enumerate(study.arms):
        member = np.flatnonzero(arm_of == arm)
        local = {name: values[member] for name, values in traits.items()}
        numbers: dict[int, int] = {}
        for place, (task, name, proposal) in enumerate(questions):
            form = FORMS[study.arm_forms.get(arm, {}).get(name, name)]
            eta = latent_support(proposal, frame, local)
            if form.scale.kind == "choice":
                answers, probs = choice_distribution(form, frame, local)
                given = answers[(probs.cumsum(axis=1) < rng.random((len(member), 1))).sum(axis=1)]
            else:
                answers, probs = ordered_distribution(form, eta)
                noise = rng.normal(0, np.sqrt(1 - PERSON_SD**2), len(member))
                given = ordered_answers(form, eta + own[member] + noise, rng)
            if study.stray:
                given = np.where(rng.random(len(member)) < study.stray[1], study.stray[0], given)
            answers, probs = _add_stray(answers, probs, study.stray)
            text = stimulus(index, proposal, frame, form)
            item = numbers.get(task, 0)
            numbers[task] = item + 1
            items.append(
                {
                    "study_id": study.study_id, "condition_num": arm, "task_num": task, "item_num": item,
                    "n": len(member), "form": name, "scale_kind": form.scale.kind,
                    "scale_low": form.scale.low, "scale_high": form.scale.high,
                    "scale_step": form.scale.step,
                    "answers": answers.tolist(), "probs": probs.mean(axis=0).tolist(),
                }
            )  # fmt: skip
            for person, response, chances in zip(member.tolist(), given.tolist(), probs, strict=True):
                row = {
                    "participant": person, "stimuli": text, "response": response,
                    "condition_num": arm, "task_num": task, "answers": answers,
                    "probs": chances.astype(np.float32),
                }  # fmt: skip
                rows.append((person, place, row))
    rows.sort(key=lambda entry: entry[:2])
    table, truths = [], []
    for sample_id, (who, _, row) in enumerate(rows):
        answers, probs = row.pop("answers"), row.pop("probs")
        key = {"study_id": study.study_id, "sample_id": sample_id}
        truths.append(key | {"answers": answers, "probs": probs})
        prompt = user_prompt(people[who], row["stimuli"])
        reasoning = _reasoning(people[who], row["response"])
        table.append(key | row | {"demographic": people[who], "prompt": prompt, "reasoning": reasoning})
    return pa.Table.from_pylist(table, SCHEMA), items, pa.Table.from_pylist(truths, TRUTH_ROWS)


TRUTH_ROWS = pa.schema(
    [
        ("study_id", pa.string()),
        ("sample_id", pa.int64()),
        ("answers", pa.list_(pa.int64())),
        ("probs", pa.list_(pa.float32())),
    ]
)


def _reasoning(person: Mapping[str, Any], response: int) -> str:
    known = [str(person[name]) for name in ("ideology", "party_id", "education") if person[name] is not None]
    who = ", ".join(known).lower() or "little known"
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


def as_sample_ids(mapping: Mapping[str, Any], rows: pa.Table, column: str) -> dict[str, Any]:
    """The other reading of a released mapping: the sample_ids of the rows whose `column` is listed."""
    listed: dict[str, Any] = {study: {"train": [], "eval": []} for study in mapping}
    side = {(study, n): part for study, parts in mapping.items() for part in parts for n in parts[part]}
    keys = zip(*(rows[name].to_pylist() for name in ("study_id", column, "sample_id")), strict=True)
    for study, number, sample_id in keys:
        if (study, number) in side:
            listed[study][side[study, number]].append(sample_id)
    return listed


def draw_sample(seed: int) -> tuple[pa.Table, pa.Table, pa.Table]:
    """All studies: the rows, the items' truths, the rows' truths."""
    drawn = [draw_study(study, index, seed) for index, study in enumerate(STUDIES)]
    items = [item for _, some, _ in drawn for item in some]
    return (
        pa.concat_tables([rows for rows, _, _ in drawn]),
        pa.Table.from_pylist(items),
        pa.concat_tables([truths for _, _, truths in drawn]),
    )


def write_sample(folder: Path, seed: int) -> dict[str, Any]:
    """Write the sample to `folder`, replacing it as a whole; returns the record."""
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
        record = {
            "inputs": _inputs(seed),
            "seed": seed,
            "rows": len(rows),
            "studies": len(STUDIES),
            "people": sum(study.people for study in STUDIES),
            "files": sorted(
                str(path.relative_to(partial)) for path in partial.rglob("*.*") if path.is_file()
            ),
        }
        write_json(partial / "sample.json", record)
    return record


def _inputs(seed: int) -> str:
    here = Path(__file__).parent
    sources = [here / name for name in ("sample.py", "sample_people.py", "sample_studies.py")]
    sources += [here.parent / "common" / name for name in ("prompts.py", "scale.py")]
    return fingerprint({"seed": seed, "sources": [sha256_file(path) for path in sources]})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seed", type=int, default=SEED, help=f"what is drawn (default {SEED})")
    parser.add_argument("--out", type=Path, default=source_dir("sample"), help="default data/sample/source")
    options = parser.parse_args()
    record = options.out / "sample.json"
    if up_to_date(record, _inputs(options.seed)):
        files = read_json(record, "run `make clean`")["files"]
        if all((options.out / name).is_file() for name in files):
            print(f"{options.out}: nothing to do, the sample is up to date")
            return
    made = write_sample(options.out, options.seed)
    print(
        f"{options.out}: {made['rows']:,} answers of {made['people']:,} people in {made['studies']} studies"
    )


if __name__ == "__main__":
    run_cli(main)
