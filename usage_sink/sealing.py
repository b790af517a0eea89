"""Transactions that add rows to the ledger, and the seals of these to its chain."""

import asyncio
import struct
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, contextmanager

import asyncpg

from runtime.postgres import DatabaseRejected, DatabaseUnavailable, wrap_errors
from usage_sink.chain import Chain, State
from usage_sink.errors import LedgerUnavailable
from usage_sink.seals import Batch

Connection = asyncpg.pool.PoolConnectionProxy


class Sealing:
    """Seals with `chain`, in the order of calls."""

    def __init__(self, pool: asyncpg.Pool, chain: Chain) -> None:
        self._pool = pool
        self._chain = chain
        # The head of one transaction is the beginning of the next; what needs no head
        # is done while another has its turn. Both are had in the order of calls.
        self._before_turn = asyncio.Lock()
        self._turn = asyncio.Lock()

    async def run(
        self,
        insert: Callable[[Connection, State], Awaitable[list[Batch]]],
        *,
        prepare: Callable[[Connection], Awaitable[None]] | None = None,
    ) -> list[Batch]:
        """Run `prepare`, then `insert` and seal what it returns, in one transaction.

        Raises:
            LedgerUnavailable: not written, or not known to be.
            DatabaseRejected: nothing is written.
        """
        async with AsyncExitStack() as turn, AsyncExitStack() as before_turn:
            await before_turn.enter_async_context(self._before_turn)
            has_turn = False
            try:
                with ledger_errors():
                    async with (
                        self._pool.acquire() as connection,
                        connection.transaction(),
                    ):
                        if prepare is not None:
                            await prepare(connection)
                        await turn.enter_async_context(self._turn)
                        has_turn = True
                        await before_turn.aclose()
                        state = await self._chain.state(connection)
                        batches = await insert(connection, state)
                        seals = await self._chain.seal(connection, batches)
            except BaseException:
                if has_turn:
                    self._chain.forget()
                raise
            self._chain.committed(seals)
        return batches


@contextmanager
def ledger_errors() -> Iterator[None]:
    """What the database and COPY raise, as what callers of the ledger handle."""
    try:
        with wrap_errors():
            yield
    except DatabaseUnavailable as error:
        raise LedgerUnavailable(str(error)) from error
    except (AttributeError, TypeError, ValueError, struct.error) as error:
        # COPY is encoded on our side (`copied`).
        raise DatabaseRejected(str(error)) from error
