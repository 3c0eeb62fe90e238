"""Check recipes before anything is spent on them.

    socrates recipe check configs/llama3-8b/sft.yaml      # one or more recipes
    socrates recipe check --all                           # every recipe in configs/

The keys are bound to LLaMA-Factory's own parser without loading a model; settings that conflict are
refused with the remedy (`rules.py`), what the launcher decides itself is set aside (`asides.py`).
"""

import difflib
import importlib.util
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path

import pydantic

from common.errors import Refusal
from scripts.training import llamafactory, rows
from scripts.training.asides import set_aside
from scripts.training.packages import PACKAGES, missing_packages
from scripts.training.recipe import Recipe, load_recipe
from scripts.training.rules import refuse_problems


def check(recipe: Recipe, path: Path | str) -> list[str]:
    """Refuse conflicts, unknown keys and wrong types; gives warnings. Nothing is loaded or written.

    recipe: as `asides.set_aside` returns it; path: how messages name it.
    """
    _check_keys(recipe, path)
    refuse_problems(recipe, path)
    _bind(recipe, path)
    return _template_warning(recipe, path)


def _check_keys(recipe: Recipe, path: Path | str) -> None:
    """Keys and types as LLaMA-Factory's argument classes declare them; its parser checks no types."""
    types = llamafactory.argument_types()
    for key, value in recipe.items():
        if key not in types:
            near = difflib.get_close_matches(key, types, 1, 0.7)
            hint = f"did you mean {near[0]!r}?" if near else "LLaMA-Factory knows no key like it"
            raise Refusal(f"{path}: unknown key {key!r}; {hint}")
        try:
            pydantic.TypeAdapter(types[key]).validate_python(value)
        except pydantic.ValidationError as error:
            reason = error.errors()[0]["msg"].lower()
            raise Refusal(f"{path}: {key}: {value!r} won't do, {reason}") from None
        except pydantic.PydanticUserError:  # a type that only its own class understands
            continue


def _template_warning(recipe: Recipe, path: Path | str) -> list[str]:
    """Refuse an unknown template and another family's; warn of one that isn't listed for a hub model."""
    template, model = recipe.get("template"), str(recipe["model_name_or_path"])
    if template is None:
        return []
    if template not in llamafactory.templates():
        near = difflib.get_close_matches(str(template), llamafactory.templates(), 1)
        raise Refusal(
            f"{path}: unknown template {template!r}; did you mean {near[0] if near else 'default'!r}?"
        )
    listed = None if Path(model).exists() else llamafactory.default_template(model)
    if listed is None or listed == template:
        return []
    family = [re.match("[a-z]*", name)[0] for name in (listed, template)]  # type: ignore[index]
    if family[0] != family[1]:
        raise Refusal(
            f"{path}: template {template} isn't that of {model}, which answers as it was taught; set {listed}"
        )
    return [f"template {template}: LLaMA-Factory lists {listed} for {model}"]


def _bind(recipe: Recipe, path: Path | str) -> None:
    """Give the recipe to LLaMA-Factory's parser, without what needs a process, a package or a GPU."""
    with tempfile.TemporaryDirectory() as empty:  # an output folder with checkpoints would start a resume
        bound = {**recipe, "output_dir": empty, "deepspeed": None, "report_to": "none"}
        for key in ("bf16", "fp16", "tf32", "pure_bf16"):  # refused by transformers where there is no GPU
            bound.pop(key, None)
        for package in PACKAGES:  # a missing one is reported by `missing_packages`
            if package.key and importlib.util.find_spec(package.module) is None:
                bound.pop(package.key, None)
        try:
            llamafactory.bind(bound)
        except Exception as error:  # every reason why LLaMA-Factory's parser refuses
            raise Refusal(f"{path}: LLaMA-Factory refuses it: {' '.join(str(error).split())}") from None


@dataclass(frozen=True)
class RecipeCheck:
    """A recipe that was accepted: what will be given to LLaMA-Factory, and what a person should know."""

    path: Path
    recipe: Recipe
    notes: list[str]

    def __str__(self) -> str:
        return "\n".join([f"ok       {self.path}", *(f"         {note}" for note in self.notes)])


def check_recipe(path: Path | str) -> RecipeCheck:
    """Check one recipe file for what reading tells and what LLaMA-Factory's parser says.

    Raises `Refusal` with the cause and the remedy; notes say what is set aside or read differently.
    """
    recipe, notes = set_aside(load_recipe(path))
    notes += [*check(recipe, path), *missing_packages(recipe), *rows.unregistered(recipe)]
    return RecipeCheck(Path(path), recipe, notes)
