"""Files that are never half-written."""

import json
import os
import random
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from common import files
from common.files import atomic_path, file_stamp, fingerprint, write_json


def test_a_file_takes_its_place_only_when_it_is_whole(tmp_path: Path):
    target = tmp_path / "out.txt"
    target.write_text("old")
    with pytest.raises(RuntimeError), atomic_path(target) as partial:
        partial.write_text("half")
        raise RuntimeError
    assert target.read_text() == "old"
    with atomic_path(target) as partial:
        partial.write_text("new")
    assert target.read_text() == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["out.txt"]


def test_a_folder_replaces_the_older_one_and_nothing_of_it_stays(tmp_path: Path):
    target = tmp_path / "set"
    for name in ("one", "two"):
        with atomic_path(target) as partial:
            partial.mkdir()
            (partial / name).write_text(name)
    assert [path.name for path in target.iterdir()] == ["two"]
    assert [path.name for path in tmp_path.iterdir()] == ["set"]


def test_a_kill_leaves_the_old_file_and_the_next_run_removes_the_remains(tmp_path: Path):
    target = tmp_path / "out.txt"
    target.write_text("old")
    program = textwrap.dedent(f"""
        import os, signal
        from common.files import atomic_path
        with atomic_path({str(target)!r}) as partial:
            partial.write_text("half")
            os.kill(os.getpid(), signal.SIGKILL)
    """)
    assert subprocess.run([sys.executable, "-c", program]).returncode == -9
    assert target.read_text() == "old"
    assert len(list(tmp_path.iterdir())) == 2
    write_json(target, {})
    assert [path.name for path in tmp_path.iterdir()] == ["out.txt"]


def test_a_living_process_keeps_its_partial_file(tmp_path: Path):
    target = tmp_path / "out.txt"
    with atomic_path(target) as first:
        first.write_text("first")
        with atomic_path(target) as second:
            second.write_text("second")
    assert target.read_text() == "first"


def test_nan_is_never_written_as_json(tmp_path: Path):
    with pytest.raises(ValueError):
        write_json(tmp_path / "x.json", {"w": float("nan")})
    assert not list(tmp_path.iterdir())


def test_equal_values_have_equal_fingerprints_in_any_order():
    assert fingerprint({"a": 1, "b": [2]}) == fingerprint(json.loads('{"b": [2], "a": 1}'))


@pytest.mark.parametrize("whole", [True, False], ids=["read whole", "read in blocks"])
def test_other_weights_of_the_same_size_and_date_have_another_stamp(tmp_path: Path, monkeypatch, whole: bool):
    monkeypatch.setattr(files, "SAMPLED", 10_000_000 if whole else 1000)
    path = tmp_path / "model.safetensors"

    def written(content: bytes) -> list:
        path.write_bytes(content)
        os.utime(path, (0, 0))
        return file_stamp(path)

    first = written(random.Random(0).randbytes(6_000_000))
    assert first == file_stamp(path) != written(random.Random(1).randbytes(6_000_000))
    last = bytearray(random.Random(0).randbytes(6_000_000))
    last[-1] ^= 1
    assert first != written(bytes(last)), "to the last byte"
    os.utime(path, (1, 1))
    assert (file_stamp(path) == written(bytes(last))) == whole
