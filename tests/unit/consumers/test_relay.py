"""What a topic finds too large goes cut, and says so."""

from __future__ import annotations

from meterstream_aggregator.changes import OutboxMessage
from meterstream_consumers.relay import cut


def test_a_cut_message_says_how_long_it_was() -> None:
    """Value and headers are cut to what any topic takes; place and reason stay readable."""
    headers = (("meterstream-offset", b"7"), ("n" * 1000, b"v" * 100_000))
    message = OutboxMessage(0, "letters", b"0-7", b"x" * 2_000_000, headers)

    small = cut(message)

    assert (small.partition, small.topic, small.key) == (0, "letters", b"0-7")
    assert small.value is not None
    assert message.value is not None
    assert message.value.startswith(small.value)
    size = len(small.value) + sum(len(name) + len(text) for name, text in small.headers)
    assert 100_000 < size < 700_000
    assert small.headers[0] == headers[0]
    assert small.headers[-1] == ("meterstream-cut-from-bytes", b"2000000")


def test_any_number_of_headers_is_cut() -> None:
    """A record with a hundred thousand headers leaves with a few."""
    message = OutboxMessage(0, "letters", b"k", None, (("h", b"x" * 900),) * 100_000)

    small = cut(message)

    assert sum(len(name) + len(text) for name, text in small.headers) < 200_000
    assert small.headers[-1] == ("meterstream-cut-from-bytes", b"0")
