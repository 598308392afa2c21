"""The oracle's figures against examples worked by hand: what closed, and what it came to."""

from __future__ import annotations

from fractions import Fraction

from meterstream_schemas.events import EventKind
from tests.oracle.figures import FigureKey, Told, told_figures
from tests.oracle.telling import HOUR, MINUTE, SINCE, event, told

HOURS = [SINCE + HOUR * n for n in range(4)]


def by_hour(figures: dict[FigureKey, Told]) -> dict[int, tuple[object, ...]]:
    """(events, closing, total) of tenant a without groups, by hours since metering began."""
    assert {(key.tenant, key.group) for key in figures} == {("a", ())}
    return {(key.start - SINCE) // HOUR: tuple(told) for key, told in figures.items()}


def test_latest_goes_by_time_then_number() -> None:
    """The last of the windows that closed, then of all; equal times are decided by the number."""
    text = "{name: last, aggregate: latest, window: 1h, grace: 0s}"
    log = [
        (9 * MINUTE, event("USAGE", "last", 8 * MINUTE, quantity=1, sequence=2, producer="p")),
        (9 * MINUTE, event("USAGE", "last", 8 * MINUTE, quantity=2, sequence=1, producer="p")),
        (HOUR, event("USAGE", "last", 9 * MINUTE, quantity=3)),
    ]

    figures = told_figures(told(text, *log), "last", HOURS, (), SINCE + 9 * HOUR)

    assert by_hour(figures) == {0: (3, 1, 3)}


def test_unique_over_a_period_counts_a_text_once() -> None:
    """The last word about each text decides, over all windows of the period."""
    text = (
        "{name: seat, aggregate: unique, value: attributes.s, operation: attributes.op, "
        "window: 1h, grace: 1h}"
    )
    log = [
        (at, event("USAGE", "seat", at, attributes={"s": s, "op": op}))
        for at, s, op in [
            (0, "x", "add"),
            (MINUTE, "y", ""),
            (HOUR, "x", "remove"),
            (2 * HOUR, "z", "remove"),
            (2 * HOUR, "y", "add"),
        ]
    ]
    answer = told(text, *log)

    hourly = told_figures(answer, "seat", HOURS, (), SINCE + 9 * HOUR)
    whole = told_figures(answer, "seat", [HOURS[0], HOURS[-1]], (), SINCE + 9 * HOUR)

    assert [figure.total for figure in hourly.values()] == [2, 0, 1]
    assert by_hour(whole) == {0: (5, 1, 1)}


def test_a_level_holds_until_the_next_sample() -> None:
    """4 from 0:30 on; at 1:10 came that it was 6 from 0:45 on, too late for the first hour."""
    text = "{name: level, aggregate: time_weighted, window: 1h, grace: 0s}"
    log = [
        (30 * MINUTE, event("USAGE", "level", 30 * MINUTE, quantity=4)),
        (70 * MINUTE, event("USAGE", "level", 45 * MINUTE, quantity=6)),
    ]

    figures = told_figures(told(text, *log), "level", HOURS, (), SINCE + 2 * HOUR + 30 * MINUTE)

    assert by_hour(figures) == {
        0: (2, 4 * 1800, 4 * 900 + 6 * 900),
        1: (0, 6 * 3600, 6 * 3600),
        2: (0, 6 * 1800, 6 * 1800),
    }


def test_changes_add_up() -> None:
    """+5 at 0:30 and -2 at 1:30; the first is taken back after its hour had closed."""
    text = "{name: flow, aggregate: time_weighted, samples: changes, window: 1h, grace: 0s}"
    more = event("USAGE", "flow", 30 * MINUTE, quantity=5, key="k")
    less = event("USAGE", "flow", 90 * MINUTE, quantity=-2)
    log = [
        (30 * MINUTE, more),
        (90 * MINUTE, less),
        (100 * MINUTE, more._replace(kind=EventKind.VOID)),
    ]

    figures = told_figures(told(text, *log), "flow", HOURS, (), SINCE + 3 * HOUR)

    assert by_hour(figures) == {
        0: (0, 5 * 1800, 0),
        1: (1, -2 * 1800, -2 * 1800),
        2: (0, -2 * 3600, -2 * 3600),
    }


def test_a_level_goes_on_over_a_change_of_its_meter() -> None:
    """What the earlier definition left is known once its last window closed, at 1:30."""
    earlier = "{name: level, aggregate: time_weighted, window: 1h, grace: 30m}"
    later = (
        "{name: level, aggregate: time_weighted, window: 30m, grace: 0s, "
        "from: 2026-01-01T01:00:00Z}"
    )
    other = later.replace("}", ", unit: piece}")
    log = [(0, event("USAGE", "level", 0, quantity=2))]
    halves = [SINCE + HOUR, SINCE + 90 * MINUTE, SINCE + 2 * HOUR]

    known = told_figures(told(f"{earlier}, {later}", *log), "level", halves, (), SINCE + 3 * HOUR)
    cut = told_figures(told(f"{earlier}, {other}", *log), "level", halves, (), SINCE + 3 * HOUR)

    assert [figure.closing for figure in known.values()] == [3600, 3600]
    assert cut == {}


def test_means_are_rounded_half_to_even() -> None:
    """Two thirds to eighteen places; what closed is the mean of what was in time."""
    text = "{name: mean, aggregate: average, window: 1h, grace: 0s}"
    log = [(at, event("USAGE", "mean", 0, quantity=n)) for at, n in [(0, 1), (1, 0), (HOUR, 1)]]

    figures = told_figures(told(text, *log), "mean", HOURS, (), SINCE + 9 * HOUR)

    two_thirds = Fraction(666_666_666_666_666_667, 10**18)
    assert by_hour(figures) == {0: (3, Fraction(1, 2), two_thirds)}
