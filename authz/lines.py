"""Lines of JSON that are written for every request: quickly, and one each."""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from json.encoder import encode_basestring_ascii

#: A text as JSON.
quoted = encode_basestring_ascii


def quoted_or_null(value: str | None) -> str:
    return "null" if value is None else encode_basestring_ascii(value)


@lru_cache(maxsize=4096)
def known(value: str | None) -> str:
    """As JSON, of what has few values and no client chooses: in half the time."""
    return quoted_or_null(value)


def template(names: Sequence[str], first: Mapping[str, str | None]) -> str:
    """A format for an object of these members, whose values are JSON already.

    `first` are the same in every line, and stand there.
    """
    members = [f"{quoted(name)}:{quoted_or_null(one)}" for name, one in first.items()]
    # Names may have a percent sign, values are put in later.
    fixed = [member.replace("%", "%%") for member in members]
    asked = [quoted(name).replace("%", "%%") + ":%s" for name in names]
    return "{" + ",".join((*fixed, *asked)) + "}"
