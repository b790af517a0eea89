"""What `authz` reads from the environment."""

from pydantic import Field

from authz.audit import AuditScope
from authz.authorizer import OnRedisDown
from runtime.identity.settings import IdentitySettings
from runtime.settings import AddressField, RedisSettings, ServiceSettings


class Settings(ServiceSettings, RedisSettings, IdentitySettings):
    """`HUBGATE_AUTHZ_*` and what every verifier of tokens has."""

    authz_listen: AddressField = Field(default="127.0.0.1:9001", validate_default=True)
    authz_on_redis_down: OnRedisDown = OnRedisDown.DENY
    authz_audit: AuditScope = AuditScope.ALL
    authz_stale_s: float = Field(default=30.0, ge=0, le=3600)
