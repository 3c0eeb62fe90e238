"""A real headless browser for tests of pages; tests that need one are skipped where none is installed."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

BROWSER = shutil.which("chromium") or shutil.which("google-chrome")
needs_browser = pytest.mark.skipif(BROWSER is None, reason="no chromium or google-chrome is installed")
FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run")
HARM = "document.documentElement.dataset.harm=1"
HOSTILE = (
    f"</script><script>{HARM}</script><img src=x onerror='{HARM}'><svg onload='{HARM}'></svg>"
    f"<iframe srcdoc='<script>parent.{HARM}</script>'></iframe><a href='javascript:{HARM}'>{{{{ 7*7 }}}}</a>"
    " & 50% \" ' ]]> <!-- <script> $x^2$"
)


def dom(file: Path, fragment: str = "", width: int = 1280) -> str:
    """What the browser makes of a page after its scripts ran. width: of its window, in pixels."""
    profile = file.parent / f"profile-{file.stem}"
    done = subprocess.run(
        [str(BROWSER), *FLAGS, f"--user-data-dir={profile}", "--virtual-time-budget=5000", "--dump-dom",
         f"--window-size={width},900",
         f"{file.resolve().as_uri()}{fragment}"],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    return done.stdout


def harmed(html: str) -> bool:
    """True if any script of HOSTILE ran."""
    return 'data-harm="1"' in html.split("<body", 1)[0]


def without_policy(file: Path) -> Path:
    """A copy of the page without its Content-Security-Policy: escaping alone must hold as well."""
    text, cut = re.subn(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", file.read_text())
    assert cut == 1
    copy = file.with_name(f"{file.stem}-bare.html")
    copy.write_text(text)
    return copy


def acting(file: Path, script: str, width: int = 1280) -> str:
    """What the browser makes of a page on which `script` acts like a reader (clicks, types)."""
    copy = without_policy(file)
    copy.write_text(copy.read_text().replace("</body>", f"<script>{script}</script></body>"))
    return dom(copy, width=width)


# Writes into <html data-lost>: how many cells of tables lie outside the window, at which width.
LOST = """
document.querySelectorAll("details").forEach((one) => { one.open = true; });
const wide = document.documentElement.clientWidth;
const cells = [...document.querySelectorAll(".scroll td:not(.blank), .scroll tbody th")];
const lost = cells.filter((cell) => {
  const box = cell.getBoundingClientRect();
  return box.width === 0 || box.right > wide + 1 || box.left < 0 || cell.scrollWidth > cell.clientWidth + 1;
});
document.documentElement.dataset.lost = `${lost.length} of ${cells.length} at ${window.innerWidth}`;
"""


def lost(file: Path, width: int) -> tuple[int, int, int]:
    """Cells of tables that can't be seen without scrolling sideways, all cells, and the window's width."""
    match = re.search(r'data-lost="(\d+) of (\d+) at (\d+)"', acting(file, LOST, width))
    assert match
    return int(match[1]), int(match[2]), int(match[3])
