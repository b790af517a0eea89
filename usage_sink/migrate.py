"""`python -m usage_sink.migrate`: the ledger's tables and logins, once, by their owner.

Services that run with HUBGATE_MIGRATE=false wait for this and log in as what is made
here: then none of them can change what was written.
"""

import asyncio
import os

from runtime import lifecycle
from runtime.logins import Login, ensure_login
from runtime.migrations import migrate
from runtime.settings import PostgresSettings, SecretFileField

PACKAGE = "usage_sink"
WRITER = ("hubgate_usage_sink", "hubgate_writer")
ARCHIVER = ("hubgate_archive", "hubgate_archiver")


class Settings(PostgresSettings):
    """`database_url` is the owner's; a login is made when its password is given."""

    usage_sink_password_file: SecretFileField | None = None
    archive_password_file: SecretFileField | None = None


async def main(_: asyncio.Event) -> None:
    settings = Settings.from_environ(os.environ)  # noqa: TID251 - a composition root
    await migrate(settings.database_url, PACKAGE)
    for (name, group), file in (
        (WRITER, settings.usage_sink_password_file),
        (ARCHIVER, settings.archive_password_file),
    ):
        if file is not None:
            login = Login(
                name=name, groups=(group,), password=file.text(), package=PACKAGE
            )
            await ensure_login(settings.database_url, login)


if __name__ == "__main__":
    lifecycle.run(main)
