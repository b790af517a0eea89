"""The `usage` part of the document: who may see what of the ledger."""

from typing import Annotated, Final

from pydantic import Field

from control.values import Part, Role, Text

_MAX_LISTED: Final = 10_000

UserId = Annotated[Text, Field(min_length=1, max_length=256)]
#: A key of `metadata`, or one below it: `session`, `request.parameters`.
MetadataKey = Annotated[
    str, Field(pattern=r"^[A-Za-z][A-Za-z0-9]*(\.[A-Za-z][A-Za-z0-9]*)?$")
]


class UsageRules(Part):
    """Beside the rule that everyone sees the own rows, and an admin all."""

    #: Manager -> users whose rows they see beside their own.
    manager_sees: dict[
        UserId, Annotated[tuple[UserId, ...], Field(max_length=_MAX_LISTED)]
    ] = Field(default_factory=dict)
    #: Role -> keys of `metadata` that it does not see.
    hidden_metadata: dict[Role, tuple[MetadataKey, ...]] = Field(default_factory=dict)
