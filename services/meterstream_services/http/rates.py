"""How much a key may send: requests, events and bytes by the second.

`charge` is what routes that take events call, once they know how many there are and before they
give them to the door::

    wait_seconds = charge(request, len(offers))
    if wait_seconds is not None:
        return too_fast(request.scope["path"], wait_seconds)

Each is a bucket of tokens that fills at the key's rate up to `BURST_SECONDS` of it. Whoever finds
tokens may take more than there are: the bucket is in debt then, and the next has to wait until it
is paid off. So a batch of any size passes, and the rate holds over time. Buckets are this process's
own: with two gateways behind one address a key may send twice as much. Where no keys were made
nobody is limited.
"""

from __future__ import annotations

import math
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from meterstream_services.http.guarding import SCOPE_NAME
from meterstream_services.http.shapes import error_shape
from meterstream_services.keys.principal import ANYBODY, Principal

if TYPE_CHECKING:
    from starlette.requests import HTTPConnection
    from starlette.responses import Response

REQUESTS_PER_SECOND: Final = 10_000
EVENTS_PER_SECOND: Final = 500_000
"""What a key may send unless it was made with other rates."""
BURST_SECONDS: Final = 2.0
BUCKETS_MAX: Final = 10_000
"""Most keys, or addresses, that are remembered; the one that was idle longest is forgotten."""
RATES_NAME: Final = "meterstream.rates"
"""Under which name the middleware puts the `Rates` into the ASGI scope."""
LOSES_ON_429: Final = frozenset({"/v1/events/batch", "/v1/events/ingest", "/api/meter/event"})
"""Paths whose client does not try again on 429 and does on 503: CLIMeter's batch, which it throws
away, StripeMeter's events and AgentMeter 0.2's, of which a single one is in nobody's buffer."""


@dataclass(slots=True)
class _Bucket:
    tokens: float
    filled_at: float


class Buckets:
    """Token buckets by name, no more than `BUCKETS_MAX`. For any thread.

    ``clock`` is in seconds and never goes back.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._buckets: OrderedDict[str, _Bucket] = OrderedDict()
        self._lock = threading.Lock()

    def take(
        self, name: str, amount: float, per_second: float, *, in_debt: bool = False
    ) -> float | None:
        """Take from a bucket. None: taken; else nothing was, and so many seconds are to wait.

        ``in_debt``: take also from one that is empty.
        """
        now, most = self._clock(), per_second * BURST_SECONDS
        with self._lock:
            bucket = self._buckets.get(name)
            if bucket is None:
                bucket = self._buckets[name] = _Bucket(most, now)
                if len(self._buckets) > BUCKETS_MAX:
                    self._buckets.popitem(last=False)
            else:
                self._buckets.move_to_end(name)
                grown = (now - bucket.filled_at) * per_second
                bucket.tokens = min(most, bucket.tokens + grown)
                bucket.filled_at = now
            if bucket.tokens > 0 or in_debt:
                bucket.tokens -= amount
                return None
            return max(-bucket.tokens / per_second, 0.001)

    def __len__(self) -> int:
        return len(self._buckets)


class Rates:
    """The limits of one application."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._requests = Buckets(clock)
        self._events = Buckets(clock)
        self._bytes = Buckets(clock)

    def of_request(self, principal: Principal, address: str) -> float | None:
        """Charge one request; seconds to wait if it is too many. By address for those without."""
        if principal is ANYBODY or (principal.key is None and principal.scopes):
            return None
        name = f"key {principal.key}" if principal.key is not None else f"address {address}"
        most = principal.rate.requests_per_second or REQUESTS_PER_SECOND
        return self._requests.take(name, 1, most)

    def of_events(self, principal: Principal, events: int) -> float | None:
        """Charge events; seconds to wait if they are too many."""
        if principal.key is None:
            return None
        most = principal.rate.events_per_second or EVENTS_PER_SECOND
        return self._events.take(principal.key, events, most)

    def of_bytes(self, principal: Principal, size: int, *, in_debt: bool = False) -> float | None:
        """Charge bytes of a body; seconds to wait if they are too many.

        ``in_debt``: they were read already, and are charged whether or not they are too many.
        """
        most = principal.rate.bytes_per_second
        if principal.key is None or most is None:
            return None
        return self._bytes.take(principal.key, size, most, in_debt=in_debt)


def charge(
    request: HTTPConnection, events: int, *, principal: Principal | None = None
) -> float | None:
    """Charge a request's key with its events. None: go on; else the seconds to wait.

    ``principal`` where it is not the request's own, as with customer ids that are signed.
    """
    rates = request.scope.get(RATES_NAME)
    asker = principal or request.scope.get(SCOPE_NAME, ANYBODY)
    if rates is None or not isinstance(asker, Principal):
        return None
    assert isinstance(rates, Rates)
    return rates.of_events(asker, events)


def too_fast(
    path: str, wait_seconds: float, what: str = "this key sends more than its rate allows"
) -> Response:
    """The answer to somebody who sends too much, in the shape of the path."""
    status = 503 if path in LOSES_ON_429 else 429
    seconds = max(1, math.ceil(wait_seconds))
    response = error_shape(path)(status, f"{what}; go on in {seconds} s")
    response.headers["Retry-After"] = str(seconds)
    return response
