"""The data card: complete, escaped, and honest about what would be cut."""

import json
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers

from common.errors import Refusal
from scripts.data.card import bars, load_tokenizer, token_lengths
from scripts.data.make import make_data
from scripts.data.settings import DataSettings
from tests.helpers.small_source import mappings, small_rows, write_source


@pytest.fixture
def tokenizer(tmp_path):
    words = Tokenizer(models.WordLevel({"?": 0}, unk_token="?"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    (tmp_path / "words").mkdir()
    words.save(str(tmp_path / "words/tokenizer.json"))
    return str(tmp_path / "words")


def test_the_card_shows_rows_studies_firewall_pairs_lengths_and_sums(tmp_path, monkeypatch, tokenizer):
    monkeypatch.chdir(tmp_path)
    write_source(Path("small"))
    folder = make_data("small", "study", DataSettings(), tokenizer=tokenizer).folder
    card = (folder / "card.html").read_text()
    manifest = json.loads((folder / "manifest.json").read_text())
    for name, facts in manifest["files"].items():
        assert name in card and facts["sha256"] in card
    for check in manifest["firewall"]:
        assert check["name"] in card
    assert f"{manifest['pairs']['pairs']:,}" in card and "st3" in card and "<svg" in card
    assert "cutoff_len" in card and "fits" in card


def test_texts_from_the_data_are_escaped(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_source(Path("small"))
    mapping = Path("small/metadata/<b>x&y.json")
    mapping.write_text(json.dumps(mappings()["participant"]))
    folder = make_data("small", "study", DataSettings(mapping=str(mapping))).folder
    card = (folder / "card.html").read_text()
    assert "<b>" not in card and "&lt;b&gt;x&amp;y.json" in card


def test_a_prompt_longer_than_a_cut_off_is_shown_as_cut(tokenizer):
    lengths = token_lengths(load_tokenizer(tokenizer), ["a b", "c " * 600], ["1", "2"], "c " * 3000)
    assert lengths["rows"] == 2 and lengths["extreme"] > 3000
    shares = {cut["length"]: (cut["share"], cut["extreme"]) for cut in lengths["cuts"]}
    assert shares[512] == (0.5, True) and shares[2048] == (0.0, True) and shares[4096] == (0.0, False)


def test_a_missing_tokenizer_is_refused(tmp_path):
    with pytest.raises(Refusal, match=r"tokenizer\.json"):
        load_tokenizer(str(tmp_path))


def test_no_bar_is_higher_than_its_picture():
    svg = str(bars(np.array([0.5, 0.5]), np.array([1.0, 0.0]), np.array([0.0, 1.0, 2.0])))
    assert svg.count("<rect") == 4 and 'height="70.0"' in svg and 'y="-' not in svg


def test_answers_are_counted_by_kind_of_scale(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_source(Path("small"), small_rows(tasks=2))
    card = (make_data("small", "study", DataSettings()).folder / "card.html").read_text()
    for kind in ("binary", "ordinal", "open"):
        assert f"<td>{kind}</td>" in card
