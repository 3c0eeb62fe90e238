"""An experiment: its arms, outcomes and contrasts, made from the experiment file and checked.

Whatever is wrong in the file (see `configs/experiments/` and eval/simulation/README.md) is refused with
the number of its line. Texts hold placeholders such as `{arm}` or the name of a factor; only plain names are
replaced, so that a text can't reach anything else.
"""

import itertools
import re
import string
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from common.errors import Refusal
from common.experiment_file import ExperimentFile, Mistake, parsed, read_file, suggestion
from common.paths import safe_name
from common.profiles import Profiles, make_profiles
from common.readers import KeyPath, line_of
from common.scale import Scale
from common.settings import explain

MAX_ARMS = 2000
EVERYBODY = "everybody"  # the one group of a poll


@dataclass(frozen=True)
class Arm:
    """One arm: its name, what fills the placeholders, and (crossed factors) its level of each factor."""

    name: str
    texts: dict[str, str]
    levels: dict[str, str]


@dataclass(frozen=True)
class Contrast:
    """A treatment effect: the sum of weights[arm] times the arm's mean.

    kind: `arm` (one arm against the control), `level` (a level of a factor against its first level,
    averaged over the other factors with equal weights), `interaction` (a difference of differences) or
    `amce` (of a conjoint: a level against its attribute's first; it has no arms, so no weights).
    """

    name: str
    kind: Literal["arm", "level", "interaction", "amce"]
    weights: dict[str, float]


@dataclass(frozen=True)
class Experiment:
    """A checked experiment. profiles: of a forced-choice conjoint, whose one arm is everybody."""

    name: str
    file: ExperimentFile
    arms: tuple[Arm, ...]
    scales: dict[str, Scale]
    contrasts: tuple[Contrast, ...]
    profiles: Profiles | None = None

    def wordings(self, arm: Arm, outcome: str) -> list[str]:
        """The texts of an outcome's question in an arm."""
        questions = self.file.outcomes[outcome].question
        return questions.get(arm.name, questions.get("", []))

    def scale(self, outcome: str, reverse: bool = False) -> Scale:
        """The outcome's scale; reversed, its labels run the other way."""
        scale = self.scales[outcome]
        if not reverse:
            return scale
        flip = scale.low + scale.high  # type: ignore[operator]
        labels = tuple(sorted((flip - value, label) for value, label in scale.labels))
        return Scale(scale.kind, scale.low, scale.high, scale.step, labels)

    def stimulus(self, arm: Arm, outcome: str, wording: int = 0, reverse: bool = False) -> str:
        """The whole stimulus text: vignette, question, answer format, as in the training data."""
        spec = self.file.outcomes[outcome]
        stated = spec.answer_format
        parts = [
            fill(self.file.vignette, arm.texts),
            fill(self.wordings(arm, outcome)[wording], arm.texts),
            self.scale(outcome, reverse).sentence() if stated is None else stated,
        ]
        return join_texts(parts)


def fill(text: str, texts: Mapping[str, str]) -> str:
    """Replace the placeholders; where one is empty, the doubled space it leaves goes too."""
    filled = "".join(
        before + (texts[name] if name is not None else "")
        for before, name, _, _ in string.Formatter().parse(text)
    )
    return re.sub(r"(?<=\S)  +(?=\S)", " ", filled).strip(" ")


def join_texts(parts: list[str]) -> str:
    """Join non-empty texts by a space, or by the line break that the text before ends with."""
    joined = ""
    for part in filter(str.strip, parts):
        joined += part if not joined or joined.endswith("\n") else f" {part}"
    return joined.strip()


def load_experiment(path: str | Path) -> Experiment:
    """Read and check an experiment file. Raises `Refusal` that names the line, the cause and the remedy."""
    file, lines = read_file(path)
    try:
        return _checked(file, file.name or Path(path).stem)
    except Mistake as mistake:
        raise Refusal(f"{path} line {line_of(lines, mistake.keys)}: {mistake}") from None


def make_experiment(content: dict[str, Any], name: str) -> Experiment:
    """An experiment from what its file would hold, as plain values; refused as a file would be."""
    try:
        return _checked(parsed(content), name)
    except ValidationError as error:
        raise Refusal(f"{name}: {explain(error, ExperimentFile)}") from None
    except Mistake as mistake:
        at = ".".join(map(str, mistake.keys))
        raise Refusal(f"{name}{f', {at}' if at else ''}: {mistake}") from None


def _checked(file: ExperimentFile, name: str) -> Experiment:
    try:
        safe_name(name, "the experiment's name")
    except Refusal as refusal:
        raise Mistake(("name",), str(refusal)) from None
    profiles = make_profiles(file) if file.profiles else None
    arms = (Arm(EVERYBODY, {"profiles": ""}, {}),) if profiles else tuple(_make_arms(file))
    if not file.outcomes:
        raise Mistake(("outcomes",), "an experiment needs at least one outcome")
    scales = {}
    for outcome, spec in file.outcomes.items():
        try:
            scales[outcome] = spec.scale.scale()
        except Mistake as mistake:
            raise Mistake(("outcomes", outcome, "scale", *mistake.keys), str(mistake)) from None
    _check_questions(file, arms)
    _check_placeholders(file, arms)
    _check_design(file, arms, scales)
    return Experiment(name, file, arms, scales, tuple(_contrasts(file, arms)), profiles)


def _make_arms(file: ExperimentFile) -> Iterator[Arm]:
    if file.arms is not None and file.factors is not None:
        raise Mistake(("factors",), "give either `arms` (texts) or `factors` (levels that are crossed)")
    if file.factors is None:
        arms = {EVERYBODY: {}} if file.arms is None else file.arms
        if not arms:
            raise Mistake(("arms",), "name the arms, or leave `arms` out: then everybody is asked the same")
        for name, texts in arms.items():
            yield Arm(name, texts, {})
        return
    count = 1
    for factor, levels in file.factors.items():
        if len(levels) < 2:
            raise Mistake(("factors", factor), f"the factor {factor} needs at least two levels")
        count *= len(levels)
    if not file.factors or count > MAX_ARMS:
        raise Mistake(
            ("factors",), f"the crossed factors make {count} arms; at most {MAX_ARMS} can be simulated"
        )
    for chosen in itertools.product(*(levels.items() for levels in file.factors.values())):
        texts = {factor: text for factor, (_, text) in zip(file.factors, chosen, strict=True)}
        levels = {factor: level for factor, (level, _) in zip(file.factors, chosen, strict=True)}
        yield Arm(", ".join(levels.values()), texts, levels)


def _check_questions(file: ExperimentFile, arms: tuple[Arm, ...]) -> None:
    names = [arm.name for arm in arms]
    if len(set(names)) < len(names):
        raise Mistake(("factors",), "two combinations of levels have the same name; rename a level")
    for outcome, spec in file.outcomes.items():
        path = ("outcomes", outcome, "question")
        if "" not in spec.question:
            for arm in spec.question:
                if arm not in names:
                    raise Mistake(
                        (*path, arm),
                        f"no arm is named {arm!r}; {suggestion(arm, names)}arms: {_some(names)}",
                    )
            absent = [arm for arm in names if arm not in spec.question]
            if absent:
                raise Mistake(path, f"the question lacks the arm {absent[0]!r}; word it for every arm")
        for texts in spec.question.values():
            if not texts or not all(text.strip() for text in texts):
                raise Mistake(path, "a question has no text; write what is asked")


def _check_placeholders(file: ExperimentFile, arms: tuple[Arm, ...]) -> None:
    """Every placeholder has a text in every arm, and every text that differs by arm is used."""
    names = list(arms[0].texts)
    for arm in arms:
        if sorted(arm.texts) != sorted(names):
            raise Mistake(
                ("arms", arm.name), f"the arm must give the same texts as the first one: {', '.join(names)}"
            )
    texts_at: list[tuple[KeyPath, str]] = [(("vignette",), file.vignette)]
    for outcome, spec in file.outcomes.items():
        for arm_name, texts in spec.question.items():
            path: KeyPath = ("outcomes", outcome, "question", arm_name)
            texts_at += [((*path, index), text) for index, text in enumerate(texts)]
    used: set[str] = set()
    for path, text in texts_at:
        for name in _placeholders(text, path):
            if name not in names:
                hint = f"{suggestion(name, names)}there are {', '.join(names) or 'none'}"
                raise Mistake(path, f"nothing fills the placeholder {{{name}}}; {hint}")
            used.add(name)
    for name in names:
        if name not in used and len({arm.texts[name] for arm in arms}) > 1:
            path = ("factors", name) if file.factors else ("arms",)
            raise Mistake(
                path, f"no text uses {{{name}}}, so its wordings change nothing; put it into the vignette"
            )
    by_arm = any("" not in spec.question for spec in file.outcomes.values())
    if file.arms and not by_arm and not any(len({arm.texts[name] for arm in arms}) > 1 for name in names):
        raise Mistake(("arms",), "all arms have the same text; an experiment needs a difference")


def _placeholders(text: str, path: KeyPath) -> Iterator[str]:
    try:
        parsed = list(string.Formatter().parse(text))
    except ValueError as error:
        raise Mistake(path, f"{error}; write {{{{ and }}}} for braces that aren't placeholders") from None
    for _, name, form, conversion in parsed:
        if name is None:
            continue
        if form or conversion or not re.fullmatch(r"\w+", name):
            raise Mistake(path, f"{{{name}}} is no placeholder: only a plain name in braces is replaced")
        yield name


def _check_design(file: ExperimentFile, arms: tuple[Arm, ...], scales: dict[str, Scale]) -> None:
    design = file.design
    needed, other = ("people_per_arm", "people") if design.kind == "between" else ("people", "people_per_arm")
    if getattr(design, needed) is None:
        raise Mistake(
            ("design",), f"a {design.kind}-subject design needs {needed}: the size of the study you plan"
        )
    if getattr(design, other) is not None:
        raise Mistake(("design", other), f"a {design.kind}-subject design has {needed}, not {other}")
    if (
        file.profiles is None
        and design.tasks is not None
        and (design.kind == "between" or design.tasks > len(arms))
    ):
        raise Mistake(
            ("design", "tasks"), f"tasks is for kind: within, and at most the number of arms ({len(arms)})"
        )
    if file.control is not None and file.control not in [arm.name for arm in arms if not arm.levels]:
        names = [arm.name for arm in arms]
        hint = "of each factor the first level is the control" if file.factors else f"arms: {_some(names)}"
        raise Mistake(
            ("control",), f"no arm is named {file.control!r}; {suggestion(file.control, names)}{hint}"
        )
    for outcome, scale in scales.items():
        if not design.counterbalance_labels:
            continue
        if scale.low is None or not scale.labels:
            raise Mistake(
                ("design", "counterbalance_labels"), f"the scale of {outcome} has no labels to reverse"
            )
        answers = scale.answers() or ()
        if any(scale.low + scale.high - value not in answers for value in answers):  # type: ignore[operator]
            path = ("outcomes", outcome, "scale", "labels")
            raise Mistake(path, "labels can be reversed if their numbers are evenly spaced; renumber them")
        if file.outcomes[outcome].answer_format is not None:
            raise Mistake(
                ("outcomes", outcome, "answer_format"), "labels in an answer_format can't be reversed"
            )


def _contrasts(file: ExperimentFile, arms: tuple[Arm, ...]) -> Iterator[Contrast]:
    if not file.factors:
        control = file.control or arms[0].name
        for arm in arms:
            if arm.name != control:
                yield Contrast(f"{arm.name} - {control}", "arm", {arm.name: 1.0, control: -1.0})
        return
    for factor, levels in file.factors.items():
        base, *others = levels
        for level in others:
            weights = _level_weights(arms, factor, level, base)
            yield Contrast(f"{factor}: {level} - {base}", "level", weights)
    if len(file.factors) == 2:
        (first, second) = file.factors
        for a, b in itertools.product(list(file.factors[first])[1:], list(file.factors[second])[1:]):
            signs = {}
            for arm in arms:
                one = _sign(arm.levels[first], a, next(iter(file.factors[first])))
                other = _sign(arm.levels[second], b, next(iter(file.factors[second])))
                if one * other:
                    signs[arm.name] = float(one * other)
            yield Contrast(f"{first}: {a} x {second}: {b}", "interaction", signs)


def _sign(level: str, chosen: str, base: str) -> int:
    return (level == chosen) - (level == base)


def _level_weights(arms: tuple[Arm, ...], factor: str, level: str, base: str) -> dict[str, float]:
    share = 1 / sum(arm.levels[factor] == level for arm in arms)
    signs = {arm.name: _sign(arm.levels[factor], level, base) for arm in arms}
    return {name: sign * share for name, sign in signs.items() if sign}


def _some(names: list[str]) -> str:
    return ", ".join(names[:8]) + (" ..." if len(names) > 8 else "")
