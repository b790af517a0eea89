"""A watermark is a claim: every fact that could contradict it holds it back."""

from typing import Any

import pytest

from usage_sink.completeness import Basis, Certainty, Facts, complete_through
from usage_sink.lives import Lives
from usage_sink.recent import RecentIds

NOW = 1_000.0
LIFE = ("node-1", "life-1")


def through(**changes: Any) -> float | None:
    known: dict[str, Any] = {
        "now": NOW,
        "oldest_pending": None,
        "logged_through": NOW,
        "basis": Basis.FILE,
        "certain_through": NOW,
    }
    return complete_through(Facts(**{**known, **changes}))


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        pytest.param({}, 999, id="idle: what Envoy may still hold is left out"),
        pytest.param({"oldest_pending": 950.0}, 949, id="the spool is behind"),
        pytest.param({"logged_through": 900.0}, 900, id="a logged one has no row"),
        pytest.param({"certain_through": 800.0}, 800, id="Envoy may have died"),
        pytest.param({"logged_through": None}, None, id="the log is not read yet"),
        pytest.param({"certain_through": None}, None, id="nobody has seen Envoy"),
        pytest.param(
            {"logged_through": None, "basis": Basis.STREAM}, 999, id="no file log"
        ),
    ],
)
def test_the_weakest_fact_decides(facts: dict[str, Any], expected: float) -> None:
    assert through(**facts) == expected


def test_envoys_own_word_counts_from_when_it_was_asked() -> None:
    certainty = Certainty(100.0, None)
    certainty.settled()
    certainty.seen(LIFE, 110.0, 112.0)
    assert certainty.through == 110.0


def test_after_a_start_nothing_new_is_certain_before_all_is_settled() -> None:
    certainty = Certainty(100.0, 60.0)
    certainty.seen(LIFE, 110.0, 110.0)
    assert (certainty.through, certainty.ended_before) == (60.0, 100.0)
    certainty.settled()
    certainty.seen(LIFE, 111.0, 111.0)
    assert (certainty.through, certainty.ended_before) == (111.0, None)


def test_a_new_life_casts_doubt_back_to_the_last_sign_of_the_old_one() -> None:
    certainty = Certainty(100.0, None)
    certainty.settled()
    certainty.seen(LIFE, 110.0, 110.0)
    certainty.seen(("node-1", "life-2"), 150.0, 151.0)
    certainty.seen(("node-1", "life-2"), 160.0, 161.0)
    assert (certainty.through, certainty.ended_before) == (110.0, 151.0)


def test_an_envoy_that_does_not_answer_is_certain_no_longer() -> None:
    certainty = Certainty(100.0, None)
    certainty.settled()
    certainty.seen(LIFE, 110.0, 110.0)
    assert through(certain_through=certainty.through) == 110.0


def test_a_life_is_over_when_a_later_one_of_its_node_is_seen() -> None:
    lives = Lives()
    assert not lives.observe("a", "2", 10.0)
    assert lives.over_since("a", "2") is None
    assert lives.over_since("a", "1") == 10.0
    assert lives.over_since("b", "1") is None
    assert lives.observe("a", "3", 20.0)
    assert not lives.observe("a", "2", 30.0)
    assert (lives.over_since("a", "2"), lives.over_since("a", "3")) == (20.0, None)
    assert lives.observe("a", "4", 40.0)
    # A life ends once: an Envoy that starts again and again delays nothing.
    assert lives.over_since("a", "2") == 20.0


def test_recent_ids_are_bounded_and_the_newest_are_kept() -> None:
    recent = RecentIds(capacity=10)
    for number in range(100):
        recent.add([number])
    kept = [number for number in range(100) if number in recent]
    assert kept[-10:] == list(range(90, 100))
    assert len(kept) <= 20
