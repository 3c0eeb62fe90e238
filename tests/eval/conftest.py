"""Tiny models for the tests of prediction, made once a session."""

from pathlib import Path

import pytest

from eval.prediction.local_model import LocalModel
from eval.settings import LocalSettings
from tests.helpers import tiny_models


@pytest.fixture(scope="session", params=["llama", "qwen"])
def model_folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a random tiny model, of each family in turn."""
    return tiny_models.make(request.param, tmp_path_factory.mktemp(request.param))


@pytest.fixture(scope="session")
def model(model_folder: Path) -> LocalModel:
    return LocalModel(str(model_folder), LocalSettings(batch_tokens=2048))
