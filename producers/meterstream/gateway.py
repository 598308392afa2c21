"""The transport over HTTP: to a gateway that writes to Kafka, for hosts that cannot reach a broker.

The same numbers and outcomes as over Kafka. What an answer means, status by status::

    200, a result per record, in order  each record has its offset, its refusal, or is in doubt
    413, or 400 with the gateway's word half as many are sent; one alone is refused for good
    401, 403                            everything waits; the key is wrong and a person is needed
    429, 503                            everything waits as long as Retry-After says
    anything else, or no whole answer   the request is in doubt: sent again, the same numbers

Doubt is never loss and never success. A request is at most one at a time, so a partition keeps its
order. After trouble, requests are smaller and rarer until something arrives.

httpx is imported when a connection is first made. All of it is used from the background thread
only. A poll performs one request, which takes up to ``timeout_seconds`` when the other end is slow.
"""

from __future__ import annotations

import ipaddress
import random
import time
from collections import deque
from itertools import islice
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from meterstream import processes
from meterstream.errors import SettingsError, TransportBroken, TransportUnavailable
from meterstream.gateway_format import (
    CONTENT_TYPE,
    FRAME_BYTES,
    PATH,
    RECORDS_HEADER,
    Terms,
    UnfitAnswer,
    answer_bytes_max,
    error_told,
    parse_results,
    parse_terms,
    request_body,
    retry_after_seconds,
)
from meterstream.transport import Failure

if TYPE_CHECKING:
    from collections.abc import Sequence

    import httpx

    from meterstream.gateway_format import Answer
    from meterstream.gateway_wire import Wire
    from meterstream.transport import Parcel, Report

TIMEOUT_SECONDS: Final = 10.0
QUEUE_RECORDS_MAX: Final = 10_000
QUEUE_BYTES_MAX: Final = 16 * 1024 * 1024
WAIT_SECONDS: Final = 0.2
WAIT_SECONDS_MAX: Final = 10.0
"""After trouble: doubled each time, until something arrives."""
RETRY_AFTER_SECONDS_MAX: Final = 120.0
_JITTER: Final = 0.25
_HOLDING: Final = frozenset({401, 403, 429, 503})
"""Statuses that say something of the sender, nothing of the records."""
_KEY_CHARACTERS_MAX: Final = 4_096


class GatewayTransport:
    """See `meterstream.transport.Transport`.

    - ``url``: the gateway's origin, with or without a path before ``/v1/records``. Without TLS
      only to this very machine, or with ``allow_plain_http``: the key goes with every request.
    - ``timeout_seconds``: of one request.
    - ``client``: an `httpx.Client` of the host's own, for its proxies and certificates. It is
      used from the background thread and not closed; httpx logs a line for each of its requests.

    Raises `SettingsError` for an address or a key that cannot be used.
    """

    def __init__(
        self,
        url: str,
        *,
        api_key: str,
        timeout_seconds: float = TIMEOUT_SECONDS,
        client: httpx.Client | None = None,
        allow_plain_http: bool = False,
    ) -> None:
        if not timeout_seconds > 0:
            raise SettingsError(f"timeout_seconds: {timeout_seconds!r} is not positive")
        self.url: Final = _checked_url(url, allow_plain_http=allow_plain_http)
        self._key: Final = _checked_key(api_key)
        self._timeout_seconds: Final = timeout_seconds
        self._client: Final = client
        self._wire: Wire | None = None
        self._queue: Final[deque[Parcel]] = deque()
        self._queue_bytes = 0
        self._terms = Terms(1, 1, 1)
        self._records_limit = 1
        self._wait_until = 0.0
        self._wait_seconds = WAIT_SECONDS
        self._trouble: str | None = None
        self._held_why = ""

    def connect(self, *, timeout_seconds: float) -> int:
        """See `meterstream.transport.Transport`."""
        self.close()
        waits = self._wait_until - time.monotonic()
        if waits > 0:
            raise TransportUnavailable(f"{self._held_why}; asked again in {waits:.1f} s")
        with processes.no_fork():
            # Imported here: the host pays for it when it records, not when it imports the SDK.
            from meterstream.gateway_wire import NoAnswer, Wire  # noqa: PLC0415

            wire = Wire(self.url + PATH, self._key, self._client)
            try:
                answer = wire.exchange(
                    "GET", {}, b"", answer_bytes_max(0), min(timeout_seconds, self._timeout_seconds)
                )
            except NoAnswer as problem:
                wire.close()
                raise TransportUnavailable(f"{self.url}: {problem}") from None
        if answer.status != 200:
            wire.close()
            why = self._refused(answer)
            if answer.status in _HOLDING:
                self._hold(why, answer.retry_after)
            raise TransportUnavailable(why)
        try:
            self._terms = parse_terms(answer.body)
        except UnfitAnswer as problem:
            wire.close()
            raise TransportUnavailable(
                f"{self.url}{PATH} does not answer as a gateway: {problem}; see gateway_url"
            ) from None
        self._wire = wire
        self._records_limit = self._terms.records_max
        self._wait_seconds = WAIT_SECONDS
        return self._terms.partitions

    def send(self, parcels: Sequence[Parcel]) -> int:
        """See `meterstream.transport.Transport`."""
        self._open_wire()
        queue, taken = self._queue, 0
        for parcel in parcels:
            size = len(parcel[3]) + FRAME_BYTES
            if len(queue) >= QUEUE_RECORDS_MAX or (
                queue and self._queue_bytes + size > QUEUE_BYTES_MAX
            ):
                break
            queue.append(parcel)
            self._queue_bytes += size
            taken += 1
        return taken

    def poll(self, timeout_seconds: float) -> list[Report]:
        """See `meterstream.transport.Transport`. One request, when there is something to send."""
        wire = self._open_wire()
        waits = self._wait_until - time.monotonic()
        if not self._queue or waits > 0:
            time.sleep(min(timeout_seconds, waits) if self._queue else timeout_seconds)
            return []
        batch = self._batch()
        from meterstream.gateway_wire import NoAnswer  # noqa: PLC0415 - see connect

        try:
            answer = self._ask(wire, batch)
        except NoAnswer as problem:
            why = f"{self.url}: {problem}"
            return self._doubt(batch, why) if problem.sent else self._hold(why, None)
        if answer.status == 200:
            try:
                reports = parse_results(answer.body, batch)
            except UnfitAnswer as problem:
                return self._doubt(batch, f"an answer that cannot be believed: {problem}")
            self._forget(len(batch))
            self._arrived(reports)
            return reports
        return self._not_taken(batch, answer)

    def trouble(self) -> str | None:
        """See `meterstream.transport.Transport`."""
        trouble, self._trouble = self._trouble, None
        return trouble

    def close(self) -> None:
        """See `meterstream.transport.Transport`."""
        wire, self._wire = self._wire, None
        self._queue.clear()
        self._queue_bytes = 0
        if wire is not None:
            wire.close()

    def after_fork(self) -> None:
        """See `meterstream.transport.Transport`. The connections stay the parent's."""
        wire, self._wire = self._wire, None
        if wire is not None:
            wire.abandon()
        self._queue.clear()
        self._queue_bytes = 0
        self._wait_until = 0.0

    def __repr__(self) -> str:
        return f"<GatewayTransport {self.url}>"

    def _open_wire(self) -> Wire:
        if self._wire is None:
            raise TransportBroken("there is no connection")
        return self._wire

    def _batch(self) -> list[Parcel]:
        """The front of the queue, as much as one request may have; one parcel at least."""
        batch: list[Parcel] = []
        room = self._terms.bytes_max
        for parcel in islice(self._queue, self._records_limit):
            room -= len(parcel[3]) + FRAME_BYTES
            if batch and room < 0:
                break
            batch.append(parcel)
        return batch

    def _ask(self, wire: Wire, batch: list[Parcel]) -> Answer:
        headers = {
            "Content-Type": CONTENT_TYPE,
            RECORDS_HEADER: str(len(batch)),
        }
        body = request_body(batch)
        return wire.exchange(
            "POST", headers, body, answer_bytes_max(len(batch)), self._timeout_seconds
        )

    def _not_taken(self, batch: list[Parcel], answer: Answer) -> list[Report]:
        """What an answer means that is not 200."""
        told = error_told(answer.body)
        if answer.status == 413 or (answer.status == 400 and told is not None):
            if len(batch) > 1:
                self._records_limit = len(batch) // 2
                return []
            if told is not None:
                self._forget(1)
                return [(batch[0][0], None, Failure(told, permanent=True))]
        if answer.status in _HOLDING:
            return self._hold(self._refused(answer), answer.retry_after)
        return self._doubt(batch, self._refused(answer))

    def _hold(self, why: str, retry_after: str | None) -> list[Report]:
        """Nothing was sent, or nothing taken: all of it stays here for a while."""
        self._trouble = self._held_why = why
        self._wait(retry_after)
        return []

    def _doubt(self, batch: list[Parcel], why: str) -> list[Report]:
        """Nobody knows what became of a request. Smaller ones follow, and later."""
        self._forget(len(batch))
        self._records_limit = max(1, len(batch) // 2)
        self._wait(None)
        failure = Failure(why, permanent=False)
        return [(parcel[0], None, failure) for parcel in batch]

    def _arrived(self, reports: list[Report]) -> None:
        if any(failure is None or failure.permanent for _, _, failure in reports):
            self._wait_seconds = WAIT_SECONDS
            grown = self._records_limit + max(1, self._records_limit // 8)
            self._records_limit = min(grown, self._terms.records_max)
        else:
            self._wait(None)

    def _forget(self, count: int) -> None:
        for _ in range(count):
            self._queue_bytes -= len(self._queue.popleft()[3]) + FRAME_BYTES

    def _wait(self, retry_after: str | None) -> None:
        """Send nothing for a while: as long as was asked, else longer each time."""
        asked_seconds = retry_after_seconds(retry_after, time.time())
        seconds = self._wait_seconds
        self._wait_seconds = min(2 * seconds, WAIT_SECONDS_MAX)
        if asked_seconds is not None:
            seconds = max(seconds, min(asked_seconds, RETRY_AFTER_SECONDS_MAX))
        # Later by chance, so that not all who wait come at once.
        seconds *= 1 + _JITTER * random.random()  # noqa: S311 - no secret
        self._wait_until = time.monotonic() + seconds

    def _refused(self, answer: Answer) -> str:
        """A status other than 200 in one sentence, with the remedy."""
        status, told = answer.status, error_told(answer.body)
        words = f"{self.url} answers {status}" + (f" ({told})" if told else "")
        if status in {401, 403}:
            return f"{words}: the key is not accepted; see api_key or METERSTREAM_API_KEY"
        if status in {429, 503}:
            return f"{words}: it takes nothing at present, events wait"
        if 300 <= status < 400:
            return f"{words}: redirects are not followed; give the final address as gateway_url"
        if status == 404:
            return f"{words}: there is no gateway at {PATH}; see gateway_url"
        if status == 413:
            return f"{words} to a single record: a proxy on the way takes too little; raise that"
        return words


def _checked_url(url: str, *, allow_plain_http: bool) -> str:
    """The address without a slash at its end. Errors show no more of it than the host."""
    wrong = SettingsError("gateway_url: it is no address; give one like https://usage.example")
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        raise wrong from None
    if parts.scheme not in {"http", "https"} or not host or not url.isprintable() or " " in url:
        raise wrong
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise SettingsError(
            f"gateway_url: the address of {host} carries a user, query or fragment; give it "
            "without, and the key as api_key"
        )
    if parts.scheme == "http" and not (allow_plain_http or _is_this_machine(host)):
        raise SettingsError(
            f"gateway_url: http://{host} would carry the key in the clear; use https, or pass "
            "allow_plain_http=True where the way is safe"
        )
    return f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/')}"


def _checked_key(api_key: str) -> str:
    key = api_key.strip()
    if not key or not key.isascii() or not key.isprintable() or " " in key:
        raise SettingsError("api_key: it is empty or has other than printable ASCII letters")
    if len(key) > _KEY_CHARACTERS_MAX:
        raise SettingsError(f"api_key: it has {len(key)} letters; at most {_KEY_CHARACTERS_MAX}")
    return key


def _is_this_machine(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
