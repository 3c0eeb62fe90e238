"""What an experiment file may hold, key by key, and where in it each value stands.

`read_file` gives the values and their lines; `eval/simulation/experiment.py` checks what they mean together.
"""

import difflib
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BeforeValidator, Field, ValidationError

from common.errors import Refusal
from common.scale import MAX_ANSWERS, Kind, Scale
from common.settings import Section, explain, first_problem
from eval.simulation.population import PopulationSpec, Word

EXAMPLE = "configs/experiments/two-arm.yaml"
Place = tuple[str | int, ...]


class Mistake(Exception):
    """Something wrong at `place` (keys and list positions from the top of the file)."""

    def __init__(self, place: Place, text: str) -> None:
        super().__init__(text)
        self.place = place


def suggestion(word: str, known: list[str]) -> str:
    """`did you mean X? ` if a known word is near, else nothing."""
    near = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    return f"did you mean `{near[0]}`? " if near else ""


def _text_or_none(value: Any) -> Any:
    return "" if value is None else value


def _texts(value: Any) -> Any:
    """One text, or a list of them (of which each person gets one), as a list."""
    return value if isinstance(value, list) else [_text_or_none(value)]


def _by_arm(value: Any) -> Any:
    """A question for all arms stands under ""; else {arm: question}."""
    pairs = value if isinstance(value, dict) else {"": value}
    return {arm: _texts(texts) for arm, texts in pairs.items()}


def _arm(value: Any) -> Any:
    return {"arm": _text_or_none(value)} if not isinstance(value, dict) else value


def _arms(value: Any) -> Any:
    return {name: _arm(texts) for name, texts in value.items()} if isinstance(value, dict) else value


def _factor(value: Any) -> Any:
    """Levels are {name: text}; a list of texts names each level by its text."""
    pairs = {str(text): text for text in value} if isinstance(value, list) else value
    return {name: _text_or_none(text) for name, text in pairs.items()} if isinstance(pairs, dict) else pairs


def _factors(value: Any) -> Any:
    return {name: _factor(levels) for name, levels in value.items()} if isinstance(value, dict) else value


def _moderators(value: Any) -> Any:
    pairs = {field: [] for field in value} if isinstance(value, list) else value
    return {field: groups or [] for field, groups in pairs.items()} if isinstance(pairs, dict) else pairs


class ScaleSpec(Section):
    """An answer scale as a person writes it; `kind` is only needed for choice and open scales."""

    kind: Kind | None = None
    low: int | None = None
    high: int | None = None
    step: int = Field(1, ge=1)
    labels: dict[int, Word] = Field(default_factory=dict)
    unit: str = ""

    def scale(self) -> Scale:
        """The typed scale. Raises `Mistake` (place within the scale) for one that can't be."""
        labels = tuple(sorted(self.labels.items()))
        if self.kind in ("open", "unstated"):
            if self.low is not None or self.high is not None or labels:
                raise Mistake(
                    ("kind",), f"a scale of kind {self.kind} has no low, high or labels; remove them"
                )
            return Scale(self.kind, labels=((0, self.unit),) if self.unit and self.kind == "open" else ())
        if self.unit:
            raise Mistake(("unit",), "only a scale of kind open has a unit; word it in the labels")
        low = self.low if self.low is not None else min(self.labels, default=None)
        high = self.high if self.high is not None else max(self.labels, default=None)
        if low is None or high is None:
            raise Mistake((), "a scale needs low and high, or labels, or kind: open")
        if low >= high:
            raise Mistake(("high",), f"high ({high}) must be above low ({low})")
        points = (high - low) // self.step + 1
        if points > MAX_ANSWERS or (high - low) % self.step:
            raise Mistake(
                (), f"{low} to {high} in steps of {self.step} is no scale of 2 to {MAX_ANSWERS} answers"
            )
        for value in self.labels:
            if not low <= value <= high or (value - low) % self.step:
                raise Mistake(
                    ("labels", str(value)), f"the label of {value} is outside the scale {low} to {high}"
                )
        kind = self.kind or ("binary" if points == 2 else "ordinal" if points <= 11 else "bounded")
        if kind == "choice" and len(labels) < 2:
            raise Mistake(("labels",), "a choice needs a label for each answer")
        if kind == "binary" and points != 2:
            raise Mistake(("kind",), f"a binary scale has two answers, this one has {points}")
        return Scale(kind, low, high, self.step, labels)


class Outcome(Section):
    """What is asked after the vignette. `answer_format: ""` when the question itself states the format.

    wordings: whether a person gets one of the question's texts, or answers all of them.
    """

    question: Annotated[dict[str, list[str]], BeforeValidator(_by_arm)]
    scale: ScaleSpec
    answer_format: str | None = None
    wordings: Literal["one", "all"] = "one"


class Design(Section):
    """The study as planned; its sizes give the standard errors and the power."""

    kind: Literal["between", "within"] = "between"
    people_per_arm: int | None = Field(None, ge=2)
    people: int | None = Field(None, ge=2)
    tasks: int | None = Field(None, ge=1)
    counterbalance_labels: bool = False


class ExperimentFile(Section):
    """The file, key by key."""

    name: str = ""
    title: str = ""
    description: str = ""
    vignette: str = "{arm}"
    arms: Annotated[dict[str, dict[str, Word]] | None, BeforeValidator(_arms)] = None
    factors: Annotated[dict[str, dict[str, Word]] | None, BeforeValidator(_factors)] = None
    control: str | None = None
    outcomes: dict[str, Outcome]
    design: Design
    population: PopulationSpec = PopulationSpec()
    moderators: Annotated[dict[str, list[Word]], BeforeValidator(_moderators)] = Field(default_factory=dict)
    seed: int = Field(0, ge=0)


Lines = dict[Place, int]


def read_file(path: str | Path) -> tuple[ExperimentFile, Lines]:
    """The file's values, and the line of each. Raises `Refusal` for what isn't YAML or isn't allowed."""
    lines: Lines = {(): 1}
    try:
        node = yaml.compose(Path(path).read_text(encoding="utf-8"), yaml.SafeLoader)
    except OSError:
        raise Refusal(f"{path or 'the experiment file'} is missing; give one such as {EXAMPLE}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise Refusal(f"{path} is not valid YAML: {' '.join(str(error).split())}") from None
    try:
        if not isinstance(node, yaml.MappingNode):
            raise Mistake((), f"an experiment file holds `key: value` lines, see {EXAMPLE}")
        return ExperimentFile.model_validate(_plain(node, (), lines)), lines
    except ValidationError as error:
        problem = explain(error, ExperimentFile)
        raise Refusal(f"{path} line {line_of(lines, first_problem(error)['loc'])}: {problem}") from None
    except Mistake as mistake:
        raise Refusal(f"{path} line {line_of(lines, mistake.place)}: {mistake}") from None


def _plain(node: yaml.Node, place: Place, lines: Lines) -> Any:
    """A YAML node as plain values, noting each one's line. Keys are kept as text.

    YAML 1.1 reads a bare `no` as false and a date as a date; in a label both are words, so only
    numbers, null, true and false are more than text here.
    """
    lines.setdefault(place, node.start_mark.line + 1)
    if isinstance(node, yaml.MappingNode):
        values: dict[str, Any] = {}
        for key, value in node.value:
            here = (*place, str(key.value))
            lines[here] = key.start_mark.line + 1
            if key.value in values:
                raise Mistake(here, f"`{key.value}` stands here twice; keep one of them")
            values[str(key.value)] = _plain(value, here, lines)
        return values
    if isinstance(node, yaml.SequenceNode):
        return [_plain(item, (*place, index), lines) for index, item in enumerate(node.value)]
    kind = node.tag.rsplit(":", 1)[-1]
    if kind in ("int", "float", "null") or (kind == "bool" and node.value.lower() in ("true", "false")):
        return yaml.SafeLoader("").construct_object(node)
    return node.value


def line_of(lines: Lines, place: Place) -> int:
    """The line of `place`, or of the nearest place around it that stands in the file.

    Parts that our normal form adds (a question under "", a text in a list) aren't in the file.
    """
    known: Place = ()
    for part in place:
        here = next((at for at in ((*known, part), (*known, str(part))) if at in lines), None)
        known = here if here is not None else known
    return lines[known]
