"""Settings of the demo services, and the only place that reads their environment."""

import os
from typing import Self

from runtime.settings import (
    AddressField,
    RedisSettings,
    SecretFileField,
    ServiceSettings,
)


class DemoSettings(ServiceSettings):
    """What every demo service needs."""

    demo_listen: AddressField

    @classmethod
    def load(cls) -> Self:
        return cls.from_environ(os.environ)


class AuthSettings(DemoSettings, RedisSettings):
    """auth-service signs with the key by which the gateway verifies."""

    jwt_secret_file: SecretFileField
    jwt_issuer: str | None = None
    jwt_audience: str | None = None
