"""Answers are kept for the state that they were made from, within a size."""

from control.answer_cache import AnswerCache


def test_an_answer_is_given_again_in_the_same_state_only() -> None:
    cache = AnswerCache()
    cache.put("question", "state", b"answer")

    assert cache.get("question", "state") == b"answer"
    assert cache.get("question", "another") is None
    assert cache.get("another", "state") is None


def test_a_newer_answer_takes_the_place_of_the_older_one() -> None:
    cache = AnswerCache(max_bytes=10)
    for number in range(20):
        cache.put("question", str(number), b"1234567890")

    assert cache.get("question", "18") is None
    assert cache.get("question", "19") == b"1234567890"


def test_what_was_not_asked_for_longest_goes_first() -> None:
    cache = AnswerCache(max_bytes=8)
    for question in "ab":
        cache.put(question, "", b"1234")
    cache.get("a", "")

    cache.put("c", "", b"1234")

    assert cache.get("b", "") is None
    assert cache.get("a", "") == cache.get("c", "") == b"1234"


def test_an_answer_that_is_larger_than_all_room_is_not_kept() -> None:
    cache = AnswerCache(max_bytes=3)
    cache.put("question", "", b"1234")

    assert cache.get("question", "") is None
