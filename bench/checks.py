"""Does a gateway do the job? Asked before anything is timed."""

import http.client
import json
import threading
from dataclasses import dataclass
from time import perf_counter, sleep
from typing import Final

from bench.peers.port import LIMITS, ORIGIN, Running
from bench.programs import Failed
from bench.tokens import Issuer

_PATH: Final = "/api/load/x"
_ECHO: Final = "/api/load/echo"
_BURST: Final = "/api/burst/x"
_READY_S: Final = 60.0
_REVOKED_WITHIN_S: Final = 1.0
_TIMEOUT_S: Final = 5.0
_CALLERS: Final = 8


@dataclass(frozen=True, slots=True)
class Answer:
    """Header names in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes


def wait_until_ready(running: Running, token: str, path: str = _PATH) -> None:
    """Until it answers with 200.

    Raises:
        Failed: it does not within a minute.
    """
    deadline = perf_counter() + _READY_S
    seen = ""
    while perf_counter() < deadline:
        try:
            answer = ask(running.port, token, path)
        except (OSError, http.client.HTTPException) as error:
            seen = str(error)
        else:
            if answer.status == http.HTTPStatus.OK:
                return
            seen = f"{answer.status} {answer.body[:200]!r}"
        sleep(0.05)
    raise Failed(f"not ready: {seen}")


def check(running: Running, issuer: Issuer) -> None:
    """The same job for all.

    Raises:
        Failed: with what is missing.
    """
    token = issuer.for_role("load").of(1)
    _check_identity(running, token, "u00000001")
    _expect(running, 401, "without a token", None)
    _expect(running, 401, "with a forged token", token[:-4] + "AAAA")
    expired = issuer.for_role("load").of(1, exp=1_700_000_000)
    _expect(running, 401, "with an expired token", expired)
    _check_revocation(running, issuer.for_role("load"))
    _check_limit(running, issuer.for_role("user").of(2))


def pass_in_a_window_and_a_half(running: Running, issuer: Issuer) -> int:
    """The most a caller gets through who knows how windows are cut.

    One request opens the window; from three quarters of it on he asks as fast as he
    can, until one and a half have passed. A limit that holds in every window lets one
    more pass than it says; a window that is cut at fixed times lets twice that pass.
    """
    token = issuer.for_role("burst").of(3)
    window_s = LIMITS["burst"][1]
    passed = [int(ask(running.port, token, _BURST).status == http.HTTPStatus.OK)]
    begin = perf_counter()
    sleep(0.75 * window_s)

    def insist() -> None:
        connection = _connection(running.port)
        while perf_counter() < begin + 1.5 * window_s:
            answer = ask(running.port, token, _BURST, connection=connection)
            passed.append(int(answer.status == http.HTTPStatus.OK))
        connection.close()

    callers = [threading.Thread(target=insist) for _ in range(_CALLERS)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    return sum(passed)


def ask(
    port: int,
    token: str | None,
    path: str = _PATH,
    *,
    connection: http.client.HTTPConnection | None = None,
    said: str | None = None,
) -> Answer:
    """An answer, on its own connection or the given; `said`: whom one claims to be."""
    found = connection or _connection(port)
    sent = {"Origin": ORIGIN}
    if said is not None:
        sent["x-user-id"] = said
    if token is not None:
        sent["Authorization"] = f"Bearer {token}"
    found.request("GET", path, headers=sent)
    answer = found.getresponse()
    got = {name.lower(): value for name, value in answer.getheaders()}
    result = Answer(answer.status, got, answer.read())
    if connection is None:
        found.close()
    return result


def _connection(port: int) -> http.client.HTTPConnection:
    return http.client.HTTPConnection("127.0.0.1", port, timeout=_TIMEOUT_S)


def _check_identity(running: Running, token: str, user: str) -> None:
    answer = ask(running.port, token, _ECHO, said="somebody-else")
    if answer.status != http.HTTPStatus.OK or json.loads(answer.body) != {"user": user}:
        raise Failed(f"identity at the upstream: {answer.status} {answer.body!r}")
    if answer.headers.get("access-control-allow-origin") != ORIGIN:
        raise Failed("no CORS headers")
    if answer.headers.get("x-content-type-options") != "nosniff":
        raise Failed("no security headers")


def _expect(running: Running, status: int, what: str, token: str | None) -> None:
    found = ask(running.port, token).status
    if found != status:
        raise Failed(f"{found} {what}, not {status}")


def _check_revocation(running: Running, issuer: Issuer) -> None:
    token = issuer.of(4)
    _expect(running, 200, "with a good token", token)
    with running.redis() as store:
        store.set(f"bl:{issuer.claims(4)['jti']}", 1, ex=60)
    deadline = perf_counter() + _REVOKED_WITHIN_S
    while ask(running.port, token).status != http.HTTPStatus.UNAUTHORIZED:
        if perf_counter() > deadline:
            raise Failed("a revoked token passes")


def _check_limit(running: Running, token: str) -> None:
    limit, _ = LIMITS["user"]
    statuses = [ask(running.port, token).status for _ in range(limit + 1)]
    if statuses != [200] * limit + [429]:
        passed = statuses.count(200)
        raise Failed(f"{passed} of {limit} passed, then {statuses[-1]}")
