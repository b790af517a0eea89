"""Whose usage a caller may see, and which of its metadata. Pure.

A caller sees the own rows. A manager also sees those of the users that
`usage.manager_sees` lists for them, an admin everyone's. Somebody else's id gets the
same answer whether there is such a user or not.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from control.access import Caller
from control.errors import ApiError
from control.usage_rules import UsageRules
from runtime.contracts import ROLE_MANAGER, ErrorCode

#: What is about the machines and not about the caller.
HIDDEN_BY_DEFAULT: Final = ("gateway", "system")


@dataclass(frozen=True, slots=True)
class Sight:
    """What a caller sees: rows of `user_ids`, everyone's when it is None."""

    caller: Caller
    user_ids: frozenset[str] | None
    hidden: tuple[str, ...] = ()

    @property
    def is_of_others(self) -> bool:
        """Whether there may be rows among them that are not the caller's own."""
        return self.user_ids is None or self.user_ids != {self.caller.user_id}

    @property
    def subject(self) -> str | None:
        """The one user whose rows these are; None: of several."""
        if self.user_ids is None or len(self.user_ids) != 1:
            return None
        return next(iter(self.user_ids))

    def metadata(self, document: Mapping[str, Any]) -> dict[str, Any]:
        """A row's metadata without what is hidden."""
        shown = dict(document)
        for key in self.hidden:
            part, _, below = key.partition(".")
            if not below:
                shown.pop(part, None)
            elif isinstance(shown.get(part), dict):
                inner = shown[part].items()
                shown[part] = {name: one for name, one in inner if name != below}
        return shown


def sight(caller: Caller, wanted: str | None, rules: UsageRules) -> Sight:
    """What `caller` sees who asks for the rows of `wanted`, or for all they may see.

    Raises:
        ApiError: 403, they are not the caller's to see.
    """
    default = () if caller.is_admin else HIDDEN_BY_DEFAULT
    hidden = rules.hidden_metadata.get(caller.role, default)
    if caller.is_admin:
        chosen = None if wanted is None else frozenset({wanted})
        return Sight(caller, chosen, hidden)
    seen = frozenset({str(caller.user_id)})
    if caller.role == ROLE_MANAGER:
        seen |= frozenset(rules.manager_sees.get(str(caller.user_id), ()))
    if wanted is None:
        return Sight(caller, seen, hidden)
    if wanted not in seen:
        raise ApiError(
            403,
            ErrorCode.FORBIDDEN,
            "You may not see this user's usage; leave out userId to see your own",
        )
    return Sight(caller, frozenset({wanted}), hidden)
