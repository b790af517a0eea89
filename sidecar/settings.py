"""What `sidecar` reads from the environment."""

from pydantic import Field

from authz.settings import AuthzSettings
from ratelimit.settings import RatelimitSettings
from runtime.settings import AddressField


class Settings(AuthzSettings, RatelimitSettings):
    """What both services read, and where they are served."""

    sidecar_listen: AddressField = Field(
        default="127.0.0.1:9001", validate_default=True
    )
