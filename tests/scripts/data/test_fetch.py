"""Fetching from the hub, against a local server in its layout (one process a download, as a user runs it)."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers.hub_server import REVISION, Hub, serve

REPO = "socratesft/SocSci210"


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    root = tmp_path / "hub"
    (root / "data").mkdir(parents=True)
    (root / "metadata").mkdir()
    for number in range(2):
        (root / f"data/train-0000{number}-of-00002.parquet").write_bytes(os.urandom(3_000_000))
    for name in ("participant", "task", "condition"):
        (root / f"metadata/{name}_mapping.json").write_text("{}")
    (root / "README.md").write_text("not wanted")
    with serve(root, REPO) as served:
        yield served


def fetch(hub_url: str, out: Path, *options: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the command line with the hub at `hub_url` and a home of its own."""
    env = {key: value for key, value in os.environ.items() if not key.startswith("HF_")}
    env |= {
        "HF_ENDPOINT": hub_url,
        "HF_HOME": str(out.parent / "home"),
        "HF_HUB_DISABLE_XET": "1",
    } | environment
    command = [
        sys.executable,
        "-m",
        "socrates",
        "data",
        "fetch",
        "--out",
        str(out),
        "--revision",
        REVISION,
        *options,
    ]
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=120)


def shards(out: Path) -> list[bytes]:
    return [path.read_bytes() for path in sorted(out.glob("data/*.parquet"))]


def served_shards(hub: Hub) -> list[bytes]:
    return [content for name, content in hub.files.items() if name.endswith(".parquet")]


def one_line_refusal(done: subprocess.CompletedProcess[str], *words: str) -> None:
    assert done.returncode == 2
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("error: ") and all(word in last for word in words), done.stderr
    assert "Traceback" not in done.stderr


def test_the_shards_and_mappings_arrive_byte_for_byte_and_a_second_run_does_nothing(hub: Hub, tmp_path: Path):
    out = tmp_path / "source"
    done = fetch(hub.url, out)
    assert done.returncode == 0, done.stderr
    assert shards(out) == served_shards(hub)
    assert len(list(out.glob("metadata/*.json"))) == 3 and not (out / "README.md").exists()
    assert json.loads((out / "fetched.json").read_text())["revision"] == REVISION
    before = len(hub.downloads)
    assert "nothing to do" in fetch(hub.url, out).stdout
    assert len(hub.downloads) == before


def test_a_cut_download_is_resumed_where_it_stopped(hub: Hub, tmp_path: Path):
    first = "data/train-00000-of-00002.parquet"
    hub.files[first] = os.urandom(25_000_000)  # the library writes whole chunks of 10 MB
    hub.cut = (first, 15_000_000)
    out = tmp_path / "source"
    done = fetch(hub.url, out)
    if done.returncode:  # the library gave up within this run: the same command goes on
        done = fetch(hub.url, out)
    assert done.returncode == 0, done.stderr
    assert shards(out) == served_shards(hub)
    assert any(not entry.endswith(":0") for entry in hub.ranges), "nothing was resumed"


def test_a_damaged_shard_is_refused_and_fetched_again_by_the_next_run(hub: Hub, tmp_path: Path):
    out = tmp_path / "source"
    hub.damage = "data/train-00001-of-00002.parquet"
    done = fetch(hub.url, out)
    one_line_refusal(done, "train-00001-of-00002.parquet", "run the same command again")
    assert not (out / "fetched.json").exists()
    hub.damage = None
    assert fetch(hub.url, out).returncode == 0
    assert shards(out) == served_shards(hub)


def test_a_shard_of_another_revision_is_removed(hub: Hub, tmp_path: Path):
    out = tmp_path / "source"
    (out / "data").mkdir(parents=True)
    (out / "data/train-00000-of-00009.parquet").write_bytes(b"old")
    assert fetch(hub.url, out).returncode == 0
    assert len(shards(out)) == 2


def test_no_network_is_refused_in_one_line(tmp_path: Path):
    one_line_refusal(fetch("http://127.0.0.1:9", tmp_path / "source"), "can't be reached", "DATA=<folder>")


def test_offline_mode_is_refused_in_one_line(hub: Hub, tmp_path: Path):
    one_line_refusal(fetch(hub.url, tmp_path / "source", HF_HUB_OFFLINE="1"), "HF_HUB_OFFLINE", "unset it")


def test_an_unknown_revision_and_an_unknown_data_set_are_refused(hub: Hub, tmp_path: Path):
    out = tmp_path / "source"
    one_line_refusal(fetch(hub.url, out, "--revision", "f" * 40), "no revision", "--revision")
    one_line_refusal(fetch(hub.url, out, "--repo", "nobody/nothing"), "no data set nobody/nothing")


def test_a_data_set_without_its_mapping_files_is_refused(hub: Hub, tmp_path: Path):
    del hub.files["metadata/task_mapping.json"]
    one_line_refusal(fetch(hub.url, tmp_path / "source"), "task_mapping.json")
