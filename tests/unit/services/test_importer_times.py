"""What a time cell means, and what it may not mean."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meterstream_services.importer.times import microseconds, parse_time

NEW_YORK = ZoneInfo("America/New_York")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2023-11-16 18:17:03.9799600", "2023-11-16T18:17:03.979960+00:00"),
        ("2015-05-17T10:05:03+00:00", "2015-05-17T10:05:03+00:00"),
        ("2015-05-17T10:05:03Z", "2015-05-17T10:05:03+00:00"),
        ("2015-05-17T10:05:03 +0230", "2015-05-17T07:35:03+00:00"),
        ("2015-05-17T10:05:03-05", "2015-05-17T15:05:03+00:00"),
        ("2015-05-17 10:05", "2015-05-17T10:05:00+00:00"),
        ("2015-05-17", "2015-05-17T00:00:00+00:00"),
        (" 2015-05-17T10:05:03,5Z ", "2015-05-17T10:05:03.500000+00:00"),
    ],
)
def test_the_forms_of_a_time(text: str, expected: str) -> None:
    """ISO 8601 with T or blank, any fraction, with or without seconds and offset, is understood."""
    assert parse_time(text, UTC) == microseconds(datetime.fromisoformat(expected))


def test_digits_beyond_the_microsecond_move_a_time_back() -> None:
    """Nine digits are cut to six, not rounded: the instant stays in its window."""
    whole = parse_time("2026-01-01T00:14:59.999999Z", UTC)

    assert parse_time("2026-01-01T00:14:59.999999999Z", UTC) == whole


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "not a time"),
        ("yesterday", "not a time"),
        ("1700000000", "not a time"),
        ("17/05/2015 10:00", "not a time"),
        ("2015-13-01T00:00:00Z", "month"),
        ("2015-02-30T00:00:00Z", "day"),
        ("2015-05-17T24:00:00Z", "hour"),
        ("2015-05-17T10:05:60Z", "second"),
        ("2015-05-17T10:05:00+99:00", "offset"),
        ("2015-05-17T10:05:00+02:75", "59 minutes"),
        ("2015-05-17T10:05:03.1234567890Z", "not a time"),
        ("٢٠١٥-05-17T10:05:03Z", "not a time"),
    ],
)
def test_what_is_no_time_is_refused(text: str, reason: str) -> None:
    """Text that is no instant is refused with the reason."""
    with pytest.raises(ValueError, match=reason):
        parse_time(text, UTC)


def test_naive_time_is_local_time_of_the_zone() -> None:
    """Without an offset the zone decides; with one the zone does not matter."""
    assert parse_time("2026-07-01 12:00:00", NEW_YORK) == parse_time("2026-07-01T16:00:00Z", UTC)
    assert parse_time("2026-07-01T12:00:00Z", NEW_YORK) == parse_time("2026-07-01T12:00:00Z", UTC)


def test_an_hour_that_occurs_twice_means_the_first() -> None:
    """At the end of daylight saving an ambiguous local time is its first occurrence."""
    assert parse_time("2026-11-01 01:30:00", NEW_YORK) == parse_time("2026-11-01T05:30:00Z", UTC)


def test_a_local_time_that_clocks_skip_is_refused() -> None:
    """A local time inside the gap of spring names no instant."""
    with pytest.raises(ValueError, match=r"clocks of America/New_York skip it"):
        parse_time("2026-03-08 02:30:00", NEW_YORK)


@given(
    st.datetimes(min_value=datetime(1970, 1, 2), max_value=datetime(9999, 12, 30)),  # noqa: DTZ001 - naive on purpose
    st.integers(-14 * 60, 14 * 60),
)
def test_what_isoformat_writes_is_read_back_exactly(naive: datetime, minutes: int) -> None:
    """Every aware datetime survives the way through text to the microsecond."""
    moment = naive.replace(tzinfo=timezone(timedelta(minutes=minutes)))

    assert parse_time(moment.isoformat(), NEW_YORK) == microseconds(moment)
