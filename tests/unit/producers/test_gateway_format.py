"""What goes over HTTP: bodies, answers that are believed or not, addresses and keys."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meterstream.errors import SettingsError
from meterstream.gateway import QUEUE_BYTES_MAX, QUEUE_RECORDS_MAX, GatewayTransport
from meterstream.gateway_format import (
    Terms,
    UnfitAnswer,
    error_told,
    parse_results,
    parse_terms,
    request_body,
    retry_after_seconds,
    shown,
)
from meterstream.transport import Failure
from tests.gateway_standin import KEY, Standin

PARCELS = [(7, 2, b"acme", b"one"), (8, 3, b"acme", b"two")]
SECRET = "sk-very-secret"

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)


def answer_of(*results: Any) -> bytes:  # noqa: ANN401 - whatever a stranger may answer
    """An answer with these results."""
    return json.dumps({"results": results}).encode()


def test_a_body_is_records_behind_their_lengths_and_partitions() -> None:
    """Four big-endian bytes each, then the record."""
    assert request_body([(1, 7, b"acme", b"one"), (2, 258, b"acme", b"")]) == (
        b"\x00\x00\x00\x03\x00\x00\x00\x07one\x00\x00\x00\x00\x00\x00\x01\x02"
    )


def test_results_become_reports_in_order() -> None:
    """Offsets, refusals for good and failures that pass, each to its ticket."""
    assert parse_results(answer_of([2, 0], [3, 5]), PARCELS) == [(7, 0, None), (8, 5, None)]
    assert parse_results(
        answer_of({"error": "bad\nrecord", "permanent": True}, {"error": "", "permanent": False}),
        PARCELS,
    ) == [
        (7, None, Failure("bad record", permanent=True)),
        (8, None, Failure("no reason given", permanent=False)),
    ]


@given(st.lists(JSON, min_size=2, max_size=2))
def test_no_other_result_is_success_or_loss(results: list[Any]) -> None:
    """Whatever JSON stands where a result should: doubt, unless it is exactly one."""
    reports = parse_results(answer_of(*results), PARCELS)

    for (_, partition, _, _), (_, offset, failure), result in zip(
        PARCELS, reports, results, strict=True
    ):
        if offset is not None:
            assert result == [partition, offset]
        elif failure is not None and failure.permanent:
            assert result["permanent"] is True
            assert isinstance(result["error"], str)
        else:
            assert failure is not None


@given(JSON)
def test_no_other_answer_is_believed(found: Any) -> None:  # noqa: ANN401 - see answer_of
    """An answer that is no object with a fitting list of results is refused as a whole."""
    with pytest.raises(UnfitAnswer):
        parse_results(json.dumps(found).encode(), PARCELS)


@given(st.binary())
def test_bytes_that_are_no_json_are_not_believed(answer: bytes) -> None:
    """Nor do they break anything."""
    with pytest.raises(UnfitAnswer):
        parse_results(answer, PARCELS)
    with pytest.raises(UnfitAnswer):
        parse_terms(answer)
    assert error_told(answer) is None


def test_terms_are_whole_numbers_within_bounds() -> None:
    """What the gateway takes, but never more than the SDK sends in one request."""
    good = {"partitions": 12, "bytes_max": 65_536, "records_max": 100}

    assert parse_terms(json.dumps(good).encode()) == Terms(12, 65_536, 100)
    large = parse_terms(json.dumps({**good, "bytes_max": 10**12, "records_max": 10**9}).encode())
    assert large == Terms(12, 1_000_000, 5_000)
    for name in good:
        for wrong in (0, -1, True, 1.5, "4", None, [4]):
            with pytest.raises(UnfitAnswer, match=f"{name} is not a whole number above zero"):
                parse_terms(json.dumps({**good, name: wrong}).encode())
    with pytest.raises(UnfitAnswer, match="more than any topic has"):
        parse_terms(json.dumps({**good, "partitions": 10**9}).encode())


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (None, None),
        ("120", 120),
        (" 0 ", 0),
        ("9" * 5000, 999_999_999),
        ("Thu, 01 Jan 1970 00:16:50 GMT", 10),
        ("Thu, 01 Jan 1970 00:00:00 GMT", 0),
        ("-5", None),
        ("1.5", None),
        ("٣", None),
        ("soon", None),
        ("", None),
        ("Thu, 99 Jan 1970 00:00:00 GMT", None),
    ],
)
def test_a_wait_is_read_as_seconds_or_as_a_date(value: str | None, seconds: float | None) -> None:
    """1000 seconds after 1970; what cannot be read says nothing."""
    assert retry_after_seconds(value, 1000) == seconds


@given(st.text())
def test_any_header_is_read_without_harm(value: str) -> None:
    """A wait is never negative."""
    seconds = retry_after_seconds(value, 1000)

    assert seconds is None or seconds >= 0


def test_a_strangers_words_fit_a_line() -> None:
    """No line ends, no control characters, and not too many."""
    assert shown("a\n\x1b[31m  b\x00") == "a [31m b"
    assert len(shown("x" * 10_000)) == 200


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("", "it is no address"),
        ("usage.example", "it is no address"),
        ("ftp://usage.example", "it is no address"),
        ("https://", "it is no address"),
        ("https://usage.example:port", "it is no address"),
        ("https://[::1", "it is no address"),
        ("https://usage.example/a b", "it is no address"),
        (f"https://me:{SECRET}@usage.example", "carries a user, query or fragment"),
        (f"https://usage.example?key={SECRET}", "carries a user, query or fragment"),
        (f"https://usage.example#{SECRET}", "carries a user, query or fragment"),
        ("http://usage.example", "allow_plain_http=True where the way is safe"),
        ("http://127.0.0.1.example", "use https"),
    ],
)
def test_an_address_that_cannot_be_used_is_told(url: str, words: str) -> None:
    """With the remedy, and without what may be secret in it."""
    with pytest.raises(SettingsError, match=words) as problem:
        GatewayTransport(url, api_key="key")

    assert SECRET not in str(problem.value)


@pytest.mark.parametrize("key", ["", "  ", "a b", "a\nb", "schlüssel", "x" * 5000])
def test_a_key_that_cannot_be_sent_is_told_without_showing_it(key: str) -> None:
    """Line ends around a key, as files bring them, are no part of it; within they are wrong."""
    with pytest.raises(SettingsError, match="api_key: it ") as problem:
        GatewayTransport("https://usage.example", api_key=key)

    assert not key.strip() or key not in str(problem.value)
    GatewayTransport("https://usage.example", api_key=" key\n")


def test_plain_http_is_for_this_machine_or_by_choice() -> None:
    """The path before ``/v1/records`` is kept."""
    for url in ("http://127.0.0.1:1/", "http://localhost:1", "http://[::1]:1", "https://a.example"):
        assert GatewayTransport(url, api_key="key").url == url.rstrip("/")
    far = GatewayTransport("http://usage.example/in/", api_key="key", allow_plain_http=True)
    assert far.url == "http://usage.example/in"
    with pytest.raises(SettingsError, match="timeout_seconds"):
        GatewayTransport("https://a.example", api_key="key", timeout_seconds=0)


def test_the_key_is_not_shown() -> None:
    """Neither by the transport nor in what its requests are made of."""
    transport = GatewayTransport("https://usage.example", api_key=SECRET)

    assert repr(transport) == "<GatewayTransport https://usage.example>"
    assert SECRET not in str(transport)


def test_what_waits_is_bounded_in_records_and_bytes() -> None:
    """Parcels beyond are not taken; one that is larger than all the room goes alone."""
    with Standin() as standin:
        transport = GatewayTransport(standin.url, api_key=KEY)
        transport.connect(timeout_seconds=5)
        quarter = bytes(QUEUE_BYTES_MAX // 4)

        assert transport.send([(1, 0, b"k", bytes(QUEUE_BYTES_MAX + 1)), (2, 0, b"k", b"")]) == 1
        transport.close()
        transport.connect(timeout_seconds=5)
        assert transport.send([(n, 0, b"k", quarter) for n in range(9)]) == 3
        transport.close()
        transport.connect(timeout_seconds=5)
        assert transport.send([(n, 0, b"k", b"") for n in range(20_000)]) == QUEUE_RECORDS_MAX
        transport.close()
