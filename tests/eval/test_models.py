"""What a model's name means."""

from pathlib import Path

import pytest

from common.errors import Refusal
from eval.models import Model, find_model, find_models
from eval.settings import Settings
from tests.helpers.fake_server import FakeServer

RUNS = "outputs/sample/study/tiny"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with one recipe, whose SFT and two DPO runs are finished; one was moved aside."""
    monkeypatch.setenv("SOCRATES_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    for folder in ("configs/tiny", "outputs/models/tiny"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "configs/tiny/sft.yaml").write_text("model_name_or_path: outputs/models/tiny\n")
    for run in ("dpo", "sft", "dpo-soft", "sft.old-20260101"):
        (tmp_path / RUNS / run).mkdir(parents=True)
        (tmp_path / RUNS / run / "run.json").write_text("{}")
    (tmp_path / RUNS / "unfinished").mkdir()
    return tmp_path


def test_a_recipe_stands_for_its_base_and_its_finished_runs(home: Path) -> None:
    models = find_models("tiny", "sample", "study")
    assert [model.name for model in models] == ["tiny-base", "tiny-sft", "tiny-dpo", "tiny-dpo-soft"]
    assert models[0].path == "outputs/models/tiny"
    assert models[1].path == f"{RUNS}/sft"


def test_a_recipe_without_runs_stands_for_its_base_and_a_line_says_so(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    find_models("tiny", "sample", "study")
    assert capsys.readouterr().err == ""
    assert [model.name for model in find_models("tiny", "sample", "all")] == ["tiny-base"]
    assert "tiny has no finished run of DATA=sample SPLIT=all: its base" in capsys.readouterr().err


def test_a_folder_of_the_project_is_the_same_model_from_any_folder(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir("/")
    assert find_model("outputs/models/tiny", "sample", "all") == Model(
        str(home / "outputs/models/tiny"), "tiny"
    )
    assert find_model(f"{RUNS}/sft", "sample", "all").name == "tiny-sft"


@pytest.mark.parametrize(
    ("name", "model"),
    [
        ("tiny", Model(f"{RUNS}/sft", "tiny-sft")),
        ("tiny-dpo-soft", Model(f"{RUNS}/dpo-soft", "tiny-dpo-soft")),
        ("tiny-base", Model("outputs/models/tiny", "tiny-base")),
        (f"{RUNS}/dpo", Model(f"{RUNS}/dpo", "tiny-dpo")),
        ("outputs/models/tiny", Model("outputs/models/tiny", "tiny")),
        (".", None),
        ("owner/name-8b", Model("owner/name-8b", "name-8b")),
        ("owner/name@refs/pr/1", Model("owner/name@refs/pr/1", "name-refs-pr-1")),
    ],
)
def test_one_model_is_a_run_a_folder_or_a_hub_id(home: Path, name: str, model: Model | None) -> None:
    assert find_model(name, "sample", "study") == (model or Model(".", home.name))


def test_several_models_are_evaluated_once_each(home: Path) -> None:
    models = find_models("tiny-sft, owner/name,tiny", "sample", "study")
    assert [model.name for model in models][:3] == ["tiny-sft", "name", "tiny-base"]
    assert len(models) == 5


@pytest.mark.parametrize(
    ("names", "reason"),
    [
        ("tiny-sfx", "no model tiny-sfx here; there are tiny-base"),
        ("owner/name,other/name", "both be named name; name each .*predict --model other/name --name NAME"),
        (" , ", "no model is named"),
    ],
)
def test_a_name_that_means_nothing_or_two_things_is_refused(home: Path, names: str, reason: str) -> None:
    with pytest.raises(Refusal, match=reason):
        find_models(names, "sample", "study")


def test_a_servers_names_are_not_looked_up_here(home: Path) -> None:
    models = find_models("tiny, owner/large", "sample", "study", served=True)
    assert models == [Model("tiny", "tiny"), Model("owner/large", "large")]


def test_a_servers_address_stands_for_the_one_model_that_it_serves() -> None:
    server = FakeServer()
    url = server.url
    with pytest.raises(Refusal, match="serves nothing"):
        find_model(url, "sample", "study")
    server.listed.append({"id": "owner/tiny", "object": "model", "created": 0, "owned_by": "us"})
    model = find_model(url, "sample", "study")
    assert model == Model("owner/tiny", "tiny", url)
    settings = model.adapt(Settings())
    assert (settings.backend, settings.server.url) == ("server", url)
    server.listed.append({"id": "other", "object": "model", "created": 0, "owned_by": "us"})
    with pytest.raises(Refusal, match="name one"):
        find_model(url, "sample", "study")
    assert find_model(url, "sample", "study", served="other").path == "other"
    given = {
        "llama3:8b": "llama3-8b",
        "../..": "served",
        "a/Qwen2.5-14B": "Qwen2.5-14B",
        "x y\x1b[2J": "x-y-2J",
    }
    for served_name, name in given.items():
        assert find_model(url, "sample", "study", served=served_name).name == name


@pytest.mark.parametrize(
    "url", ["http://me:canary@host/v1", "https://host/v1?api_key=canary", "http://canary@h/v1"]
)
def test_an_address_that_holds_a_key_is_refused_without_showing_it(home: Path, url: str) -> None:
    with pytest.raises(Refusal, match="set OPENAI_API_KEY") as refused:
        find_model(url, "sample", "study")
    assert "canary" not in str(refused.value)
