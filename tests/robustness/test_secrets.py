"""Keys and tokens of the environment, of recipes and of addresses are in no file and on no line."""

from pathlib import Path

import pytest
import yaml

from scripts.training.asides import SECRETS, without_secrets
from scripts.training.request import RunRequest
from tests.helpers.small_home import SWEEP, TRAIN, WAY, make_home, run

CANARIES = {
    "HF_TOKEN": "hf_canaryAAAA", "HUGGING_FACE_HUB_TOKEN": "hf_canaryBBBB", "OPENAI_API_KEY": "sk-canaryCCCC",
    "WANDB_API_KEY": "canaryDDDD", "AWS_SECRET_ACCESS_KEY": "canaryEEEE",
    "HTTPS_PROXY": "http://user:canaryFFFF@127.0.0.1:9", "HTTP_PROXY": "http://user:canaryGGGG@127.0.0.1:9",
    "SWANLAB_API_KEY": "canaryHHHH", "PIP_INDEX_URL": "https://user:canaryIIII@nowhere.invalid/simple",
}  # fmt: skip


def shown(home: Path, said: list[str]) -> list[str]:
    """Where a canary can be read: lines, names of files, and bytes of files that the test did not write."""
    places = [line for line in said if "canary" in line]
    for path in home.rglob("*"):
        if "canary" in str(path.relative_to(home)):
            places.append(str(path))
        elif path.is_file() and path.name != "written-by-the-user.yaml" and b"canary" in path.read_bytes():
            places.append(f"in {path}")
    return places


@pytest.mark.whole
def test_no_file_and_no_line_of_a_whole_run_holds_a_secret(tmp_path: Path) -> None:
    home = make_home(tmp_path)
    recipe = yaml.safe_load((home / "configs/tiny/sft.yaml").read_text()) | dict.fromkeys(
        SECRETS, "canaryKKKK"
    )
    (home / "written-by-the-user.yaml").write_text(yaml.safe_dump(recipe))
    (home / "steps.yaml").write_text(SWEEP.replace("[2, 4]", "[2]"))
    secret = ["--recipe", "written-by-the-user.yaml", "hf_hub_token=canaryLLLL", "output_dir=secret"]
    unnamed = ["train", "sft", "--data", "small", "max_steps=2", "eval_steps=2", "hf_hub_token=canaryMMMM"]
    way = [*WAY, [*TRAIN, *secret], unnamed, ["sweep", "steps.yaml"]]
    url = "http://127.0.0.1:9/v1"
    refused = [
        ["predict", "--model", "m", "--data", "small", "--url", url.replace("://", "://me:canaryNNNN@")],
        ["predict", "--model", "m", "--data", "small", "--url", f"{url}?api_key=canaryOOOO"],
        ["simulate", "run", "configs/experiments/two-arm.yaml", "--model", f"{url}?key=canaryPPPP"],
        ["eval", "--data", "small", "--model", f"{url}#canaryQQQQ"],
        ["predict", "--model", "nobody/nothing", "--data", "small", "--name", "hub"],
        ["data", "fetch"],
        ["fetch-model", "smollm2-135m"],
        ["train", "sft", "--data", "small", "model_name_or_path=nobody/nothing"],
        ["export", "--data", "small", "--run", "sft", "--out", "exported", "--push", "nobody/nothing"],
    ]
    for code, words in [*((0, words) for words in way), *((2, words) for words in refused)]:
        returned, out, err = run(home, words, HF_HUB_OFFLINE="0", **CANARIES)
        assert returned == code, (words, err)
        assert not shown(home, [*out.splitlines(), *err]), words
        assert code == 0 or sum(line.startswith("error: ") for line in err) == 1, err


@pytest.mark.parametrize("name", ["HF_ENDPOINT", "OPENAI_BASE_URL"])
def test_an_address_with_a_password_in_the_environment_is_refused_before_a_library_prints_it(
    name: str, tmp_path: Path
) -> None:
    code, out, err = run(tmp_path, ["recipe", "ls"], **{name: "http://user:canary@127.0.0.1:9"})
    assert code == 2 and len(err) == 1 and name in err[0] and "canary" not in out + err[0]


def test_a_secret_is_neither_in_a_runs_name_nor_in_its_command() -> None:
    words = ["train", "sft", "hf_hub_token=canary", "--hub_token=canary\ncanary", "seed=3"]
    assert without_secrets(words) == [
        "train",
        "sft",
        "hf_hub_token=[secret]",
        "--hub_token=[secret]",
        "seed=3",
    ]
    request = RunRequest(settings={"seed": 3, "hf_hub_token": "canary"})
    assert request.folder.name == "sft-seed-3" and "canary" not in str(request.resolved)
