"""What the bench makes of what it measured."""

import json
import socket
import threading

import jwt
import pytest

from bench import load, pace, report
from bench.peers.hubgate import configuration
from bench.peers.port import Running
from bench.programs import Failed
from bench.tokens import Issuer
from control.parse import parse


def a_row(gateway: str, number: int, rate: float) -> report.Row:
    return {"gateway": gateway, "round": number, "rate": rate}


def rate(row: report.Row) -> float:
    return float(row["rate"])


def test_a_ratio_is_of_two_in_the_same_round() -> None:
    found = report.Rounds(
        [
            *(a_row("ours", 0, 10.0), a_row("theirs", 0, 20.0)),
            *(a_row("ours", 1, 30.0), a_row("theirs", 1, 40.0)),
            a_row("ours", 2, 99.0),
        ]
    )

    assert found.ratios("ours", "theirs", rate) == [0.5, 0.75]
    assert found.differences("ours", "theirs", rate) == [-10.0, -10.0]


def test_a_gateway_that_failed_is_named_and_not_counted() -> None:
    found = report.Rounds([{"gateway": "theirs", "round": 0, "failed": "no node"}])

    assert found.gateways == []
    assert found.failed == {"theirs": "no node"}


def test_a_refused_request_is_no_throughput() -> None:
    line = (
        'RESULT {"requests":100,"seconds":2.0,"refused":40,"broken":3,'
        '"p50_ms":1.0,"p99_ms":2.0}'
    )

    found = load.parse(f"Running 2s test\n{line}\n", 0.5)

    assert found.rate == 30.0
    assert found.errors == 43


def test_no_result_of_wrk_is_a_failure() -> None:
    with pytest.raises(Failed, match="connect"):
        load.parse("unable to connect", 0.0)


def test_a_token_is_one_that_a_library_accepts() -> None:
    issuer = Issuer(b"k" * 32, role="user", padding=10)

    claims = jwt.decode(issuer.of(7), b"k" * 32, ["HS256"])

    assert claims["sub"] == "u00000007"
    assert claims["role"] == "user"
    assert len(issuer.of(7)) == len(issuer.of(99_999_999))


@pytest.mark.parametrize(
    ("answer", "complete"),
    [
        pytest.param(b"HTTP/1.1 200 OK\r\ncontent-le", False, id="part of the head"),
        pytest.param(
            b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nx", False, id="part"
        ),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nxy", True, id="all"),
        pytest.param(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n",
            True,
            id="chunks",
        ),
    ],
)
def test_an_answer_is_over_when_its_head_says_so(answer: bytes, complete: bool) -> None:  # noqa: FBT001 - a table
    assert pace.Exchange(0.0, answer).is_complete is complete


def test_time_spent_behind_a_slow_answer_counts() -> None:
    """The server answers nothing for a while: all that were due then waited."""
    listening = socket.create_server(("127.0.0.1", 0), backlog=64)
    asked, held = threading.Event(), threading.Event()

    def serve(connection: socket.socket) -> None:
        with connection:
            while connection.recv(4096):
                if not asked.is_set():
                    asked.set()
                    threading.Timer(0.3, held.set).start()
                held.wait(5)
                connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")

    def accept() -> None:
        while True:
            try:
                connection, _ = listening.accept()
            except OSError:
                return
            threading.Thread(target=serve, args=(connection,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    port = int(listening.getsockname()[1])

    found = pace.Client(port, [pace.request(port, "/", "t")]).run(100.0, 0.4)
    listening.shutdown(socket.SHUT_RDWR)
    listening.close()

    assert found.sent == 40
    assert found.errors == 0
    assert found.p50_ms > 50
    assert found.p99_ms >= 200


def test_what_it_configures_is_a_configuration() -> None:
    text = json.dumps(configuration(3, 8080))

    found = parse(text)

    assert [route.id for route in found.routes] == [
        *("load0", "load1", "load2"),
        "burst",
    ]


def test_a_part_does_not_count_the_processes_of_another() -> None:
    running = Running(80, {"all": [1], "one": [threading.get_native_id()]})

    pids = running.pids()

    assert pids["all"].isdisjoint(pids["one"])


def test_parts_that_are_the_same_processes_are_one() -> None:
    running = Running(80, {"authz": [7, 8], "ratelimit": [8, 7], "envoy": [9]})

    assert list(running.pids()) == ["authz + ratelimit", "envoy"]
