"""`python -m local.envoy`: from an environment to Envoy's command line."""

import json
import subprocess
from pathlib import Path

import pytest

from local import binaries
from local.envoy import (
    EnvoySettings,
    StackRoom,
    admin_placeholders,
    argv,
    bootstrap,
    main,
    new_incarnation,
)
from local.errors import LocalError
from local.shares import Share
from runtime.clock import FakeClock
from runtime.settings import Address, SettingsError

TEMPLATE = (
    "${node_id} ${node_cluster} ${admin_host}:${admin_port} ${ads_host}:${ads_port}"
    " ${max_heap_bytes} ${max_connections} ${incarnation}"
)


def test_the_bootstrap_is_filled_in_from_the_environment() -> None:
    settings = EnvoySettings.from_environ(
        {
            "HUBGATE_NODE_ID": "edge-1",
            "HUBGATE_ADS_HOST": "control",
            "HUBGATE_ADS_PORT": "18001",
            "HUBGATE_ENVOY_ADMIN": "127.0.0.1:9902",
            "HUBGATE_ENVOY_MAX_HEAP_MB": "64",
            "HUBGATE_ENVOY_MAX_CONNECTIONS": "100",
        }
    )
    filled = bootstrap(TEMPLATE, settings, "life-1")
    assert filled == "edge-1 hubgate 127.0.0.1:9902 control:18001 67108864 100 life-1"


def test_the_admin_interface_listens_on_a_port_or_a_private_socket() -> None:
    port = admin_placeholders(Address(host="127.0.0.1", port=9))["admin_address"]
    socket = admin_placeholders(Address(path="/run/envoy.sock"))["admin_address"]

    assert json.loads(str(port)) == {
        "socket_address": {"address": "127.0.0.1", "port_value": 9}
    }
    assert json.loads(str(socket)) == {"pipe": {"path": "/run/envoy.sock", "mode": 432}}


def test_a_later_life_sorts_behind_and_none_has_the_name_of_another() -> None:
    clock = FakeClock()
    first, twin = new_incarnation(clock), new_incarnation(clock)
    clock.advance(0.001)

    assert first != twin
    assert max(first, twin) < new_incarnation(clock)


def test_an_unknown_placeholder_is_an_error() -> None:
    with pytest.raises(KeyError):
        bootstrap("${nobody}", EnvoySettings.from_environ({}), "life-1")


def test_a_name_cannot_add_to_the_bootstrap() -> None:
    with pytest.raises(SettingsError, match="HUBGATE_NODE_ID"):
        EnvoySettings.from_environ({"HUBGATE_NODE_ID": "a\nadmin: {}"})


def test_the_command_line_names_workers_and_flush() -> None:
    settings = EnvoySettings.from_environ({"HUBGATE_ENVOY_CONCURRENCY": "3"})
    line = argv(Path("/bin/envoy"), settings, "{}")
    assert line[:3] == ["/bin/envoy", "--config-yaml", "{}"]
    assert "--disable-hot-restart" in line
    assert line[line.index("--concurrency") + 1] == "3"
    assert line[line.index("--file-flush-interval-msec") + 1] == "200"


@pytest.mark.parametrize(("cores", "workers"), [(1, 1), (2, 1), (3, 1), (8, 4)])
def test_half_the_cores_are_left_to_what_envoy_asks(
    monkeypatch: pytest.MonkeyPatch, cores: int, workers: int
) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(cores)))
    line = argv(Path("/bin/envoy"), EnvoySettings.from_environ({}), "{}")

    assert line[line.index("--concurrency") + 1] == str(workers)


FREE = {"HUBGATE_PIN_CORES": "false"}


@pytest.mark.parametrize(
    ("cores", "given", "envoys", "others"),
    [
        ({0, 1}, {}, {0}, {1}),
        ({2, 3, 5, 7}, {}, {2, 3}, {5, 7}),
        ({0, 1, 2, 3}, {"HUBGATE_ENVOY_CONCURRENCY": "3"}, {0, 1, 2}, {3}),
        ({0}, {}, set(), set()),
        ({0, 1}, {"HUBGATE_ENVOY_CONCURRENCY": "2"}, set(), set()),
        ({0, 1}, FREE, set(), set()),
    ],
)
def test_envoy_has_a_core_for_each_worker_and_leaves_the_others(
    monkeypatch: pytest.MonkeyPatch,
    cores: set[int],
    given: dict[str, str],
    envoys: set[int],
    others: set[int],
) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: cores)
    shares = StackRoom.given(given).shares()

    assert shares.envoy == Share(frozenset(envoys))
    assert shares.deciders == Share(frozenset(others))
    assert shares.ledger == Share(frozenset(others), is_behind=given != FREE)


@pytest.mark.parametrize(
    ("cores", "given", "at_work"),
    [
        (1, {}, 1),
        (2, {}, 1),
        (8, {}, 4),
        (2, {"HUBGATE_SIDECARS_AT_WORK": "2"}, 2),
        (4, {"HUBGATE_ENVOY_CONCURRENCY": "4"}, 1),
    ],
)
def test_no_more_sidecars_are_asked_than_have_a_core(
    monkeypatch: pytest.MonkeyPatch, cores: int, given: dict[str, str], at_work: int
) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(cores)))

    assert StackRoom.given(given).at_work() == at_work


def test_a_stack_says_which_setting_is_wrong() -> None:
    with pytest.raises(LocalError, match="HUBGATE_ENVOY_CONCURRENCY"):
        StackRoom.given({"HUBGATE_ENVOY_CONCURRENCY": "many"})


@pytest.fixture
def become(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """What the process would have become, in place of becoming it."""
    lines: list[list[str]] = []
    monkeypatch.setattr("os.execv", lambda _, line: lines.append(line))
    return lines


def test_the_process_becomes_envoy_with_the_bootstrap_filled_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, become: list[list[str]]
) -> None:
    template = tmp_path / "bootstrap.yaml"
    template.write_text("id: ${node_id}")
    monkeypatch.setenv("HUBGATE_ENVOY_BOOTSTRAP", str(template))
    monkeypatch.setenv("HUBGATE_NODE_ID", "edge-1")
    main()
    assert become[0][1:3] == ["--config-yaml", "id: edge-1"]


def test_a_missing_bootstrap_is_told_in_one_line(
    monkeypatch: pytest.MonkeyPatch,
    become: list[list[str]],
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("HUBGATE_ENVOY_BOOTSTRAP", "/nowhere/bootstrap.yaml")
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    errors = capsys.readouterr().err
    assert errors.count("\n") == 1
    assert "/nowhere/bootstrap.yaml" in errors
    assert become == []


def test_envoy_takes_the_command_line(tmp_path: Path) -> None:
    binary = binaries.envoy()
    settings = EnvoySettings.from_environ({})
    line = argv(binary, settings, "{static_resources: {}}")
    ended = subprocess.run(
        [*line, "--mode", "validate"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
