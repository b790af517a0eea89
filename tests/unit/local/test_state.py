import tempfile
from pathlib import Path

import pytest

from local import state
from local.errors import DataDirBusyError, LocalError
from local.state import DataDir, Lock


@pytest.fixture(autouse=True)
def _own_registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "temp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temp"))


def _running(path: Path, stack: str) -> Lock:
    data = DataDir(path)
    data.create()
    lock = Lock(data, stack)
    lock.take()
    facts = {"control": f"http://{stack}", "data_dir": str(path)}
    state.write_state(data, facts)
    return lock


def test_a_stack_lives_as_long_as_its_lock_is_held(tmp_path: Path) -> None:
    lock = _running(tmp_path / "a", "s1")
    alive = state.live_state(tmp_path / "a")
    lock.release()

    assert alive == {"control": "http://s1", "data_dir": str(tmp_path / "a")}
    assert state.live_state(tmp_path / "a") is None


def test_a_data_dir_in_use_is_refused_with_the_pid(tmp_path: Path) -> None:
    lock = _running(tmp_path / "a", "s1")
    with pytest.raises(DataDirBusyError, match=r"in use by the stack with pid \d+"):
        Lock(DataDir(tmp_path / "a"), "s2").take()
    lock.release()


def test_who_takes_over_from_a_killed_stack_learns_its_marker(tmp_path: Path) -> None:
    data = DataDir(tmp_path)
    data.create()
    (tmp_path / "lock").write_text('{"pid": 1, "stack": "killed"}')
    lock = Lock(data, "next")

    assert lock.take() == "killed"
    lock.release()


def test_after_a_clean_stop_there_is_nothing_to_clear_up(tmp_path: Path) -> None:
    _running(tmp_path, "s1").release()
    lock = Lock(DataDir(tmp_path), "s2")

    assert lock.take() is None
    lock.release()


def test_the_only_running_stack_is_found_from_anywhere(tmp_path: Path) -> None:
    lock = _running(tmp_path / "a", "s1")
    found = state.find_stack(tmp_path / "elsewhere")
    lock.release()

    assert found is not None
    assert found["control"] == "http://s1"


def test_the_stack_of_this_folder_comes_before_others(tmp_path: Path) -> None:
    locks = [_running(tmp_path / name, name) for name in ("a", "b")]
    found = state.find_stack(tmp_path / "b")
    for lock in locks:
        lock.release()

    assert found is not None
    assert found["control"] == "http://b"


def test_several_stacks_elsewhere_are_listed_in_the_refusal(tmp_path: Path) -> None:
    locks = [_running(tmp_path / name, name) for name in ("a", "b")]
    with pytest.raises(LocalError, match=r"http://a .*http://b .*--control"):
        state.find_stack(tmp_path / "elsewhere")
    for lock in locks:
        lock.release()


def test_no_stack_is_no_error(tmp_path: Path) -> None:
    assert state.find_stack(tmp_path) is None


def test_an_entry_of_a_killed_stack_is_forgotten(tmp_path: Path) -> None:
    entry = state.registry() / "s1"
    entry.write_text(str(tmp_path / "gone"))

    assert state.live_stacks() == []
    assert not entry.exists()


def test_what_a_stack_told_is_private(tmp_path: Path) -> None:
    lock = _running(tmp_path, "s1")
    mode = (tmp_path / "stack.json").stat().st_mode
    lock.release()

    assert mode & 0o777 == 0o600
    assert not (tmp_path / "stack.json").exists()


def test_sockets_move_when_their_path_would_be_too_long(tmp_path: Path) -> None:
    deep = DataDir(tmp_path / ("d" * 100))
    deep.create()

    assert not deep.run.is_relative_to(tmp_path / ("d" * 100))
    assert deep.run.is_dir()
    assert DataDir(Path("/srv/h")).run == Path("/srv/h/run")


def test_a_data_dir_that_cannot_be_made_is_refused_in_words(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(LocalError, match="--data-dir"):
        DataDir(tmp_path / "file" / "data").create()


def test_a_temporary_folder_that_others_may_enter_is_not_used() -> None:
    state.registry().parent.chmod(0o755)
    with pytest.raises(LocalError, match="not private"):
        state.registry()
