"""The report: one page from the scores, with the same figures as tables and pictures."""

import re
from pathlib import Path

import polars as pl
import pytest

from common.errors import Refusal
from common.names import Names, StudyNames
from eval.reporting.run import report
from eval.scoring import glossary
from eval.scoring.record import read_comparison
from eval.scoring.run import import_predictions, score_models
from eval.settings import load_settings
from tests.helpers import scored
from tests.helpers.browser import HOSTILE, acting, dom, harmed, lost, needs_browser, without_policy

EVAL = scored.OUTPUTS / "eval"


@pytest.fixture(scope="module")
def reported(scored_folder, tmp_path_factory) -> Path:
    """A folder with scores and their report, charts included; the page's path."""
    folder = scored.copy(scored_folder, tmp_path_factory.mktemp("reported"))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        report("sample", "study")
    return folder / scored.OUTPUTS / "report.html"


def test_the_page_names_every_model_control_and_ceiling_and_both_ranges(reported):
    page = reported.read_text()
    names = [term.name for key, term in glossary.CONTROLS.items() if not key.startswith("most_frequent")]
    for name in [*scored.MODELS, *names, "Human ceiling, split halves (exact)"]:
        assert name.replace("'", "&#39;") in page
    assert "Wasserstein, observed range" in page and "Wasserstein, stated range" in page
    assert re.search(r"0\.\d{3}<small>0\.\d{3} to 0\.\d{3}", page), "a value and its interval"


def test_the_page_is_one_file_that_names_no_address(reported):
    page = reported.read_text()
    for name in ("http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"):
        page = page.replace(name, "")
    assert "http:" not in page and "https:" not in page and "@import" not in page and "url(/" not in page


def test_what_cannot_be_computed_is_shown_with_its_reason(reported):
    page = reported.read_text()
    assert ">NaN<" not in page and ">None<" not in page
    assert "not computed" not in page, "every figure that the report asks for is in the scores"
    assert 'class="why"' in page


def test_the_same_figures_are_written_for_papers(reported):
    folder = reported.with_suffix("")
    leaders = pl.read_csv(folder / "leaders.csv")
    row = leaders.filter(pl.col("skill").is_null(), name="tiny-sft", metric="wasserstein_observed")
    low, value, high = row.select("conf.low", "estimate", "conf.high").row(0)
    assert low < value < high
    assert f"{value:.3f}<small>{low:.3f} to {high:.3f}" in reported.read_text()
    assert pl.read_csv(folder / "cells.csv").height == 3 * 5 * 3 * 3
    assert pl.read_csv(folder / "contrasts.csv").height == 3 * 5 * 3 * 3
    for name in ("leaders", "studies", "effects", "calibration", "subgroups", "losses_sft", "losses_dpo"):
        assert (folder / f"{name}.png").read_bytes().startswith(b"\x89PNG")
        assert "<svg" in (folder / f"{name}.svg").read_text()


def test_every_column_of_every_table_has_a_meaning(reported):
    folder = reported.with_suffix("")
    codebook = pl.read_csv(folder / "codebook.csv")
    assert codebook["meaning"].null_count() == 0 and "" not in codebook["meaning"].to_list()
    for path in folder.glob("*.csv"):
        if path.stem != "codebook":
            listed = codebook.filter(pl.col("table") == path.stem)["column"].to_list()
            assert listed == pl.read_csv(path).columns


def test_the_function_gives_frames_and_says_what_the_page_says(workplace):
    written = report("sample", "study")
    assert written.tables["leaders"]["estimate"].dtype == pl.Float64
    assert written.headline[0] in str(written) and "report.html" in str(written)
    assert written.headline[0].replace("'", "&#x27;") in written._repr_html_()
    assert [path.parent.name for path in written.cards] == ["sft", "dpo"]


def test_a_second_run_does_nothing_and_new_scores_give_a_new_page(workplace):
    first = report("sample", "study")
    before = first.page.stat().st_mtime_ns
    assert "nothing to do" in str(report("sample", "study")) and first.page.stat().st_mtime_ns == before
    path = EVAL / "tiny-sft/scores.json"
    path.write_text(path.read_text().replace('"samples": null', '"samples": 1.0'))
    assert not report("sample", "study").up_to_date
    assert first.page.stat().st_mtime_ns > before
    first.page.unlink()
    assert report("sample", "study").page.is_file(), "a page that is gone is written again"


def test_missing_or_torn_scores_name_the_command_that_makes_them(workplace):
    (EVAL / "tiny-sft/scores.json").write_text('{"schema": 2, "na')
    with pytest.raises(Refusal, match=r"tiny-sft/scores.json is not valid JSON .*run `make eval"):
        report("sample", "study")
    (EVAL / "tiny-sft/scores.json").write_text('{"schema": 9}')
    with pytest.raises(Refusal, match="has schema 9"):
        report("sample", "study")
    for path in EVAL.glob("*/scores.json"):
        path.unlink()
    with pytest.raises(Refusal, match="run `make eval DATA=sample SPLIT=study` first"):
        report("sample", "study")


def test_a_folder_that_is_no_report_is_never_replaced(workplace):
    Path("thesis").mkdir()
    Path("thesis/chapter.txt").write_text("mine")
    with pytest.raises(Refusal, match="is no report's folder"):
        report("sample", "study", page="thesis.html")
    assert Path("thesis/chapter.txt").read_text() == "mine"
    report("sample", "study", page="elsewhere/page.html")
    assert Path("elsewhere/page.html").is_file() and Path("elsewhere/page/leaders.csv").is_file()


def test_a_model_scored_alone_is_reported_without_a_comparison(workplace):
    (EVAL / "comparison.json").unlink()
    for name in ("tiny-base", "tiny-dpo"):
        (EVAL / name / "scores.json").unlink()
    Path("data/sample/study/manifest.json").unlink()
    page = report("sample", "study").page.read_text()
    assert "tiny-sft can&#39;t be told" in page or "tiny-sft goes" in page
    assert "People of the other arms" in page
    assert "nothing is known about its split" in page


def test_a_model_may_have_the_name_of_a_column(tmp_path, monkeypatch):
    models = {"name": 0.2, "what": 0.8, "half": 0.5}
    monkeypatch.chdir(scored.write(tmp_path, models=models, studies=2, tasks=1))
    page = report("sample", "study").page.read_text()
    assert "Brier score" in page and "rows scored" in page and "Correlation of effects" in page
    for name in models:
        assert f'<th scope="col" class="number">{name}</th>' in page


def test_a_report_of_one_arm_and_no_training_draws_no_figures_of_what_is_not_there(tmp_path, monkeypatch):
    monkeypatch.chdir(scored.write(tmp_path, models={"mine": 0.5}, studies=2, arms=1, tasks=1))
    for record in scored.OUTPUTS.glob("tiny/*/run.json"):
        record.unlink()
    page = report("sample", "study").page.read_text()
    assert "No outcome has two arms" in page and "No training run" in page


def test_a_spreadsheet_runs_no_formula_from_data(tmp_path, monkeypatch):
    monkeypatch.chdir(
        scored.write(tmp_path, models={"mine": 0.2}, studies=2, change=hostile("=HYPERLINK(1)"))
    )
    folder = report("sample", "study").folder
    groups = pl.read_csv(folder / "subgroups.csv")["group"].unique().to_list()
    assert "'=HYPERLINK(1)" in groups and "=HYPERLINK(1)" not in groups


def hostile(text: str):
    """Puts a text into every field of the rows that can carry one."""

    def change(rows: pl.DataFrame) -> pl.DataFrame:
        gender = pl.when(pl.col("participant") % 2 == 1).then(pl.lit(text)).otherwise(pl.lit("Male"))
        demographic = pl.col("demographic").struct.with_fields(gender=gender)
        study = pl.concat_str(pl.lit(text), pl.col("study_id"))
        named = [[{"value": value, "label": text} for value in (1, 7)]] * len(rows)
        rows = rows.with_columns(pl.Series("scale_labels", named, dtype=rows.schema["scale_labels"]))
        return rows.with_columns(demographic, study, stimuli=pl.concat_str("stimuli", pl.lit(text)))

    return change


def test_arms_and_outcomes_are_called_by_their_names_where_the_data_set_has_them(workplace):
    named = Names(studies={"study1": StudyNames(conditions={0: "control", 1: "loss"}, tasks={2: "trust"})})
    named.write(Path("data/sample/study"))
    written = report("sample", "study")
    cells = written.tables["cells"].filter(study_id="study1", task_num=2)
    assert set(cells["arm"]) == {"control", "loss", "2"} and set(cells["outcome"]) == {"trust"}
    contrasts = pl.read_csv(written.folder / "contrasts.csv").filter(study_id="study1")
    assert {"control", "loss"} <= set(contrasts["arm_a"]) | set(contrasts["arm_b"])
    assert '"cn":"loss"' in written.page.read_text()


@needs_browser
def test_markup_in_studies_questions_and_groups_does_no_harm_in_a_browser(tmp_path, monkeypatch):
    monkeypatch.chdir(scored.write(tmp_path, studies=2, change=hostile(HOSTILE)))
    arms = dict.fromkeys(range(3), HOSTILE)
    study = StudyNames(title=HOSTILE, conditions=arms, tasks=arms)
    Names(studies={f"{HOSTILE}study0": study}).write(Path("data/sample/study"))
    page = report("sample", "study").page
    for file in (page, without_policy(page)):
        html = dom(file)
        assert not harmed(html)
        assert html.count('class="arm"') == 18, "the cells are drawn all the same"
        assert "<img" not in html and "<iframe" not in html
        assert html.count(">&lt;/script&gt;&lt;") >= 18, "labels stand under the bars, as text"
    link = re.findall(r'href="(#cell=[^"]*)"', page.read_text())[0]
    html = dom(page, link)
    assert not harmed(html) and html.count('<article class="outcome">') == 1, "a link leads to its outcome"
    assert "No outcome fits" in dom(page, "#cell=99%")


@needs_browser
def test_a_link_to_a_cell_shows_its_outcome_with_both_distributions(reported):
    html = dom(reported, "#cell=study2/1")
    cards = html.split('<article class="outcome">')[1:]
    assert len(cards) == 1 and "Study study2, outcome 1" in cards[0]
    assert cards[0].count('class="arm"') == 3
    assert cards[0].count('rect class="people"') == cards[0].count('rect class="model"') == 3 * 7


@needs_browser
def test_a_reader_can_search_order_and_choose_the_model(reported):
    html = acting(
        reported,
        """
        const set = (id, value) => { document.getElementById(id).value = value; };
        set("cell-search", "STUDY3"); set("cell-model", "2"); set("cell-order", "study");
        document.getElementById("cell-controls").dispatchEvent(new Event("input"));
        """,
    )
    titles = re.findall(r"<h3>(Study [^<]*)</h3>", html)
    assert titles == [f"Study study3, outcome {task}" for task in range(3)]
    base = pl.read_parquet(reported.parent / "eval/tiny-base/cells.parquet")
    mean = base.filter((pl.col("study_id") == "study3") & (pl.col("task_num") == 0))[
        "wasserstein_observed"
    ].mean()
    assert f"mean distance {mean:.3f}" in html, "the distances are the chosen model's"
    none = acting(
        reported,
        "document.getElementById('cell-search').value = 'no such words';"
        "document.getElementById('cell-controls').dispatchEvent(new Event('input'));",
    )
    assert "No outcome fits the search." in none


@needs_browser
def test_a_click_on_a_heading_sorts_numbers_as_numbers(reported):
    click = "document.querySelectorAll('#studies th.number')[2].click();"
    for clicks, direction in ((1, "ascending"), (2, "descending")):
        html = acting(reported, clicks * click)
        body = html.split('id="studies"')[1].split("<tbody>")[1].split("</tbody>")[0]
        rows = [re.findall(r'data-sort="(-?[\d.]+)"', row) for row in body.split("</tr>")[:-1]]
        values = [float(row[1]) for row in rows]
        assert f'aria-sort="{direction}"' in html and len(values) == 5
        assert values == sorted(values, reverse=direction == "descending")


@needs_browser
def test_on_a_phone_no_column_of_a_table_is_lost(reported):
    hidden, cells, width = lost(reported, 390)
    assert cells > 500 and width <= 500
    assert hidden == 0


def test_both_p_values_stand_with_the_least_that_so_many_studies_can_give(reported):
    page, table = reported.read_text(), pl.read_csv(reported.with_suffix("") / "differences.csv")
    assert "p, sign flips" in page and "p, bootstrap" in page
    assert table["smallest_p"].drop_nulls().unique().to_list() == [2 / 2**5]
    row = table.drop_nulls("p_bootstrap").row(0, named=True)
    assert row["p_holm"] is None or row["p_holm"] >= row["p_bootstrap"]


def test_gaps_by_chance_places_in_distributions_and_interactions_are_shown_and_written(reported):
    folder, page = reported.with_suffix(""), reported.read_text()
    parity = pl.read_csv(folder / "parity.csv")
    mean = parity.filter(name="tiny-sft", parity="demographic_parity_difference")
    assert mean["by_chance"].item() > 0 and "if no group differed it would be" in page
    pit = pl.read_csv(folder / "pit.csv").filter(name="tiny-sft")
    assert pit["share"].sum() == pytest.approx(1) and pit["high"].max() == 1
    interactions = pl.read_csv(folder / "interactions.csv")
    assert {"slope", "correlation_disattenuated"} <= set(interactions["statistic"])
    assert "Do effects differ between groups as predicted?" in page
    assert {"pit.png", "pit.svg"} <= {path.name for path in folder.iterdir()}


def test_distances_of_cells_are_also_said_in_points_of_their_scale(reported):
    cells = pl.read_csv(reported.with_suffix("") / "cells.csv")
    width = cells["observed_high"] - cells["observed_low"]
    assert cells["wasserstein_points"].to_list() == pytest.approx(
        (cells["wasserstein_observed"] * width).to_list()
    )
    assert "In scale points" in reported.read_text()


def test_a_contrast_with_an_arm_in_training_is_kept_and_marked(workplace):
    path = EVAL / "tiny-sft/contrasts.parquet"
    contrasts = pl.read_parquet(path)
    pl.DataFrame(contrasts).with_columns(arms_in_training=pl.lit(1)).write_parquet(path)
    page = report("sample", "study").page.read_text()
    assert f"In {len(contrasts)} of them an arm has answers of other people in training" in page
    assert ">one arm</td>" in page


def import_rows(name: str, rows: int) -> str:
    """Score a file that predicts so many rows beside the others, and return the page."""
    answers = pl.read_parquet("data/sample/study/eval.parquet")
    answers.select("study_id", "sample_id", prediction=pl.lit(4)).head(rows).write_csv(f"{name}.csv")
    import_predictions(Path(f"{name}.csv"), "sample", "study")
    score_models("sample", "study", settings=load_settings("quick.yaml"))
    return report("sample", "study").page.read_text()


def test_a_file_of_few_rows_is_compared_apart_and_page_and_terminal_say_so(workplace):
    page = import_rows("few", 60)
    said = "ompared apart, because they predict less than half as many rows: few (60)"
    assert f"C{said}." in page and f"c{said}" in str(read_comparison(EVAL))
    assert "900 answers that every compared model predicts" in page


def test_the_model_that_limits_the_compared_rows_is_named_on_page_and_terminal(workplace):
    page = import_rows("most", 800)
    said = "nly rows that all of these models predict are compared; fewer than others are predicted by "
    said += "most (800)"
    assert f"O{said}." in page and f"o{said}" in str(read_comparison(EVAL))
    assert "800 answers that every compared model predicts" in page


def test_one_study_has_intervals_over_people_of_models_and_controls_and_says_so(tmp_path, monkeypatch):
    monkeypatch.chdir(scored.write(tmp_path, models={"mine": 0.5}, studies=1, tasks=1))
    given = report("sample", "study")
    page = given.page.read_text()
    assert "95% interval over people" in page
    table = page.split('id="leaders"')[1].split("</table>")[0]
    assert re.search(r"0\.\d{3}<small>0\.\d{3} to 0\.\d{3} \(people\)", table)
    leaders = given.tables["leaders"].filter(
        (pl.col("kind") != "ceiling") & (pl.col("metric") == "wasserstein_observed")
    )
    known = leaders.filter(pl.col("estimate").is_not_null())
    assert {"mine", "uniform_observed", "pooled_others"} <= set(known["name"])
    assert known["conf_low_people"].null_count() == 0


@pytest.mark.whole
@needs_browser
def test_six_thousand_cells_fit_a_page_that_a_browser_draws(tmp_path, monkeypatch):
    def long(rows: pl.DataFrame) -> pl.DataFrame:
        return rows.with_columns(pl.col("stimuli") + " A long vignette." * 100)

    folder = scored.write(tmp_path, change=long, studies=200, arms=6, tasks=5, people=18)
    monkeypatch.chdir(folder)
    page = report("sample", "study").page
    assert page.stat().st_size < 20e6
    assert dom(page).count('<article class="outcome">') == 6
