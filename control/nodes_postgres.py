"""The ledger's function that closes a node, and its entry in one transaction."""

from typing import Final

from control.audit import Entry
from control.audit_postgres import write
from control.completeness import Watermark
from control.database import Database
from control.nodes import NodeAlive, noted
from control.store_postgres import WATERMARKS, translated
from runtime.contracts import FUNCTION_USAGE_CLOSE_NODE

_CLOSE: Final = f"SELECT {FUNCTION_USAGE_CLOSE_NODE}($1)"


class PostgresNodes:
    """Raises StoreUnavailable."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def close(self, node: str, entry: Entry) -> Watermark | None:
        with translated():
            async with (
                self._database.pool.acquire() as connection,
                connection.transaction(),
            ):
                await connection.execute(_CLOSE, node)
                rows = await connection.fetch(WATERMARKS)
                mark = next((Watermark(**one) for one in rows if one[0] == node), None)
                if mark is None:
                    return None
                # Only the function says who is silent: by the clock of the database.
                if not mark.is_closed:
                    raise NodeAlive(mark)
                await write(connection, noted(entry, mark))
        return mark
