"""The version of a schema is known without the tool that makes it."""

from pathlib import Path

import pytest
from alembic.config import Config
from alembic.script import ScriptDirectory

from runtime.postgres import revisions

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize("package", ["control", "usage_sink"])
def test_the_names_of_migrations_are_their_revisions_in_order(package: str) -> None:
    config = Config()
    config.set_main_option("script_location", str(ROOT / package / "migrations"))
    newest_first = ScriptDirectory.from_config(config).walk_revisions()

    assert revisions(package) == [one.revision for one in newest_first][::-1]
