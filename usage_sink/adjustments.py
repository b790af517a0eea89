"""Corrections of rows that themselves are never changed."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final
from uuid import UUID

#: Reason of an adjustment that a late record of an unsettled row brings.
SETTLED_LATE: Final = "settled_late"
#: In the metadata of what somebody decided, which new prices leave as it is.
BY_HAND: Final = "byHand"


@dataclass(frozen=True, slots=True, kw_only=True)
class Adjustment:
    """What is added to a row's figures; once per row, reason and price version."""

    usage_id: UUID
    usage_created_at: datetime
    credits: int
    price_version: str
    reason: str
    author: str
    tokens: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    reasoning_tokens: int = 0
    metadata: Mapping[str, Any] = field(default_factory=dict)
