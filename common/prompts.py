"""The published prompt, rebuilt from its parts: the same bytes for training, evaluation and simulation.

Source: the `prompt` column of SocSci210 (arXiv 2509.05830). Null fields have no line; ethnicity is
a field of the data but not of the published prompt.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Literal

Order = Literal["persona-first", "stimulus-first"]

SYSTEM_PROMPT = (
    "You are simulating a survey respondent. Answer exactly as instructed, following the specified "
    "response format without additional commentary."
)
PERSONA_HEAD = "You are a survey respondent with the following demographic profile:"
INSTRUCTION = (
    "Read the question below and answer exactly as this person would. "
    "Follow the response instructions precisely."
)
# Stimulus first: many people's prompts of one item then share one long prefix, which caches can reuse.
STIMULUS_HEAD = "You will answer the following question as a survey respondent:"
STIMULUS_FIRST_INSTRUCTION = (
    "Answer the question above exactly as this person would. Follow the response instructions precisely."
)

DEMOGRAPHIC_FIELDS = (
    "age", "gender", "education", "employment", "ethnicity", "marital_status", "housing_ownership",
    "housing_type", "location", "metro_status", "income", "internet_access", "household_size",
    "party_id", "ideology", "phone_service",
)  # fmt: skip
PROMPT_FIELDS = tuple(field for field in DEMOGRAPHIC_FIELDS if field != "ethnicity")


def demographic_fields(columns: Iterable[str]) -> list[str]:
    """The demographic fields among the columns of people: the known ones in order, then a survey's own."""
    names = list(columns)
    published = [name for name in DEMOGRAPHIC_FIELDS if name in names]
    return published + [name for name in names if name not in (*published, "person", "weight")]


def persona_lines(demographic: Mapping[str, Any]) -> str:
    """One `- Key: value` line for each non-null field: the published ones in their order, then others."""
    fields = (*PROMPT_FIELDS, *(field for field in demographic if field not in DEMOGRAPHIC_FIELDS))
    return "\n".join(
        f"- {field.replace('_', ' ').title()}: {demographic[field]}"
        for field in fields
        if demographic.get(field) is not None
    )


def user_prompt(demographic: Mapping[str, Any], stimuli: str, order: Order = "persona-first") -> str:
    """The user turn for one person and one stimulus text (which ends with the answer format)."""
    persona = f"{PERSONA_HEAD}\n{persona_lines(demographic)}"
    if order == "stimulus-first":
        return f"{STIMULUS_HEAD}\n\n{stimuli}\n\n{persona}\n\n{STIMULUS_FIRST_INSTRUCTION}"
    return f"{persona}\n\n{INSTRUCTION}\n\n{stimuli}"
