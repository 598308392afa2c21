"""What clocks say, and which instant that is."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo, available_timezones

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meterstream_aggregator.civil import (
    InvalidQuestion,
    format_time,
    instant,
    instants,
    local_time,
    parse_time,
)

BERLIN = ZoneInfo("Europe/Berlin")
SECOND = 1_000_000

zones = st.sampled_from(sorted(available_timezones())).map(ZoneInfo)


@given(zones, st.integers(100_000_000, 2_140_000_000), st.integers(0, SECOND - 1))
@settings(max_examples=300, deadline=None)
def test_every_instant_is_found_from_its_clock(zone: ZoneInfo, second: int, fraction: int) -> None:
    """What a clock shows at an instant leads back to it, or to its twin before it."""
    time = second * SECOND + fraction
    shown = local_time(time, zone).replace(tzinfo=None, fold=0)

    assert time in instants(shown, zone)
    assert instant(shown, zone) == instants(shown, zone)[0]


@given(
    zones,
    st.integers(100_000_000, 2_140_000_000).map(
        lambda second: local_time(second * SECOND, UTC).replace(tzinfo=None)
    ),
)
@settings(max_examples=300, deadline=None)
def test_instants_show_what_they_were_asked_for(zone: ZoneInfo, local: datetime) -> None:
    """Each instant found for a clock reading shows that reading."""
    for found in instants(local, zone):
        assert local_time(found, zone).replace(tzinfo=None, fold=0) == local


def test_a_time_shown_twice_means_the_first() -> None:
    """Half past two on the October night in Berlin is first meant in summer time."""
    assert (
        format_time(parse_time("2026-10-25T02:30", BERLIN), BERLIN) == "2026-10-25T02:30:00+02:00"
    )
    assert len(instants(datetime.fromisoformat("2026-10-25T02:30"), BERLIN)) == 2


def test_a_time_never_shown_means_the_first_after_it() -> None:
    """Half past two on the March night in Berlin means three o'clock, the first that comes."""
    assert (
        format_time(parse_time("2026-03-29T02:30", BERLIN), BERLIN) == "2026-03-29T03:00:00+02:00"
    )
    assert instants(datetime.fromisoformat("2026-03-29T02:30"), BERLIN) == ()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-03-01", "2026-02-28T23:00:00+00:00"),
        ("2026-07-01", "2026-06-30T22:00:00+00:00"),
        ("2026-03-01T12:00", "2026-03-01T11:00:00+00:00"),
        ("2026-03-01 12:00:30", "2026-03-01T11:00:30+00:00"),
        ("2026-03-01T12:00:00Z", "2026-03-01T12:00:00+00:00"),
        ("2026-03-01t12:00:00z", "2026-03-01T12:00:00+00:00"),
        ("2026-03-01T12:00:00+02:00", "2026-03-01T10:00:00+00:00"),
        ("2026-03-01T12:00:00-0330", "2026-03-01T15:30:00+00:00"),
        ("2026-03-01T12:00+02", "2026-03-01T10:00:00+00:00"),
        ("2026-03-01T12:00:00.25Z", "2026-03-01T12:00:00.250000+00:00"),
        ("2026-03-01T12:00:00,5Z", "2026-03-01T12:00:00.500000+00:00"),
        ("2026-03-01T12:00:00.1234560Z", "2026-03-01T12:00:00.123456+00:00"),
    ],
)
def test_readable_times(text: str, expected: str) -> None:
    """ISO 8601 with an offset means that instant; without one it is taken in the asked zone."""
    assert format_time(parse_time(text, BERLIN), UTC) == expected


@pytest.mark.parametrize(
    "text",
    [
        "", "now", "2026", "2026-13-01", "2026-02-30", "2026-3-1", "20260301", "2026-W01-1",
        "2026-03-01T25:00", "2026-03-01T12", "2026-03-01T12:60", "2026-03-01T12:00:00+25:00",
        "2026-03-01Z", "\u0662026-03-01", "1.5e9", "2026-03-01T12:00:00.0000001Z", " 2026-03-01",
        "1969-12-30", "9999-01-02", "0001-01-01T00:00:00+14:00",
    ],
)  # fmt: skip
def test_unreadable_times_are_refused(text: str) -> None:
    """Anything else is refused with the field's name, never guessed at."""
    with pytest.raises(InvalidQuestion) as caught:
        parse_time(text, BERLIN, field="from")

    assert caught.value.field == "from"


def test_a_plus_lost_in_a_url_is_explained() -> None:
    """A ``+`` that a URL turned into a space is pointed out."""
    with pytest.raises(InvalidQuestion, match="write \\+ as %2B"):
        parse_time("2026-03-01T12:00:00 02:00", BERLIN)


@given(st.integers(0, 4_000_000_000_000_000), zones)
@settings(max_examples=200, deadline=None)
def test_formatted_times_are_read_back(time: int, zone: ZoneInfo) -> None:
    """A time that was printed with its offset is the same instant when read."""
    offset = local_time(time, zone).utcoffset()
    if offset is None or offset % timedelta(minutes=1):
        return

    assert parse_time(format_time(time, zone), UTC) == time
