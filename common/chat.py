"""Prompts as token ids: the same ids that training used, whatever the chat template does to text.

LLaMA-Factory puts system prompt and user prompt into its template as they are. The chat templates of
Llama-3 models trim them. So the tokenizer's chat template is rendered once with place-holders, and the
real texts are put where these stood. A template without a system role (Gemma's) gets the system prompt
before the user's, a blank line between, as LLaMA-Factory trains it. Training compares the two on real
rows before it starts.
"""

from collections.abc import Sequence
from typing import Any

from common.errors import Refusal

# Mixed case and no white space at the ends: a template that changes more than the ends is found out.
_SYSTEM, _USER, _ANSWER = "SystemPlaceHolder", "UserPlaceHolder", "AnswerPlaceHolder"


class PromptEncoder:
    """Turns (system, prompt) into token ids with a tokenizer's chat template.

    `stop_ids`: the tokens that end an answer: the one after an assistant's turn (`stop_text`), and the
    tokenizer's end of sequence. `answer_prefix`: white space that the template puts before an answer, or
    "". Raises `Refusal` for a model without a chat template, or one that shows a text twice.
    """

    def __init__(self, tokenizer: Any, name: str) -> None:
        if not tokenizer.chat_template:
            raise Refusal(
                f"the model {name} has no chat template, so nobody can know how to ask it; "
                "use an instruction-tuned model, or add chat_template.jinja to its folder"
            )
        self.tokenizer = tokenizer
        self.name = name
        user = {"role": "user", "content": _USER}
        system = {"role": "system", "content": _SYSTEM}
        self._without_system = self._pieces([user], [_USER])
        try:
            self._with_system = self._pieces([system, user], [_SYSTEM, _USER])
        except Refusal:  # no system role
            joined = {"role": "user", "content": f"{_SYSTEM}\n\n{_USER}"}
            self._with_system = self._pieces([joined], [_SYSTEM, _USER])
        assistant = {"role": "assistant", "content": _ANSWER}
        _, between, closing = self._pieces([user, assistant], [_USER, _ANSWER], False)
        gap = between.removeprefix(self._without_system[1])
        self.answer_prefix = gap if gap.isspace() else ""
        closing_ids = tokenizer.encode(closing, add_special_tokens=False)
        special = set(tokenizer.all_special_ids) | set(tokenizer.added_tokens_decoder)
        if not closing_ids or closing_ids[0] not in special:
            raise Refusal(f"the chat template of {name} doesn't end an answer with a special token")
        self.stop_text = tokenizer.decode(closing_ids[:1])
        self.stop_ids = sorted({closing_ids[0]} | {tokenizer.eos_token_id} - {None})

    def _pieces(self, messages: list[dict[str, str]], marks: list[str], prompt: bool = True) -> list[str]:
        """The rendered template's text around the place-holders."""
        try:
            text = self.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=prompt)
        except Exception as error:  # a template raises whatever it likes
            raise Refusal(f"the chat template of {self.name} refuses a conversation: {error}") from None
        pieces = []
        for mark in marks:
            if text.count(mark) != 1:
                raise Refusal(f"the chat template of {self.name} doesn't show each text exactly once")
            before, text = text.split(mark)
            pieces.append(before)
        return [*pieces, text]

    def pieces(self, system: bool) -> list[str]:
        """The text around the system prompt (where there is one) and the user's."""
        return self._with_system if system else self._without_system

    def text(self, system: str | None, prompt: str) -> str:
        """The rendered prompt, up to where the answer starts."""
        if system:
            before, between, after = self._with_system
            return before + system + between + prompt + after
        before, after = self._without_system
        return before + prompt + after

    def spell(self, answer: str) -> list[int]:
        """Token ids of an answer as the template writes it, without the end of the turn."""
        return self.tokenizer.encode(self.answer_prefix + answer, add_special_tokens=False)

    def encode(self, systems: Sequence[str | None], prompts: Sequence[str]) -> list[list[int]]:
        """Token ids of each prompt, special tokens of the template included."""
        if len(prompts) == 0:
            return []  # a tokenizer can't tell an empty list of texts from an empty text
        texts = [self.text(system, prompt) for system, prompt in zip(systems, prompts, strict=True)]
        return self.tokenizer(texts, add_special_tokens=False, return_attention_mask=False)["input_ids"]
