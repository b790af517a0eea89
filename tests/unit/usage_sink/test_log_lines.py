"""A line of the file log says which request it is of, torn and merged lines too."""

import json

import pytest

from runtime.contracts import Outcome
from tests.builders_evidence import NOW, a_log_line, a_start, an_admission, an_id
from usage_sink import lines
from usage_sink.events import Rejected, UsageEvent
from usage_sink.journal import Admissions, payload_of, unsettled, unsettled_events


def test_each_line_is_found_at_its_place() -> None:
    one, two = a_log_line(1), a_log_line(2)
    found = lines.find(one + b"\n" + two + b"\n", 100)

    assert [(it.id, it.start) for it in found.logged] == [
        (1, a_start(1)),
        (2, a_start(2)),
    ]
    assert [(it.offset, it.length) for it in found.logged] == [
        (100, len(one)),
        (101 + len(one), len(two)),
    ]
    assert found.torn == 0


@pytest.mark.parametrize("cut", range(len(a_log_line(1))))
def test_a_torn_line_never_hides_the_next_nor_passes_for_it(cut: int) -> None:
    torn = a_log_line(1)[:cut]
    found = lines.find(torn + a_log_line(2) + b"\n", 0)

    (only,) = found.logged
    assert (only.id, only.start) == (2, a_start(2))
    line = (torn + a_log_line(2))[only.offset : only.offset + only.length]
    whole = lines.whole(line)
    assert whole is not None
    assert whole["id"] == an_id(2)


def test_what_is_torn_and_last_is_counted() -> None:
    line = a_log_line(1)
    found = lines.find(line[: line.index(b'"path"')] + b"\n", 0)
    assert (found.logged, found.torn) == ([], 1)


def test_a_header_that_looks_like_an_entry_is_none() -> None:
    text = f'"id":"{an_id(7)}","start":"{a_start(7)}"}}'
    found = lines.find(a_log_line(1, session_id=text) + b"\n", 0)
    assert [it.id for it in found.logged] == [1]


def test_what_never_was_a_request_is_passed_over() -> None:
    line = json.dumps({"id": None, "start": a_start(1), "status": 400}).encode()
    assert lines.find(line + b"\n", 0) == lines.Found([], 0)


def test_a_payload_gives_node_and_attributes_as_text() -> None:
    entry = lines.whole(a_log_line(1))
    assert entry is not None
    ((node, said),) = lines.entries(lines.payload_of("node-1", [entry]))

    assert node == "node-1"
    assert (said["id"], said["status"], said["duration_ms"]) == (an_id(1), "200", "3")
    assert said["llm_model"] == ""


def test_admissions_are_read_and_torn_ones_told() -> None:
    first, second = an_admission(1), an_admission(2, path='/a"b\\')
    minute = (int(NOW) - 60) // 60 * 60

    for torn in (b"", first[:80], first[:80] + second, b"x"):
        found = Admissions(torn + b"\n" + first + b"\n" + second + b"\n")

        every = [found.at(0), found.at(1)]
        assert [one.id for one in every] == found.ids == [1, 2]
        assert [one.line for one in every] == [first, second]
        assert [one.start for one in every] == [a_start(1), a_start(2)]
        assert {(one.node, one.incarnation) for one in every} == found.lives()
        assert found.lives() == {("node-1", "life-1")}
        assert found.minutes([0, 1]) == {("node-1", minute): 2}
        assert found.torn == (torn != b"")


@pytest.mark.parametrize("torn", [b"", a_log_line(9)[:-9] + b"\n"])
def test_known_requests_are_passed_over(torn: bytes) -> None:
    one, two = a_log_line(1) + b"\n", a_log_line(2) + b"\n"

    found = lines.find(torn + one + two, 0, {1})

    assert [(it.id, it.offset) for it in found.logged if it.id != 9] == [
        (2, len(torn + one))
    ]


def test_an_admission_becomes_an_event_that_claims_nothing() -> None:
    found = Admissions(an_admission(1, user_id=""))
    ((node, event, _),) = unsettled(payload_of([found.at(0)]))

    assert node == "node-1"
    assert isinstance(event, UsageEvent)
    assert (event.id.int, event.outcome, event.status) == (1, Outcome.UNSETTLED, 0)
    assert (event.route, event.service, event.role) == ("users", "core", "user")
    assert (event.user_id, event.is_ai, event.usage.total) == (None, False, None)
    assert f"{event.created_at.timestamp():.6f}" == a_start(1)


def test_a_payload_that_is_no_journal_is_refused_line_by_line() -> None:
    payload = b"[1]\n" + an_admission(1) + b'\nx\n{"id":"x"}'
    kinds = [type(one) for one in unsettled_events(payload)]
    assert kinds == [Rejected, UsageEvent, Rejected, Rejected]
