"""How parameters of a query string are read: each bad one is named. Pure."""

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from typing import Final, TypeVar

from control.parse import Problem

T = TypeVar("T")

MAX_TEXT: Final = 256

_DAY: Final = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)
#: Python reads more: any character before the time, and days in other forms, of which
#: nobody would know whether they are included as a whole.
_INSTANT: Final = re.compile(r"[\dW-]{7,10}[Tt ][\d:.,Z+ -]+", re.ASCII)


class BadParameters(ValueError):
    """Carries every problem."""

    def __init__(self, problems: list[Problem]) -> None:
        self.problems = problems
        super().__init__("; ".join(map(str, problems)))


class Reader:
    """Reads one after the other; `done` says what was wrong with them.

    A parameter that is not among `known` is a problem, too.
    """

    def __init__(self, parameters: Mapping[str, str], known: Sequence[str]) -> None:
        self._parameters = parameters
        names = ", ".join(sorted(known))
        self.problems = [
            Problem(
                name[:MAX_TEXT],
                f"no such parameter; there are {names}",
                given=_cut(value),
            )
            for name, value in parameters.items()
            if name not in known
        ]

    def text(self, name: str) -> str | None:
        return self.read(name, _plain)

    def number(self, name: str, default: int, least: int, most: int) -> int:
        def read(text: str) -> int:
            # The length first: Python refuses to read a number of many digits.
            is_number = text.isascii() and text.isdigit() and len(text) <= _MAX_DIGITS
            if not (is_number and least <= int(text) <= most):
                raise ValueError(f"give a whole number from {least} to {most}")
            return int(text)

        found = self.read(name, read)
        return default if found is None else found

    def choice(self, name: str, allowed: Sequence[str]) -> str | None:
        def read(text: str) -> str:
            if text not in allowed:
                raise ValueError(f"give one of {', '.join(allowed)}")
            return text

        return self.read(name, read)

    def choices(self, name: str, allowed: Sequence[str]) -> tuple[str, ...] | None:
        """Several, separated by commas, none of them twice."""

        def read(text: str) -> tuple[str, ...]:
            found = tuple(text.split(","))
            if len(set(found)) != len(found) or not set(found) <= set(allowed):
                raise ValueError(
                    f"give some of {', '.join(allowed)}, each once, with commas between"
                )
            return found

        return self.read(name, read)

    def flag(self, name: str) -> bool:
        return self.choice(name, ("true", "false")) == "true"

    def read(self, name: str, parse: Callable[[str], T]) -> T | None:
        """None when it is not given, or bad."""
        text = self._parameters.get(name)
        if text is None:
            return None
        try:
            return parse(text)
        except OverflowError:
            self.problem(name, "give one that is not at the edge of all time")
        except ValueError as error:
            self.problem(name, str(error))
        return None

    def problem(self, name: str, message: str) -> None:
        given = self._parameters.get(name)
        self.problems.append(
            Problem(name, message, given=None if given is None else _cut(given))
        )

    def done(self) -> None:
        """Raises BadParameters when there was a problem."""
        if self.problems:
            raise BadParameters(self.problems)


_MAX_DIGITS: Final = 18


def instant_of(text: str) -> datetime:
    """A day (its first instant, UTC) or an instant; raises ValueError."""
    try:
        if _DAY.fullmatch(text):
            return datetime.combine(date.fromisoformat(text), time(), UTC)
        if not _INSTANT.fullmatch(text):
            raise ValueError  # noqa: TRY301 - one message for all
        # A `+` that was not escaped arrives as a space.
        at = datetime.fromisoformat(text.replace(" ", "+"))
    except ValueError:
        raise ValueError(
            "give a day or an instant, such as 2026-01-31 or 2026-01-31T08:00:00Z"
        ) from None
    return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)


def end_of(text: str) -> datetime:
    """As `instant_of`, but of a day the first instant after it; raises ValueError."""
    at = instant_of(text)
    return at + timedelta(days=1) if _DAY.fullmatch(text) else at


def shown(at: datetime) -> str:
    return at.astimezone(UTC).isoformat().replace("+00:00", "Z")


def _plain(text: str) -> str:
    if not 0 < len(text) <= MAX_TEXT or not text.isprintable():
        raise ValueError(f"give 1 to {MAX_TEXT} printable characters")
    return text


def _cut(text: str) -> str:
    return text[:MAX_TEXT]
