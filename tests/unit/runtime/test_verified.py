"""A token that was verified is known, and knowing it lets nothing more pass."""

import base64

import pytest

from runtime.clock import FakeClock
from runtime.identity.keys import KeySet, from_secret
from runtime.identity.tokens import Checks, Claims, Rejected
from runtime.identity.verified import VerifiedTokens
from runtime.identity.verifier import Verifier
from tests.builders import NOW, SECRET, a_token

KEYS = KeySet((from_secret(SECRET),))
CLAIMS = Claims("u-1", "user", NOW + 60)


class ChangingKeys:
    """Keys that a test replaces."""

    def __init__(self) -> None:
        self.keys = KEYS
        self.is_complete = True

    async def look_again(self) -> bool:
        return False


class Bench:
    def __init__(self) -> None:
        self.clock, self.source = FakeClock(NOW), ChangingKeys()
        self.verifier = Verifier(self.source, Checks(leeway_s=0), self.clock)

    async def why(self, token: str, *, expired_s: float = 0.0) -> str | None:
        """None: it is in force."""
        outcome = await self.verifier.verify(token, expired_s=expired_s)
        return outcome.reason if isinstance(outcome, Rejected) else None


async def test_a_known_token_says_what_it_said() -> None:
    bench, token = Bench(), a_token()
    first, again = [await bench.verifier.verify(token) for _ in range(2)]

    assert isinstance(first, Claims)
    assert again is first


async def test_a_known_token_expires_on_time() -> None:
    bench, token = Bench(), a_token(exp=NOW + 10)
    before = await bench.why(token)
    bench.clock.advance(10)

    assert before is None
    assert await bench.why(token) == "expired"


async def test_a_token_known_where_it_may_be_expired_is_expired_elsewhere() -> None:
    bench, token = Bench(), a_token(exp=NOW - 10)

    assert await bench.why(token, expired_s=60) is None
    assert await bench.why(token) == "expired"
    assert await bench.why(token, expired_s=60) is None


async def test_a_token_is_unknown_to_other_keys() -> None:
    bench, token = Bench(), a_token()
    before = await bench.why(token)
    bench.source.keys = KeySet((from_secret(b"another secret of some length!!!!"),))
    after = await bench.why(token)
    bench.source.keys = KEYS

    assert (before, after) == (None, "signature")
    assert await bench.why(token) is None


async def test_a_clock_that_was_set_back_makes_a_token_unknown() -> None:
    bench = Bench()
    bench.clock.advance(100)
    token = a_token(nbf=NOW + 50, exp=NOW + 200)
    before = await bench.why(token)
    bench.clock.advance(-100)

    assert before is None
    assert await bench.why(token) == "not_yet_valid"


def _with_other_bits(token: str) -> str:
    """The same signature in another spelling, for a decoder that is not strict."""
    *rest, signature = token.split(".")
    data = base64.urlsafe_b64decode(signature + "=" * (-len(signature) % 4))
    for last in "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_":
        other = signature[:-1] + last
        padded = other + "=" * (-len(other) % 4)
        if other != signature and base64.urlsafe_b64decode(padded) == data:
            return ".".join((*rest, other))
    raise AssertionError("no other spelling")


@pytest.mark.parametrize(
    "alias",
    [
        lambda token: token + "=",
        lambda token: token + " ",
        lambda token: token + "\n",
        lambda token: token.replace(".", "..", 1),
        lambda token: token + ".",
        lambda token: token.swapcase(),
        lambda token: token + "\udcff",
        _with_other_bits,
    ],
    ids=["padding", "space", "newline", "dots", "end", "case", "surrogate", "bits"],
)
async def test_no_other_spelling_of_a_known_token_is_known(alias: object) -> None:
    bench, token = Bench(), a_token()
    assert callable(alias)
    assert await bench.why(token) is None

    assert await bench.why(alias(token)) is not None


async def test_what_was_refused_is_not_kept() -> None:
    bench = Bench()
    assert await bench.why("forged") == "not_three_segments"
    assert len(bench.verifier._verified) == 0


def test_no_more_are_known_than_there_is_room_for() -> None:
    known = VerifiedTokens(capacity=2)
    for name in ("a", "b"):
        known.keep(name, KEYS, CLAIMS, NOW)
    known.find("a", KEYS, NOW)
    known.keep("c", KEYS, CLAIMS, NOW)
    found = [known.find(name, KEYS, NOW) for name in ("a", "b", "c")]

    assert found == [CLAIMS, None, CLAIMS]
    assert len(known) == 2
