"""kill -9 at random moments of a command with changed settings: the same command again makes it good."""

import random
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers.small_home import EXPERIMENT, finish, make_home, results, run, start

KILLS = 5
# A command with changed settings, what it writes, and for how many seconds it works
STEPS = {
    "data": (["data", "make", "--data", "small", "--config", "data.yaml"], "data/small", 0.8),
    "tokenise": (["tokenise", "sft", "--data", "small", "cutoff_len=1500"], "outputs/tokenised", 5),
    "score": (["score", "--data", "small", "--config", "changed.yaml"], "outputs/small/study/eval", 3),
    "report": (["report", "--data", "small"], "outputs/small/study", 2),
    "simulate": ([*EXPERIMENT, "--config", "changed.yaml"], "outputs/small/study/simulations", 6),
}  # fmt: skip


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = make_home(tmp_path_factory.mktemp("home"))
    (home / "changed.yaml").write_text(
        "exact: {temperature: 0.7}\nscore: {replicates: 150, ceiling_splits: 12, permutations: 110}\n"
    )
    settings = (home / "configs/data/default.yaml").read_text()
    (home / "data.yaml").write_text(settings.replace("seed: ", "seed: 9", 1))
    return finish(home)


@pytest.fixture
def home(done: Path, tmp_path: Path) -> Iterator[Path]:
    yield shutil.copytree(done, tmp_path / "home", symlinks=True)


@pytest.mark.whole
@pytest.mark.parametrize("name", STEPS)
def test_a_killed_command_with_changed_settings_ends_as_an_undisturbed_one(
    home: Path, tmp_path: Path, name: str
):
    words, folder, seconds = STEPS[name]
    undisturbed = shutil.copytree(home, tmp_path / "undisturbed", symlinks=True)
    if name == "report":  # its input changes, not its settings
        for place in (home, undisturbed):
            assert run(place, ["score", "--data", "small", "--config", "changed.yaml"])[0] == 0
    assert run(undisturbed, words)[0] == 0
    before, expected = results(home, folder), results(undisturbed, folder)
    assert before != expected, "the changed settings change something"
    chance = random.Random(name)
    for _ in range(KILLS):
        process = start(home, words)
        time.sleep(chance.uniform(0.3, 1) * seconds)
        process.send_signal(signal.SIGKILL)
        process.communicate()
    code, _, err = run(home, words)
    assert code == 0, err
    assert results(home, folder) == expected
    left = [path for path in home.rglob("*") if ".partial." in path.name]
    assert not left
    code, out, err = run(home, words)
    assert code == 0 and "nothing to do" in out + " ".join(err)
