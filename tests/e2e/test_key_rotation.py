"""A new signing key is accepted within two seconds; the old one never fails."""

import threading

import pytest

from tests.e2e.key_server import KeyServer, a_token
from tests.e2e.stack import Stack, eventually

pytestmark = pytest.mark.e2e


def status(stack: Stack, token: str) -> int:
    return stack.get("/api/users/me", token).status_code


@pytest.mark.alone
def test_a_new_key_is_accepted_while_the_old_one_never_fails(
    own: Stack, keys: KeyServer
) -> None:
    old, new = a_token("rsa"), a_token("ec")
    assert status(own, old) == 200
    failures: list[int] = []
    stop = threading.Event()

    def use_the_old_key() -> None:
        while not stop.is_set():
            if (code := status(own, old)) != 200:
                failures.append(code)

    traffic = threading.Thread(target=use_the_old_key)
    traffic.start()
    try:
        keys.kids = ["rsa", "ec"]
        accepted = eventually(lambda: status(own, new) == 200, 2.0)
    finally:
        stop.set()
        traffic.join()

    assert accepted
    assert failures == []


def test_a_flood_of_unknown_kids_is_at_most_two_fetches_a_process(
    own: Stack, keys: KeyServer
) -> None:
    before = len(keys.fetches)
    codes = {status(own, a_token("rsa", f"random-{n}")) for n in range(100)}
    fetched = len(keys.fetches) - before
    processes = len(own.pids()["authz"])

    assert codes == {401}
    # A background refresh may fall into it.
    assert fetched <= 2 * processes + 1
