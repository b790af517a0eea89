"""Serialised protobuf messages with places for texts.

The library writes a message once for a text of such a length, and it is cut where the
text stands: any other of that length makes another such message.
"""

from collections.abc import Callable
from typing import Any, Final

_FILLER: Final = "\x7f"


def form(build: Callable[[str], Any], size: int) -> bytes:
    """A format (`%`) of the message that `build` makes of a text of so many bytes.

    The text must be its last one.
    """
    data: bytes = build(_FILLER * size).SerializeToString()
    if size == 0:
        return _fixed(data) + b"%b"
    # From the right: a length may look like the filler, and stands before the text.
    before, _, after = data.rpartition(_FILLER.encode() * size)
    return _fixed(before) + b"%b" + _fixed(after)


def fixed(message: Any) -> bytes:
    """A format without a place for a text."""
    return _fixed(message.SerializeToString())


def _fixed(data: bytes) -> bytes:
    return data.replace(b"%", b"%%")
