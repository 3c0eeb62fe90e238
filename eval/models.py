"""What a model's name means: a folder of configs/, one of its runs, a folder, a server, or a hub id."""

import re
import sys
from dataclasses import dataclass
from pathlib import Path

from common.errors import Refusal
from common.paths import root
from common.runs import base_model, finished_runs, recipe_models
from eval.released import released_models
from eval.settings import Settings


@dataclass(frozen=True)
class Model:
    """A model that can be asked.

    path: what is loaded (a folder or a hub id), or the name by which the server at `url` knows it.
    name: names its outputs.
    """

    path: str
    name: str
    url: str | None = None

    def adapt(self, settings: Settings) -> Settings:
        """`settings` with this model's server, if it has one."""
        return settings.at(self.url)


def find_model(model: str, data: str, split: str, served: str | None = None) -> Model:
    """The one model that `model` stands for.

    A server's address (`served` says which of its models), a released model, a folder (seen from here or
    from the project's folder), a folder of configs/ (its SFT run, else its base), an evaluated name such as
    tiny-dpo, or a hub id (`owner/name`, `owner/name@revision`). Raises `Refusal` for a run that doesn't
    exist and a server that doesn't say what it serves.
    """
    if model.startswith(("http://", "https://")):
        from eval.connection import refuse_secret

        refuse_secret(model)
        return served_model(served or _served(model), model)
    if model in (released := released_models()):
        return Model(released[model].path, model)
    folder = next((each for each in (Path(model).expanduser(), root() / model) if each.is_dir()), None)
    if folder:
        is_run = (folder / "run.json").is_file()
        return Model(str(folder), f"{folder.parent.name}-{folder.name}" if is_run else folder.resolve().name)
    if is_recipe(model):
        models = {each.name: each for each in models_of(model, data, split)}
        return models.get(f"{model}-sft") or list(models.values())[-1]
    parts = model.split("-")
    for size in range(len(parts) - 1, 0, -1):  # the longest recipe name that this name begins with
        recipe = "-".join(parts[:size])
        if not is_recipe(recipe):
            continue
        models = {each.name: each for each in models_of(recipe, data, split)}
        if model not in models:
            raise Refusal(f"no model {model} here; there are {', '.join(models)}")
        return models[model]
    hub_id, _, revision = model.partition("@")
    suffix = "-" + re.sub(r"[^A-Za-z0-9._-]", "-", revision[:12]) if revision else ""
    return Model(model, Path(hub_id).name + suffix)


def served_model(path: str, url: str | None = None) -> Model:
    """The model that a server knows as `path`; its last part names the outputs."""
    name = re.sub(r"[^A-Za-z0-9_-]+", lambda other: "." if other[0] == "." else "-", path.rpartition("/")[2])
    return Model(path, name.lstrip("._-")[:64] or "served", url)


def find_models(names: str, data: str, split: str, served: bool = False) -> list[Model]:
    """The models that a comma-separated list stands for; a folder of configs/ stands for all of its own.

    served: the names are those by which a server knows its models.
    """
    models: dict[str, Model] = {}
    for name in filter(None, (part.strip() for part in names.split(","))):
        for model in [served_model(name)] if served else _group(name, data, split):
            if models.setdefault(model.name, model) != model:
                raise Refusal(
                    f"{models[model.name].path} and {model.path} would both be named {model.name}; name each "
                    f"(`socrates predict --model {model.path} --name NAME`), then run `socrates score`"
                )
    if not models:
        raise Refusal("no model is named; give MODEL, such as tiny, a checkpoint folder or a hub id")
    return list(models.values())


def _group(name: str, data: str, split: str) -> list[Model]:
    if not is_recipe(name):
        return [find_model(name, data, split)]
    group = models_of(name, data, split)
    if len(group) == 1:
        where = f"DATA={data} SPLIT={split}"
        print(f"{name} has no finished run of {where}: its base model is evaluated", file=sys.stderr)
    return group


def is_recipe(name: str) -> bool:
    """True for the name of a folder of configs/ that has an SFT recipe."""
    return name in recipe_models()


def models_of(recipe: str, data: str, split: str) -> list[Model]:
    """The base model of a folder of configs/, then its finished runs on a data set, SFT before DPO.

    Raises `Refusal` for an unknown folder.
    """
    runs = finished_runs(data, split, recipe)
    base = base_model(recipe)
    return [Model(base, f"{recipe}-base"), *(Model(str(run), f"{recipe}-{run.name}") for run in runs)]


def _served(url: str) -> str:
    """The one model that a server offers."""
    import openai

    from eval.connection import client, unreachable, words

    try:
        with client(openai.OpenAI, url, max_retries=1, timeout=20) as asked:
            served = [model.id for model in asked.models.list() if isinstance(model.id, str)]
    except openai.APIConnectionError as error:
        raise Refusal(unreachable(url, error)) from None
    except (openai.OpenAIError, ValueError, AttributeError, TypeError) as error:  # an answer that is no list
        raise Refusal(
            f"the server {url} doesn't say what it serves ({words(error)}); start it, or fix the address"
        ) from None
    if len(served) != 1:
        raise Refusal(
            f"the server {url} serves {', '.join(served[:5]) or 'nothing'}; name one with --served NAME"
        )
    return served[0]
