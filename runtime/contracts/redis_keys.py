"""What is where in Redis."""

import hashlib
import re
from typing import Final
from urllib.parse import quote

CONFIG_CHANNEL: Final = "cfg"
#: A hash of "service/instance": who registered, until when (control/registry.lua).
REGISTRY_KEY: Final = "registry"
#: Every key of the blacklist starts so; `authz` hears of all changes below it.
BLACKLIST_PREFIX: Final = "bl:"


#: A revocation must outlive the token's `exp` by this: the longest leeway, and the
#: time for which an expired token may still be exchanged (`allow_expired`).
REVOCATION_MARGIN_S: Final = 7 * 86_400 + 300


def blacklist_token_key(jti: str) -> str:
    """Exists while the token with this `jti` is revoked."""
    return f"bl:{jti}"


def blacklist_user_key(sub: str) -> str:
    """Holds a Unix time: tokens of `sub` issued before it are revoked."""
    return f"bl:user:{sub}"


#: A counter is hits by part of its window, of which there are so many
#: (ratelimit/window.py). A head, 26 bytes, says what a decision needs: how many bytes
#: an entry's hits take (1, 2, 4, or 8: a double), parts from the oldest one to the
#: newest (a byte), and as doubles the oldest one's index, the hits of all parts and
#: those of the newest. For every other part follows an entry, oldest first: its hits,
#: and a byte, parts from there to the next one. Low bytes are first. `counters.lua`
#: reads it.
RATE_LIMIT_PARTS: Final = 60
#: The scope of a role's limits; a route's is "route:" and its escaped id.
RATE_LIMIT_OF_ROLE: Final = "role"
_MAX_SUBJECT_CHARACTERS: Final = 64
#: What quoting leaves as it is: most names, and quoting takes 2 µs to find that out.
_is_plain: Final = re.compile(r"[A-Za-z0-9_.~-]{1,64}", re.ASCII).fullmatch


def rate_limit_key(subject: str, scope: str) -> str:
    """A sliding-window counter; the braces keep one caller's counters on one node."""
    return f"rl:{{{subject}}}:{scope}"


def rate_limit_user(user: str) -> str:
    """The subject that stands for a user, and for no other; of bounded length."""
    if _is_plain(user):
        return f"u:{user}"
    name = quote(user, safe="")
    if len(name) > _MAX_SUBJECT_CHARACTERS:
        # "#" is escaped above, so no other user can have such a name.
        name = "#" + hashlib.sha256(user.encode()).hexdigest()
    return f"u:{name}"


def rate_limit_of_route(route: str) -> str:
    """The scope of a route's own limits."""
    return f"route:{quote(route, safe='')}"


def rate_limit_scope(
    place: str, per_s: int, *, tokens: bool = False, shadow: bool = False
) -> str:
    """What one limit counts: of a role or route, requests or tokens, per seconds.

    A limit in shadow counts what it would admit, which is not what another admits.
    """
    kind = ":tokens" if tokens else ":shadow" if shadow else ""
    return f"{place}{kind}:{per_s}"


def config_key(service: str) -> str:
    """Holds the JSON document that `service` obeys; changes are announced on `cfg`."""
    return f"cfg:{service}"
