"""Lines of JSON that are written for every request: quickly, and one each."""

from collections.abc import Iterable, Sequence
from json.encoder import encode_basestring_ascii


class Template:
    """An object of texts whose names are known; `first` are the same in every line."""

    def __init__(self, names: Sequence[str], first: dict[str, str | None]) -> None:
        members = [f"{_json(name)}:{_json(value)}" for name, value in first.items()]
        # Names may have a percent sign, values are put in later.
        known = [member.replace("%", "%%") for member in members]
        asked = [_json(name).replace("%", "%%") + ":%s" for name in names]
        self._format = "{" + ",".join((*known, *asked)) + "}"

    def line(self, values: Iterable[str | None]) -> str:
        """With the values in the order of the names."""
        return self._format % tuple(map(_json, values))


def _json(value: str | None) -> str:
    return "null" if value is None else encode_basestring_ascii(value)
