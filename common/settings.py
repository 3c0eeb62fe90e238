"""Settings files: YAML checked against a pydantic model; a refusal names the nearest known key."""

import difflib
import types
import typing
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from common.errors import Refusal
from common.readers import line_of, read_yaml


class Section(BaseModel):
    """A block of settings: unknown keys are refused, nothing changes after it was read."""

    model_config = ConfigDict(extra="forbid", frozen=True)


Model = TypeVar("Model", bound=BaseModel)


def read_settings(path: str | Path, model: type[Model], example: str | Path, **overrides: Any) -> Model:
    """Read a YAML file into `model`; `overrides` (top-level keys, None = not given) win over it.

    Raises `Refusal` for a missing file, broken YAML, an unknown key (with the nearest known one) or
    a value out of range; `example` is a file that shows how it is done.
    """
    values, lines = read_yaml(path, f"give a settings file such as {example}")
    values = {} if values is None else values
    if not isinstance(values, dict):
        raise Refusal(f"{path} must hold `key: value` lines, see {example}")
    values |= {key: value for key, value in overrides.items() if value is not None}
    try:
        return model.model_validate(values)
    except ValidationError as error:
        keys = first_problem(error)["loc"]
        given = keys and overrides.get(str(keys[0])) is not None
        line = "" if given else f" line {line_of(lines, keys)}"
        raise Refusal(f"{path}{line}: {explain(error, model)}") from None


def first_problem(error: ValidationError) -> Any:
    """The problem to report: an unknown key before others, because a mistyped key is missing, too."""
    return min(error.errors(), key=lambda problem: problem["type"] != "extra_forbidden")


def explain(error: ValidationError, model: type[BaseModel]) -> str:
    """The first problem in one line; for an unknown key the nearest known one."""
    problem = first_problem(error)
    keys = [str(part) for part in problem["loc"]]
    if problem["type"] == "missing":
        return f"`{'.'.join(keys)}` is missing"
    if problem["type"] != "extra_forbidden":
        given, message = repr(problem["input"])[:80], problem["msg"].removeprefix("Value error, ")
        return f"`{'.'.join(keys)}` = {given}: {message}"
    names = _valid_keys(model, keys[:-1])
    near = difflib.get_close_matches(keys[-1], names, n=1, cutoff=0.5)
    hint = f"did you mean `{near[0]}`? " if near else ""
    return f"unknown key `{'.'.join(keys)}`; {hint}known keys: {', '.join(sorted(names))}"


def _valid_keys(model: type[BaseModel], keys: list[str]) -> list[str]:
    """The keys of the section at `place`; list positions in it stand for their elements."""
    for name in keys:
        if name in model.model_fields:
            model = _section(model.model_fields[name].annotation) or model
    return list(model.model_fields)


def _section(annotation: Any) -> type[BaseModel] | None:
    """The section inside an annotation such as `Section`, `Section | None` or `tuple[Section, ...]`."""
    if isinstance(annotation, type) and not isinstance(annotation, types.GenericAlias):
        return annotation if issubclass(annotation, BaseModel) else None
    inner = (_section(part) for part in typing.get_args(annotation))
    return next((section for section in inner if section), None)
