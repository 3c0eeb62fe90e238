"""The paper's tables, ours beside the published figures; what is missing is a row with the command for it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
from pydantic import Field

from common.errors import Refusal
from common.files import atomic_path
from common.page.render import render
from common.paths import configs, dataset_name, output_dir, root
from common.settings import Section, read_settings
from common.tables import text_table, write_csv
from eval.scoring.metrics import METRICS
from eval.scoring.record import SCORES, Estimate, Scores, read_scores

CONFIG = Path("configs/paper.yaml")
TEMPLATE = Path(__file__).parent / "templates" / "paper.html.j2"
COMPARABLE = "socsci210"  # the data set that the published figures are of
SOURCES = {"sample": ["data", "sample"], "socsci210": ["data", "fetch"]}  # what brings a data set's rows here


class Row(Section):
    """One figure: of a model, a control, a human ceiling, or a parity difference; `against` another model.

    published: one number, or one a model's name. only: the data set that the row is for.
    """

    what: str
    model: str | None = None
    control: str | None = None
    ceiling: str | None = None
    parity: str | None = None
    metric: str = "wasserstein_observed"
    against: str | None = None
    published: float | dict[str, float] | None = None
    note: str | None = None
    only: str | None = None


class Chapter(Section):
    """The rows of one split, and the stages that have to be trained for them.

    sweep: the file of a curve that belongs to it, by the data set that it is of.
    """

    title: str
    split: str
    stages: tuple[str, ...] = ()
    sweep: dict[str, str] = Field(default_factory=dict)
    rows: tuple[Row, ...] = Field(min_length=1)


class Paper(Section):
    """configs/paper.yaml."""

    source: str
    chapters: tuple[Chapter, ...] = Field(min_length=1)


@dataclass(frozen=True)
class PaperTable:
    """One row a figure: chapter, what, predictor, metric, ours with interval, published, verdict, command."""

    table: pl.DataFrame
    page: Path

    def __str__(self) -> str:
        shown = self.table.select("chapter", "what", "predictor", "ours", "published", "verdict")
        shown = shown.with_columns(pl.col("published").cast(pl.String).fill_null("–"))
        return f"{text_table(shown.columns, shown.iter_rows(), left=shown.columns)}\n{self.page}"


def read_paper(path: Path | None = None) -> Paper:
    """Read and check configs/paper.yaml, or another file of its form."""
    return read_settings(path or configs() / "paper.yaml", Paper, CONFIG)


def paper_table(paper: Paper, models: Sequence[str], data: str) -> PaperTable:
    """Look up every row among the scores that are there, and write page and CSV.

    They lie in `outputs/<dataset>/paper/`, which is replaced as a whole. models: folders of configs/.
    """
    name = dataset_name(data)
    chapters = [(chapter, list(_chapter(chapter, models, data, name))) for chapter in paper.chapters]
    table = pl.DataFrame([row for _, rows in chapters for row in rows], infer_schema_length=None)
    folder = root() / "outputs" / name
    with atomic_path(folder / "paper") as partial:
        partial.mkdir()
        write_csv(table, partial / "paper.csv")
        render(
            partial / "paper.html", TEMPLATE, ("tables.js",), title="The paper's tables",
            kicker=f"{name} · {', '.join(models)}", source=paper.source, comparable=name == COMPARABLE,
            chapters=[
                {"title": chapter.title, "links": _links(chapter, folder), "rows": [*map(_shown, rows)]}
                for chapter, rows in chapters
                if rows
            ],
        )  # fmt: skip
    return PaperTable(table, folder / "paper" / "paper.html")


def _links(chapter: Chapter, outputs: Path) -> dict[str, str]:
    """The chapter's pages that are there, seen from the folder of the paper's page."""
    pages = {"the whole report": f"{chapter.split}/report.html"}
    if sweep := chapter.sweep.get(outputs.name):
        pages["the curve"] = f"../sweeps/{Path(sweep).stem}/curves/curves.html"
    return {words: f"../{page}" for words, page in pages.items() if (outputs / page).is_file()}


def _shown(row: dict[str, Any]) -> dict[str, Any]:
    """A row as the page shows it."""
    metric = METRICS[row["metric"]].name if row["metric"] in METRICS else row["metric"].replace("_", " ")
    value, _, interval = row["ours"].partition(" ")
    ours, verdict = {"text": value, "note": interval}, {"text": row["verdict"], "note": row["note"]}
    return row | {"metric": metric, "ours": ours, "verdict": verdict}


def _chapter(chapter: Chapter, models: Sequence[str], data: str, name: str) -> Iterator[dict[str, Any]]:
    for row in chapter.rows:
        if row.only and row.only != name:
            continue
        for model in models if "{model}" in f"{row.model}{row.against}" else models[:1]:
            yield _row(chapter, row, model, data, name)


def _row(chapter: Chapter, row: Row, model: str, data: str, name: str) -> dict[str, Any]:
    predictor = (row.model or row.control or row.ceiling or "").format(model=model)
    published = row.published.get(predictor) if isinstance(row.published, dict) else row.published
    shown: dict[str, Any] = {
        "chapter": chapter.title, "what": row.what, "predictor": predictor,
        "metric": row.parity or row.metric, "estimate": None, "conf_low": None, "conf_high": None,
        "published": published, "ours": "–", "verdict": "", "note": row.note,
    }  # fmt: skip
    folder = output_dir(data, chapter.split) / "eval"
    needed = [(row.model or f"{model}-sft").format(model=model)]
    needed += [row.against.format(model=model)] if row.against else []
    missing = [each for each in needed if not (folder / each / SCORES).is_file()]
    if missing:
        return shown | {"verdict": f"missing: {_command(missing[0], model, data, chapter.split)}"}
    scores = [read_scores(folder / each) for each in needed]
    estimate = _estimate(row, scores)
    if estimate.value is None:
        return shown | {"verdict": estimate.reason or "not defined here"}
    ours = f"{estimate.value:.3f}"
    low, high = estimate.interval or (None, None)
    if low is not None and high is not None:
        ours += f" [{low:.3f}, {high:.3f}]{' (people)' * (estimate.over == 'people')}"
    values = {"estimate": estimate.value, "conf_low": low, "conf_high": high, "ours": ours}
    return shown | values | {"verdict": _verdict(estimate, published, name)}


def _estimate(row: Row, scores: list[Scores]) -> Estimate:
    """The row's own figure; with `against`, by how much of the other it is nearer, or the difference."""
    if row.parity:
        values = [getattr(one.subgroups, row.parity).value for one in scores if one.subgroups]
        numbers = [value for value in values if value is not None]
        if len(numbers) < len(scores):
            return Estimate(value=None, reason="no demographic field has two groups of enough people")
        return Estimate(value=numbers[0] - sum(numbers[1:]))
    first = scores[0]
    if row.control:
        return first.controls[row.control][row.metric]
    if row.ceiling:
        absent = Estimate(value=None, reason="too few people for this ceiling")
        return getattr(first.ceiling, row.ceiling).get(row.metric, absent)
    estimate = first.metrics[row.metric]
    if not row.against:
        return estimate
    other = scores[1].metrics[row.metric]
    if estimate.value is None or not other.value:
        return Estimate(value=None, reason="one of the two models has no figure")
    return Estimate(value=(other.value - estimate.value) / other.value)


def _verdict(estimate: Estimate, published: float | None, name: str) -> str:
    if published is None:
        return "nothing published"
    if name != COMPARABLE:
        return "other data: not comparable"
    if estimate.low is None or estimate.high is None:
        return f"differs by {estimate.value - published:+.3f}"  # type: ignore[operator]
    if estimate.low <= published <= estimate.high:
        return "agrees: the published figure lies in our interval"
    return f"differs by {estimate.value - published:+.3f}: outside our interval"  # type: ignore[operator]


def _command(missing: str, model: str, data: str, split: str) -> str:
    """What makes a missing model's scores."""
    where = f"DATA={data} SPLIT={split}"
    stage = missing.rpartition("-")[2]
    if missing.startswith(model) and stage in ("sft", "dpo"):
        return f"make train-{stage} MODEL={model} {where}, then make eval MODEL={model} {where}"
    return f"make eval MODEL={missing if not missing.startswith(model) else model} {where}"


def commands(paper: Paper, models: Sequence[str], data: str, train: bool) -> Iterator[list[str]]:
    """The commands that make every row, in order; each says so itself when nothing is left to do."""
    if not models:
        raise Refusal("name at least one model")
    yield from ([first] if (first := SOURCES.get(data)) else [])
    if any(model.startswith("tiny") for model in models):
        yield ["data", "tiny"]
    for split in dict.fromkeys(chapter.split for chapter in paper.chapters):
        where = ["--data", data, "--split", split]
        yield ["data", "make", *where]
        chapters = [chapter for chapter in paper.chapters if chapter.split == split]
        for model in models:
            for stage in dict.fromkeys(stage for chapter in chapters for stage in chapter.stages):
                if train:
                    yield ["train", stage, "--model", model, *where]
            yield ["eval", "--model", model, *where]
        yield ["report", *where]
        for chapter in chapters:
            if train and data in chapter.sweep:
                yield ["sweep", chapter.sweep[data]]
