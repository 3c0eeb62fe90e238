"""Scored models, once a session; tests that change anything take a copy."""

import pytest

from eval.reporting import charts
from eval.reporting.results import Results, load
from tests.helpers import scored


@pytest.fixture(scope="session")
def scored_folder(tmp_path_factory):
    """A working folder with three scored models."""
    return scored.write(tmp_path_factory.mktemp("scored"))


@pytest.fixture
def workplace(scored_folder, tmp_path, monkeypatch):
    """A copy of it, to work in; charts, which take most of the time, aren't drawn."""
    monkeypatch.chdir(scored.copy(scored_folder, tmp_path))
    monkeypatch.setattr(charts, "draw", lambda results: {})
    return tmp_path


@pytest.fixture
def results(scored_folder, monkeypatch) -> Results:
    """What a report is made of."""
    monkeypatch.chdir(scored_folder)
    return load("sample", "study")
