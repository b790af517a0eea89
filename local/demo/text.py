"""Text that can be sent: a lone surrogate, which JSON can spell, cannot."""

from typing import Annotated

from pydantic import AfterValidator


def _encodable(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("a lone surrogate is not Unicode text") from None
    return text


Text = Annotated[str, AfterValidator(_encodable)]
