"""The limits of the front: how much of it one connection, one address and all clients may take.

Each has a name, under which it is configured and under which the metric
``meterstream_http_limited_total`` counts whom it stopped. What a request may contain beyond its
head (bodies, queries, names of hosts) is judged by `meterstream_services.http.limits`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, fields
from typing import Final

MALFORMED: Final = "malformed"
"""What the metric calls requests that are no HTTP, or that two readers could read differently."""


@dataclass(frozen=True, slots=True)
class FrontLimits:
    """What each client may take of the front. Times are in seconds, sizes in bytes."""

    connections_max: int = 2000
    """Open connections. One more is answered 503 and closed."""
    connections_per_address_max: int = 200
    """Open connections of one address, loopback excepted. One more is answered 503 and closed."""
    requests_per_connection_max: int = 100_000
    """The last of these is answered with ``connection: close``."""
    pipelined_max: int = 100
    """Requests sent ahead of answers. Those before are answered, then the connection is closed."""
    head_bytes_max: int = 65_536
    """Request line and headers: 414 where the target is most of it, else 431; closed."""
    headers_max: int = 100
    """Headers of a request: 431, closed."""
    head_seconds: float = 10.0
    """From connecting, or from a head's first byte, to its end: 408, closed."""
    idle_seconds: float = 75.0
    """How long a connection may wait between two requests; closed without a word."""
    body_grace_seconds: float = 10.0
    """How long a body may take before its pace counts."""
    body_bytes_per_second_min: int = 4096
    """The pace of a body in all, beyond the grace, while this side reads: 408, closed."""
    body_seconds_max: float = 600.0
    """How long a body may take in all, while this side reads: 408, closed."""
    answer_seconds: float = 30.0
    """How long a client may take nothing of an answer that waits for it; closed."""
    linger_seconds: float = 2.0
    """How long the rest of a body is thrown away after its answer, so that the client reads it."""
    handshake_seconds: float = 10.0
    """How long TLS may take to begin; closed."""


DEFAULTS: Final = FrontLimits()
MOST: Final = 1_000_000_000
_SHAPES: Final[dict[type, tuple[re.Pattern[str], str]]] = {
    int: (re.compile(r"-?[0-9]{1,20}"), "whole number"),
    float: (re.compile(r"-?[0-9]{1,20}(\.[0-9]{1,9})?"), "number of seconds"),
}
_SHOWN_MAX: Final = 40


def parse_limits(texts: list[str]) -> FrontLimits:
    """Limits from texts as ``idle_seconds=30``. Raises `ValueError` with a sentence."""
    kinds = {field.name: type(getattr(DEFAULTS, field.name)) for field in fields(FrontLimits)}
    found: dict[str, int | float] = {}
    for text in texts:
        name, _, value = text.partition("=")
        if name not in kinds:
            raise ValueError(f"{text}: no limit is called {name!r}; there are: {', '.join(kinds)}")
        usual = getattr(DEFAULTS, name)
        shape, what = _SHAPES[kinds[name]]
        if not shape.fullmatch(value):
            told = value if len(value) <= _SHOWN_MAX else f"{value[:_SHOWN_MAX]}…"
            raise ValueError(
                f"{name}={told}: {told!r} is no {what}; write {name}=NUMBER, such as "
                f"{name}={usual:g}"
            )
        found[name] = kinds[name](value)
        if not 0 < found[name] <= MOST:
            raise ValueError(
                f"{text}: must be above 0, and at most {MOST}; usual is {name}={usual:g}"
            )
    return FrontLimits(**found)  # type: ignore[arg-type]  # of the kind of each field: see above
