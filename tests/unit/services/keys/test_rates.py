"""How much a key may send."""

from __future__ import annotations

import json
import threading

import pytest
from starlette.requests import HTTPConnection

from meterstream_services.http.guarding import SCOPE_NAME
from meterstream_services.http.rates import (
    BUCKETS_MAX,
    BURST_SECONDS,
    LOSES_ON_429,
    RATES_NAME,
    Buckets,
    Rates,
    charge,
    too_fast,
)
from meterstream_services.keys.principal import ANYBODY, NOBODY, Principal, Rate, Scope
from tests.unit.services.keys.making import Clock

ACME = Principal("abcdEFGH", frozenset({Scope.INGEST}), None, rate=Rate(10, 100))


def test_a_rate_holds_over_time() -> None:
    """Asked as fast as can be, a bucket gives its rate and one burst, and not more."""
    clock = Clock()
    buckets = Buckets(clock)
    taken = 0

    for _ in range(10_000):  # Ten seconds, a thousand tries in each.
        taken += buckets.take("a", 1, 50) is None
        clock.seconds += 0.001

    assert 50 * 10 <= taken <= 50 * (10 + BURST_SECONDS) + 1


def test_waiting_as_told_is_enough() -> None:
    """Who waits for the seconds that are told is served; who comes earlier is not."""
    clock = Clock()
    buckets = Buckets(clock)
    while (wait := buckets.take("a", 7, 3)) is None:
        pass

    clock.seconds += wait * 0.9
    assert buckets.take("a", 7, 3) is not None
    clock.seconds += wait * 0.1 + 0.001

    assert buckets.take("a", 7, 3) is None


def test_a_batch_larger_than_the_burst_passes() -> None:
    """A batch of any size is taken once there is anything, and is paid for afterwards."""
    clock = Clock()
    buckets = Buckets(clock)

    assert buckets.take("a", 10_000, 100) is None
    assert buckets.take("a", 1, 100) == pytest.approx((10_000 - 200) / 100)


def test_refusals_cost_nothing() -> None:
    """Whoever keeps asking in vain is not kept out for longer by it."""
    clock = Clock()
    buckets = Buckets(clock)
    buckets.take("a", 300, 100)
    first = buckets.take("a", 1, 100)

    assert [buckets.take("a", 1, 100) for _ in range(100)] == [first] * 100


def test_buckets_are_bounded() -> None:
    """However many names come, only so many are remembered, those that came last."""
    buckets = Buckets(Clock())
    for number in range(BUCKETS_MAX + 500):
        buckets.take(str(number), 1, 1)

    assert len(buckets) == BUCKETS_MAX


def test_buckets_from_many_threads() -> None:
    """Several threads together get no more than one would."""
    buckets = Buckets(Clock())
    taken: list[int] = []

    def take() -> None:
        taken.append(sum(buckets.take("a", 1, 100) is None for _ in range(1000)))

    threads = [threading.Thread(target=take) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sum(taken) == 100 * BURST_SECONDS


def test_keys_do_not_share(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each key has requests and events of its own; nobody is limited where no keys are."""
    rates = Rates(Clock())
    other = Principal("other000", frozenset({Scope.INGEST}), None)
    for _ in range(20):
        assert rates.of_request(ACME, "1.2.3.4") is None

    assert rates.of_request(ACME, "5.6.7.8") is not None
    assert rates.of_request(other, "1.2.3.4") is None
    assert rates.of_events(ACME, 200) is None
    assert rates.of_events(ACME, 1) is not None
    assert rates.of_events(other, 100_000) is None
    for _ in range(100):
        assert rates.of_request(ANYBODY, "1.2.3.4") is None
        assert rates.of_events(ANYBODY, 10**9) is None


def test_requests_without_a_key_are_limited_by_address() -> None:
    """On paths that let such requests in, an address has a rate like a key's."""
    rates = Rates(Clock())

    waits = [rates.of_request(NOBODY, "1.2.3.4") for _ in range(30_000)]

    assert waits[-1] is not None
    assert rates.of_request(NOBODY, "1.2.3.5") is None


def test_charging_a_request() -> None:
    """Routes charge a request with its events; without limits in front nothing is charged."""
    scope = {"type": "http", "headers": [], SCOPE_NAME: ACME, RATES_NAME: Rates(Clock())}

    assert charge(HTTPConnection(scope), 200) is None
    assert charge(HTTPConnection(scope), 1) == pytest.approx(0.001)
    assert charge(HTTPConnection(scope), 1, principal=ANYBODY) is None
    assert charge(HTTPConnection({"type": "http", "headers": []}), 10**9) is None


def test_what_is_answered() -> None:
    """429 with whole seconds to wait; 503 for the clients that do not try again on 429."""
    answer = too_fast("/v1/events", 1.2)
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "2")
    assert answer.media_type == "application/problem+json"

    for path in LOSES_ON_429:
        answer = too_fast(path, 0.001)
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
        told = json.loads(bytes(answer.body))
        assert "go on in 1 s" in json.dumps(told)
        assert (told.get("error") == "service_unavailable") == (path == "/v1/events/batch")
