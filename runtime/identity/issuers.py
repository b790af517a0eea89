"""Several issuers, each with keys of its own: `HUBGATE_JWT_ISSUERS_FILE`.

```yaml
- {issuer: "https://id.example", audience: hub, jwks_url: "https://id.example/jwks"}
- {issuer: "partner", pem_files: [keys/partner.pem]}
```

A key verifies tokens of its issuer and of nobody else. Paths are relative to the file.
"""

from pathlib import Path
from typing import Annotated, Self

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
    model_validator,
)

from runtime.identity.jwks_http import check_url
from runtime.identity.keys import Party

_SOURCES = ("jwks_url", "jwks_file", "pem_files", "secret_file")

JwksUrl = Annotated[str, AfterValidator(check_url)]


class Issuer(BaseModel):
    """One entry of the file."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    issuer: str = Field(min_length=1, max_length=512)
    audience: str | None = Field(default=None, min_length=1, max_length=512)
    jwks_url: JwksUrl | None = None
    jwks_file: str | None = None
    pem_files: list[str] | None = Field(default=None, min_length=1)
    secret_file: str | None = None

    @model_validator(mode="after")
    def _has_one_source(self) -> Self:
        given = [name for name in _SOURCES if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"give exactly one of {', '.join(_SOURCES)}")
        return self

    @property
    def party(self) -> Party:
        return Party(self.issuer, self.audience)


_LIST = TypeAdapter(Annotated[list[Issuer], Field(min_length=1)])


def read_issuers(path: Path) -> list[Issuer]:
    """The file's entries.

    Raises:
        ValueError: with every problem, one a line.
    """
    try:
        issuers = _LIST.validate_python(yaml.safe_load(path.read_text("utf-8")))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ValueError(f"not readable as YAML: {error}") from error
    except ValidationError as error:
        problems = [
            f"{'.'.join(map(str, one['loc'])) or 'list'}: {one['msg']}"
            for one in error.errors(include_input=False)
        ]
        raise ValueError("; ".join(problems)) from None
    names = [one.issuer for one in issuers]
    if repeated := {name for name in names if names.count(name) > 1}:
        raise ValueError(f"issuer given twice: {', '.join(sorted(repeated))}")
    return issuers
