"""The whole conversion: every row accounted for, every form read as it was meant, old or new after a kill."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from common.errors import Refusal
from common.files import sha256_file
from common.prompts import DEMOGRAPHIC_FIELDS, SYSTEM_PROMPT, user_prompt
from common.step import Step
from scripts.data.make import make_data
from scripts.data.register import index_path
from scripts.data.settings import DataSettings, load_settings
from scripts.data.splits import make_splits
from tests.helpers.small_source import mappings, small_rows, write_source

ROOT = Path(__file__).parents[3]
ROWS = {(row["study_id"], row["sample_id"]): row for row in small_rows()}


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """Work in a folder of its own, with the small data set in `small/`."""
    monkeypatch.chdir(tmp_path)
    write_source(tmp_path / "small")


def converted(split="study", workers=1, data="small", **options) -> Path:
    return make_data(data, split, DataSettings(**options), workers=workers).folder


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_bytes().split(b"\n")[:-1]]


def sums(folder: Path) -> dict:
    return {
        name: file["sha256"]
        for name, file in json.loads((folder / "manifest.json").read_text())["files"].items()
    }


@pytest.mark.parametrize("split", ["study", "task", "condition", "participant"])
def test_every_row_is_converted_or_counted_by_a_reason(split):
    folder = converted(split, identical_prompts="count", validation_fraction=0.1)
    manifest = json.loads((folder / "manifest.json").read_text())
    counts = manifest["rows"]
    assert counts["read"] == len(ROWS)
    assert counts["read"] == sum(counts[n] for n in ("train", "validation", "eval")) + sum(
        counts["dropped"].values()
    )
    seen = []
    for name in ("sft", "sft_validation"):
        for line in lines(folder / f"{name}.jsonl"):
            row = ROWS[line["study_id"], line["sample_id"]]
            assert (line["system"], line["instruction"]) == (SYSTEM_PROMPT, row["prompt"])
            assert line["output"] == str(row["response"])
            assert all(line[key] == row[key] for key in ("participant", "condition_num", "task_num"))
            seen.append((line["study_id"], line["sample_id"]))
    table = pl.read_parquet(folder / "eval.parquet")
    for row in table.iter_rows(named=True):
        source = ROWS[row["study_id"], row["sample_id"]]
        for key in ("prompt", "stimuli", "response", "participant", "condition_num", "task_num"):
            assert row[key] == source[key]
        assert {k: v for k, v in row["demographic"].items() if v is not None} == {
            k: v for k, v in source["demographic"].items() if v is not None
        }
        assert row["off_scale"] == (
            source["response"] == 99 and row["scale_kind"] not in ("open", "unstated")
        )
        seen.append((row["study_id"], row["sample_id"]))
    assert len(seen) == len(set(seen)) == counts["read"] - sum(counts["dropped"].values())


def test_rows_keep_the_order_of_the_shards():
    keys = [(line["study_id"], line["sample_id"]) for line in lines(converted() / "sft.jsonl")]
    order = {key: number for number, key in enumerate(ROWS)}
    assert keys == sorted(keys, key=lambda key: order[key])


def test_dpo_lines_join_a_persons_answer_with_another_persons():
    for line in lines(converted() / "dpo.jsonl"):
        chosen = ROWS[line["study_id"], line["sample_id"]]
        rejected = ROWS[line["study_id"], line["rejected_sample_id"]]
        assert line["instruction"] == chosen["prompt"] and chosen["stimuli"] == rejected["stimuli"]
        assert (line["chosen"], line["rejected"]) == (str(chosen["response"]), str(rejected["response"]))
        assert line["chosen"] != line["rejected"] and chosen["participant"] != rejected["participant"]


@pytest.mark.parametrize("format", ["jsonl", "parquet"])
@pytest.mark.parametrize("form", ["alpaca", "sharegpt"])
def test_one_and_two_workers_write_the_same_bytes(monkeypatch, form, format):
    monkeypatch.setattr("scripts.data.rows.SECTION_ROWS", 37)
    options = {"form": form, "format": format, "outputs": ("sft", "sft_reasoning", "dpo")}
    one = sums(converted(workers=1, **options))
    write_source(Path("again/small"))
    assert one == sums(converted(workers=2, data="again/small", **options))
    assert {"eval.parquet", f"dpo.{format}", f"sft_reasoning.{format}", "train_counts.parquet"} <= set(one)


def test_files_do_not_depend_on_how_many_rows_are_taken_at_once(monkeypatch):
    whole = sums(converted(format="jsonl"))
    monkeypatch.setattr("scripts.data.rows.SECTION_ROWS", 7)
    write_source(Path("again/small"))
    parts = sums(converted(format="jsonl", data="again/small", workers=2))
    assert {name: parts[name] for name in ("sft.jsonl", "dpo.jsonl")} == {
        name: whole[name] for name in ("sft.jsonl", "dpo.jsonl")
    }


def test_json_lines_stay_one_line_a_row_in_every_reader():
    content = (converted() / "sft.jsonl").read_bytes()
    count = json.loads((Path("data/small/study/manifest.json")).read_text())["rows"]["train"]
    assert len(content.decode().splitlines()) == content.count(b"\n") == count
    assert len(pl.read_ndjson(content)) == count


def test_the_reasoning_form_ends_with_the_answer_and_counts_rows_without_reasoning():
    folder = converted(outputs=("sft_reasoning",))
    manifest = json.loads((folder / "manifest.json").read_text())
    rows = lines(folder / "sft_reasoning.jsonl")
    assert len(rows) == manifest["rows"]["train"] - manifest["counted"]["rows_without_reasoning"] > 0
    assert manifest["counted"]["rows_without_reasoning"] > 0
    for line in rows:
        row = ROWS[line["study_id"], line["sample_id"]]
        assert line["output"] == f"{row['reasoning']}\n\nAnswer: {row['response']}"


@pytest.mark.parametrize("format", ["jsonl", "parquet"])
def test_stimulus_first_prompts_are_those_that_the_shared_builder_makes(format):
    folder = converted(order="stimulus-first", format=format)
    files = [(folder / "eval.parquet", "prompt")] + (
        [(folder / "sft.jsonl", "instruction")] if format == "jsonl" else []
    )
    for path, column in files:
        table = lines(path) if path.suffix == ".jsonl" else pl.read_parquet(path).to_dicts()
        for line in table:
            row = ROWS[line["study_id"], line["sample_id"]]
            assert line[column] == user_prompt(row["demographic"], row["stimuli"], "stimulus-first")
    if format == "parquet":
        for line in pl.read_parquet(folder / "sft.parquet").to_dicts():
            row = ROWS[line["study_id"], line["sample_id"]]
            prompt = f"{line['instruction']}\n{line['input']}"
            assert prompt == user_prompt(row["demographic"], row["stimuli"], "stimulus-first")


def test_a_prompt_that_does_not_end_with_its_stimulus_is_kept_as_it_is_and_counted():
    rows = small_rows()
    rows[3]["prompt"] = "Something else entirely?"
    write_source(Path("odd"), rows)
    folder = converted(data="odd", format="parquet")
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["counted"]["prompts_not_ending_with_stimulus"] == 1
    line = pl.read_parquet(folder / "sft.parquet").filter(study_id="st0", sample_id=3).to_dicts()[0]
    assert (line["instruction"], line["input"]) == ("Something else entirely?", "")
    with pytest.raises(Refusal, match=r"row 3.*persona-first"):
        converted(data="odd", order="stimulus-first")


def test_texts_kept_as_dictionaries_give_the_same_files():
    plain = sums(converted())
    kind = pa.dictionary(pa.int32(), pa.string())
    write_source(Path("again/small"), prompt=kind, stimuli=kind, study_id=kind, reasoning=kind)
    assert sums(converted(data="again/small")) == plain


def test_train_counts_are_the_distribution_of_training_answers():
    folder = converted()
    counts = pl.read_parquet(folder / "train_counts.parquet")
    keys = ["study_id", "condition_num", "task_num"]
    train = pl.DataFrame(lines(folder / "sft.jsonl")).with_columns(response=pl.col("output").cast(pl.Int64))
    wanted = train.group_by(*keys, "response").len().sort(pl.all())
    got = counts.group_by(*keys, "response").agg(pl.col("count").sum()).sort(pl.all())
    assert wanted.rows() == got.rows()


def test_the_manifest_tells_the_sums_of_all_files():
    folder = converted()
    manifest = json.loads((folder / "manifest.json").read_text())
    assert set(manifest["files"]) == {path.name for path in folder.iterdir()} - {"manifest.json", "card.html"}
    for name, facts in manifest["files"].items():
        assert (
            facts["sha256"] == sha256_file(folder / name) and facts["bytes"] == (folder / name).stat().st_size
        )


def test_a_second_run_has_nothing_to_do_until_settings_or_input_change():
    def run(seed: int = 0) -> str:
        return str(make_data("small", "study", DataSettings(seed=seed)))

    assert "384 rows read" in run()
    stamp = Path("data/small/study/manifest.json").stat().st_ino
    assert run() == "data/small/study is up to date: nothing to do"
    assert Path("data/small/study/manifest.json").stat().st_ino == stamp
    assert "nothing to do" not in run(seed=1)
    mapping = mappings()["participant"] | {"seen": ["st0", "st1"], "unseen": ["st2", "st3"]}
    Path("small/metadata/participant_mapping.json").write_text(json.dumps(mapping))
    assert "nothing to do" not in run(seed=1)


def test_a_shard_whose_answers_were_corrected_is_seen_whatever_its_date_says():
    shard = Path("small/data/train-00000-of-00002.parquet")

    def write(answers: pl.Expr) -> None:
        frame = pl.read_parquet(shard).with_columns(response=answers)
        frame.write_parquet(shard, compression="uncompressed", statistics=False)
        os.utime(shard, (0, 0))

    write(pl.col("response"))
    converted()
    size = shard.stat().st_size
    shard.touch()
    assert make_data("small", "study").seconds is None, "another date is no other content"
    write(pl.col("response").shuffle(seed=1))
    assert shard.stat().st_size == size
    assert make_data("small", "study").seconds is not None


def test_a_data_set_gives_its_files_as_frames_and_refuses_others_by_name():
    options = DataSettings(format="parquet")
    data_set = make_data("small", "study", options)
    for name in ("eval", "sft", "dpo", "train_counts", "validation", "sft_validation"):
        assert len(data_set.frame(name)) > 0
    assert len(data_set.frame("sft")) == data_set.counts["train"]
    assert (
        make_data("small", "study", DataSettings(format="parquet"))
        .frame("eval")
        .equals(data_set.frame("eval"))
    )
    with pytest.raises(Refusal, match="no file 'test'; there are dpo, eval"):
        data_set.frame("test")


def test_settings_thin_the_training_rows_and_count_what_they_drop():
    full = json.loads((converted() / "manifest.json").read_text())["rows"]
    for options, reason in (
        ({"participants_fraction": 0.5}, "beyond participants_fraction"),
        ({"respondents_per_cell": 4}, "beyond respondents_per_cell"),
        ({"off_scale": "drop"}, "answer outside the stated scale"),
    ):
        folder = converted(**options)
        rows = json.loads((folder / "manifest.json").read_text())["rows"]
        assert rows["dropped"][reason] > 0 and rows["eval"] == full["eval"]
        if "respondents_per_cell" in options:
            cells = pl.DataFrame(lines(folder / "sft.jsonl")).group_by(
                "study_id", "condition_num", "task_num"
            )
            assert cells.agg(pl.col("participant").n_unique())["participant"].max() == 4


def test_off_scale_answers_are_kept_as_published_and_counted():
    folder = converted()
    counted = json.loads((folder / "manifest.json").read_text())["counted"]
    assert counted["off_scale_train"] > 0
    flagged = [line for line in lines(folder / "sft.jsonl") if line["off_scale"]]
    assert len(flagged) == counted["off_scale_train"] and {line["output"] for line in flagged} == {"99"}
    for line in lines(folder / "dpo.jsonl"):
        stated = "dollars" not in line["instruction"]
        assert line["off_scale"] == (stated and "99" in (line["chosen"], line["rejected"]))


@pytest.mark.parametrize("form", ["alpaca", "sharegpt"])
def test_parquet_flags_the_same_answers_as_json_lines(form):
    flags = {}
    for format in ("jsonl", "parquet"):
        folder = converted(form=form, format=format)
        for name in ("sft", "dpo"):
            read = pl.read_ndjson if format == "jsonl" else pl.read_parquet
            flags[name, format] = read(folder / f"{name}.{format}")["off_scale"].to_list()
    assert flags["sft", "jsonl"] == flags["sft", "parquet"] and any(flags["sft", "jsonl"])
    assert flags["dpo", "jsonl"] == flags["dpo", "parquet"] and any(flags["dpo", "jsonl"])


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("seeed: 1", "unknown key `seeed`; did you mean `seed`"),
        ("pairs: {schema: uniform}", "unknown key `pairs.schema`; did you mean `scheme`"),
        ("format: csv", "`format`"),
        ("validation_fraction: 2", "`validation_fraction`"),
        ("a: [", "not valid YAML"),
        ("- 1", "key: value"),
    ],
)
def test_a_wrong_setting_is_refused_by_name(text, cause):
    Path("settings.yaml").write_text(text)
    with pytest.raises(Refusal, match=cause):
        load_settings("settings.yaml")


def test_the_settings_of_the_project_are_valid():
    assert load_settings(ROOT / "configs/data/default.yaml") == DataSettings()
    for path in (ROOT / "configs/data").glob("*.yaml"):
        load_settings(path)


def test_an_empty_side_is_refused():
    mapping = {"seen": ["st0", "st1", "st2", "st3"], "unseen": []}
    Path("small/metadata/participant_mapping.json").write_text(json.dumps(mapping))
    with pytest.raises(Refusal, match="no evaluation rows"):
        converted()
    Path("small/metadata/participant_mapping.json").write_text(json.dumps({"seen": [], "unseen": ["st0"]}))
    with pytest.raises(Refusal, match="no training rows"):
        converted()


def test_without_a_released_mapping_a_split_is_drawn_or_read_from_make_splits():
    for split in ("task", "condition"):
        Path(f"small/metadata/{split}_mapping.json").unlink()
    drawn = make_data("small", "task", DataSettings())
    assert drawn.manifest.mapping.file is None and "drawn from the seed" in str(drawn)
    print(make_splits("small", seed=5))
    for split in ("task", "condition", "participant"):
        data_set = make_data("small", split, DataSettings())
        assert data_set.manifest.mapping.file == f"{split}.json"
    assert make_data("small", "study", DataSettings()).manifest.mapping.file == "participant_mapping.json"


def test_the_mapping_of_a_built_in_data_set_must_be_there():
    write_source(Path("data/sample/source"))
    Path("data/sample/source/metadata/task_mapping.json").unlink()
    with pytest.raises(Refusal, match=r"task_mapping.json is missing; .*make splits"):
        make_data("sample", "task", DataSettings())


@pytest.mark.parametrize("content", ["null", "[]", "{}", "3", '"x"', "[" * 100_000])
def test_a_mapping_that_names_nothing_is_refused_not_drawn_anew(content):
    Path("small/metadata/task_mapping.json").write_text(content)
    with pytest.raises(Refusal, match=r"task_mapping.json"):
        converted("task")


def test_a_data_set_without_a_split_trains_or_evaluates_on_everything():
    trained = make_data("small", "none", DataSettings())
    rows = trained.manifest.rows
    assert rows.train + rows.validation == rows.read and len(trained.frame("eval")) == 0
    for evaluated in (make_data("small", "all"), make_data("small", "none", DataSettings(all="eval"))):
        assert evaluated.manifest.rows.eval == rows.read == len(evaluated.frame("eval"))
        assert set(evaluated.manifest.files) == {"eval.parquet", "train_counts.parquet"}
    assert not [name for name in json.loads(index_path().read_text()) if name.startswith("small_all")]


def test_arms_with_one_text_lose_training_rows_by_default_where_arms_are_split():
    rows = small_rows()
    first = {(row["study_id"], row["participant"] % 3, row["task_num"]): row["stimuli"] for row in rows}
    for row in rows:  # all arms show what arm 0 shows, to people of one and the same profile
        row["demographic"] = dict.fromkeys(DEMOGRAPHIC_FIELDS) | {"gender": "Female"}
        row["stimuli"] = first[row["study_id"], 0, row["task_num"]]
        row["prompt"] = user_prompt(row["demographic"], row["stimuli"])
    write_source(Path("twins"), rows)
    with pytest.raises(Refusal, match="dropped: prompt stands in evaluation"):
        converted("condition", data="twins")  # nothing is left to train on
    for row in rows:
        if row["participant"] % 2:
            row["stimuli"] = f"In arm {row['condition_num']}. {row['stimuli']}"
            row["prompt"] = user_prompt(row["demographic"], row["stimuli"])
    write_source(Path("twins"), rows)
    data_set = make_data("twins", "condition", DataSettings(outputs=("sft",)))
    assert data_set.manifest.rows.dropped["prompt stands in evaluation"] > 0
    assert data_set.manifest.counted["rows_with_text_of_several_arms"] > 0
    assert "rows with a text that several arms share" in str(data_set)
    with pytest.raises(Refusal, match=r"prompt stands in training"):
        converted("condition", data="twins", identical_prompts="refuse")


def test_studies_are_left_out_with_their_reason():
    data_set = make_data("small", "study", DataSettings(leave_out={"st1": "arms share a text"}))
    assert data_set.manifest.rows.dropped["study st1 left out: arms share a text"] == len(ROWS) / 4
    assert set(data_set.frame("sft")["study_id"]) == {"st0", "st2"}
    assert "st2" not in make_data("small", "study", DataSettings(leave_out=["st2"])).frame("sft")["study_id"]
    with pytest.raises(Refusal, match="`leave_out` names 'st9'; the data's studies are st0, st1"):
        converted(leave_out=["st9"])


def test_items_whose_answers_disagree_with_the_stated_scale_are_shown_and_left_out_on_demand():
    rows = small_rows()
    for row in rows:
        if row["study_id"] == "st1" and row["task_num"] == 1 and row["participant"] % 2:
            row["response"] = 70
    write_source(Path("odd"), rows)
    dataset = make_data("odd", "study", DataSettings())
    count = dataset.manifest.counted["rows_whose_scale_disagrees_with_answers"]
    assert count > 0 and "disagrees" in (dataset.folder / "card.html").read_text()
    dropped = make_data("odd", "study", DataSettings(scale_mismatch="drop")).manifest.rows.dropped
    assert dropped["stated scale disagrees with the answers"] == count


def test_a_split_that_keeps_less_than_half_of_the_rows_says_so():
    small = {"seen": ["st0"], "unseen": ["st1"]}
    Path("small/metadata/participant_mapping.json").write_text(json.dumps(small))
    assert "half" not in str(make_data("small", "study"))
    small = {"st0": {"train": [0], "eval": [1]}}
    Path("small/metadata/condition_mapping.json").write_text(json.dumps(small))
    text = str(make_data("small", "condition"))
    assert "note: only 64 of 384 rows" in text
    assert "of 2 entries exist 2 as condition numbers, 2 as sample ids" in text


def test_what_ready_made_prompts_are_is_said_in_a_line():
    rows = small_rows()
    for row in rows[:96]:
        row["prompt"] = f"You are 40 years old. {row['stimuli']}"
    for row in rows[96:192]:
        row["prompt"] = f"Question: {row['stimuli']} Thank you."
    for row in rows:
        row["response"] = 1  # on every scale
    rows[200]["stimuli"] = "Dear {name[letter]}, how are you?"
    rows[200]["prompt"] = user_prompt(rows[200]["demographic"], rows[200]["stimuli"])
    write_source(Path("ready"), rows)
    data_set = make_data("ready", "study", DataSettings(outputs=("sft",)))
    assert data_set.prompts.startswith(
        "prompts: 50% have the published form, 75% end with their stimulus, 99.7% state an answer scale; "
        "1 row with a text that wasn't filled in"
    )
    assert "<code>{name[letter]}</code>" in (data_set.folder / "card.html").read_text()


def test_bad_text_in_a_prompt_is_refused_and_the_old_data_set_stays():
    folder = converted()
    before = sums(folder)
    rows = small_rows()
    rows[70]["prompt"] = ""
    write_source(Path("small"), rows)
    with pytest.raises(Refusal, match="row 70: `prompt` is empty"):
        converted()
    assert sums(folder) == before and not list(folder.parent.glob(".study.partial.*"))


@pytest.mark.parametrize("prompt", [b"\xff\xfe broken", b"Persona \xe6\x97\n\nRead this.\n\n{stimuli}"])
def test_a_prompt_that_is_not_utf8_is_refused_in_every_part_of_it(prompt):
    shard = Path("small/data/train-00000-of-00002.parquet")
    table = pq.read_table(shard)
    prompts = [text.encode() for text in table["prompt"].to_pylist()]
    prompts[5] = prompt.replace(b"{stimuli}", table["stimuli"][5].as_py().encode())
    column = table.schema.get_field_index("prompt")
    broken = pa.array(prompts, pa.binary()).view(pa.string())
    pq.write_table(table.set_column(column, "prompt", broken), shard)
    with pytest.raises(Refusal, match=r"row 5: `prompt` is not valid UTF-8"):
        converted()


def test_identical_prompts_across_the_split_are_refused_dropped_or_counted():
    rows = small_rows()
    for row in rows:  # the last study repeats the first one's texts
        if row["study_id"] == "st3":
            twin = ROWS["st0", row["sample_id"]]
            row["stimuli"], row["prompt"] = twin["stimuli"], twin["prompt"]
    write_source(Path("twins"), rows)
    with pytest.raises(Refusal, match=r"prompt stands in training.*\(st3, 0\).*identical_prompts"):
        converted(data="twins")
    manifest = json.loads((converted(data="twins", identical_prompts="drop") / "manifest.json").read_text())
    assert manifest["rows"]["dropped"]["prompt stands in evaluation"] > 0
    assert manifest["firewall"][-1]["verdict"] == "passed"
    manifest = json.loads((converted(data="twins", identical_prompts="count") / "manifest.json").read_text())
    assert manifest["firewall"][-1]["both"] > 0 and manifest["firewall"][-1]["verdict"] == "allowed"


TEXT = st.text(st.characters(codec="utf-8"), min_size=1, max_size=40).filter(str.strip)  # blank: refused


@given(st.lists(st.tuples(TEXT, st.integers(-(2**63), 2**63 - 1), TEXT), min_size=4, max_size=12))
@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_text_and_any_integer_come_back_as_they_were(entries):
    rows = []
    for number, (stimuli, response, gender) in enumerate(entries):
        demographic = dict.fromkeys(DEMOGRAPHIC_FIELDS) | {"gender": gender, "age": number}
        rows.append(
            {
                "study_id": f"st{number % 4}", "sample_id": number, "participant": number,
                "demographic": demographic, "stimuli": stimuli, "response": response, "condition_num": 0,
                "task_num": 0, "prompt": user_prompt(demographic, stimuli), "reasoning": None,
            }
        )  # fmt: skip
    write_source(Path("any"), rows)
    folder = make_data(
        "any", "study", DataSettings(outputs=("sft",), validation_fraction=0), force=True
    ).folder
    by_key = {(line["study_id"], line["sample_id"]): line for line in lines(folder / "sft.jsonl")}
    for row in rows:
        if row["study_id"] != "st3":
            line = by_key[row["study_id"], row["sample_id"]]
            assert (line["instruction"], line["output"]) == (row["prompt"], str(row["response"]))
    assert len((folder / "sft.jsonl").read_text().splitlines()) == len(by_key)


@pytest.mark.whole
def test_a_kill_at_any_moment_leaves_the_old_data_set_or_the_new_one():
    folder = converted()
    old = sums(folder)
    command = [sys.executable, "-m", "socrates", "data", "make", "--data", "small", "--split", "study"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    Path("settings.yaml").write_text("seed: 1")
    command += ["--force", "--config", "settings.yaml"]
    outcomes = set()
    for delay in (0.3, 0.6, 0.8, 0.9, 1.0, 1.1, 1.2, 1.4, 1.7, 2.2, 4.0):
        process = subprocess.Popen(
            command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        time.sleep(delay)
        process.send_signal(signal.SIGKILL)
        process.wait()
        sums_now = sums(folder)
        for name, digest in sums_now.items():
            assert sha256_file(folder / name) == digest
        outcomes.add("old" if sums_now == old else "new")
        assert json.loads(index_path().read_text())["small_study_sft"]
    assert subprocess.run(command, env=environment, check=True, capture_output=True).returncode == 0
    assert sums(folder) != old and not list(folder.parent.glob(".study.partial.*"))
    assert "old" in outcomes


@pytest.mark.parametrize("form", ["jsonl", "parquet"])
def test_shortened_vignettes_are_the_same_text_in_training_and_evaluation_rows(tmp_path, form):
    story = "A long story about a neighbour and a heavy box on the stairs. " * 10
    rows = small_rows()
    for row in rows:
        if row["task_num"] == 1:
            row["stimuli"] = f"{story}\n\n{row['stimuli']}"
            row["prompt"] = user_prompt(row["demographic"], row["stimuli"])
    write_source(tmp_path / "long", rows)
    folder = converted(data="long", format=form, vignette_most_characters=300, validation_fraction=0)
    manifest = json.loads((folder / "manifest.json").read_text())
    long_rows = sum(row["task_num"] == 1 for row in rows)
    assert manifest["counted"]["vignettes_shortened"] == long_rows
    table = pl.read_parquet(folder / "eval.parquet").filter(pl.col("task_num") == 1)
    assert len(table) and table["stimuli"].str.len_chars().max() <= 300
    for prompt, stimuli, demographic in table.select("prompt", "stimuli", "demographic").iter_rows():
        assert prompt == user_prompt(demographic, stimuli) and "[...]\n\nStory" in stimuli
    if form == "jsonl":
        trained = [line["instruction"] for line in lines(folder / "sft.jsonl") if line["task_num"] == 1]
    else:
        part = pl.read_parquet(folder / "sft.parquet").filter(pl.col("task_num") == 1)
        trained = [f"{head}\n{text}" for head, text in part.select("instruction", "input").iter_rows()]
    assert trained and all("[...]\n\nStory" in prompt for prompt in trained)


def test_a_file_that_was_edited_with_its_date_set_back_or_deleted_is_made_again():
    folder = converted()
    before = sums(folder)
    file = folder / "sft.jsonl"
    times = file.stat()
    file.write_bytes(file.read_bytes().replace(b"1", b"2", 1))
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert sums(converted()) == before
    (folder / "eval.parquet").unlink()
    assert sums(converted()) == before


def test_two_at_once_are_refused_by_name_on_one_split_only():
    folder = converted()
    file = folder / "sft.jsonl"
    with Step(folder / "manifest.json", whole=True):
        with pytest.raises(Refusal, match="another run is writing data/small/study"):
            converted()
        assert file.is_file()


@pytest.mark.parametrize("split", ["all", "study", "none"])
def test_without_outputs_there_are_evaluation_rows_and_no_training_file(split):
    folder = converted(split, outputs=(), identical_prompts="count", validation_fraction=0.1)
    assert not [path.name for path in folder.iterdir() if path.name.startswith(("sft", "dpo", "kto"))]
    assert (len(pl.read_parquet(folder / "eval.parquet")) > 0) == (split != "none")
