"""The released models by name: what the registry says, and loading them from a hub."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from eval.models import find_model
from eval.released import released_models
from socrates import app
from tests.helpers import tiny_models
from tests.helpers.hub_server import REVISION, serve

ROOT = Path(__file__).parents[2]
NAME = "socrates-qwen2.5-14b-sft"


def test_the_four_released_models_have_a_hub_id_and_a_licence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOCRATES_HOME", str(ROOT))
    models = released_models()
    assert len(models) == 4
    assert all(each.hub_id == f"socratesft/{name}" and each.licence for name, each in models.items())


def test_a_released_name_stands_for_its_hub_id_at_its_revision(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOCRATES_HOME", str(ROOT))
    model = find_model(NAME, "sample", "study")
    released = released_models()[NAME]
    assert (model.name, model.path) == (NAME, f"{released.hub_id}@{released.revision}")


def test_predict_takes_a_released_name_as_eval_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOCRATES_HOME", str(tmp_path))
    asked: dict[str, object] = {}
    monkeypatch.setattr("eval.predict", lambda rows, model, *_, **more: asked.update(more, model=model))
    app(["predict", "--model", NAME], standalone_mode=False)
    assert asked["model"] == released_models()[NAME].path
    assert asked["name"] == NAME and str(asked["folder"]).endswith(f"eval/{NAME}")


def test_a_released_model_is_fetched_from_a_hub_and_asked_by_its_name(tmp_path: Path) -> None:
    weights = tiny_models.make("qwen", tmp_path / "weights")
    home = tmp_path / "home"
    shutil.copytree(ROOT / "configs", home / "configs")
    file = home / "configs/released.yaml"
    text = file.read_text()
    pinned = next(line.split()[-1] for line in text.splitlines() if "revision: 6" in line)
    file.write_text(text.replace(pinned, REVISION))
    with serve(weights, f"socratesft/{NAME}") as hub:
        env = {key: value for key, value in os.environ.items() if key != "HF_HUB_OFFLINE"} | {
            "HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "cache"), "HF_HUB_DISABLE_XET": "1",
            "SOCRATES_HOME": str(home), "PYTHONPATH": str(ROOT),
        }  # fmt: skip
        line = [
            sys.executable,
            "-m",
            "socrates",
            "chat",
            "How fair is it?",
            "--scale",
            "1-7",
            "--model",
            NAME,
        ]
        line += ["--persona", "age=34, gender=Female"]
        done = subprocess.run(line, env=env, cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[-2000:]
        assert "model.safetensors" in hub.downloads
    assert done.stdout.count("%") == 8 and "mean " in done.stdout
