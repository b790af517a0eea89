"""What the models of the demo say, and how their tokens are counted.

A token is a word: a maximal run of characters without white space. Words of system
(and developer) messages count as read from the provider's cache, words of all other
messages as fresh input. The answer is "You said:" and the words of the last message.
"""

from typing import Final

from pydantic import BaseModel, Field

from local.demo.text import Text


class Part(BaseModel):
    """One typed part of a message; only text is understood."""

    type: Text
    text: Text = ""


#: Providers take a message's content as text or as a list of typed parts.
Content = Text | list[Part] | None

_OPENING: Final = ["You", "said:"]
_FILLER: Final = "word"


class DemoControls(BaseModel):
    """The body field `hubgate_demo`, which no real provider has."""

    event_interval_ms: int = Field(default=0, ge=0, le=10_000)
    #: Ask for an answer of this many words instead of the usual one.
    completion_tokens: int | None = Field(default=None, ge=0, le=10_000)


class Answer(BaseModel):
    """The words to say, and whether the caller's limit cut them."""

    words: list[str]
    cut: bool

    @property
    def text(self) -> str:
        return " ".join(self.words)

    @property
    def pieces(self) -> list[str]:
        """One piece of text per token; joined they are `text`."""
        return [
            word if index == 0 else f" {word}" for index, word in enumerate(self.words)
        ]


def text_of(content: Content) -> str:
    """The text in a message's content; parts that are not text say nothing."""
    if content is None or isinstance(content, str):
        return content or ""
    return " ".join(part.text for part in content if part.type == "text")


def count(content: Content) -> int:
    """Tokens in a message's content."""
    return len(text_of(content).split())


def answer(last: Content, controls: DemoControls, limit: int | None) -> Answer:
    """The answer to the last message, at most `limit` tokens long."""
    words = _OPENING + text_of(last).split()
    if controls.completion_tokens is not None:
        words = [_FILLER] * controls.completion_tokens
    cut = limit is not None and len(words) > limit
    return Answer(words=words[:limit], cut=cut)
