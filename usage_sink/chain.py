"""This process's own hash chain: which seal comes next, and after which head.

One chain has one writer (who holds the spool has its chain), so its state is kept in
memory; after a transaction whose outcome is not known it is read again.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import asyncpg

from runtime.contracts import TABLE_USAGE_CHAINS, TABLE_USAGE_SEALS
from usage_sink.errors import LedgerUnavailable
from usage_sink.heads import Head, Heads
from usage_sink.seals import Batch, Seal, first_head, link

_BEGIN: Final = f"""
INSERT INTO {TABLE_USAGE_CHAINS} (name, node) VALUES ($1, $2) ON CONFLICT DO NOTHING
"""
_LAST: Final = f"""
SELECT chain, seal, head
FROM {TABLE_USAGE_CHAINS} LEFT JOIN {TABLE_USAGE_SEALS} USING (chain)
WHERE name = $1 ORDER BY seal DESC NULLS LAST LIMIT 1
"""
_SEAL: Final = f"""
INSERT INTO {TABLE_USAGE_SEALS}
    (chain, seal, kind, day, rows, digest, previous, head, sealed_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
"""


@dataclass(frozen=True, slots=True)
class State:
    """The chain's number in the database, its last seal and head."""

    chain: int
    seal: int
    head: bytes


class Chain:
    """`name` is unique among all writers, `node` tells people where it is."""

    def __init__(self, name: str, node: str, heads: Heads | None = None) -> None:
        self.name = name
        self.node = node
        self._heads = heads
        self._state: State | None = None

    async def state(self, connection: asyncpg.pool.PoolConnectionProxy) -> State:
        """Where the chain stands; begins it when it is new."""
        if self._state is None:
            await connection.execute(_BEGIN, self.name, self.node)
            row = await connection.fetchrow(_LAST, self.name)
            if row is None:  # not visible to this snapshot
                raise LedgerUnavailable("the chain has just been begun by another")
            if row["seal"] is None:
                self._state = State(row["chain"], 0, first_head(self.name))
            else:
                self._state = State(row["chain"], row["seal"], row["head"])
        return self._state

    async def seal(
        self,
        connection: asyncpg.pool.PoolConnectionProxy,
        batches: Sequence[Batch],
    ) -> list[Seal]:
        """Add the seals of `batches` to the transaction under way.

        Raises:
            LedgerUnavailable: another process writes to this chain.
        """
        state = await self.state(connection)
        seals = link(state.head, batches)
        rows = [
            (
                *(state.chain, one.batch.seal, one.batch.kind.value, one.batch.day),
                *(one.batch.rows, one.batch.digest, one.previous, one.head),
                one.batch.sealed_at,
            )
            for one in seals
        ]
        try:
            await connection.executemany(_SEAL, rows)
        except asyncpg.UniqueViolationError as error:
            raise LedgerUnavailable("another process has written this chain") from error
        return seals

    def committed(self, seals: Sequence[Seal]) -> None:
        """The transaction of these seals is committed."""
        if self._state is None or not seals:
            return
        last = seals[-1]
        self._state = State(self._state.chain, last.batch.seal, last.head)
        if self._heads is not None:
            self._heads.append(
                Head(self.name, one.batch.seal, one.head) for one in seals
            )

    def forget(self) -> None:
        """Whether the last transaction was committed is not known."""
        self._state = None
