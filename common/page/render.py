"""Pages that are one file: they open from disk, load nothing, and no text from data can do harm in them.

    render(Path("outputs/.../report.html"), TEMPLATES / "report.html.j2", scripts=("tables.js", "cells.js"),
           data={"cells": {...}}, title="...", table=[...], effects=figures.svg(figure, "effects"))

A page's template extends `base.html.j2` (head, style, navigation, footer) and imports the macros of
`parts.html.j2` (tables, figures, lists of settings). Three guards stand between data and harm:

1. jinja2 escapes every value (`autoescape`), and refuses a name that wasn't given (`StrictUndefined`);
   control characters are written out (`common/text.py`);
2. data for scripts is JSON in a block that isn't run, with `<`, `>` and `&` written as escapes, and the
   scripts put it into the page as text, never as markup;
3. a Content-Security-Policy names the hash of each script of ours: no other script runs, and nothing
   is loaded from anywhere.

Scripts are files beside the template or beside `base.html.j2`: `tables.js` (columns sort on a click)
serves any page. Charts are figures of `common/page/figures.py`, put in as SVG.
"""

import base64
import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from common.files import atomic_path
from common.text import printable

TEMPLATES = Path(__file__).parent / "templates"
MINUS, DASH = "−", "–"


def render(
    target: Path,
    template: Path,
    scripts: Sequence[str] = (),
    data: Mapping[str, Any] | None = None,
    **context: Any,
) -> None:
    """Fill `template` and write the page to `target`, whole or not at all.

    scripts: names of files beside the template or in this kit's folder, run in this order at the
    page's end. data: {name: value}; a script reads each value with
    `JSON.parse(document.getElementById(name).textContent)`. `context` is what the template names;
    `title` is always needed.
    """
    folders = (template.parent, TEMPLATES)
    sources = [
        next(folder / name for folder in folders if (folder / name).is_file()).read_text(encoding="utf-8")
        for name in scripts
    ]
    page = (
        environment(*folders)
        .get_template(template.name)
        .render(
            scripts=[Markup(source) for source in sources],  # our own files
            blocks=[data_block(name, value) for name, value in (data or {}).items()],
            policy=_policy(sources),
            style=Markup((TEMPLATES / "style.css").read_text(encoding="utf-8")),
            **context,
        )
    )
    with atomic_path(target) as partial:
        partial.write_text(page, encoding="utf-8")


def environment(*folders: Path) -> Environment:
    """jinja2 as the pages use it, with the templates of `folders`.

    The functions below (`num` to `count`) are its filters.
    """
    templates = Environment(
        loader=FileSystemLoader(folders),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: printable(value) if type(value) is str else value,
    )
    templates.filters.update(num=num, signed=signed, percent=percent, count=count)
    return templates


def data_block(name: str, value: Any) -> Markup:
    """`value` as a block of JSON that no browser runs and no text inside can end. NaN is refused."""
    text = json.dumps(_shown(value), ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return (
        Markup('<script type="application/json" id="{}">').format(name) + Markup(text) + Markup("</script>")
    )


def _shown(value: Any) -> Any:
    """`value` with all its texts as a page may show them."""
    if isinstance(value, str):
        return printable(value)
    if isinstance(value, Mapping):
        return {_shown(key): _shown(inner) for key, inner in value.items()}
    return [_shown(inner) for inner in value] if isinstance(value, list | tuple) else value


def num(value: float | None, digits: int = 3) -> str:
    """A number with a fixed number of decimals and a true minus sign; an en dash where there is none."""
    if value is None or not math.isfinite(value):
        return DASH
    text = f"{value:.{digits}f}"
    return (text.removeprefix("-") if float(text) == 0 else text).replace("-", MINUS)


def signed(value: float | None, digits: int = 3) -> str:
    """Like `num`, with a plus sign before a positive number."""
    text = num(value, digits)
    return f"+{text}" if value is not None and text[0].isdigit() and float(text) > 0 else text


def percent(value: float | None, digits: int = 0) -> str:
    """A share of 1 as a percentage."""
    return DASH if value is None else f"{num(100 * value, digits)}%"


def count(value: float | None) -> str:
    """A whole number with thin spaces between thousands, as in 2 901 390."""
    return DASH if value is None else f"{value:,.0f}".replace(",", "\u202f").replace("-", MINUS)


def _policy(scripts: Sequence[str]) -> str:
    """The Content-Security-Policy: these scripts and inline styles, nothing else from anywhere."""
    hashes = " ".join(
        f"'sha256-{base64.b64encode(hashlib.sha256(source.encode()).digest()).decode()}'"
        for source in scripts
    )
    return (
        f"default-src 'none'; script-src {hashes or chr(39) + 'none' + chr(39)}; style-src 'unsafe-inline'; "
        + ("base-uri 'none'; form-action 'none'")
    )
