"""What waits to be written."""

from dataclasses import dataclass

from usage_sink.buffer import Buffer, Limits


@dataclass(frozen=True, slots=True)
class Group:
    rows: int


def a_buffer(
    batch_rows: int = 10, wait_s: float = 0.5, capacity_rows: int = 30
) -> Buffer[Group]:
    return Buffer(Limits(batch_rows, wait_s, capacity_rows))


def test_an_empty_buffer_is_never_due() -> None:
    assert a_buffer().due_in(0) is None


def test_a_batch_is_due_when_its_oldest_group_has_waited() -> None:
    buffer = a_buffer()
    buffer.offer(Group(1), now=10.0)
    buffer.offer(Group(1), now=10.25)

    assert buffer.due_in(10.25) == 0.25
    assert buffer.due_in(11) == 0


def test_a_batch_is_due_at_once_when_it_is_full() -> None:
    buffer = a_buffer()
    buffer.offer(Group(10), now=0)

    assert buffer.due_in(0) == 0


def test_a_batch_is_whole_groups() -> None:
    buffer = a_buffer()
    for rows in (4, 5, 3):
        buffer.offer(Group(rows), now=0)

    assert buffer.take() == [Group(4), Group(5)]
    assert buffer.take() == [Group(3)]
    assert buffer.is_empty


def test_a_group_larger_than_a_batch_goes_alone() -> None:
    buffer = a_buffer()
    buffer.offer(Group(25), now=0)
    buffer.offer(Group(1), now=0)

    assert buffer.take() == [Group(25)]


def test_beyond_the_bound_nothing_is_taken_in() -> None:
    buffer = a_buffer()

    assert buffer.offer(Group(30), now=0)
    assert not buffer.offer(Group(1), now=0)
    assert repr(buffer) == "<Buffer 30 waiting, 0 taken>"


def test_what_is_being_written_counts_until_it_is_released() -> None:
    buffer = a_buffer()
    buffer.offer(Group(30), now=0)
    taken = buffer.take()

    assert not buffer.offer(Group(1), now=0)
    buffer.release(taken)
    assert buffer.offer(Group(1), now=0)


def test_a_group_larger_than_the_bound_is_taken_in_by_an_empty_buffer() -> None:
    assert a_buffer().offer(Group(1000), now=0)


def test_everything_can_be_taken_at_once() -> None:
    buffer = a_buffer()
    for rows in (9, 9):
        buffer.offer(Group(rows), now=0)

    groups = buffer.take_all()
    buffer.release(groups)

    assert groups == [Group(9), Group(9)]
    assert buffer.rows == 0
