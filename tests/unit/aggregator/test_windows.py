"""Windows tile time, and a span cut at them keeps every microsecond."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from meterstream_aggregator.catalogue import HOUR, MINUTE
from meterstream_aggregator.windows import arrival_in, arrival_of, closes_at, split, window_start

SIZES = st.sampled_from([n * MINUTE for n in (1, 2, 3, 4, 5, 6, 10, 12, 15, 20, 30, 60)])
TIMES = st.integers(0, 253_402_300_800_000_000)


@given(TIMES, SIZES)
def test_a_window_holds_its_time(time: int, size: int) -> None:
    """Every moment lies in exactly one half-open window that begins at a multiple of its size."""
    start = window_start(time, size)

    assert start % size == 0
    assert start <= time < start + size


def test_the_end_belongs_to_the_next_window() -> None:
    """The last microsecond is inside, the end is not."""
    assert window_start(15 * MINUTE - 1, 15 * MINUTE) == 0
    assert window_start(15 * MINUTE, 15 * MINUTE) == 15 * MINUTE


@given(TIMES, st.integers(0, 30 * HOUR), SIZES)
def test_parts_of_a_span_are_the_span(start: int, length: int, size: int) -> None:
    """The parts lie in order, one a window, without gap, and add up to the microsecond."""
    parts = list(split(start, start + length, size))

    assert sum(inside for _, inside in parts) == length
    assert all(0 < inside <= size for _, inside in parts)
    at = start
    for window, inside in parts:
        assert window == window_start(at, size)
        at += inside
    assert at == start + length
    assert len({window for window, _ in parts}) == len(parts)


@given(TIMES, st.integers(0, 5 * HOUR), st.integers(0, 5 * HOUR), SIZES)
def test_a_cut_span_has_the_same_windows(start: int, one: int, two: int, size: int) -> None:
    """Splitting in two and adding up gives what splitting at once gives."""
    middle, end = start + one, start + one + two
    joined: dict[int, int] = {}
    for window, inside in (*split(start, middle, size), *split(middle, end, size)):
        joined[window] = joined.get(window, 0) + inside

    assert joined == dict(split(start, end, size))


def test_no_span_has_no_parts() -> None:
    """An empty span and one that ends before it begins have no parts."""
    assert not list(split(7, 7, MINUTE))
    assert not list(split(8, 7, MINUTE))


def test_a_window_closes_after_its_grace() -> None:
    """Grace counts from the window's end, or from the beginning of metering if that is later."""
    assert closes_at(HOUR, MINUTE, 0, 5) == HOUR + MINUTE + 5
    assert closes_at(HOUR, MINUTE, 9 * HOUR, 5) == 9 * HOUR + 5


def test_metering_begins_on_the_grid_of_windows() -> None:
    """Metering that begins inside a window closes earlier ones at that window's end."""
    assert closes_at(0, HOUR, 9 * HOUR + 1, 5) == 10 * HOUR + 5


@given(TIMES, TIMES, SIZES, st.integers(0, 3 * HOUR), TIMES)
def test_an_arrival_tells_what_was_late(
    append_time: int, window: int, size: int, grace: int, since: int
) -> None:
    """Against every close of the meter the arrival compares as the append time does."""
    arrival = arrival_of(append_time, size, grace)
    close = closes_at(window_start(window, size), size, since, grace)

    assert (append_time < close) == (arrival < close)
    assert 0 <= append_time - arrival < size


@given(TIMES, st.integers(-2, 2), SIZES, st.integers(0, 3 * HOUR), TIMES)
def test_late_is_from_the_close_on(time: int, off: int, size: int, grace: int, since: int) -> None:
    """Nothing arrives late before the close; from it on the arrival is at least the close."""
    window = window_start(time, size)
    close = closes_at(window, size, since, grace)

    arrival = arrival_in(window, close + off, size=size, metering_since=since, grace=grace)

    assert arrival == 0 if off < 0 else close <= arrival <= close + off
