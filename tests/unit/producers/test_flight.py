"""Events under way: what is forgotten, what is sent again, and how old the oldest is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from meterstream.encoding import NO_ATTRIBUTES, mark
from meterstream.flight import Ages, Flight

if TYPE_CHECKING:
    from meterstream.encoding import Entry


def entry(number: int) -> Entry:
    """An entry with a number to tell it by."""
    return mark("p", 1, number, time=0, attributes=NO_ATTRIBUTES)


@pytest.fixture
def flight() -> Flight:
    """Three entries in flight, all taken by the transport."""
    flight = Flight()
    for number in range(1, 4):
        assert flight.add(entry(number), 0, b"%d" % number) == number
    flight.sent(3)
    return flight


def test_parcels_leave_in_order_and_once() -> None:
    """What the transport did not take is offered again, the rest is not."""
    flight = Flight()
    for number in range(1, 6):
        flight.add(entry(number), number % 2, b"%d" % number)

    assert [parcel[0] for parcel in flight.outgoing(4)] == [1, 2, 3, 4]
    flight.sent(3)
    assert flight.outgoing(4) == [(4, 0, b"", b"4"), (5, 1, b"", b"5")]
    flight.sent(2)
    assert flight.outgoing(4) == []
    assert len(flight) == 5


def test_many_are_put_as_one_after_the_other() -> None:
    """Parcels, contents, order and room are the same; none at all changes nothing."""
    at_once, singly = Flight(base=7), Flight(base=7)
    entries, values = [entry(number) for number in range(3)], [b"a", b"bb", b"ccc"]
    assert at_once.next_tickets(3) == singly.next_tickets(3) == 8

    at_once.put_all(8, entries, [0, 1, 0], values)
    for place, ticket in enumerate((8, 9, 10)):
        singly.put(ticket, entries[place], (0, 1, 0)[place], values[place])

    assert at_once.outgoing(9) == singly.outgoing(9)
    for ticket in (8, 9, 10):
        assert at_once.settle(ticket) == singly.settle(ticket)
        assert at_once.content(ticket) == singly.content(ticket) == entries[ticket - 8]
        assert at_once.settled_through() == singly.settled_through() == ticket
    assert at_once.room == singly.room
    at_once.put_all(11, [], [], [])
    assert at_once.settled_through() == 10


def test_an_entry_is_settled_once(flight: Flight) -> None:
    """A second report of a ticket finds nothing."""
    assert flight.settle(2) == (2, 0, b"", b"2")
    assert flight.content(2) == entry(2)
    assert flight.settle(2) is None
    assert len(flight) == 2


def test_sending_again_keeps_the_bytes_and_forgets_the_settled(flight: Flight) -> None:
    """The same parcel goes out again; a settled one does not."""
    flight.settle(1)

    flight.send_again(1)
    flight.send_again(3)

    assert flight.outgoing(9) == [(3, 0, b"", b"3")]


def test_after_a_break_everything_goes_again_in_order(flight: Flight) -> None:
    """All that has no outcome is put in line, once, whatever stood in line before."""
    flight.add(entry(4), 0, b"4")
    flight.send_again(3)
    flight.settle(1)

    flight.send_all_again()

    assert [parcel[0] for parcel in flight.outgoing(9)] == [2, 3, 4]


def test_settled_through_is_the_end_of_the_unbroken_run(flight: Flight) -> None:
    """Outcomes out of order do not count before the gap is filled."""
    assert flight.settled_through() == 0
    flight.settle(2)
    assert flight.settled_through() == 0
    flight.settle(1)
    assert flight.settled_through() == 2
    flight.settle(3)
    assert flight.settled_through() == 3


def test_the_oldest_ages_until_it_is_settled() -> None:
    """Age is counted from the first look that saw the event, to a step of a second."""
    ages = Ages()
    ages.note(taken=2, settled=0, now=10.0)
    ages.note(taken=5, settled=0, now=10.5)
    ages.note(taken=5, settled=0, now=14.0)

    assert ages.oldest_seconds(20.0) == 10.0
    ages.note(taken=5, settled=2, now=20.0)
    assert ages.oldest_seconds(20.0) == 6.0
    ages.note(taken=5, settled=5, now=21.0)
    assert ages.oldest_seconds(22.0) == 0.0


def test_ages_take_fixed_memory_and_keep_the_oldest() -> None:
    """A broker that is away for hours costs no more than one that is away for a minute."""
    ages = Ages()
    for second in range(10_000):
        ages.note(taken=second + 1, settled=0, now=float(second))

    assert len(ages._kept) <= 64
    assert ages.oldest_seconds(10_000.0) == 10_000.0
