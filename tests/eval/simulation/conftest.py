"""A place to simulate in, and figures only where a test asks for them."""

import pytest
from markupsafe import Markup

from common.page import figures
from eval.simulation import charts, run
from tests.helpers.simulated import EXPERIMENT, StandIn, write_study


@pytest.fixture
def workplace(tmp_path, monkeypatch):
    """A working folder with a data set of one study, and the stand-in for the model."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(run, "predict", StandIn())
    write_study(tmp_path)
    (tmp_path / "tax.yaml").write_text(EXPERIMENT)
    return tmp_path


@pytest.fixture
def real_figures():
    """Ask for figures to be drawn: they take most of a test's time."""


@pytest.fixture(autouse=True)
def no_figures(request, monkeypatch):
    if "real_figures" not in request.fixturenames:
        for kind in ("effects", "power", "answers", "levels"):
            monkeypatch.setattr(charts, f"{kind}_figure", lambda *_: figures.Figure())
        monkeypatch.setattr(figures, "save", lambda *_: None)
        monkeypatch.setattr(figures, "svg", lambda *_: Markup(""))
