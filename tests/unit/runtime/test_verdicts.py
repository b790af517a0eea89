"""A kept answer is believed exactly as long as its truth is certain, or bounded."""

from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.clock import FakeClock
from runtime.identity.verdicts import Question, Verdicts

KEYS = ("a", "b")
STALE_S = 30.0


def tracked(clock: FakeClock) -> Verdicts:
    verdicts = Verdicts(clock, stale_s=STALE_S)
    verdicts.begin()
    return verdicts


def learn(verdicts: Verdicts, value: bytes | None = None) -> None:
    verdicts.keep(verdicts.ask(), dict.fromkeys(KEYS, value))


def test_while_tracked_an_answer_has_no_age() -> None:
    clock = FakeClock()
    verdicts = tracked(clock)
    learn(verdicts, b"1")
    clock.advance(1e6)

    assert verdicts.fresh(KEYS) == {"a": b"1", "b": b"1"}


def test_an_unknown_key_has_no_answer() -> None:
    verdicts = tracked(FakeClock())
    verdicts.keep(verdicts.ask(), {"a": None})

    assert verdicts.fresh(KEYS) is None
    assert verdicts.stale(KEYS) is None


def test_untracked_answers_are_not_fresh_even_when_tracking_begins_later() -> None:
    verdicts = Verdicts(FakeClock(), stale_s=STALE_S)
    learn(verdicts)
    before = verdicts.fresh(KEYS)
    verdicts.begin()

    assert (before, verdicts.fresh(KEYS)) == (None, None)


@pytest.mark.parametrize("keys", [["b"], None], ids=["one", "all"])
def test_a_withdrawn_answer_is_gone_for_good(keys: list[str] | None) -> None:
    verdicts = tracked(FakeClock())
    learn(verdicts)
    verdicts.withdraw(keys)

    assert verdicts.fresh(KEYS) is None
    assert verdicts.stale(KEYS) is None


def test_an_answer_under_way_during_a_withdrawal_is_not_kept() -> None:
    verdicts = tracked(FakeClock())
    question = verdicts.ask()
    verdicts.withdraw(["a"])
    verdicts.keep(question, dict.fromkeys(KEYS))

    assert verdicts.stale(KEYS) is None


@pytest.mark.parametrize("again", [False, True], ids=["lost", "lost and back"])
def test_an_answer_under_way_while_tracking_is_lost_is_not_fresh(again: bool) -> None:  # noqa: FBT001 - a parameter
    verdicts = tracked(FakeClock())
    question = verdicts.ask()
    verdicts.end()
    if again:
        verdicts.begin()
    verdicts.keep(question, dict.fromkeys(KEYS))

    assert verdicts.fresh(KEYS) is None


def test_a_late_answer_does_not_replace_a_later_question_s() -> None:
    verdicts = Verdicts(FakeClock(), stale_s=STALE_S)
    slow = verdicts.ask()
    learn(verdicts, b"revoked")
    verdicts.keep(slow, dict.fromkeys(KEYS))

    assert verdicts.stale(KEYS) == {"a": b"revoked", "b": b"revoked"}


def test_a_stale_answer_counts_from_the_last_sign_of_life() -> None:
    clock = FakeClock()
    verdicts = tracked(clock)
    learn(verdicts)
    clock.advance(1000)
    verdicts.confirm()
    verdicts.end()
    clock.advance(STALE_S)
    in_time = verdicts.stale(KEYS)
    clock.advance(0.1)

    assert in_time == {"a": None, "b": None}
    assert verdicts.stale(KEYS) is None


def test_an_untracked_answer_counts_from_its_question() -> None:
    clock = FakeClock()
    verdicts = Verdicts(clock, stale_s=STALE_S)
    question = verdicts.ask()
    clock.advance(1)
    verdicts.keep(question, dict.fromkeys(KEYS))
    clock.advance(STALE_S - 0.5)

    assert verdicts.stale(KEYS) is None


def test_what_was_used_last_is_kept_when_there_is_no_more_room() -> None:
    verdicts = Verdicts(FakeClock(), stale_s=STALE_S, capacity=2)
    verdicts.begin()
    for key in "abc":
        verdicts.keep(verdicts.ask(), {key: None})
        verdicts.fresh(["a"])

    assert len(verdicts) == 2
    assert verdicts.fresh(["a"]) == {"a": None}
    assert verdicts.fresh(["b"]) is None


@dataclass
class World:
    """A Redis of one key whose answers and announcements arrive when they like."""

    clock: FakeClock = field(default_factory=FakeClock)
    value: bytes | None = None
    under_way: list[tuple[Question, bytes | None]] = field(default_factory=list)
    announcements: int = 0
    tracked_by_redis: bool = False

    def __post_init__(self) -> None:
        self.verdicts = Verdicts(self.clock, stale_s=STALE_S)

    def ask(self) -> None:
        self.under_way.append((self.verdicts.ask(), self.value))

    def answer(self) -> None:
        if self.under_way:
            question, value = self.under_way.pop()
            self.verdicts.keep(question, {"a": value})

    def write(self) -> None:
        self.value = b"1" if self.value is None else None
        self.announcements += self.tracked_by_redis

    def announce(self) -> None:
        if self.announcements:
            self.announcements = 0
            self.verdicts.withdraw(["a"])

    def lose(self) -> None:
        self.tracked_by_redis, self.announcements = False, 0
        self.verdicts.end()

    def track(self) -> None:
        if not self.tracked_by_redis:
            self.tracked_by_redis = True
            self.verdicts.begin()


STEPS = ("ask", "answer", "write", "announce", "lose", "track")


@given(st.lists(st.sampled_from(STEPS), max_size=40))
def test_whatever_the_order_a_fresh_answer_is_true_or_its_withdrawal_is_on_its_way(
    steps: list[str],
) -> None:
    world = World()
    for step in steps:
        getattr(world, step)()
        fresh = world.verdicts.fresh(["a"])

        assert fresh is None or world.announcements or fresh["a"] == world.value
