"""A log that is no terminal gets lines, nothing that is drawn over."""

import pytest
from tqdm import tqdm

from common.progress import bar_file


def test_a_bar_in_a_log_is_a_line_for_each_state(capsys: pytest.CaptureFixture[str]) -> None:
    for _ in tqdm(range(3), "reading", file=bar_file(), mininterval=0):
        pass
    text = capsys.readouterr().err
    assert "\r" not in text and text.endswith("\n")
    lines = text.splitlines()
    assert len(lines) >= 3 and all(line.startswith("reading: ") for line in lines)
