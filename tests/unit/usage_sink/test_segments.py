"""The bytes of a spool segment."""

import pytest

from usage_sink.segments import (
    HEADER_BYTES,
    Kind,
    Position,
    end_record,
    header,
    received_at,
    scan,
)

START = Position(3, 100)
PAYLOADS = (b"one", b"", b"three" * 20)


def a_record(payload: bytes) -> bytes:
    return header(Kind.OTLP, 1795306215.5, payload) + payload


WHOLE = b"".join(map(a_record, PAYLOADS))


def test_what_was_written_is_read() -> None:
    found = scan(WHOLE, START)

    assert [entry.payload for entry in found.entries] == list(PAYLOADS)
    assert {entry.kind for entry in found.entries} == {Kind.OTLP}
    assert {entry.received for entry in found.entries} == {1795306215.5}
    assert found.entries[-1].end == Position(3, 100 + len(WHOLE))
    assert (found.consumed, found.damaged) == (len(WHOLE), 0)


@pytest.mark.parametrize("cut", range(1, len(WHOLE)))
def test_a_block_that_ends_anywhere_gives_the_whole_records_before(cut: int) -> None:
    found = scan(WHOLE[:cut], START)

    again = scan(WHOLE[found.consumed :], Position(3, 100 + found.consumed))
    payloads = [entry.payload for entry in (*found.entries, *again.entries)]
    assert payloads == list(PAYLOADS)
    assert not found.is_stuck
    assert not found.damaged


@pytest.mark.parametrize("at", range(len(a_record(PAYLOADS[0]))))
def test_a_flipped_bit_costs_its_own_record_and_no_other(at: int) -> None:
    damaged = bytearray(WHOLE)
    damaged[at] ^= 0x40

    found = scan(bytes(damaged), START)

    assert [entry.payload for entry in found.entries] == list(PAYLOADS[1:])
    assert found.damaged == len(a_record(PAYLOADS[0]))


def test_damage_with_nothing_behind_is_stuck() -> None:
    found = scan(a_record(b"good") + b"\x00" * 64, START)

    assert [entry.payload for entry in found.entries] == [b"good"]
    assert found.is_stuck


def test_a_closed_segment_says_so() -> None:
    found = scan(WHOLE + end_record(), START)

    assert found.has_end
    assert len(found.entries) == len(PAYLOADS)


def test_a_kind_of_a_newer_version_is_passed_over() -> None:
    newer = a_record(b"?").replace(b"\x01", b"\x63", 1)

    found = scan(newer + a_record(b"known"), START)

    assert [entry.payload for entry in found.entries] == [b"known"]


def test_the_time_of_a_record_is_in_its_header() -> None:
    assert received_at(a_record(b"x")[:HEADER_BYTES]) == 1795306215.5
    assert received_at(end_record()) is None
    assert received_at(b"x" * HEADER_BYTES) is None
