"""The report: one page from the scores, with the same figures as tables and pictures."""

import json
import re
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import Refusal
from common.prompts import SYSTEM_PROMPT
from eval.reporting import cell_browser as report_cells
from eval.reporting import charts as report_figures
from eval.reporting import results
from eval.reporting import run as report
from eval.reporting.headline import headline
from eval.scoring import glossary
from eval.scoring import run as score
from tests.helpers import made_scores
from tests.helpers.browser import HOSTILE, acting, dom, harmed, needs_browser, without_policy

ROOT = Path(__file__).parents[3]


def run(monkeypatch, folder: Path, *options: str, charts: bool = False) -> Path:
    """The command line, in `folder`; the path of its page. Charts take most of the time."""
    monkeypatch.chdir(folder)
    if not charts:
        monkeypatch.setattr(report_figures, "draw", lambda found: {})
    monkeypatch.setattr(sys, "argv", ["report", "--data", "made", "--split", "study", *options])
    report.main()
    return folder / "outputs/made/study/report.html"


@pytest.fixture(scope="module")
def reported(tmp_path_factory) -> Path:
    """A folder with made-up scores and their report."""
    folder = tmp_path_factory.mktemp("reported")
    made_scores.make(folder)
    with pytest.MonkeyPatch.context() as patch:
        run(patch, folder, charts=True)
    return folder


def loaded(monkeypatch, folder: Path) -> results.Results:
    monkeypatch.chdir(folder)
    return results.load("made", "study")


def change(folder: Path, name: str, edit) -> None:
    """Edit one model's scores.json."""
    path = folder / f"outputs/made/study/eval/{name}/scores.json"
    scores = json.loads(path.read_text())
    edit(scores)
    path.write_text(json.dumps(scores))


def test_the_page_names_every_model_control_and_ceiling_and_both_ranges(reported):
    page = (reported / "outputs/made/study/report.html").read_text()
    names = [glossary.CONTROLS[name].name for name in made_scores.CONTROLS]
    for name in [*made_scores.MODELS, *names, "Human ceiling, split halves (exact)"]:
        assert name.replace("'", "&#39;") in page
    assert "Wasserstein, observed range" in page and "Wasserstein, stated range" in page
    assert "0.120" in page and "0.100 to 0.140" in page, "a value and its interval"


def test_the_page_is_one_file_that_names_no_address(reported):
    page = (reported / "outputs/made/study/report.html").read_text()
    for place in ("http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"):
        page = page.replace(place, "")
    assert "http:" not in page and "https:" not in page and "@import" not in page and "url(/" not in page


def test_what_cannot_be_computed_stands_there_with_its_reason(reported):
    page = (reported / "outputs/made/study/report.html").read_text()
    assert "fewer than 2 studies" in page and "1 groups with at least 20 rows" in page
    assert ">NaN<" not in page and ">None<" not in page


def test_the_same_figures_are_written_for_papers(reported):
    folder = reported / "outputs/made/study/report"
    leaders = pl.read_csv(folder / "leaders.csv")
    row = leaders.filter(
        (pl.col("name") == "tiny-sft")
        & (pl.col("metric") == "wasserstein_observed")
        & pl.col("skill").is_null()
    )
    assert row.select("value", "low", "high").row(0) == pytest.approx((0.12, 0.1, 0.14))
    assert pl.read_csv(folder / "cells.csv").height == 3 * 4 * 3 * 3
    assert pl.read_csv(folder / "contrasts.csv").height == 3 * 40
    for name in ("leaders", "studies", "effects", "calibration", "subgroups", "losses_sft", "losses_dpo"):
        assert (folder / f"{name}.png").read_bytes().startswith(b"\x89PNG")
        assert "<svg" in (folder / f"{name}.svg").read_text()


def test_a_second_run_does_nothing_and_new_scores_make_a_new_page(tmp_path, monkeypatch, capsys):
    made_scores.make(tmp_path, studies=2)
    page = run(monkeypatch, tmp_path)
    before = page.stat().st_mtime_ns
    capsys.readouterr()
    run(monkeypatch, tmp_path)
    assert "nothing to do" in capsys.readouterr().out and page.stat().st_mtime_ns == before
    change(tmp_path, "tiny-sft", lambda scores: scores["metrics"].clear())
    run(monkeypatch, tmp_path)
    assert page.stat().st_mtime_ns > before
    page.unlink()
    assert run(monkeypatch, tmp_path).is_file(), "a page that is gone is made again"


def test_missing_or_torn_scores_name_the_command_that_makes_them(tmp_path, monkeypatch):
    (tmp_path / "made").mkdir()
    with pytest.raises(Refusal, match="run `make eval DATA=made SPLIT=study` first"):
        run(monkeypatch, tmp_path)
    place = made_scores.make(tmp_path, studies=2) / "eval/tiny-sft"
    (place / "scores.json").write_text('{"schema": 1, "na')
    with pytest.raises(Refusal, match=r"tiny-sft/scores.json is not valid JSON .*run `make eval"):
        run(monkeypatch, tmp_path)
    (place / "scores.json").write_text('{"schema": 9}')
    with pytest.raises(Refusal, match="another schema"):
        run(monkeypatch, tmp_path)


def test_a_folder_that_is_no_report_is_never_replaced(tmp_path, monkeypatch):
    made_scores.make(tmp_path, studies=2)
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis/chapter.txt").write_text("mine")
    with pytest.raises(Refusal, match="is no report's folder"):
        run(monkeypatch, tmp_path, "--out", "thesis.html")
    assert (tmp_path / "thesis/chapter.txt").read_text() == "mine"
    run(monkeypatch, tmp_path, "--out", "elsewhere/page.html")
    assert (tmp_path / "elsewhere/page.html").is_file() and (
        tmp_path / "elsewhere/page/leaders.csv"
    ).is_file()


def test_a_model_scored_alone_is_reported_without_a_comparison(tmp_path, monkeypatch):
    outputs = made_scores.make(tmp_path, studies=1, models={"mine": 0.2})
    (outputs / "eval/comparison.json").unlink()
    (tmp_path / "data/made/study/manifest.json").unlink()
    page = run(monkeypatch, tmp_path).read_text()
    assert "mine goes 25% of the way" in page and "People of the other arms" in page
    assert "nothing is known about its split" in page


def test_a_model_outside_the_comparison_stands_in_the_table_and_is_said_to(tmp_path, monkeypatch):
    outputs = made_scores.make(tmp_path, studies=2)
    beside = outputs / "eval/comparison.json"
    comparison = json.loads(beside.read_text())
    comparison["table"] = [row for row in comparison["table"] if row["name"] != "tiny-dpo"]
    beside.write_text(json.dumps(comparison))
    rows, basis = results.leaders(loaded(monkeypatch, tmp_path))
    assert "tiny-dpo" in [row["name"] for row in rows] and "tiny-dpo: on the answers that it" in basis


def test_a_model_may_have_the_name_of_a_column(tmp_path, monkeypatch):
    made_scores.make(tmp_path, studies=1, models={"name": 0.2, "what": 0.1, "half": 0.15})
    page = run(monkeypatch, tmp_path).read_text()
    assert "Brier score" in page and "rows scored" in page and "Correlation of effects" in page
    for name in ("name", "what", "half"):
        assert f'<th scope="col" class="number">{name}</th>' in page


def test_no_figures_are_drawn_of_what_is_not_there(tmp_path, monkeypatch):
    def strip(scores):
        empty = made_scores.estimate(None)
        scores["effects"] |= {"contrasts": 0, "clear": 0, "pairs": []}
        scores["calibration"] = {"ece": empty, "bins": [], "reason": "sampled answers are no probabilities"}
        scores["skill"]["wasserstein_observed"]["corrected"] = empty
        scores["subgroups"] |= {"fields": {}, "effects": {}, "largest_gap": None}
        for study in scores["studies"].values():
            study["skill"] = {}

    outputs = made_scores.make(tmp_path, studies=2, models={"mine": 0.2})
    change(tmp_path, "mine", strip)
    (outputs / "eval/comparison.json").unlink()
    for record in outputs.glob("tiny/*/run.json"):
        record.unlink()
    page = run(monkeypatch, tmp_path, charts=True).read_text()
    assert "No skill can be given for mine" in page and "No outcome has two arms" in page
    assert "No training run" in page and "sampled answers are no probabilities" in page


@pytest.mark.parametrize(
    ("value", "low", "high", "words"),
    [
        (
            0.62,
            0.5,
            0.7,
            "goes 62% of the way from a uniform guess to a perfect model (skill 0.62; 95% interval",
        ),
        (0.2, -0.1, 0.4, "it may be no better than a guess"),
        (-0.3, -0.5, -0.1, "does no better than a uniform guess (skill −0.30"),
        (0.97, 0.9, 1.05, "can't be told from a perfect model"),
        (0.62, None, None, "a perfect model (skill 0.62)."),
    ],
)
def test_the_headline_says_where_the_model_stands(tmp_path, monkeypatch, value, low, high, words):
    made = made_scores.make(tmp_path, studies=1, models={"mine": 0.2})
    (made / "eval/comparison.json").unlink()
    skill = made_scores.estimate(value) | {"low": low, "high": high}
    change(tmp_path, "mine", lambda scores: scores["skill"]["wasserstein_observed"].update(corrected=skill))
    assert words in headline(loaded(monkeypatch, tmp_path))[0]


def test_the_headline_tells_gain_from_loss_whichever_model_is_named_first(tmp_path, monkeypatch):
    made_scores.make(tmp_path, studies=1)
    found = loaded(monkeypatch, tmp_path)
    one = {"metric": "wasserstein_observed", "low": 0.01, "high": 0.03, "value": 0.02}
    for pair, word in ((("tiny-base", "tiny-sft"), "nearer to"), (("tiny-sft", "tiny-base"), "farther from")):
        found.comparison["differences"] = [one | dict(zip("ab", pair, strict=True))]
        assert f"0.020 {word} people than tiny-base (95% interval 0.010 to 0.030)" in headline(found)[-1]


@given(
    st.integers(-1000, 1000),
    st.integers(0, 100_000),
    st.lists(st.integers(-2000, 200_000), min_size=1),
    st.data(),
)
def test_bars_are_few_and_hold_every_answer_once(low, width, answers, data):
    row = {"scale_low": low, "scale_high": low + width, "answers": sorted(set(answers))}
    bars = report_cells.bars_of(row)
    weights = data.draw(
        st.lists(st.integers(0, 9), min_size=len(row["answers"]), max_size=len(row["answers"]))
    )
    gathered = bars.gather(row["answers"], weights)
    assert len(gathered) == bars.number <= report_cells.MOST_BARS + 1
    assert gathered.sum() == sum(weights)
    assert bars.first <= low and bars.first + bars.number * bars.width >= low + width


def test_bars_of_common_scales_are_round():
    def drawn(low, high, answers):
        bars = report_cells.bars_of({"scale_low": low, "scale_high": high, "answers": answers})
        return bars.first, bars.width, bars.number

    assert drawn(1, 7, [1, 2, 5]) == (1, 1, 7)
    assert drawn(0, 100, list(range(101))) == (0, 5, 20)
    assert drawn(0, 100, [0, 10, 50, 100]) == (0, 10, 11)
    assert drawn(-1, 1000, [-1, 3, 1000]) == (-100, 100, 11)


def test_an_answer_off_the_scale_is_put_into_the_outermost_bar():
    bars = report_cells.bars_of({"scale_low": 1, "scale_high": 3, "answers": [-5, 2, 99]})
    assert bars.gather([-5, 2, 99], [1, 2, 4]).tolist() == [1, 2, 4]


def test_a_page_that_would_grow_too_large_is_cut_and_says_so(tmp_path, monkeypatch):
    made_scores.make(tmp_path, stimulus="Long. " * 200, models={"mine": 0.2})
    found = loaded(monkeypatch, tmp_path)
    whole, notes = report_cells.payload(found)
    assert not notes and len(whole["cells"]) == 36
    cut, notes = report_cells.payload(found, limit=30_000)
    assert "question texts are cut after 600 characters" in notes[0] and len(notes) == 1
    small, notes = report_cells.payload(found, limit=4_000)
    assert "cells are on this page, those with the most answers" in notes[1]
    assert 0 < len(small["cells"]) < 36
    for made, limit in ((cut, 30_000), (small, 4_000)):
        assert len(json.dumps(made, separators=(",", ":"))) < 1.1 * limit


def test_a_spreadsheet_runs_no_formula_from_data(tmp_path, monkeypatch):
    made_scores.make(tmp_path, studies=1, group="=HYPERLINK(1)", models={"mine": 0.2})
    run(monkeypatch, tmp_path)
    groups = pl.read_csv(tmp_path / "outputs/made/study/report/subgroups.csv")["group"].unique().to_list()
    assert "'=HYPERLINK(1)" in groups and "=HYPERLINK(1)" not in groups


@needs_browser
def test_markup_in_studies_questions_and_groups_does_no_harm_in_a_browser(tmp_path, monkeypatch):
    made_scores.make(tmp_path, studies=2, stimulus=HOSTILE, study=HOSTILE, group=HOSTILE)
    page = run(monkeypatch, tmp_path, charts=True)
    for file in (page, without_policy(page)):
        html = dom(file)
        assert not harmed(html)
        assert html.count('class="arm"') == 18, "the cells are drawn all the same"
        assert "<img" not in html and "<iframe" not in html
    link = re.findall(r'href="(#cell=[^"]*)"', page.read_text())[0]
    html = dom(page, link)
    assert not harmed(html) and html.count('<article class="outcome">') == 1, "a link finds its outcome"
    assert "No outcome fits" in dom(page, "#cell=99%")


@needs_browser
def test_a_link_to_a_cell_shows_its_outcome_with_both_distributions(reported):
    html = dom(reported / "outputs/made/study/report.html", "#cell=st2/1")
    cards = html.split('<article class="outcome">')[1:]
    assert len(cards) == 1 and "Study st2, outcome 1" in cards[0]
    assert cards[0].count('class="arm"') == 3
    assert cards[0].count('rect class="people"') == cards[0].count('rect class="model"') == 3 * 7


@needs_browser
def test_a_reader_can_search_order_and_choose_the_model(reported):
    page = reported / "outputs/made/study/report.html"
    html = acting(
        page,
        """
        const set = (id, value) => { document.getElementById(id).value = value; };
        set("cell-search", "STUDY ST3"); set("cell-model", "2"); set("cell-order", "study");
        document.getElementById("cell-controls").dispatchEvent(new Event("input"));
        """,
    )
    titles = re.findall(r"<h3>(Study [^<]*)</h3>", html)
    assert titles == [f"Study st3, outcome {task}" for task in range(3)]
    base = pl.read_parquet(reported / "outputs/made/study/eval/tiny-base/cells.parquet")
    mean = base.filter((pl.col("study_id") == "st3") & (pl.col("task_num") == 0))[
        "wasserstein_observed"
    ].mean()
    assert f"mean distance {mean:.3f}" in html, "the distances are the chosen model's"
    none = acting(
        page,
        "document.getElementById('cell-search').value = 'no such words';"
        "document.getElementById('cell-controls').dispatchEvent(new Event('input'));",
    )
    assert "No outcome fits the search." in none


@needs_browser
def test_a_click_on_a_heading_sorts_numbers_as_numbers(reported):
    click = "document.querySelectorAll('#studies th.number')[2].click();"
    page = reported / "outputs/made/study/report.html"
    for clicks, direction in ((1, "ascending"), (2, "descending")):
        html = acting(page, clicks * click)
        body = html.split('id="studies"')[1].split("<tbody>")[1].split("</tbody>")[0]
        values = [float(value) for value in re.findall(r'data-sort="(0\.\d+)"', body)[::4]]
        assert f'aria-sort="{direction}"' in html and len(values) == 4
        assert values == sorted(values, reverse=direction == "descending")


def evaluation_rows(folder: Path) -> pl.DataFrame:
    """Evaluation rows of three studies, two arms, two outcomes and 20 people each, as in data/README.md."""
    rng = np.random.default_rng(0)
    rows = []
    for study in range(3):
        for person in range(40):
            arm = person % 2
            for task in range(2):
                low, high = ((1, 7), (0, 100))[task]
                rows.append({
                    "study_id": f"st{study}", "sample_id": len(rows), "participant": person,
                    "condition_num": arm, "task_num": task, "item_num": 0, "system": SYSTEM_PROMPT,
                    "prompt": "p", "stimuli": f"Question {task}, arm {arm}.",
                    "response": int(np.clip(rng.normal((low + high) / 2 + arm, (high - low) / 4), low, high)),
                    "scale_kind": "ordinal", "scale_low": low, "scale_high": high, "scale_step": 1,
                    "scale_labels": [], "off_scale": False,
                    "demographic": {"age": 20 + person, "gender": ("Female", "Male")[person // 20]},
                })  # fmt: skip
    labels = pl.List(pl.Struct({"value": pl.Int64, "label": pl.String}))
    frame = pl.DataFrame(rows, schema_overrides={"scale_labels": labels})
    path = folder / "data/made/study/eval.parquet"
    path.parent.mkdir(parents=True)
    frame.write_parquet(path)
    return frame


def test_what_the_scorer_writes_is_what_the_report_reads(tmp_path, monkeypatch):
    rows = evaluation_rows(tmp_path)
    (tmp_path / "made").mkdir()
    answers = rows.select("study_id", "sample_id", prediction=pl.col("scale_low") + 2)
    answers.write_parquet(tmp_path / "answers.parquet")
    monkeypatch.chdir(tmp_path)
    config = str(ROOT / "configs/eval/default.yaml")
    score.main(["--data", "made", "--predictions", "answers.parquet", "--name", "mine", "--config", config])
    page = run(monkeypatch, tmp_path).read_text()
    assert "mine does no better than a uniform guess" in page or "mine goes" in page
    assert "not computed" not in page, "every figure that the report asks for is in the scores"


@pytest.mark.whole
@needs_browser
def test_six_thousand_cells_fit_a_page_that_a_browser_draws(tmp_path, monkeypatch):
    made_scores.make(tmp_path, studies=200, arms=6, outcomes=5, stimulus="A long vignette. " * 100)
    page = run(monkeypatch, tmp_path)
    assert page.stat().st_size < 20e6
    assert dom(page).count('<article class="outcome">') == 6
