"""What the parts of the API that show the present are made of."""

from dataclasses import dataclass

from control.alert_store import AlertStore
from control.balance import Balances
from control.counters import Counters
from control.explain import Stories
from control.webhook_policy import Network
from control.window_sums import WindowSums


@dataclass(frozen=True, slots=True, kw_only=True)
class Live:
    """Given by the composition root, or by a test."""

    counters: Counters
    balances: Balances
    sums: WindowSums
    stories: Stories
    alerts: AlertStore
    #: Where alerts may go beside public addresses.
    webhook_networks: tuple[Network, ...] = ()
