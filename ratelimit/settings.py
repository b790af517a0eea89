"""What `ratelimit` reads from the environment."""

from pydantic import Field

from ratelimit.limiter import OnRedisDown
from runtime.settings import AddressField, RedisSettings, ServiceSettings


class RatelimitSettings(ServiceSettings, RedisSettings):
    """`HUBGATE_RATELIMIT_*`."""

    ratelimit_on_redis_down: OnRedisDown = OnRedisDown.LOCAL


class Settings(RatelimitSettings):
    """And where a process of its own listens."""

    ratelimit_listen: AddressField = Field(
        default="127.0.0.1:9002", validate_default=True
    )
