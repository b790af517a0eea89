"""`python -m control.migrate`: control's tables and its login, once, by their owner.

Control reads the ledger, closes nodes that died and keeps the history of
configurations; with this login it can do nothing else (HUBGATE_MIGRATE=false: it waits
until this has run).
"""

import asyncio
import os

from runtime import lifecycle
from runtime.contracts import (
    TABLE_ALERT_OUTBOX,
    TABLE_ALERT_RULES,
    TABLE_ALERT_STATES,
    TABLE_AUDIT_LOG,
    TABLE_CONFIG_REVISIONS,
    TABLE_USAGE_PSEUDONYMS,
)
from runtime.logins import Login, ensure_login
from runtime.migrations import migrate
from runtime.settings import PostgresSettings, SecretFileField

PACKAGE = "control"
LOGIN = "hubgate_control"
READER = "hubgate_reader"
OPERATOR = "hubgate_operator"
_GRANTS = (
    f"GRANT SELECT, INSERT ON {TABLE_CONFIG_REVISIONS} TO {LOGIN}",
    f"GRANT UPDATE (status, reason) ON {TABLE_CONFIG_REVISIONS} TO {LOGIN}",
    f"GRANT SELECT, INSERT ON {TABLE_AUDIT_LOG} TO {LOGIN}",
    f"GRANT SELECT, INSERT ON {TABLE_USAGE_PSEUDONYMS} TO {LOGIN}",
    f"GRANT UPDATE (key, destroyed_at) ON {TABLE_USAGE_PSEUDONYMS} TO {LOGIN}",
    f"GRANT SELECT, INSERT, UPDATE, DELETE ON {TABLE_ALERT_RULES} TO {LOGIN}",
    f"GRANT SELECT, INSERT, UPDATE, DELETE ON {TABLE_ALERT_STATES} TO {LOGIN}",
    f"GRANT SELECT, INSERT, UPDATE, DELETE ON {TABLE_ALERT_OUTBOX} TO {LOGIN}",
)


class Settings(PostgresSettings):
    """`database_url` is the owner's; the login is made when its password is given."""

    control_password_file: SecretFileField | None = None


async def main(_: asyncio.Event) -> None:
    settings = Settings.from_environ(os.environ)  # noqa: TID251 - a composition root
    await migrate(settings.database_url, PACKAGE)
    if settings.control_password_file is not None:
        login = Login(
            name=LOGIN,
            groups=(READER, OPERATOR),
            password=settings.control_password_file.text(),
            package=PACKAGE,
            grants=_GRANTS,
        )
        await ensure_login(settings.database_url, login)


if __name__ == "__main__":
    lifecycle.run(main)
