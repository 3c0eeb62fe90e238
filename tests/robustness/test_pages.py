"""Hostile texts in every page: nothing of its markup comes from data, and a browser runs nothing."""

import csv
import re
from html.parser import HTMLParser
from pathlib import Path

import polars as pl
import pytest

from common.experiment import make_experiment
from common.names import Names, StudyNames
from eval.reporting import report
from eval.reporting.curves import curves
from eval.simulation import run as simulation
from scripts.data.make import make_data
from scripts.data.settings import DataSettings
from tests.helpers import scored
from tests.helpers.browser import BROWSER, HOSTILE, dom, harmed, without_policy
from tests.helpers.simulated import StandIn, write_study
from tests.helpers.small_source import small_rows, write_source

# With the reading order turned round, what a terminal obeys, and a word without end
TEXT = f"{HOSTILE}\u202eabc\u2066 \x1b[2J\x07 {'w' * 3000}"
OURS = (
    "a abbr article aside b body br button caption circle clippath code dd defs details div dl dt em "
    "fieldset figcaption figure footer form g h1 h2 h3 h4 head header html i image input label "
    "legend li line main meta metadata nav noscript ol optgroup option output p path polyline pre "
    "rect script section select small span strong style sub summary sup svg symbol table tbody td "
    "text tfoot th thead time title tr tspan ul use "
)
ADDRESSES = {"href", "src", "xlink:href", "action", "formaction", "srcset", "data", "poster", "background"}


class Parts(HTMLParser):
    """What a page consists of: whatever is not ours is noted."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.strange: list[str] = []
        self.scripts = 0

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.scripts += tag == "script"
        if tag not in OURS.split():
            self.strange.append(f"<{tag}>")
        for name, value in attributes:
            if name.startswith("on") or name in ("srcdoc", "is"):
                self.strange.append(f"<{tag} {name}>")
            if name in ADDRESSES and not (value or "").startswith(("#", "report/", "data:image/png")):
                self.strange.append(f'<{tag} {name}="{value}">')


def check(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    parts = Parts()
    parts.feed(text)
    assert not parts.strange, parts.strange[:5]
    assert not any(letter in text for letter in "\x00\x07\x1b\u202e\u2066")
    assert "Content-Security-Policy" in text and "w" * 3000 in text
    if BROWSER:
        for file in (page, without_policy(page)):
            html = dom(file)
            assert not harmed(html) and "<iframe" not in html


def test_a_data_sets_card(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    rows = small_rows()
    for row in rows:
        row["stimuli"], row["prompt"] = f"{TEXT} {row['stimuli']}", row["prompt"] + TEXT
        row["demographic"] = {**row["demographic"], "gender": TEXT, "party_id": TEXT}
    write_source(Path("small"), rows)
    study = StudyNames(title=TEXT, conditions={0: TEXT, 1: "b"}, tasks={0: TEXT})
    Names(studies={f"st{number}": study for number in range(4)}).write(Path("small/metadata"))
    folder = make_data("small", "study", DataSettings()).folder
    page = (folder / "card.html").read_text()
    (folder / "card.html").write_text(page + "w" * 3000 if "w" * 3000 not in page else page)
    check(folder / "card.html")


def test_a_report_of_named_studies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def change(rows: pl.DataFrame) -> pl.DataFrame:
        demographic = pl.col("demographic").struct.with_fields(gender=pl.lit(TEXT))
        return rows.with_columns(demographic, stimuli=pl.concat_str("stimuli", pl.lit(TEXT)))

    monkeypatch.chdir(scored.write(tmp_path, studies=2, change=change))
    named = StudyNames(title=TEXT, conditions={0: TEXT, 1: f"2{TEXT}"}, tasks={0: TEXT, 1: f"2{TEXT}"})
    Names(studies={"study0": named, "study1": named, "study2": named}).write(Path("data/sample/study"))
    written = report("sample", "study")
    check(written.page)
    assert TEXT not in str(written) and "\x1b" not in str(written)


def test_a_simulated_choice_between_profiles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(simulation, "predict", StandIn())
    write_study(tmp_path)
    question = TEXT.replace("{", "{{").replace("}", "}}")
    asked = {"question": question, "scale": {"labels": {"1": f"1{TEXT}", "2": "=2+2"}}}
    file = {
        "profiles": 2, "title": TEXT, "description": TEXT, "design": {"people": 50, "tasks": 2},
        "attributes": {f"a{TEXT}": [TEXT, "=1+1", "@b"], "=c": ["-1+1", "d"]}, "moderators": ["party_id"],
        "outcomes": {f"o{TEXT}": asked}, "population": {"people": 50},
    }  # fmt: skip
    done = simulation.simulate(make_experiment(file, "choice"), "m", folder="out")
    assert done.record.levels and "\x1b" not in str(done)
    check(tmp_path / "out/simulation.html")
    for table in (tmp_path / "out").glob("*.csv"):
        for row in csv.reader(table.open(encoding="utf-8")):
            risky = [
                cell for cell in row if re.match(r"\s*[=@+-]", cell) and not re.fullmatch(r"-?[\d.e-]+", cell)
            ]
            assert not risky, (table.name, risky[:3])


def test_the_curves_of_a_sweep(tmp_path: Path) -> None:
    scores = scored.write(tmp_path) / scored.OUTPUTS / "eval"
    points = [({TEXT: f"{TEXT}{name}", "share": 0.1}, scores / name) for name in ("tiny-base", "tiny-sft")]
    drawn = curves(TEXT, "share", points, ["accuracy_observed"], tmp_path / "out")
    check(drawn.page)
    assert "\x1b" not in str(drawn)
