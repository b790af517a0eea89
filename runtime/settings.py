"""Settings from an injected environment; every bad variable is reported at once.

The field `redis_url` is the variable `HUBGATE_REDIS_URL`. An empty variable counts
as unset. Values of secret types never appear in an error.
"""

import socket
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Self, get_origin

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic_core import ErrorDetails

PREFIX = "HUBGATE_"
_MASKED_WORDS = ("URL", "SECRET", "TOKEN", "PASSWORD")


class SettingsError(Exception):
    """The environment does not make a valid configuration; one line per problem."""

    def __init__(self, problems: list[str]) -> None:
        self.problems = problems
        super().__init__("bad settings:\n" + "\n".join(f"  {p}" for p in problems))


@dataclass(frozen=True, slots=True)
class Address:
    """Where to listen or connect: `unix:/path` or `host:port`."""

    path: str | None = None
    host: str = ""
    port: int = 0

    @classmethod
    def parse(cls, text: str) -> "Address":
        """`unix:/run/a.sock`, `127.0.0.1:8000`, `[::1]:8000`.

        Raises:
            ValueError: neither form; the message shows both.
        """
        if text.startswith("unix:") and len(text) > len("unix:"):
            return cls(path=text.removeprefix("unix:"))
        host, separator, port = text.rpartition(":")
        if separator and port.isascii() and port.isdigit() and int(port) <= 65535:  # noqa: PLR2004 - the largest port
            return cls(host=host.removeprefix("[").removesuffix("]"), port=int(port))
        raise ValueError("give host:port, such as 127.0.0.1:8000, or unix:/path")

    @property
    def grpc_target(self) -> str:
        return str(self)

    def __str__(self) -> str:
        if self.path is not None:
            return f"unix:{self.path}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


@dataclass(frozen=True, slots=True)
class SecretFile:
    """A path whose content is secret; the content is read when asked for."""

    path: Path

    def read(self) -> bytes:
        """The raw bytes, a final newline included: an HMAC key is any bytes."""
        return self.path.read_bytes()

    def text(self) -> str:
        """The content as text, without the white space that editors add."""
        return self.path.read_text("utf-8").strip()


def _to_address(value: object) -> object:
    return Address.parse(value) if isinstance(value, str) else value


def _to_secret_file(value: object) -> object:
    if not isinstance(value, str):
        return value
    path = Path(value)
    if not path.is_file():
        raise ValueError("no such file; give the path of a readable file")
    return SecretFile(path)


AddressField = Annotated[Address, BeforeValidator(_to_address)]
SecretFileField = Annotated[SecretFile, BeforeValidator(_to_secret_file)]


class Environment(StrEnum):
    """Decides defaults such as the log level, never security."""

    DEVELOPMENT = "development"
    TEST = "test"
    PRODUCTION = "production"


class LogLevel(StrEnum):
    """Levels of Python's logging."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class GrpcTransport(StrEnum):
    """What carries gRPC: our own HTTP/2, or grpcio, the reference."""

    HTTP2 = "http2"
    GRPCIO = "grpcio"


DEFAULT_GRPC_TRANSPORT = GrpcTransport.HTTP2


def _variable(field: str) -> str:
    return PREFIX + field.upper()


class EnvironmentModel(BaseModel):
    """A frozen set of settings read once from a mapping."""

    model_config = ConfigDict(
        frozen=True,
        extra="ignore",
        alias_generator=_variable,
        populate_by_name=True,
        arbitrary_types_allowed=True,
    )

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> Self:
        """Read what this process needs.

        Raises:
            SettingsError: naming every bad or missing variable.
        """
        values: dict[str, Any] = {
            key: value for key, value in environ.items() if value != ""
        }
        for name, field in cls.model_fields.items():
            variable = _variable(name)
            if variable in values and _holds_tuple(field.annotation):
                values[variable] = tuple(
                    part.strip() for part in values[variable].split(",") if part.strip()
                )
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            raise SettingsError([_describe(one) for one in error.errors()]) from None


def _holds_tuple(annotation: object) -> bool:
    return get_origin(annotation) is tuple


def _describe(error: ErrorDetails) -> str:
    variable = str(error["loc"][0]) if error["loc"] else "environment"
    if not variable.startswith(PREFIX):
        variable = _variable(variable)
    message = error["msg"].removeprefix("Value error, ")
    if error["type"] == "missing":
        return f"{variable}: not set, and there is no default"
    if any(word in variable for word in _MASKED_WORDS):
        return f"{variable}: {message}"
    return f"{variable}: {message} (given: {error['input']!r})"


class ServiceSettings(EnvironmentModel):
    """What every process has."""

    env: Environment = Environment.PRODUCTION
    log_level: LogLevel | None = None
    node_id: str = Field(default_factory=socket.gethostname, min_length=1)
    region: str = "local"
    ops_listen: AddressField | None = None
    drain_timeout_s: float = Field(default=5.0, ge=0, le=600)
    grpc_transport: GrpcTransport = DEFAULT_GRPC_TRANSPORT


class RedisSettings(EnvironmentModel):
    """How to reach Redis; `timeout_s` bounds every command of a decision."""

    redis_url: str = Field(pattern=r"^(rediss?(\+cluster)?|unix)://")
    redis_timeout_s: float = Field(default=0.1, gt=0, le=10)


class PostgresSettings(EnvironmentModel):
    """How to reach PostgreSQL."""

    database_url: str = Field(pattern=r"^postgres(ql)?://")
    database_timeout_s: float = Field(default=5.0, gt=0, le=300)
    #: False: `python -m <service>.migrate` does it, as the owner of the tables.
    migrate: bool = True
