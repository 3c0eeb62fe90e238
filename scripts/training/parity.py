"""Training and evaluation must show the model the same tokens: ten rows are rendered both ways first.

LLaMA-Factory writes a row by its own template, the evaluator by the tokenizer's chat template. Where the
two differ, a model learns one thing and is asked another, and only its scores would say so. Known cases:
`qwen3` puts an empty thought before each answer, so `qwen3_nothink` is the template for bare answers.
"""

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from common.chat import PromptEncoder
from common.errors import Refusal
from scripts.training import llamafactory, rows
from scripts.training.tokeniser import Tokeniser

ROWS = 10


class Turn(NamedTuple):
    """A prompt and an answer to it."""

    system: str | None
    prompt: str
    answer: str


class Difference(NamedTuple):
    """Where the two renderings part, as text: in the prompt, or where the answer begins or ends."""

    part: str
    trained: str
    evaluated: str


def refuse_differences(tokeniser: Tokeniser, data: rows.DataSet, name: str) -> None:
    """Raise `Refusal` if the first rows of `data` are trained with other tokens than the evaluator uses.

    tokeniser: ready for the recipe; name: the model's, for the message. The refusal names the template
    that fits. Stage pt trains on plain text, which no template touches.
    """
    if tokeniser.stage == "pt":
        return
    turns = list(_turns(tokeniser, rows.first_rows(data, ROWS), data.entry))
    encoder = PromptEncoder(tokeniser.plain_tokenizer, name)
    difference = first_difference(tokeniser.template, encoder, turns)
    if difference is None:
        return
    template = str(tokeniser.recipe["template"])
    fits = fitting_template(template, encoder, turns)
    remedy = f"set template: {fits}" if fits else (
        "no template of LLaMA-Factory renders as this model's chat template does; "
        "give the model's folder a chat_template.jinja that does"
    )  # fmt: skip
    raise Refusal(
        f"template {template} trains {name} on other tokens than it is asked with: {difference.part}, "
        f"{difference.trained!r} in training and {difference.evaluated!r} in evaluation; {remedy}"
    )


def _turns(tokeniser: Tokeniser, examples: list[dict[str, Any]], entry: dict[str, Any]) -> Iterator[Turn]:
    """The rows that are one question and one answer, as LLaMA-Factory's converter reads them."""
    if not examples:
        return
    columns = tokeniser.convert(examples, entry)
    for prompt, response, system in zip(
        columns["_prompt"], columns["_response"], columns["_system"], strict=True
    ):
        answers = [turn["content"] for turn in response if turn["content"]]
        if len(prompt) == 1 and answers:
            yield Turn(system or None, prompt[0]["content"], answers[0])


def first_difference(template: Any, encoder: PromptEncoder, turns: list[Turn]) -> Difference | None:
    """Where `template` and the evaluator's encoder first part on these turns, None if nowhere."""
    tokenizer = encoder.tokenizer
    for turn in turns:
        prompt, answer = llamafactory.render(template, tokenizer, turn.system, turn.prompt, turn.answer)
        asked = encoder.encode([turn.system], [turn.prompt])[0]
        if prompt != asked:
            return Difference("the prompt", *_where_they_part(tokenizer, prompt, asked))
        stop = next((index for index, token in enumerate(answer) if token in encoder.stop_ids), None)
        spelled = encoder.spell(turn.answer)
        if stop is None:
            return Difference("the end of the answer", tokenizer.decode(answer[-3:]), encoder.stop_text)
        if answer[:stop] != spelled:
            return Difference("the answer", *_where_they_part(tokenizer, answer[:stop], spelled))
    return None


def _where_they_part(tokenizer: Any, one: list[int], other: list[int]) -> tuple[str, str]:
    """A few tokens of each as text, from where the two differ."""
    pairs = enumerate(zip(one, other, strict=False))
    start = next((index for index, (a, b) in pairs if a != b), min(len(one), len(other)))
    return tokenizer.decode(one[start : start + 8]), tokenizer.decode(other[start : start + 8])


def fitting_template(template: str, encoder: PromptEncoder, turns: list[Turn]) -> str | None:
    """A template that renders these turns as the evaluator does: the model's own, or the likest in name."""
    listed = llamafactory.default_template(encoder.name)

    def rank(name: str) -> tuple[bool, bool, bool, bool, int, str]:
        family = re.match("[a-z]*", template)[0]  # type: ignore[index]
        likest = not name.startswith(template), not name.startswith(family)
        return name != listed, *likest, name != "chatml", len(name), name

    for name in sorted(llamafactory.templates(), key=rank):
        try:
            if first_difference(llamafactory.templates()[name], encoder, turns) is None:
                return name
        except (ValueError, TypeError, KeyError, AttributeError, NotImplementedError):
            continue  # one for images, or whose special tokens this tokenizer doesn't have
    return None
