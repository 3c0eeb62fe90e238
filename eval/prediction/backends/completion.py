"""What is read of a server's answer, and its types: whatever isn't a completion is known at once."""

from pydantic import BaseModel, ConfigDict


class Answer(BaseModel):
    """A part of what a server answers: what is read of it has its type, the rest is left."""

    model_config = ConfigDict(from_attributes=True)


class Token(Answer):
    token: str
    logprob: float
    top_logprobs: list["Token"] = []


class Logprobs(Answer):
    """content: of a chat's reply; top_logprobs: of a completion's tokens, by token."""

    content: list[Token] | None = None
    top_logprobs: list[dict[str, float] | None] | None = None


class Message(Answer):
    content: str | None = None


class Choice(Answer):
    index: int | None = None
    finish_reason: str | None = None
    message: Message | None = None
    logprobs: Logprobs | None = None


class Usage(Answer):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None


class Completion(Answer):
    choices: list[Choice]
    usage: Usage | None = None
