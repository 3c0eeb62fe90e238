"""Settings files: what is wrong in one is named, with the nearest right key."""

from pathlib import Path

import pytest
from pydantic import Field

from common.errors import Refusal
from common.settings import Section, read_settings


class Inner(Section):
    scheme: str = "uniform"


class Outer(Section):
    seed: int = Field(0, ge=0)
    pairs: Inner = Inner()
    several: tuple[Inner, ...] = ()


def read(tmp_path: Path, text: str, **overrides: object) -> Outer:
    path = tmp_path / "settings.yaml"
    path.write_text(text)
    return read_settings(path, Outer, "configs/data/default.yaml", **overrides)


def test_keys_left_out_keep_their_defaults_and_given_options_win(tmp_path: Path):
    assert read(tmp_path, "").seed == 0
    assert read(tmp_path, "seed: 3", seed=None).seed == 3
    assert read(tmp_path, "seed: 3", seed=4).seed == 4


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("sead: 1", "unknown key `sead`; did you mean `seed`?"),
        ("pairs: {schema: balanced}", "unknown key `pairs.schema`; did you mean `scheme`?"),
        ("several: [{}, {sheme: x}]", "unknown key `several.1.sheme`; did you mean `scheme`?"),
        ("zzz: 1", "unknown key `zzz`; known keys: pairs, seed, several"),
        ("seed: -1", "`seed` = -1"),
        ("seed: [", "not valid YAML"),
        ("- 1", "must hold `key: value` lines, see configs/data/default.yaml"),
    ],
)
def test_a_wrong_settings_file_is_refused_in_one_line(tmp_path: Path, text: str, words: str):
    with pytest.raises(Refusal) as refused:
        read(tmp_path, text)
    assert words in str(refused.value) and "\n" not in str(refused.value)


def test_a_missing_settings_file_is_refused_with_an_example(tmp_path: Path):
    with pytest.raises(Refusal, match=r"missing; give a settings file such as configs/data/default.yaml"):
        read_settings(tmp_path / "none.yaml", Outer, "configs/data/default.yaml")
