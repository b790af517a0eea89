"""What the parts of the API that show the present are made of."""

from dataclasses import dataclass

from control.balance import Balances
from control.counters import Counters
from control.explain import Stories
from control.window_sums import WindowSums


@dataclass(frozen=True, slots=True, kw_only=True)
class Live:
    """Given by the composition root, or by a test."""

    counters: Counters
    balances: Balances
    sums: WindowSums
    stories: Stories
