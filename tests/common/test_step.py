"""Steps: locked, done once, never vouched for by an old record, and nothing left behind by a kill."""

import json
import os
import random
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from common.errors import Refusal
from common.files import atomic_path, write_json
from common.step import Step, describe, reading, running


def write(folder: Path, inputs: str, text: str) -> bool:
    """A step of two files in a folder that others use, too. True if it had to be done."""
    with Step(folder / "record.json", inputs) as step:
        if step.done:
            return False
        step.begin()
        for name in ("one.txt", "two.txt"):
            with atomic_path(folder / name) as partial:
                partial.write_text(text)
        write_json(step.record, {"inputs": inputs, "files": describe(folder, ["one.txt", "two.txt"])})
    return True


def test_a_step_is_done_once_for_the_same_inputs(tmp_path: Path):
    assert write(tmp_path, "a", "a")
    assert not write(tmp_path, "a", "a")
    assert write(tmp_path, "b", "b")


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: (folder / "one.txt").unlink(),
        lambda folder: (folder / "one.txt").write_text("b"),
        lambda folder: (folder / "one.txt").write_text("aa"),
        lambda folder: (folder / "record.json").write_text("torn"),
        lambda folder: (folder / "record.json").write_text("[" * 100_000),
        lambda folder: (folder / "record.json").write_text('{"inputs": "a", "files": [1]}'),
        lambda folder: (folder / "record.json").write_text('{"inputs": "a", "files": {"one.txt": {}}}'),
        lambda folder: (folder / "record.json").unlink(),
    ],
)
def test_a_step_whose_files_are_not_those_of_its_record_is_done_again(tmp_path: Path, damage):
    write(tmp_path, "a", "a")
    times = (tmp_path / "one.txt").stat()
    damage(tmp_path)
    if (tmp_path / "one.txt").exists():
        os.utime(tmp_path / "one.txt", ns=(times.st_atime_ns, times.st_mtime_ns))
    assert write(tmp_path, "a", "a")
    assert not write(tmp_path, "a", "a")


def test_two_at_once_are_refused_by_name_and_read_only_when_nobody_writes(tmp_path: Path):
    record = tmp_path / "scores.json"
    with Step(record, "a"):
        with pytest.raises(Refusal, match=rf"writing .*scores.json .process {os.getpid()} on"):
            Step(record, "b").__enter__()
        with pytest.raises(Refusal, match="another run is writing"), reading(record):
            pass
        assert [str(record)] == [name.split(" (")[0] for name in running(tmp_path)]
        with Step(tmp_path / "other.json", "a"):
            pass
    assert running(tmp_path) == []
    with reading(record), reading(record), pytest.raises(Refusal, match="another run is reading"):
        Step(record, "b").__enter__()
    with Step(record, "b"):
        pass


def test_a_folder_that_is_replaced_as_a_whole_is_locked_beside_it(tmp_path: Path):
    record = tmp_path / "study" / "manifest.json"
    with Step(record, "a", whole=True) as step:
        with atomic_path(record.parent) as partial:
            partial.mkdir()
            (partial / "eval.parquet").write_text("rows")
            write_json(
                partial / "manifest.json", {"inputs": "a", "files": describe(partial, ["eval.parquet"])}
            )
        assert step.done
        with pytest.raises(Refusal, match=r"another run is writing .*study"):
            Step(record, "a", whole=True).__enter__()
        assert running(record.parent)
    assert sorted(path.name for path in record.parent.iterdir()) == ["eval.parquet", "manifest.json"]


def test_a_removed_lock_is_made_anew_and_still_locks(tmp_path: Path):
    record = tmp_path / "record.json"
    with Step(record, "a"):
        pass
    (tmp_path / ".record.json.lock").unlink()
    with Step(record, "a"), pytest.raises(Refusal):
        Step(record, "a").__enter__()


PROGRAM = """
import sys
from pathlib import Path
from common.files import atomic_path, write_json
from common.step import Step, describe

folder, text, names = Path(sys.argv[1]), sys.argv[2], ["one.txt", "two.txt"]
print("ready", flush=True)
for turn in range(1000):
    inputs = f"{text}{turn}"
    with Step(folder / "whole/record.json", inputs, whole=True) as step:
        with atomic_path(folder / "whole") as partial:
            partial.mkdir()
            for name in names:
                (partial / name).write_text(inputs * 1000)
            write_json(partial / "record.json", {"inputs": inputs, "files": describe(partial, names)})
    with Step(folder / "parts/record.json", inputs) as step:
        step.begin()
        for name in names:
            with atomic_path(folder / "parts" / name) as partial:
                partial.write_text(inputs * 1000)
        write_json(step.record, {"inputs": inputs, "files": describe(folder / "parts", names)})
"""


def kill_at(folder: Path, text: str, seconds: float) -> None:
    process = subprocess.Popen([sys.executable, "-c", PROGRAM, str(folder), text], stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    time.sleep(seconds)
    process.send_signal(signal.SIGKILL)
    process.wait()


def check_kills(folder: Path, kills: int) -> None:
    chance = random.Random(1)
    for number in range(kills):
        kill_at(folder, f"{number}-", chance.uniform(0, 0.03))
        for part in ("whole", "parts"):
            record = folder / part / "record.json"
            inputs = json.loads(record.read_text())["inputs"] if record.is_file() else "none"
            with Step(record, inputs, whole=part == "whole") as step:
                assert step.done == record.is_file()
            if record.is_file():
                for name in ("one.txt", "two.txt"):
                    assert (folder / part / name).read_text() == inputs * 1000
        left = [path for path in folder.rglob("*") if ".partial." in path.name]
        assert not left, left


def test_after_a_kill_a_record_vouches_for_its_own_files_only_and_the_next_run_leaves_nothing(tmp_path: Path):
    check_kills(tmp_path, 6)


@pytest.mark.whole
def test_a_hundred_kills_leave_nothing_behind(tmp_path: Path):
    check_kills(tmp_path, 100)


def test_a_child_that_still_works_keeps_the_lock_of_its_killed_parent(tmp_path: Path):
    record = tmp_path / "run.json"
    program = textwrap.dedent(f"""
        import os, subprocess, sys
        from pathlib import Path
        from common.step import Step
        Step(Path({str(record)!r}), "a").__enter__()
        child = subprocess.Popen(["sleep", "60"], close_fds=False, stdout=subprocess.DEVNULL)
        print(child.pid, flush=True)
        os.kill(os.getpid(), 9)
    """)
    done = subprocess.run([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    with pytest.raises(Refusal, match="another run is writing"):
        Step(record, "a").__enter__()
    os.kill(int(done.stdout), signal.SIGKILL)
    for _ in range(50):
        if not running(tmp_path):
            break
        time.sleep(0.1)
    with Step(record, "a"):
        pass
