"""The largest groups by user and something else, without summing all of them. Pure.

A user's group is at most what the user has in all. So first the users are ranked, which
is cheap; the groups of the first ones give a value that the last group shown has at
least; a user with less than that has no group among them. Corrections may take away
from a user's other groups: by as much as all of them in the range took away, a group
may be above its user's sum.
"""

from dataclasses import replace
from typing import Final

from control.usage_totals import MEASURES, ORDERS, USER, Cell, Cells, Found, Snapshot

#: With more candidates than this nothing would be saved.
MOST_USERS: Final = 1000


async def largest(snapshot: Snapshot, cells: Cells) -> Found:
    """The answer to `cells`, which have an order and a limit.

    `groups` is None when not all of them were looked at.
    """
    found = await _by_user(snapshot, cells) if _is_many_users(cells) else None
    return found or await snapshot.cells(cells)


def _is_many_users(cells: Cells) -> bool:
    is_by_more = USER in cells.dimensions and len(cells.dimensions) > 1
    return is_by_more and USER not in dict(cells.where)


async def _by_user(snapshot: Snapshot, cells: Cells) -> Found | None:
    """None: all groups have to be summed."""
    if cells.order is None or cells.limit is None:
        return None
    last = cells.limit + cells.offset
    ranked = await snapshot.cells(
        replace(cells, dimensions=(USER,), limit=MOST_USERS, offset=0)
    )
    users = [one.key for one in ranked.cells]
    first = replace(_of(cells, users[:last]), limit=1, offset=last - 1)
    worst = (await snapshot.cells(first)).cells
    if not worst or not last <= len(users):
        return None
    least = _value(worst[0], cells.order)
    least -= await snapshot.taken_away(cells.start, cells.end, cells.order)
    candidates = [one.key for one in ranked.cells if _value(one, cells.order) >= least]
    if len(candidates) == MOST_USERS:
        return None
    found = await snapshot.cells(_of(cells, candidates))
    return Found(found.cells, None)


def _of(cells: Cells, users: list[tuple[str | int, ...]]) -> Cells:
    return replace(
        cells, where=(*cells.where, (USER, tuple(sorted(key[0] for key in users))))
    )


def _value(cell: Cell, order: str) -> int:
    return sum(cell.sums[MEASURES.index(name)] for name in ORDERS[order])
