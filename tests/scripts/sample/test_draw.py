"""The synthetic sample: SocSci210's layout, its traps, and answers that follow the stated truth."""

import json
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scipy.stats import chisquare

from common.files import sha256_file
from common.prompts import DEMOGRAPHIC_FIELDS, PROMPT_FIELDS, user_prompt
from common.scale import KINDS
from scripts.sample.answers import latent_support, ordered_distribution
from scripts.sample.draw import SEED, draw_study, make_sample, split_mappings
from scripts.sample.people import draw_people
from scripts.sample.studies import FORMS, FRAMES, PROPOSALS, STUDIES

CELL = ["study_id", "condition_num", "task_num"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sample") / "source"
    make_sample(SEED, folder)
    return folder


@pytest.fixture(scope="module")
def rows(folder: Path) -> pl.DataFrame:
    return pl.read_parquet(folder / "data" / "*.parquet")


@pytest.fixture(scope="module")
def truth(folder: Path) -> pl.DataFrame:
    return pl.read_parquet(folder / "truth.parquet")


def test_the_layout_is_that_of_socsci210(folder: Path) -> None:
    shards = sorted(path.name for path in (folder / "data").iterdir())
    assert shards == [f"train-{n:05d}-of-{len(shards):05d}.parquet" for n in range(len(shards))]
    assert len(shards) > 1
    text = {"study_id", "stimuli", "prompt", "reasoning"}
    for shard in shards:
        schema = pq.read_schema(folder / "data" / shard)
        assert schema.names == [
            "study_id", "sample_id", "participant", "demographic", "stimuli", "response", "condition_num",
            "task_num", "prompt", "reasoning",
        ]  # fmt: skip
        person = schema.field("demographic").type
        assert [person.field(n).name for n in range(person.num_fields)] == list(DEMOGRAPHIC_FIELDS)
        assert {person.field(n).name for n in range(16) if person.field(n).type == pa.int64()} == {
            "age",
            "household_size",
        }
        for field in schema:
            if field.name != "demographic":
                assert field.type == (pa.string() if field.name in text else pa.int64())


def test_it_is_large_enough(rows: pl.DataFrame) -> None:
    assert rows["study_id"].n_unique() >= 12
    assert rows.select("study_id", "participant").n_unique() >= 3000
    assert len(rows) >= 40_000
    assert not any(rows[name].null_count() for name in rows.columns)


def test_every_prompt_is_rebuilt_from_its_person_and_stimulus(rows: pl.DataFrame) -> None:
    for row in rows[::97].iter_rows(named=True):
        assert row["prompt"] == user_prompt(row["demographic"], row["stimuli"])


def test_sample_ids_and_participants_restart_in_every_study(rows: pl.DataFrame) -> None:
    for (_, ), study in rows.group_by("study_id"):  # fmt: skip
        assert study["sample_id"].to_list() == list(range(len(study)))
        people = study["participant"].unique().sort().to_list()
        assert people == list(range(len(people)))


def test_a_person_is_the_same_in_all_rows_and_in_one_arm_only(rows: pl.DataFrame) -> None:
    of_person = rows.group_by("study_id", "participant").agg(
        pl.col("demographic").n_unique().alias("people"), pl.col("condition_num").n_unique().alias("arms")
    )
    assert of_person["people"].max() == 1
    assert of_person["arms"].max() == 1


def test_scales_and_labels_differ_between_the_arms_of_some_outcomes(
    rows: pl.DataFrame, truth: pl.DataFrame
) -> None:
    ranges = truth.group_by("study_id", "task_num").agg(
        pl.struct("scale_low", "scale_high").n_unique().alias("n")
    )
    assert ranges.filter(pl.col("n") > 1).height >= 2
    flipped = rows.filter((pl.col("study_id") == "flip1") & (pl.col("task_num") == 0))
    formats = {text.split("integer: ")[1] for text in flipped["stimuli"]}
    assert len(formats) == 2, "the labels run the other way in some arms"


def test_a_task_number_covers_several_stimuli_of_one_person(rows: pl.DataFrame) -> None:
    repeats = rows.group_by([*CELL, "participant"]).agg(pl.col("stimuli").n_unique().alias("n"), pl.len())
    assert (repeats["n"] == repeats["len"]).all(), "never the same stimulus twice"
    assert 0.3 < (repeats["n"] > 1).mean() < 1.0  # type: ignore[operator]


def test_some_answers_lie_outside_their_stated_scale(rows: pl.DataFrame, truth: pl.DataFrame) -> None:
    bounded = truth.filter(pl.col("scale_low").is_not_null() & (pl.col("item_num") == 0))
    joined = rows.join(bounded.select([*CELL, "scale_low", "scale_high"]), on=CELL)
    outside = ~pl.col("response").is_between(pl.col("scale_low"), pl.col("scale_high"))
    stray = joined.filter(outside)
    assert 50 < stray.height < 0.01 * len(rows)
    assert stray["study_id"].n_unique() == 3


def test_some_texts_state_no_range_and_every_kind_of_scale_occurs(
    rows: pl.DataFrame, truth: pl.DataFrame
) -> None:
    assert set(truth["scale_kind"]) == set(KINDS)
    assert rows.filter(pl.col("stimuli").str.ends_with("Only return an integer, nothing else.")).height > 500
    assert rows.filter(pl.col("response") < -50).height > 100
    assert rows.filter(pl.col("response") > 100).height > 100
    assert rows["response"].max() == 1_000_000


def test_people_have_sixteen_correlated_fields_with_gaps(rows: pl.DataFrame) -> None:
    people = rows.unique(["study_id", "participant"])["demographic"].struct.unnest()
    assert len(people.columns) == 16
    assert all(0 < people[name].null_count() < len(people) for name in people.columns)
    assert all(people[name].n_unique() > 2 for name in PROMPT_FIELDS)
    complete = people.drop_nulls(["ideology", "party_id"])
    right = complete["ideology"].str.contains("onservative").cast(float).to_numpy()
    republican = complete["party_id"].str.contains("Republican").cast(float).to_numpy()
    assert np.corrcoef(right, republican)[0, 1] > 0.4
    retired = people.drop_nulls(["age", "employment"]).filter(pl.col("employment") == "Retired")
    assert retired["age"].min() > 60  # type: ignore[operator]


def test_the_mappings_have_the_released_shape(folder: Path, rows: pl.DataFrame) -> None:
    studies = set(rows["study_id"])
    people = json.loads((folder / "metadata" / "participant_mapping.json").read_text())
    assert set(people) == {"seen", "unseen"}
    assert {*people["seen"], *people["unseen"]} == studies
    assert len(people["unseen"]) >= 4
    for name in ("condition", "task"):
        mapping = json.loads((folder / "metadata" / f"{name}_mapping.json").read_text())
        for study, parts in mapping.items():
            numbers = rows.filter(pl.col("study_id") == study)[f"{name}_num"].unique().sort().to_list()
            assert sorted(parts["train"] + parts["eval"]) == numbers
            assert parts["train"]
            assert parts["eval"]


def as_sample_ids(mapping: Mapping[str, Any], rows: pa.Table, column: str) -> dict[str, Any]:
    """The other reading of a released mapping: the sample_ids of the rows whose `column` is listed."""
    listed: dict[str, Any] = {study: {"train": [], "eval": []} for study in mapping}
    side = {(study, n): part for study, parts in mapping.items() for part in parts for n in parts[part]}
    keys = zip(*(rows[name].to_pylist() for name in ("study_id", column, "sample_id")), strict=True)
    for study, number, sample_id in keys:
        if (study, number) in side:
            listed[study][side[study, number]].append(sample_id)
    return listed


def test_a_mapping_can_be_given_as_sample_ids() -> None:
    study = STUDIES[5]
    table, _, _ = draw_study(study, 5, SEED)
    numbers = {study.study_id: split_mappings(SEED)["task"][study.study_id]}
    listed = as_sample_ids(numbers, table, "task_num")[study.study_id]
    assert sorted(listed["train"] + listed["eval"]) == table["sample_id"].to_pylist()
    frame = pl.DataFrame(pl.from_arrow(table))
    held_out = frame.filter(pl.col("sample_id").is_in(listed["eval"]))["task_num"].unique().to_list()
    assert held_out == numbers[study.study_id]["eval"]


def _p_value(counts: np.ndarray, probs: np.ndarray) -> float | None:
    """Chi-square of counts against probabilities, neighbouring answers merged up to 5 expected ones."""
    expected, observed, bins = 0.0, 0.0, []
    for count, share in zip(counts, probs * counts.sum(), strict=True):
        expected, observed = expected + share, observed + count
        if expected >= 5:
            bins.append((observed, expected))
            expected, observed = 0.0, 0.0
    if len(bins) < 2:
        return None
    bins[-1] = (bins[-1][0] + observed, bins[-1][1] + expected)
    return float(chisquare(*zip(*bins, strict=True), sum_check=False).pvalue)


def _p_values(rows: pl.DataFrame, truth: pl.DataFrame, shift: int) -> np.ndarray:
    answers: dict[tuple[Any, ...], list[int]] = defaultdict(list)
    numbers: dict[tuple[Any, ...], dict[str, int]] = defaultdict(dict)
    for *cell, text, response in rows.select([*CELL, "stimuli", "response"]).iter_rows():
        item = numbers[tuple(cell)].setdefault(text, len(numbers[tuple(cell)]))
        answers[(*cell, item)].append(response)
    values = []
    for item in truth.iter_rows(named=True):
        given = answers[tuple(item[name] for name in [*CELL, "item_num"])]
        assert len(given) == item["n"]
        assert set(given) <= set(item["answers"])
        counts = np.array([given.count(answer) for answer in item["answers"]])
        values.append(_p_value(counts, np.roll(item["probs"], shift)))
    return np.array([value for value in values if value is not None])


def test_answers_follow_the_true_distribution_of_their_item(rows: pl.DataFrame, truth: pl.DataFrame) -> None:
    values = _p_values(rows, truth, shift=0)
    assert len(values) > 400
    assert values.min() > 1e-5
    # Answers of people with differing probabilities vary a little less than chi-square supposes.
    assert (values < 0.05).mean() < 0.07
    assert 0.45 < values.mean() < 0.6


def test_the_check_against_the_truth_notices_a_wrong_one(rows: pl.DataFrame, truth: pl.DataFrame) -> None:
    assert (_p_values(rows, truth, shift=1) < 0.05).mean() > 0.6


def test_every_row_has_a_true_distribution_that_averages_to_its_items(
    folder: Path, rows: pl.DataFrame, truth: pl.DataFrame
) -> None:
    of_rows = pl.read_parquet(folder / "truth_rows.parquet")
    assert of_rows.select("study_id", "sample_id").equals(rows.select("study_id", "sample_id"))
    assert of_rows["probs"].list.sum().to_numpy() == pytest.approx(1, abs=1e-5)
    item = truth.row(0, named=True)
    first = rows.with_columns(of_rows["probs"]).filter(
        *[pl.col(name) == item[name] for name in CELL]
    )  # the first item's text is that of its cell's first row
    chances = np.array(first.filter(pl.col("stimuli") == first["stimuli"][0])["probs"].to_list())
    assert chances.mean(axis=0) == pytest.approx(np.array(item["probs"]), abs=1e-6)


def test_the_true_probabilities_are_those_of_the_stated_process() -> None:
    eta = np.array([-1.5, 0.0, 0.8])
    latent = eta[:, None] + np.random.default_rng(0).normal(size=(3, 200_000))
    form = FORMS["support7"]
    answers, probs = ordered_distribution(form, eta)
    simulated = np.clip(np.rint(form.centre + form.width * latent), 1, 7)
    assert probs == pytest.approx((simulated[:, :, None] == answers).mean(axis=1), abs=0.005)


def test_effects_differ_by_subgroup() -> None:
    _, traits = draw_people(np.random.default_rng(0), 2000)
    effect = latent_support("nuclear", "republicans", traits) - latent_support("nuclear", "control", traits)
    assert effect[traits["party"] > 0.5].mean() > 0.5
    assert effect[traits["party"] < -0.5].mean() < -0.5


def test_unseen_studies_use_proposals_frames_and_forms_that_seen_ones_use_in_other_texts(
    rows: pl.DataFrame,
) -> None:
    def used(seen: bool) -> set[str]:
        chosen = [study for study in STUDIES if study.seen == seen]
        names = {name for study in chosen for form, ps in study.tasks for name in (form, *ps)}
        return names | {arm for study in chosen for arm in study.arms}

    assert used(seen=False) <= used(seen=True) == {*used(seen=True)} <= {*PROPOSALS, *FRAMES, *FORMS}
    unseen = [study.study_id for study in STUDIES if not study.seen]
    texts = {seen: set(part["stimuli"]) for (seen,), part in rows.group_by(pl.col("study_id").is_in(unseen))}
    assert not texts[True] & texts[False]


def test_the_same_seed_gives_the_same_bytes_and_another_seed_other_answers(
    folder: Path, tmp_path: Path
) -> None:
    make_sample(SEED, tmp_path / "again")
    files = sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    assert len(files) == 9
    for name in files:
        assert sha256_file(folder / name) == sha256_file(tmp_path / "again" / name), name
    other, same = draw_study(STUDIES[0], 0, SEED + 1)[0], draw_study(STUDIES[0], 0, SEED)[0]
    assert not other["response"].equals(same["response"])


def test_a_second_run_has_nothing_to_do_and_a_lost_file_is_made_again(folder: Path) -> None:
    assert "nothing to do" in str(make_sample(SEED, folder))
    (folder / "metadata" / "task_mapping.json").unlink()
    assert "answers of" in str(make_sample(SEED, folder))
    assert (folder / "metadata" / "task_mapping.json").is_file()
