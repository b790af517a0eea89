from control.registry import Membership, Registration, Seen
from control.values import Instance

ONE = Registration("core", "one", "10.0.0.1:80", ttl_s=10)
TWO = Registration("core", "two", "10.0.0.2:80", ttl_s=10)


def names(members: Membership) -> list[str]:
    return [one.instance for one in members.of("core")]


def test_an_instance_stays_as_long_as_its_heartbeats() -> None:
    members = Membership()
    members.take([Seen(ONE, 10), Seen(TWO, 10)], now=0)
    members.take([Seen(ONE, 10)], now=9)
    before = names(members)
    members.take([], now=10)

    assert before == ["one", "two"]
    assert names(members) == ["one"]


def test_what_was_removed_on_purpose_is_gone_at_once() -> None:
    members = Membership()
    members.take([Seen(ONE, 10)], now=0)
    members.take([Seen(ONE, None)], now=1)

    assert names(members) == []


def test_what_redis_forgot_stays_for_the_rest_of_its_time() -> None:
    members = Membership()
    members.take([Seen(ONE, 10)], now=0)
    members.take([], now=5)

    assert names(members) == ["one"]


def test_nobody_expires_while_nobody_can_be_heard() -> None:
    members = Membership()
    members.take([Seen(ONE, 10)], now=0)
    members.missed()
    members.take([], now=1000)
    back = names(members)
    members.take([], now=1010)

    assert back == ["one"]
    assert names(members) == []


def test_addresses_are_by_service_and_each_is_there_once() -> None:
    members = Membership()
    twin = Registration("core", "twin", ONE.address, ttl_s=10)
    other = Registration("mcp", "a", "[::1]:80", ttl_s=10)
    members.take([Seen(one, 10) for one in (other, twin, ONE)], now=0)

    assert members.addresses() == {
        "core": (Instance("10.0.0.1", 80, is_ip=True),),
        "mcp": (Instance("::1", 80, is_ip=True),),
    }
