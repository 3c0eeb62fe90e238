"""What an experiment file may hold, key by key.

`read_file` gives the values and their lines; `common/experiment.py` checks what they mean together.
"""

import difflib
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import BeforeValidator, Field, PrivateAttr, ValidationError, model_validator

from common.errors import Refusal
from common.readers import KeyPath, Lines, line_of, read_yaml
from common.scale import MAX_ANSWERS, Kind, Scale
from common.settings import Section, explain, first_problem

EXAMPLE = "configs/experiments/two-arm.yaml"
SELECT_ALL = "select-all"
TASKS = 5  # choices that each person of a conjoint makes, where the file doesn't say
NO_SCALE_OF_CHOICES = (
    "a choice between two profiles is answered by 1 or 2; leave `scale` out, or give the profiles' names: "
    "labels: {1: Candidate 1, 2: Candidate 2}. Where one profile at a time is rated, write `factors`"
)
IN_QUOTES = "braces make a mapping in YAML; put the text in quotes"
# What other tools call their questions, and the nearest way to ask them here.
ELSEWHERE = {
    "a ranking has no scale of answers; ask about each item on a scale of its own (one outcome an item), or "
    "which one comes first (kind: choice)": ("rank", "order", "sort"),
    "free text has no scale of answers; list what you would code it into (kind: choice), or ask for a number "
    "(kind: open)": ("text", "essay", "string", "open-ended", "open ended", "comment"),
    "write kind: select-all where several options may apply, kind: choice where one does": (
        "multi", "check", "select", "options", "single", "radio",
    ),
    "leave kind out: low, high and labels say it": (
        "likert", "slider", "numeric", "number", "rating", "scale",
    ),
}  # fmt: skip
Word = Annotated[str, BeforeValidator(lambda value: str(value) if isinstance(value, int | float) else value)]
Words = Annotated[list[Word], BeforeValidator(lambda value: value if isinstance(value, list) else [value])]
Category = dict[str, Words]  # field -> values, or ranges such as 18-34 and 65+


class Mistake(Exception):
    """Something wrong at `place` (keys and list positions from the top of the file)."""

    def __init__(self, keys: KeyPath, text: str) -> None:
        super().__init__(text)
        self.keys = keys


def suggestion(word: str, words: list[str]) -> str:
    """`did you mean X? ` if one of the words is near, else nothing."""
    near = difflib.get_close_matches(word, words, n=1, cutoff=0.5)
    return f"did you mean `{near[0]}`? " if near else ""


def _text(value: Any) -> Any:
    """A text; nothing at all is an empty one. Unquoted braces, which YAML reads as a mapping, are named."""
    if isinstance(value, dict) and all(text is None for text in value.values()):
        raise ValueError(IN_QUOTES)
    return "" if value is None else value


Text = Annotated[Word, BeforeValidator(_text)]


def _texts(value: Any) -> Any:
    """One text, or a list of them (of which each person gets one), as a list."""
    return value if isinstance(value, list) else [_text(value)]


def _by_arm(value: Any) -> Any:
    """A question for all arms is under ""; else {arm: question}."""
    pairs = value if isinstance(_text(value), dict) else {"": value}
    return {arm: _texts(texts) for arm, texts in pairs.items()}


def _arm(value: Any) -> Any:
    return {"arm": _text(value)} if not isinstance(value, dict) else value


def _arms(value: Any) -> Any:
    return {name: _arm(texts) for name, texts in value.items()} if isinstance(value, dict) else value


def _factor(value: Any) -> Any:
    """Levels are {name: text}; a list of texts names each level by its text."""
    pairs = {str(text): text for text in value} if isinstance(value, list) else value
    return {name: _text(text) for name, text in pairs.items()} if isinstance(pairs, dict) else pairs


def _factors(value: Any) -> Any:
    return {name: _factor(levels) for name, levels in value.items()} if isinstance(value, dict) else value


def _arm_columns(value: Any) -> Any:
    """A column, or a column a factor or an arm."""
    columns = value.values() if isinstance(value, dict) else [value]
    if not all(column is None or isinstance(column, str | int | float) for column in columns):
        raise ValueError("name one column, or one each: {factor: column}")
    return value


def _outcome_columns(value: Any) -> Any:
    """{question: {option: column}} names the options' outcomes, as select-all questions do."""
    if not isinstance(value, dict):
        return value
    pairs: dict[str, Any] = {}
    for name, columns in value.items():
        if isinstance(columns, dict):
            pairs |= {f"{name}: {option}": column for option, column in columns.items()}
        else:
            pairs[name] = columns
    return pairs


def _moderators(value: Any) -> Any:
    pairs = {field: [] for field in value} if isinstance(value, list) else value
    return {field: groups or [] for field, groups in pairs.items()} if isinstance(pairs, dict) else pairs


def _kind(value: Any) -> Any:
    """A kind of scale; a name from elsewhere is refused with the nearest way to ask."""
    word = str(value).lower().replace("_", "-")
    if word in ("select-all", "select all", "select-all-that-apply", "select all that apply"):
        return SELECT_ALL
    for way, names in ELSEWHERE.items():
        if any(name in word for name in names):
            raise ValueError(way)
    return value


class ScaleSpec(Section):
    """An answer scale as a person writes it; `kind` is only needed for choice, select-all and open scales.

    labels: {answer: meaning}, or a list of meanings for the answers from `low` (or 1) on.
    """

    kind: Annotated[Kind | Literal["select-all"] | None, BeforeValidator(_kind)] = None
    low: int | None = None
    high: int | None = None
    step: int = Field(1, ge=1)
    labels: dict[int, Text] = Field(default_factory=dict)
    unit: str = ""

    @model_validator(mode="before")
    @classmethod
    def _listed_labels(cls, value: Any) -> Any:
        labels = value.get("labels") if isinstance(value, dict) else None
        if not isinstance(labels, list):
            return value
        low, step = value.get("low"), value.get("step", 1)
        if not isinstance(low, int | None) or not isinstance(step, int):
            return value | {"labels": {}}  # what is wrong with low or step is said first
        first = 1 if low is None else low
        return value | {"labels": {first + step * index: label for index, label in enumerate(labels)}}

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
        assert kind != "select-all"  # it was taken apart when the file was read
        return Scale(kind, low, high, self.step, labels)


class Option(NamedTuple):
    """An option of a select-all question: the question's name, the option's number and label."""

    question: str
    number: int
    label: str


class Outcome(Section):
    """What is asked after the vignette. `answer_format: ""` when the question itself states the format.

    wordings: whether a person gets one of the question's texts, or answers all of them.
    """

    question: Annotated[dict[str, list[Word]], BeforeValidator(_by_arm)]
    scale: ScaleSpec = ScaleSpec()
    answer_format: Word | None = None
    wordings: Literal["one", "all"] = "one"
    _option: Option | None = PrivateAttr(None)

    @property
    def option(self) -> Option | None:
        """The option that this yes/no outcome is, where it is one of a select-all question."""
        return self._option


class Quota(Section):
    """`people` persons who are all that `who` says."""

    people: int = Field(ge=1)
    who: Category


class PopulationSpec(Section):
    """Who takes part. people: how many to simulate; where: only these; margins: shares to weight to."""

    people: int | None = Field(None, ge=10, le=1_000_000)
    where: Category = Field(default_factory=dict)
    margins: dict[str, dict[str, float]] = Field(default_factory=dict)
    quotas: list[Quota] = Field(default_factory=list)


class Design(Section):
    """The study as planned; its sizes give the standard errors and the power."""

    kind: Literal["between", "within"] = "between"
    people_per_arm: int | None = Field(None, ge=2)
    people: int | None = Field(None, ge=2)
    tasks: int | None = Field(None, ge=1)
    counterbalance_labels: bool = False


class Columns(Section):
    """Which columns of a survey hold what; wide files have a column an outcome, long ones a row an answer.

    person: an id; without it each row is a person. arm: a column, or {factor: column}; its values are names
    of arms (levels), or what `arm_values` translates; or {arm: column} where each arm has a column that is
    empty or 0 for everybody else. outcomes (wide): {outcome: a column, or a list of columns of which a person
    answered one; or, where all wordings are asked, one a wording}; of a select-all question one column that
    lists what was chosen, or one an option, as a list or as {option: column}. outcome, answer (long).
    wordings: {outcome: column with the wording's number, from 1, or its text}. demographics:
    {field: column}; a field that SocSci210 hasn't is shown in prompts under its own name. missing: further
    values that mean no answer.
    """

    person: Word | None = None
    arm: Annotated[Word | dict[str, Word] | None, BeforeValidator(_arm_columns)] = None
    arm_values: dict[str, Word] = Field(default_factory=dict)
    outcomes: Annotated[dict[str, Words], BeforeValidator(_outcome_columns)] = Field(default_factory=dict)
    outcome: Word | None = None
    answer: Word | None = None
    wordings: dict[str, Word] = Field(default_factory=dict)
    weight: Word | None = None
    demographics: dict[str, Word] = Field(default_factory=dict)
    missing: Words = Field(default_factory=list)


class ExperimentFile(Section):
    """The file, key by key. Neither arms nor factors: one group, asked once (a poll).

    profiles: 2 makes it a forced-choice conjoint: in each task a person chooses between two profiles, drawn
    from `attributes` {attribute: {level: text} or [levels]} without the `forbidden` combinations of levels.
    """

    name: str = ""
    title: str = ""
    description: str = ""
    vignette: Text = ""  # where there are arms: "{arm}"
    arms: Annotated[dict[str, dict[str, Text]] | None, BeforeValidator(_arms)] = None
    factors: Annotated[dict[str, dict[str, Text]] | None, BeforeValidator(_factors)] = None
    profiles: Literal[2] | None = None
    attributes: Annotated[dict[str, dict[str, Text]] | None, BeforeValidator(_factors)] = None
    forbidden: list[Category] = Field(default_factory=list)
    control: str | None = None
    outcomes: dict[str, Outcome]
    design: Design
    population: PopulationSpec = PopulationSpec()
    moderators: Annotated[dict[str, list[Word]], BeforeValidator(_moderators)] = Field(default_factory=dict)
    seed: int = Field(0, ge=0)
    columns: Columns | None = None


def read_file(path: str | Path) -> tuple[ExperimentFile, Lines]:
    """The file's values, and the line of each. Raises `Refusal` for what isn't YAML or isn't allowed."""
    content, lines = read_yaml(path, f"give an experiment file such as {EXAMPLE}")
    if not isinstance(content, dict):
        raise Refusal(f"{path} line 1: an experiment file holds `key: value` lines, see {EXAMPLE}")
    try:
        return parsed(content), lines
    except ValidationError as error:
        problem = explain(error, ExperimentFile)
        raise Refusal(f"{path} line {line_of(lines, first_problem(error)['loc'])}: {problem}") from None
    except Mistake as mistake:
        raise Refusal(f"{path} line {line_of(lines, mistake.keys)}: {mistake}") from None


def parsed(content: dict[str, Any]) -> ExperimentFile:
    """The file's values in their types; a select-all outcome becomes a yes/no outcome an option.

    Raises `ValidationError` or `Mistake`.
    """
    file = ExperimentFile.model_validate(content)
    if file.profiles:
        return _conjoint(file)
    if file.attributes or file.forbidden:
        key = "attributes" if file.attributes else "forbidden"
        wrong = f"{key} belong to a choice between profiles; add `profiles: 2`, or write `factors`"
        raise Mistake((key,), wrong)
    if file.arms and "vignette" not in file.model_fields_set:
        file = file.model_copy(update={"vignette": "{arm}"})
    design, one_group = file.design, file.factors is None and len(file.arms or "1") == 1
    if one_group and design.kind == "between" and design.people_per_arm is None:
        design = design.model_copy(update={"people_per_arm": design.people, "people": None})
    outcomes: dict[str, Outcome] = {}
    for name, outcome in file.outcomes.items():
        outcomes |= _options(name, outcome) if outcome.scale.kind == SELECT_ALL else {name: outcome}
    return file.model_copy(update={"outcomes": outcomes, "design": design})


def _conjoint(file: ExperimentFile) -> ExperimentFile:
    """A forced choice with its defaults: the profiles after the vignette, two answers, several tasks."""
    design = file.design
    if "kind" in design.model_fields_set and design.kind != "within":
        raise Mistake(("design", "kind"), "each person makes several choices; leave kind out")
    if design.counterbalance_labels:
        wrong = "which profile stands first is drawn at random already; leave it out"
        raise Mistake(("design", "counterbalance_labels"), wrong)
    outcomes = {}
    for name, outcome in file.outcomes.items():
        given = outcome.scale
        if "scale" in outcome.model_fields_set and (set(given.labels) != {1, 2} or given.unit):
            raise Mistake(("outcomes", name, "scale"), NO_SCALE_OF_CHOICES)
        names = given.labels or {1: "Profile 1", 2: "Profile 2"}
        outcomes[name] = outcome.model_copy(update={"scale": ScaleSpec(kind="choice", labels=names)})
    vignette = file.vignette
    if "{profiles}" not in vignette:
        vignette = f"{vignette}\n\n{{profiles}}\n\n".lstrip("\n")
    design = design.model_copy(update={"kind": "within", "tasks": design.tasks or TASKS})
    return file.model_copy(update={"outcomes": outcomes, "design": design, "vignette": vignette})


def _options(name: str, outcome: Outcome) -> dict[str, Outcome]:
    """One outcome an option: does it apply? `{option}` in the question is the option's label."""
    scale = outcome.scale
    if len(scale.labels) < 2 or scale.unit or (scale.low, scale.high) != (None, None):
        wrong = "a select-all question has labels, a list of two or more options, and nothing else"
        raise Mistake(("outcomes", name, "scale"), wrong)
    yes_no = ScaleSpec(labels={0: "no", 1: "yes"})
    options = {}
    for number, label in scale.labels.items():
        text = label.replace("{", "{{").replace("}", "}}")
        questions = {arm: [_with_option(q, text) for q in texts] for arm, texts in outcome.question.items()}
        asked = outcome.model_copy(update={"question": questions, "scale": yes_no})
        asked._option = Option(name, number, label)
        options[f"{name}: {label}"] = asked
    if len(options) < len(scale.labels):
        raise Mistake(("outcomes", name, "scale", "labels"), "two options have the same label; rename one")
    return options


def _with_option(question: str, option: str) -> str:
    if "{option}" in question:
        return question.replace("{option}", option)
    return f'{question} Does this apply: "{option}"?'
