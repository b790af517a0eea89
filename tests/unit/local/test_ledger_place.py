"""Where the ledger's commands are told to look."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from local import ledger, logins, state
from local.errors import LocalError
from local.state import DataDir, Lock

FACTS = {
    "control": "http://127.0.0.1:8000",
    "database_url": "postgresql://owner",
    "spool_dir": "/s",
    "archive_dir": "/a",
}
PLACE = {
    "HUBGATE_DATABASE_URL": "postgresql://owner",
    "HUBGATE_USAGE_SINK_SPOOL_DIR": "/s",
    "HUBGATE_ARCHIVE_DIR": "/a",
}


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "temp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temp"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def stack(here: Path) -> Iterator[None]:
    data = DataDir(here / "elsewhere")
    data.create()
    lock = Lock(data, "s1")
    lock.take()
    state.write_state(data, FACTS)
    yield
    lock.release()


@pytest.mark.usefixtures("stack")
@pytest.mark.parametrize("control", [None, "http://127.0.0.1:8000/"])
def test_the_running_stack_says_where(control: str | None) -> None:
    assert ledger.place(["verify"], {}, control) == PLACE


@pytest.mark.usefixtures("stack")
def test_what_the_environment_says_goes_before_the_stack() -> None:
    place = ledger.place(["archive"], {"HUBGATE_ARCHIVE_DIR": "/mine"}, None)

    assert "HUBGATE_ARCHIVE_DIR" not in place


@pytest.mark.usefixtures("stack")
def test_another_servers_control_is_not_this_machines_ledger() -> None:
    with pytest.raises(LocalError, match="--database-url"):
        ledger.place(["verify"], {}, "http://10.0.0.1:8000")


@pytest.mark.parametrize(
    ("arguments", "environ"),
    [
        pytest.param(["verify", "--database-url", "x"], {}, id="an option"),
        pytest.param(["verify", "--database-url=x"], {}, id="an option in one"),
        pytest.param(["verify"], {"HUBGATE_DATABASE_URL": "x"}, id="the environment"),
        pytest.param(["verify", "--help"], {}, id="only asked for help"),
    ],
)
def test_no_stack_is_needed_where_the_ledger_was_given(
    arguments: list[str], environ: dict[str, str]
) -> None:
    assert ledger.place(arguments, environ, None) == {}


def test_without_a_stack_the_remedy_is_named() -> None:
    with pytest.raises(LocalError, match="--database-url"):
        ledger.place(["verify"], {}, None)


def test_each_login_has_a_password_of_its_own_that_stays(tmp_path: Path) -> None:
    files = logins.password_files(tmp_path)
    urls = logins.urls("postgresql://hubgate:secret@127.0.0.1:5432/hubgate", files)

    assert logins.urls("postgresql://o:p@127.0.0.1:5432/hubgate", files) == urls
    assert urls["control"].startswith("postgresql://hubgate_control:")
    assert urls["control"].endswith("@127.0.0.1:5432/hubgate")
    assert len(set(urls.values())) == 3
    assert not any("secret" in url for url in urls.values())
    assert all(file.stat().st_mode & 0o077 == 0 for file in files.values())
