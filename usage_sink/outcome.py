"""How a request ended, from Envoy's status, response flags and details. Pure.

Flags: https://www.envoyproxy.io/docs/envoy/v1.40.0/configuration/observability/access_log/usage
"""

from functools import lru_cache
from typing import Final

from runtime.contracts import Outcome

_SWITCHING_PROTOCOLS: Final = 101
_CLIENT_ERRORS: Final = range(400, 500)
_TOO_MANY: Final = 429
_UNAUTHORIZED: Final = (401, 403)
_SERVER_ERROR: Final = 500

_LIMITED: Final = frozenset({"RL"})
_AUTHZ: Final = frozenset({"UAEX"})
_CLIENT_GONE: Final = frozenset({"DC", "DR"})
_GATEWAY: Final = frozenset({"NC", "RLSE", "OM", "DF"})
_UPSTREAM: Final = frozenset(
    {"UC", "UF", "UH", "UMSDR", "UO", "UPE", "UR", "URX", "UT", "DT", "SI"}
)


@lru_cache(maxsize=4096)
def outcome_of(status: int, flags: str | None, details: str | None) -> Outcome:
    """The one outcome; a flag says more than a status (a cut stream has 200)."""
    raised = frozenset((flags or "").split(","))
    if status == _SWITCHING_PROTOCOLS:
        # A WebSocket ends when either side closes its socket: DC and UC are normal.
        return Outcome.OK
    if raised & _LIMITED or (raised & _AUTHZ and status == _TOO_MANY):
        # Where one call answers both questions, authz says no for both.
        return Outcome.LIMITED
    if raised & _AUTHZ:
        return Outcome.DENIED if status in _UNAUTHORIZED else Outcome.GATEWAY_ERROR
    for known, outcome in (
        (_CLIENT_GONE, Outcome.ABORTED),
        (_GATEWAY, Outcome.GATEWAY_ERROR),
        (_UPSTREAM, Outcome.UPSTREAM_ERROR),
    ):
        if raised & known:
            return outcome
    return _by_status(status, details)


def _by_status(status: int, details: str | None) -> Outcome:
    if status >= _SERVER_ERROR:
        by_upstream = details == "via_upstream"
        return Outcome.UPSTREAM_ERROR if by_upstream else Outcome.GATEWAY_ERROR
    if status in _CLIENT_ERRORS:
        return Outcome.CLIENT_ERROR
    return Outcome.OK if status else Outcome.ABORTED
