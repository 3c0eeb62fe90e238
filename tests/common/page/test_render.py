"""Pages that are one file: they load nothing, and no text from data can do harm in them."""

import json
import re
import shutil
from pathlib import Path
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markupsafe import Markup

from common.page import figures
from common.page import render as page
from common.text import printable
from tests.helpers.browser import HOSTILE, dom, harmed, needs_browser, without_policy


@given(st.text(), st.text())
def test_no_text_can_end_a_block_of_data_and_it_comes_back_as_a_page_may_show_it(key, text):
    block = page.data_block("cells", {key: text})
    inner = re.fullmatch(r'<script type="application/json" id="cells">(.*)</script>', block, re.DOTALL)
    assert inner and not set("<>&\u2028") & set(inner[1])
    assert json.loads(inner[1]) == {printable(key): printable(text)}


def test_not_a_number_is_refused_in_data():
    with pytest.raises(ValueError, match="JSON"):
        page.data_block("cells", [float("nan")])


def test_numbers_read_well():
    assert page.num(-0.12345) == "−0.123"
    assert page.num(-0.0001) == "0.000"
    assert page.num(None) == page.num(float("nan")) == "–"
    assert page.signed(0.5, 1) == "+0.5" and page.signed(-0.5, 1) == "−0.5" and page.signed(0.0, 1) == "0.0"
    assert page.percent(0.256) == "26%"
    assert page.count(2901390) == "2\u202f901\u202f390"


def test_a_figure_escapes_its_texts_and_reads_no_mathematics():
    figure = figures.dot_plot([figures.Row("<b>&$x^2$ 1$", [figures.Dot(0.5, 0.4, 0.6)])], "skill & more")
    markup = figures.svg(figure, "one")
    assert "&lt;b&gt;&amp;$x^2$ 1$" in markup and "<b>" not in markup


def test_a_figure_gives_each_point_its_title_and_every_id_the_figures_name():
    cloud = figures.Cloud("sft", [0.1, 0.2], [0.1, 0.3], [True, False], 0.8)
    markup = figures.svg(figures.scatter_plots([cloud], "a", "b"), "fx", titles={"cloud-0": ["<1>", "two"]})
    assert "<title>&lt;1&gt;</title>" in markup and "<title>two</title>" in markup
    ids = re.findall(r'\bid="([^"]*)"', markup)
    assert ids and all(one.startswith("fx-") for one in ids)
    assert set(re.findall(r'href="#([^"]*)"', markup)) <= set(ids)


def test_a_figure_is_the_same_bytes_each_time_and_is_saved_for_papers(tmp_path):
    def draw():
        return figures.line_plot([figures.Line("loss", [0, 1], [2.0, 1.0])], "step", "loss")

    assert figures.svg(draw(), "a") == figures.svg(draw(), "a")
    figures.save(draw(), tmp_path, "losses")
    assert (tmp_path / "losses.png").read_bytes().startswith(b"\x89PNG")
    assert "<svg" in (tmp_path / "losses.svg").read_text()


def one_page(folder: Path, monkeypatch, body: str, **context) -> Path:
    """A small page of its own template, with the real base and parts."""
    templates = folder / "templates"
    shutil.copytree(page.TEMPLATES, templates)
    (templates / "one.html.j2").write_text(
        '{% extends "base.html.j2" %}{% import "parts.html.j2" as parts %}{% block content %}'
        + body
        + "{% endblock %}"
    )
    (templates / "one.js").write_text(
        "document.title = JSON.parse(document.getElementById('blob').textContent)[0].length;"
    )
    page.render(
        folder / "one.html",
        templates / "one.html.j2",
        ("tables.js", "one.js"),
        {"blob": [HOSTILE]},
        **context,
    )
    return folder / "one.html"


COLUMNS = '[{"title": title, "key": "a"}, {"title": "n", "key": "b", "number": true}]'
TABLE = "{{ parts.table(" + COLUMNS + ", rows, title) }}"


def test_a_page_names_no_address_but_the_svg_namespaces(tmp_path, monkeypatch):
    html = one_page(tmp_path, monkeypatch, TABLE, title="t", rows=[{"a": "x", "b": 1}]).read_text()
    assert "default-src &#39;none&#39;" in html
    assert not re.findall(r'(?:src|href)="(?!#)', html)


@needs_browser
def test_markup_in_titles_tables_and_data_does_no_harm_in_a_browser(tmp_path, monkeypatch):
    rows = [{"a": {"text": HOSTILE, "note": HOSTILE}, "b": n} for n in range(4)]
    file = one_page(tmp_path, monkeypatch, TABLE, title=HOSTILE, rows=rows)
    html = dom(file)
    assert not harmed(html)
    assert f"<title>{len(HOSTILE)}</title>" in html, "our own scripts run under the policy"
    assert html.count('class="can-sort"') + html.count("number can-sort") == 2
    # escaping alone must hold as well
    assert not harmed(dom(without_policy(file)))


@needs_browser
def test_the_policy_alone_stops_markup_that_was_not_escaped(tmp_path, monkeypatch):
    file = one_page(tmp_path, monkeypatch, "{{ raw }}", title="t", raw=Markup(HOSTILE))
    assert not harmed(dom(file))
    assert harmed(dom(without_policy(file))), (
        "without any guard the same text does harm, so these tests can fail"
    )


ESCAPES = "a\x1b[31m\x00\x9f\ufffe"


def test_control_characters_are_written_out_in_pages(tmp_path, monkeypatch):
    html = one_page(tmp_path, monkeypatch, TABLE, title=ESCAPES, rows=[{"a": ESCAPES, "b": 1}]).read_text()
    assert r"a\x1b[31m\x00\x9f\ufffe" in html and not set("\x1b\x00\x9f\ufffe") & set(html)


def test_control_characters_are_written_out_in_figures(tmp_path):
    dot = figures.Dot(0.5, 0.4, 0.6)
    drawn = [
        figures.dot_plot([figures.Row(ESCAPES, [dot, dot])], ESCAPES, [ESCAPES, ESCAPES], {0.5: ESCAPES}),
        figures.scatter_plots([figures.Cloud(ESCAPES, [0.1], [0.1], [True])], ESCAPES, ESCAPES),
        figures.line_plot([figures.Line(ESCAPES, [0, 1], [0, 1])] * 2, ESCAPES, ESCAPES),
        figures.reliability_plot({ESCAPES: [(0.5, 0.5, 3)]}),
        figures.bar_plots({ESCAPES: {ESCAPES: [0.5], "b": [0.5]}}, [ESCAPES], ESCAPES),
    ]
    for number, figure in enumerate(drawn):
        titles = {"cloud-0": [ESCAPES]} if number == 1 else None
        assert r"\x1b[31m" in figures.svg(figure, "one", ESCAPES, titles)
        figures.save(figure, tmp_path, f"figure-{number}")
        ElementTree.parse(tmp_path / f"figure-{number}.svg")
