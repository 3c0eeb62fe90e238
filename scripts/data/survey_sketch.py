"""A first draft of an experiment file from a survey's own columns and labels, for a person to complete."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import polars as pl

from common.survey.answers import INTEGER, same
from common.survey.file import Survey, read_survey
from common.survey.options import CHOSEN

# A demographic field, and how surveys name or ask it.
FIELDS = {
    "age": r"age(?:_?group|_?band)?|how old|birth",
    "gender": r"gender|sex",
    "education": r"educ\w*|degree|school",
    "employment": r"employ\w*|work status|occupation",
    "ethnicity": r"ethnic\w*|race|hispanic",
    "marital_status": r"marital\w*|married",
    "housing_ownership": r"own(?:ership)? or rent|home ?own\w*|tenure",
    "location": r"region|state|country|location",
    "metro_status": r"metro\w*|urban\w*|rural",
    "income": r"income|earn\w*",
    "internet_access": r"internet",
    "household_size": r"household ?size|people in (?:your )?household|hhsize",
    "party_id": r"party(?:_?id)?|partisan\w*|democrat\w*|republican\w*",
    "ideology": r"ideolog\w*|liberal\w*|conservative\w*|left.right",
    "religion": r"relig\w*|faith|church",
}
PERSON = (
    r"prolific\w*|responseid|respondent\w*|participant\w*|subject\w*|worker\w*|person\w*|caseid|pid"
    r"|id|uuid"
)
ARM = r"arm|condition|cond|treat\w*|group|frame|framing|vignette|factor\w*|version|manip\w*|prime|fl_\d+_do"
WEIGHT = r"w|wt|weight\w*"
# What Qualtrics adds by itself, and nobody asked.
OF_THE_TOOL = {
    "startdate", "enddate", "status", "ipaddress", "progress", "duration (in seconds)", "finished",
    "recordeddate", "responseid", "recipientlastname", "recipientfirstname", "recipientemail",
    "externalreference", "externaldatareference", "locationlatitude", "locationlongitude",
    "distributionchannel", "userlanguage",
}  # fmt: skip
MOST_ANSWERS, MOST_LEVELS = 11, 12
STRENGTH = {
    "strongly": 3, "very": 3, "extremely": 3, "completely": 3, "definitely": 3, "always": 3,
    "a great deal": 3,
    "somewhat": 1, "slightly": 1, "a little": 1, "rather": 1, "probably": 1, "sometimes": 1,
}  # fmt: skip
AGAINST = r"dis\w+|oppos\w+|never|not|no|un\w+|bad|poor\w*|low\w*|worse|less|decrease\w*|against"
MIDDLE = r"neither|neutral|undecided|same|moderate\w*|about half"


def sketch(survey: str | Path) -> str:
    """An experiment file as text, from a survey's columns, labels and answers. Raises `Refusal`.

    What can only be guessed is marked by a comment that begins with "check".
    """
    answered = read_survey(survey)
    answered = replace(answered, frame=answered.frame.select(pl.all().replace("-99", None)))  # not answered
    roles = _roles(answered)
    factors = [name for name, role in roles.items() if role == "arm"]
    questions = _select_all(answered, roles)
    together = {column for columns in questions.values() for column in columns}
    outcomes = {
        _key(name): name for name, role in roles.items() if role == "outcome" and name not in together
    }
    lines = [
        f"# A first draft from {answered.path.name}. Complete what says `check`.",
        f"name: {re.sub(r'[^A-Za-z0-9._-]+', '-', answered.path.stem).strip('-.') or 'survey'}",
        f"title: {_quoted(answered.path.stem)}  # check",
        "",
        *_arms(answered, factors),
        "outcomes:",
    ]
    for key, column in outcomes.items():
        lines += _outcome(answered, key, column)
    for key, columns in questions.items():
        lines += _select_all_outcome(answered, key, columns)
    if not outcomes and not questions:
        lines.append("  # check: no column looks like an answer on a scale; describe the outcomes here")
    most = max(2, len(answered.frame) // max(1, _arm_count(answered, factors)))
    lines += [
        "design:",
        f"  people_per_arm: {most}",
        "",
        *_columns(roles, factors, {**outcomes, **questions}),
    ]
    return "\n".join(lines) + "\n"


def _roles(survey: Survey) -> dict[str, str]:
    """What each column seems to hold: person, arm, weight, a demographic field, outcome, or nothing."""
    roles: dict[str, str] = {}
    for name in survey.frame.columns:
        cells = survey.frame[name].drop_nulls()
        distinct = cells.n_unique()
        if name.lower() in OF_THE_TOOL and not (
            name.lower() == "responseid" and "person" not in roles.values()
        ):
            roles[name] = ""
        elif re.fullmatch(PERSON, name, re.IGNORECASE) and distinct == len(cells) > 0:
            roles = {other: "" if role == "person" else role for other, role in roles.items()}
            roles[name] = "person"
        elif re.fullmatch(WEIGHT, name, re.IGNORECASE) and _are_numbers(cells):
            roles[name] = "weight"
        elif field := _field(survey, name):
            roles[name] = "" if field in roles.values() else field
        elif 2 <= distinct <= MOST_LEVELS and _is_arm(survey, name):
            roles[name] = "arm"
        else:
            roles[name] = "outcome" if _is_outcome(survey, name) else ""
    return roles


def _are_numbers(cells: pl.Series) -> bool:
    return not cells.cast(pl.Float64, strict=False).has_nulls()


def _is_arm(survey: Survey, name: str) -> bool:
    """By its name; or a column of words that is no question, because its label only repeats its name."""
    if re.fullmatch(ARM, name, re.IGNORECASE):
        return True
    words = bool(survey.value_labels.get(name)) or not _are_numbers(survey.frame[name].drop_nulls())
    return words and same(survey.labels.get(name, "")) == same(name)


def _field(survey: Survey, name: str) -> str | None:
    """The demographic field that a column's name, or its question, speaks of."""
    for field, pattern in FIELDS.items():
        if re.search(rf"(?<![a-z])(?:{pattern})(?![a-z])", name.lower().replace("_", " ")):
            return field
    question = survey.labels.get(name, "").lower()
    short = len(question.split()) <= 12
    for field, pattern in FIELDS.items() if short else ():
        if re.search(rf"(?:what is your|your|are you)[\w ,]* (?:{pattern})\b|^how old are you", question):
            return field
    return None


def _is_outcome(survey: Survey, name: str) -> bool:
    cells = survey.frame[name].drop_nulls()
    values = cells.unique().to_list()
    if len(values) < 2:
        return False
    if survey.value_labels.get(name) or len(values) <= MOST_ANSWERS:
        return len(values) <= max(MOST_ANSWERS, len(survey.value_labels.get(name, {})))
    return all(INTEGER.fullmatch(value) for value in values) and len(values) <= 101


def _key(name: str) -> str:
    """A short name for an outcome or a factor."""
    return re.sub(r"\W+", "_", name).strip("_").lower() or "outcome"


def _levels(survey: Survey, name: str) -> list[str]:
    """The distinct texts of a column, in the order of its codes, else of first appearance."""
    labels = survey.value_labels.get(name, {})
    seen: dict[str, str] = {}
    for cell in survey.labelled(name).drop_nulls().unique(maintain_order=True):
        seen.setdefault(same(cell), " ".join(cell.split()))
    coded = [label for label in labels.values() if same(label) in seen]
    return list(dict.fromkeys([*coded, *seen.values()])) if coded else list(seen.values())


def _arm_count(survey: Survey, factors: list[str]) -> int:
    count = 1
    for name in factors:
        count *= len(_levels(survey, name))
    return count


def _arms(survey: Survey, factors: list[str]) -> Iterator[str]:
    if not factors:
        yield "# check: no column looks like an arm, so this is a poll of one group. For an experiment, add"
        yield "# `arms`, a name and a text each, and `columns.arm`."
        yield ""
        return
    if len(factors) == 1:
        yield "arms:  # check: what did each arm read? The first is the control"
        for level in _levels(survey, factors[0]):
            yield f"  {_quoted(level)}: {_quoted(level)}"
        yield ""
        return
    placeholders = " ".join("{" + _key(name) + "}" for name in factors)
    yield f"vignette: {_quoted(placeholders)}  # check: the text around them"
    yield "factors:  # check: what did each level read? The first is the reference"
    for name in factors:
        yield f"  {_key(name)}:"
        for level in _levels(survey, name):
            yield f"    {_quoted(level)}: {_quoted(level)}"
    yield ""


def _outcome(survey: Survey, key: str, column: str) -> Iterator[str]:
    question = " ".join(survey.labels.get(column, "").split()).replace("{", "{{").replace("}", "}}")
    yield f"  {key}:"
    check = "" if question else "  # check: the question's words"
    yield f"    question: {_quoted(question or column)}{check}"
    cells = survey.frame[column].drop_nulls().unique()
    labels = survey.value_labels.get(column, {})
    numbers = [int(float(cell)) for cell in cells if INTEGER.fullmatch(cell) and "−" not in cell]
    if labels and all(INTEGER.fullmatch(value) for value in labels):
        pairs = {int(float(value)): label for value, label in labels.items() if value != "-99"}
        yield from _scale(pairs, numbers)
    elif len(numbers) == len(cells):
        low, high = min(numbers), max(numbers)
        yield f"    scale: {{low: {low}, high: {high}}}  # check: its ends, and what they mean"
    else:
        ordered, sure = in_order([" ".join(cell.split()) for cell in _levels(survey, column)])
        start = 0 if [same(label) for label in ordered] == ["no", "yes"] else 1
        if not sure:
            yield "    # check: the order of the labels"
        yield from _scale(dict(enumerate(ordered, start)), [])


def _scale(pairs: dict[int, str], numbers: list[int]) -> Iterator[str]:
    yield "    scale:"
    low, high = min([*pairs, *numbers]), max([*pairs, *numbers])
    if numbers and len(pairs) < high - low + 1:
        yield f"      low: {low}"
        yield f"      high: {high}"
    yield "      labels:"
    for value, label in sorted(pairs.items()):
        yield f"        {value}: {_quoted(label)}"


def in_order(labels: list[str]) -> tuple[list[str], bool]:
    """Labels from the most negative to the most positive, and whether their words tell."""
    scores = []
    for label in labels:
        text = same(label)
        strength = next((score for word, score in STRENGTH.items() if word in text), 2)
        against = bool(re.search(rf"\b(?:{AGAINST})\b", text))
        scores.append(0 if re.search(rf"\b(?:{MIDDLE})\b", text) else -strength if against else strength)
    sure = len(set(scores)) == len(scores)
    return ([label for _, label in sorted(zip(scores, labels, strict=True))] if sure else labels), sure


def _select_all(survey: Survey, roles: dict[str, str]) -> dict[str, list[str]]:
    """{name of a select-all question: its columns}: Q5_1, Q5_2, ... with one value, or none, in each cell."""
    groups: dict[str, list[str]] = {}
    for name, role in roles.items():
        if role in ("", "outcome") and (match := re.fullmatch(r"(.*\D?)_\d+", name)):
            values = set(survey.frame[name].drop_nulls().unique())
            parted = " - " in survey.labels.get(name, "")
            if values and (len(values) == 1 or (parted and values == {"0", "1"})):
                groups.setdefault(_key(match[1]), []).append(name)
    return {key: names for key, names in groups.items() if len(names) > 1}


def _option(survey: Survey, column: str) -> str:
    """What the column of an option stands for: its text, else the end of its question, else its name."""
    texts = [
        cell for cell in survey.labelled(column).drop_nulls().unique() if not _are_numbers(pl.Series([cell]))
    ]
    question = survey.labels.get(column, "").rpartition(" - ")[2]
    return " ".join(
        (texts[0] if len(texts) == 1 and same(texts[0]) not in CHOSEN else question or column).split()
    )


def _select_all_outcome(survey: Survey, key: str, columns: list[str]) -> Iterator[str]:
    question = re.split(r" - (?:Selected Choice - )?", survey.labels.get(columns[0], ""))[0]
    question = " ".join(question.split()).replace("{", "{{").replace("}", "}}")
    check = "" if question else "  # check: the question's words"
    yield f"  {key}:"
    yield f"    question: {_quoted(question or key)}{check}"
    yield "    scale:"
    yield "      kind: select-all"
    yield "      labels:"
    yield from (f"        - {_quoted(_option(survey, column))}" for column in columns)


def _columns(
    roles: dict[str, str], factors: list[str], outcomes: Mapping[str, str | list[str]]
) -> Iterator[str]:
    yield "columns:"
    for what in ("person", "weight"):
        if column := next((name for name, role in roles.items() if role == what), None):
            yield f"  {what}: {_quoted(column)}"
    if len(factors) == 1:
        yield f"  arm: {_quoted(factors[0])}"
    elif factors:
        yield "  arm:"
        for name in factors:
            yield f"    {_key(name)}: {_quoted(name)}"
    yield "  outcomes:"
    for key, answers in outcomes.items():
        yield f"    {key}: {_quoted(answers)}"
    fields = {role: name for name, role in roles.items() if role in FIELDS}
    if fields:
        yield "  demographics:"
        for field, column in fields.items():
            yield f"    {field}: {_quoted(column)}"
    named = {column for each in outcomes.values() for column in ([each] if isinstance(each, str) else each)}
    if unused := [name for name, role in roles.items() if not role and name not in named]:
        yield f"# not used: {', '.join(' '.join(name.split()) for name in unused)}"


def _quoted(text: str | list[str]) -> str:
    """A text, or a list of them, as YAML: JSON is YAML."""
    return json.dumps(text, ensure_ascii=False)
