"""The table `usage_pseudonyms`: a key is made once and destroyed once."""

import secrets
from collections.abc import Sequence
from datetime import datetime
from typing import Final

from control.database import Database
from control.pseudonyms import KEY_BYTES, Keys
from control.store import StoreUnavailable
from control.store_postgres import translated
from runtime.contracts import TABLE_USAGE_PSEUDONYMS

# S608: only names of ours are put into these texts, values are parameters.
_MAKE: Final = f"""
INSERT INTO {TABLE_USAGE_PSEUDONYMS} (user_id, key)
SELECT * FROM unnest($1::text[], $2::bytea[]) ON CONFLICT DO NOTHING
"""  # noqa: S608
_READ: Final = f"""
SELECT user_id, key FROM {TABLE_USAGE_PSEUDONYMS} WHERE user_id = ANY($1)
"""  # noqa: S608
_BURY: Final = f"""
INSERT INTO {TABLE_USAGE_PSEUDONYMS} (user_id, destroyed_at) VALUES ($1, now())
ON CONFLICT (user_id) DO NOTHING
"""  # noqa: S608
_DESTROY: Final = f"""
UPDATE {TABLE_USAGE_PSEUDONYMS} SET key = NULL, destroyed_at = now()
WHERE user_id = $1 AND destroyed_at IS NULL
"""  # noqa: S608
_WHEN: Final = f"""
SELECT destroyed_at FROM {TABLE_USAGE_PSEUDONYMS} WHERE user_id = $1
"""  # noqa: S608


class PostgresPseudonyms:
    """Raises StoreUnavailable."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def keys(self, users: Sequence[str]) -> Keys:
        with translated():
            pool = self._database.pool
            rows = await pool.fetch(_READ, list(users))
            found = {row["user_id"]: row["key"] for row in rows}
            if missing := sorted(set(users) - found.keys()):
                new = [secrets.token_bytes(KEY_BYTES) for _ in missing]
                await pool.execute(_MAKE, missing, new)
                # Another control may have been first.
                rows = await pool.fetch(_READ, missing)
                found |= {row["user_id"]: row["key"] for row in rows}
        return found

    async def destroy(self, user: str) -> datetime:
        with translated():
            async with (
                self._database.pool.acquire() as connection,
                connection.transaction(),
            ):
                await connection.execute(_BURY, user)
                await connection.execute(_DESTROY, user)
                at: datetime | None = await connection.fetchval(_WHEN, user)
        if at is None:
            raise StoreUnavailable("nothing came back")
        return at
