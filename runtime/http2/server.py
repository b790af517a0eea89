"""What all connections of a server share."""

from collections.abc import Mapping
from dataclasses import dataclass

from runtime.http2.inbox import Budget
from runtime.http2.limits import Limits
from runtime.metrics import Metrics
from runtime.rpc import Calls, Method


@dataclass(frozen=True, slots=True)
class Server:
    """By path what may be called, and what it may cost."""

    methods: Mapping[bytes, Method]
    calls: Calls
    metrics: Metrics
    limits: Limits
    budget: Budget
