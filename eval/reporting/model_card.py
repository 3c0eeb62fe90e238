"""Model cards: README.md beside each checkpoint, with what it was trained on and how well it predicts people.

Replaces the card that the trainer writes, which knows the losses but no evaluation.
"""

import html
import re
from pathlib import Path
from typing import Any

import yaml
from markupsafe import Markup

from common.contract import RunRecord
from common.files import atomic_path
from common.page.render import environment, num
from eval.reporting.headline import headline
from eval.reporting.results import MAIN, Json, Results, leaders
from eval.reporting.sections import command_line
from eval.reporting.words import shown
from eval.scoring import glossary
from eval.scoring.record import Estimate, Scores

STAGES = {"sft": "supervised fine-tuning", "dpo": "direct preference optimisation"}
SHOWN = (MAIN, "wasserstein_stated", "total_variation", "accuracy_observed", "correlation", "entropy_ratio")
CONTROLS = ("uniform_observed", "pooled_others", "training_marginal")
RECIPE = (
    "learning_rate", "lr_scheduler_type", "num_train_epochs", "max_steps", "per_device_train_batch_size",
    "gradient_accumulation_steps", "cutoff_len", "finetuning_type", "pref_beta", "pref_loss", "optim", "seed",
)  # fmt: skip
SOCSCI210 = "socratesft/SocSci210"


def write_cards(results: Results) -> list[Path]:
    """Write one card a training run, evaluated or not, and return their paths."""
    written = []
    for (model, stage), run in results.runs.items():
        path = results.folder / model / stage / "README.md"
        with atomic_path(path) as partial:
            partial.write_text(model_card(results, model, stage, run), encoding="utf-8")
        written.append(path)
    return written


def model_card(results: Results, model: str, stage: str, run: RunRecord) -> str:
    """The card's text: YAML for the hub, then Markdown. Texts from data are escaped for both."""
    name = f"{model}-{stage}"
    scores = results.scores.get(name)
    templates = environment(Path(__file__).parent / "templates")
    templates.filters.update(line=_line, shown=_shown)
    text = templates.get_template("card.md.j2").render(
        front=Markup(yaml.safe_dump(front_matter(results, name, run), sort_keys=False, allow_unicode=True)),
        name=name,
        stage=STAGES.get(run.arguments["stage"], run.arguments["stage"]),
        results=results,
        headline=headline(results, name) if scores else [],
        scores=scores,
        basis=leaders(results)[1],
        table=_table(results, name) if scores else [],
        effects=_effects(scores) if scores else [],
        base=run.arguments.get("model_name_or_path"),
        recipe={key: run.arguments[key] for key in RECIPE if run.arguments.get(key) is not None},
        losses=_losses(run),
        command=command_line(run.command),
        run=run,
        firewall=results.manifest.firewall if results.manifest else [],
        same_data=results.manifest is not None and run.data_manifest == results.manifest.inputs,
        columns=[glossary.name_of(key) for key in SHOWN],
        distance=glossary.METRICS[MAIN],
        skill=glossary.SKILL,
    )  # fmt: skip
    return text.strip() + "\n"


def front_matter(results: Results, name: str, run: RunRecord) -> Json:
    """The hub's metadata. A base model or data set is named only if the hub knows it by that name."""
    front: Json = {"library_name": "transformers", "pipeline_tag": "text-generation", "language": ["en"]}
    base = str(run.arguments.get("model_name_or_path") or "")
    if base.count("/") == 1 and not Path(base).exists():
        front["base_model"] = base
    if results.dataset == "socsci210":
        front["datasets"] = [SOCSCI210]
    front["tags"] = ["llama-factory", "social-science", "human-behavior-prediction"]
    rows = {row.name: row for row in leaders(results)[0]}
    value = rows[name].metrics[MAIN].value if name in rows and MAIN in rows[name].metrics else None
    if value is not None:
        front["model-index"] = [{
            "name": name,
            "results": [{
                "task": {"type": "text-generation", "name": "prediction of human answers"},
                "dataset": {"name": f"{results.dataset}, split by {results.split}", "type": results.dataset},
                "metrics": [{"type": MAIN, "name": glossary.METRICS[MAIN].name, "value": round(value, 4)}],
            }],
        }]  # fmt: skip
    return front


def _table(results: Results, name: str) -> list[tuple[str, list[Markup | str]]]:
    """Rows (predictor, metrics) of this model, its base, controls and ceiling, on the same answers."""
    base = f"{name.rpartition('-')[0]}-base"
    rows = {row.name: row for row in leaders(results)[0]}
    ceiling = next((key for key in rows if key.startswith("split_half") and "raw" not in key), "")
    return [
        (
            glossary.name_of(key),
            [_shown(rows[key].metrics[one]) if one in rows[key].metrics else "" for one in SHOWN],
        )
        for key in (name, base, *CONTROLS, ceiling)
        if key in rows
    ]


def _effects(scores: Scores) -> list[tuple[str, Markup, Markup | str]]:
    """Rows (statistic, model, half of the people) of treatment effects; none where no arms were compared."""
    effects = scores.effects
    if effects is None or not effects.contrasts:
        return []
    half = effects.half_sample
    return [
        (term.name, _shown(effects.model.get(key), 2), _shown(half[key], 2) if key in half else "")
        for key, term in glossary.EFFECTS.items()
    ]


def _losses(run: RunRecord) -> dict[str, str]:
    """First and last training loss, and the last validation loss."""
    losses = [entry["loss"] for entry in run.losses if entry.get("loss") is not None]
    validation = [entry["eval_loss"] for entry in run.losses if entry.get("eval_loss") is not None]
    ends = {"training loss": f"{num(losses[0])} at the start, {num(losses[-1])} at the end"} if losses else {}
    return ends | ({"validation loss": f"{num(validation[-1])} at the end"} if validation else {})


def _shown(estimate: Estimate | None, digits: int = 3) -> Markup:
    """An estimate with its interval, or why there is none, for a cell of a table."""
    return _line(shown(estimate, digits))


def _line(value: Any) -> Markup:
    """Text as one line of Markdown: no markup, no table cell, no link, no emphasis comes out of it."""
    text = html.escape(" ".join(str(value).split()), quote=False)
    special = r"[\\`|*\[\]~]|(?<![0-9A-Za-z])_|_(?![0-9A-Za-z])"  # an underscore inside a word is plain
    return Markup(re.sub(special, lambda match: f"&#{ord(match[0])};", text))
