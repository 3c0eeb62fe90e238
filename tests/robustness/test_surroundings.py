"""Full disks, folders that can't be written, no home, a plain locale, python -O: one line, then on."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from common.files import atomic_path
from tests.helpers.small_home import EXPERIMENT, TRAIN, WAY, finish, make_home, results, run

# A file may have so many bytes and no more: the system's answer is that of a full disk, in every library.
SMALL_FILES = ["prlimit", "--fsize=2000"]
# root without its right to pass over permissions; nothing is needed for anybody else
AS_ANYBODY = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"] if os.geteuid() == 0 else []
needs = {name: shutil.which(name) for name in ("prlimit", "setpriv")}
STEPS = {
    "sample": ["data", "sample"],
    "tiny models": ["data", "tiny"],
    "splits": ["data", "split", "--data", "small"],
    "data": ["data", "make", "--data", "small", "--force"],
    "tokenise": ["tokenise", "sft", "--data", "small", "cutoff_len=1111"],
    "train": [*TRAIN, "--restart"],
    "export": ["export", "--data", "small", "--run", "sft", "--out", "exported"],
    "predict": ["predict", "--model", "outputs/models/tiny", "--name", "other", "--data", "small"],
    "score": ["score", "--data", "small", "--config", "other.yaml"],
    "report": ["report", "--data", "small", "--out", "other.html"],
    "simulate": [*EXPERIMENT, "--out", "other"],
    "paper": ["paper", "--look", "--data", "small"],
}
ASKING = ("predict", "score", "report", "simulate", "paper")


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = make_home(tmp_path_factory.mktemp("home"))
    (home / "other.yaml").write_text(
        "seed: 1\nscore: {replicates: 100, ceiling_splits: 10, permutations: 100}\n"
    )
    return finish(home)


@pytest.fixture
def home(done: Path, tmp_path: Path) -> Iterator[Path]:
    """A copy of a finished project, which a test may spoil."""
    yield shutil.copytree(done, tmp_path / "home", symlinks=True)
    for folder, _, _ in os.walk(tmp_path):
        Path(folder).chmod(0o755)


def wholes(home: Path) -> dict[str, bytes]:
    """Every file that a reader may take for whole."""
    return {
        str(path.relative_to(home)): path.read_bytes()
        for path in home.rglob("*")
        if path.is_file()
        and path.suffix not in (".log", ".lock", ".jsonl-part")
        and ".partial." not in str(path)
    }


@pytest.mark.whole
@pytest.mark.skipif(not needs["prlimit"], reason="util-linux has no prlimit here")
@pytest.mark.parametrize("name", STEPS)
def test_a_full_disk_is_one_line_and_the_same_command_goes_on(home: Path, name: str) -> None:
    words = STEPS[name]
    code, _, err = run(home, words, before=SMALL_FILES)
    errors = [line for line in err if line.startswith("error: ")]
    assert code in (1, 2) and len(errors) == 1 and "the disk is full" in errors[0], err
    left = [path for path in home.rglob("*") if ".partial." in path.name]
    assert not left
    code, _, err = run(home, words)
    assert code == 0, err


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of its own, small enough to be filled up."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=200m", "small-disk", str(folder)]
    if os.geteuid() or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("only root may mount a disk")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


@pytest.mark.whole
@pytest.mark.parametrize("share", [0, 0.2, 0.6])
@pytest.mark.parametrize("name", ASKING)
def test_a_disk_that_fills_up_while_a_command_writes_spoils_nothing(
    home: Path, disk: Path, name: str, share: float
) -> None:
    place = shutil.copytree(home, disk / "home", symlinks=True)
    begun = time.time()
    assert run(home, STEPS[name])[0] == 0
    status = [path.stat() for path in home.rglob("*") if path.is_file()]
    written = sum(one.st_size for one in status if one.st_mtime >= begun)
    free = shutil.disk_usage(disk).free - int(share * written)
    (disk / "filler").write_bytes(bytes(free))
    code, _, err = run(place, STEPS[name])
    errors = [line for line in err if line.startswith("error: ")]
    if code or not share:  # where old files make room for new ones, a part of the room may do
        assert code == 1 and len(errors) == 1 and "the disk is full" in errors[0], err
    assert not any("Traceback" in line for line in err), err
    (disk / "filler").unlink()
    code, _, err = run(place, STEPS[name])
    assert code == 0, err
    assert results(place) == results(home)
    assert not [path for path in place.rglob("*") if ".partial." in path.name]


@pytest.mark.whole
@pytest.mark.skipif(bool(AS_ANYBODY) and not needs["setpriv"], reason="util-linux has no setpriv here")
@pytest.mark.parametrize("name", ["data", "train", *ASKING])
def test_folders_that_can_not_be_written_are_one_line_and_stay_as_they_are(home: Path, name: str) -> None:
    before = wholes(home)
    for folder, _, files in os.walk(home):
        for file in files:
            Path(folder, file).chmod(0o444)
        Path(folder).chmod(0o555)
    code, _, err = run(home, STEPS[name], before=AS_ANYBODY)
    errors = [line for line in err if line.startswith("error: ")]
    assert code in (1, 2) and len(errors) == 1 and "no permission" in errors[0], err
    assert not any("Traceback" in line for line in err), err
    assert wholes(home) == before


@pytest.mark.whole
def test_everything_runs_without_a_home_in_a_plain_locale_and_without_assertions(tmp_path: Path) -> None:
    home = make_home(tmp_path / "Übung 日本")
    plain = {
        "HOME": "/proc/none", "LANG": "C", "LC_ALL": "C", "PYTHONOPTIMIZE": "1", "XDG_CACHE_HOME": "",
        "MPLCONFIGDIR": "",
    }  # fmt: skip
    for words in WAY:
        code, _, err = run(home, words, **plain)
        assert code == 0, (words, err)
        assert not [line for line in err if "Error" in line or "Traceback" in line], err
    record = (home / "outputs/small/study/report.html").read_bytes()
    assert record.decode("utf-8")


def test_no_home_and_no_name_in_the_list_of_users(tmp_path: Path) -> None:
    without = ["env", "-u", "HOME", *(["setpriv", "--reuid=12345"] if os.geteuid() == 0 else [])]
    if os.geteuid() == 0 and not needs["setpriv"]:
        pytest.skip("util-linux has no setpriv here")
    code, _, err = run(Path("/"), ["recipe", "check", "configs/tiny/sft.yaml"], before=without)
    assert code in (0, 2) and not any("Traceback" in line for line in err), err


ENCODINGS = """
import sys
from common.errors import Refusal, run_cli
def main():
    print("− Übung 日本")
    raise Refusal("− Übung 日本")
run_cli(main)
"""


def test_a_terminal_that_can_not_show_a_letter_gets_its_number() -> None:
    env = {**os.environ, "PYTHONIOENCODING": "ascii"}
    ran = subprocess.run([sys.executable, "-c", ENCODINGS], env=env, capture_output=True, text=True)
    assert ran.returncode == 2 and ran.stdout.startswith("\\u2212") and "error: \\u2212" in ran.stderr
    assert ran.stderr.count("\n") == 1


@pytest.mark.parametrize(
    "error",
    [
        OSError(28, "No space left on device"),
        RuntimeError("failed to write: No space left on device (os error 28)"),
        ValueError("Io(Os { message: File too large (os error 27) })"),
    ],
    ids=str,
)
def test_every_librarys_full_disk_is_the_systems_with_the_files_name(
    tmp_path: Path, error: Exception
) -> None:
    with pytest.raises(OSError) as raised, atomic_path(tmp_path / "table.parquet"):
        raise error
    assert raised.value.errno in (27, 28) and raised.value.filename == str(tmp_path / "table.parquet")
    assert not list(tmp_path.iterdir())


def test_what_is_no_matter_of_the_disk_stays_what_it_was(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="28 rows"), atomic_path(tmp_path / "x"):
        raise ValueError("28 rows are wrong")
