import socket
from collections.abc import Iterator

import pytest

from local import ports
from local.errors import LocalError
from local.settings import PortChoice


@pytest.fixture
def busy_port() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def test_a_busy_port_is_refused_with_the_option_that_moves_it(busy_port: int) -> None:
    choice = PortChoice(gateway=0, control=busy_port)

    with pytest.raises(LocalError, match=rf"{busy_port} \(control\).*--control-port"):
        ports.choose(choice, host="127.0.0.1", demo=True)


def test_a_busy_upstream_port_matters_only_with_the_demo(busy_port: int) -> None:
    choice = PortChoice(gateway=0, upstream=busy_port)

    assert ports.choose(choice, host="127.0.0.1", demo=False).auth == busy_port


def test_port_zero_gives_distinct_free_ports_for_everything() -> None:
    chosen = ports.choose(PortChoice(gateway=0), host="127.0.0.1", demo=True)
    numbers = [getattr(chosen, name) for name in ports.Ports.__slots__]

    assert len(set(numbers)) == len(numbers)
    assert all(ports.is_free(number) for number in numbers)


def test_free_ports_are_not_those_of_outgoing_connections() -> None:
    lowest_ephemeral = ports._ephemeral_start()

    assert all(port < lowest_ephemeral for port in ports.free_ports(50))


def test_defaults_apply_where_nothing_is_said() -> None:
    wanted = ports._wanted(PortChoice(control=8100))

    assert wanted == {
        "gateway": 3000,
        "control": 8100,
        "ads": 18000,
        "envoy_admin": 9901,
        "auth": 3001,
        "core": 3002,
        "mcp": 3003,
    }


def test_an_address_of_another_machine_is_refused_in_words() -> None:
    with pytest.raises(LocalError, match=r"cannot listen on 192\.0\.2\.1:80"):
        ports.is_free(80, "192.0.2.1")
