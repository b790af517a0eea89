"""`traceparent` towards upstreams (W3C Trace Context, level 1)."""

import re
from secrets import token_hex
from typing import Final

#: Version, trace, parent and flags (section 3.2); neither id may be all zeros.
_is_valid: Final = re.compile(
    "00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}"
).fullmatch


def begun(given: str | None, request_id: str | None) -> str | None:
    """The header of a trace that begins here; None: the client's is valid, and kept.

    It has the request's id, so that a trace is found by what the client was told.
    """
    if given is not None and _is_valid(given):
        return None
    found = _named((request_id or "").replace("-", ""))
    return found if _is_valid(found) else _named(token_hex(16))


def _named(trace: str) -> str:
    return f"00-{trace}-{trace[16:]}-00"
