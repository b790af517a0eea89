"""Which pages of other origins a browser may let use a route."""

import re
from typing import Annotated, Self

from pydantic import AfterValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from control.values import Duration, Part

ANY = "*"
#: A scheme and a host, the first label of which may be a star; a port.
_ORIGIN = re.compile(
    r"https?://(\*\.)?([a-z0-9]([a-z0-9-]*[a-z0-9])?\.)*[a-z0-9]([a-z0-9-]*[a-z0-9])?"
    r"(:\d{1,5})?",
    re.ASCII,
)
_HEADER = re.compile(r"[a-z0-9][a-z0-9-]{0,99}", re.ASCII)


def _check_origin(text: str) -> str:
    if text != ANY and not _ORIGIN.fullmatch(text):
        raise ValueError(
            "give an origin such as https://app.example.com or"
            " https://*.example.com, in lower case and without a path, or *"
        )
    return text


def _check_header(text: str) -> str:
    if not _HEADER.fullmatch(text):
        raise ValueError("give a header's name in lower case, such as content-type")
    return text


Origin = Annotated[str, AfterValidator(_check_origin)]
HeaderName = Annotated[str, AfterValidator(_check_header)]


class Cors(Part):
    """Answers preflights itself; the methods are those of the route."""

    origins: tuple[Origin, ...] = Field(min_length=1, max_length=100)
    headers: tuple[HeaderName, ...] = ("authorization", "content-type")
    expose: tuple[HeaderName, ...] = (
        "x-request-id",
        "ratelimit-limit",
        "ratelimit-remaining",
        "ratelimit-reset",
        "retry-after",
    )
    credentials: bool = False
    max_age: Duration = "10m"

    @model_validator(mode="after")
    def _trusts_somebody(self) -> Self:
        if self.credentials and ANY in self.origins:
            raise PydanticCustomError(
                "credentials", "with credentials name the origins; * would be anybody"
            )
        return self


def origin_pattern(origin: str) -> str:
    """A regular expression that matches the whole origin."""
    if origin == ANY:
        return ".+"
    return re.escape(origin).replace(r"\*\.", r"[a-z0-9-]+(?:\.[a-z0-9-]+)*\.")
