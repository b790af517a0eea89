"""The largest groups by user and something else, without summing all of them. Pure.

A user's group is at most what the user has in all. So first the users are ranked, which
is cheap; the groups of the first ones give a value that the last group shown has at
least; a user with less than that has no group among them. Corrections may take away
from a user's other groups: by as much as all of them in the range took away, a group
may be above its user's sum.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from control.usage_totals import USER, Cell, Cells, Found, Snapshot

#: With more candidates than this nothing would be saved.
MOST_USERS: Final = 1000


async def largest(
    snapshot: Snapshot, cells: Cells, *, keys_only: bool = False
) -> Found:
    """The answer to `cells`, which have an order and a limit.

    `groups` is None when not all of them were looked at. `keys_only`: whoever asks
    will sum the groups anyway, so that their sums here may be of some measures only.
    """
    if _is_many_users(cells):
        found = await _by_user(snapshot, cells, keys_only=keys_only)
        if found is not None:
            return found
    return await snapshot.cells(cells)


def _is_many_users(cells: Cells) -> bool:
    return USER in cells.dimensions and USER not in dict(cells.where)


async def _by_user(
    snapshot: Snapshot, cells: Cells, *, keys_only: bool
) -> Found | None:
    """None: all groups have to be summed."""
    if cells.order is None or cells.limit is None:
        return None
    last = cells.limit + cells.offset
    if last >= MOST_USERS:
        return None
    is_alone = cells.dimensions == (USER,)
    ranking = replace(cells, is_ranking=True, offset=0)
    most = last if is_alone else MOST_USERS
    users = await snapshot.cells(replace(ranking, dimensions=(USER,), limit=most))
    if not last <= len(users.cells):
        return None
    if is_alone and keys_only:
        return Found(users.cells[cells.offset :], users.groups)
    if is_alone:
        chosen, groups = users.cells, users.groups
    else:
        chosen, groups = await _candidates(snapshot, ranking, users.cells, last), None
        if len(chosen) == MOST_USERS:
            return None
    return Found((await snapshot.cells(_of(cells, chosen))).cells, groups)


async def _candidates(
    snapshot: Snapshot, ranking: Cells, users: Sequence[Cell], last: int
) -> list[Cell]:
    """The users who may have one of the first `last` groups."""
    worst = replace(_of(ranking, users[:last]), limit=1, offset=last - 1)
    (cell,) = (await snapshot.cells(worst)).cells
    least = sum(cell.sums) - await snapshot.taken_away(
        ranking.start, ranking.end, str(ranking.order)
    )
    return [one for one in users if sum(one.sums) >= least]


def _of(cells: Cells, users: Sequence[Cell]) -> Cells:
    ids = tuple(sorted(one.key[0] for one in users))
    return replace(cells, where=(*cells.where, (USER, ids)))
