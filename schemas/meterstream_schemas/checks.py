"""The checks at every door: is this a value an event may carry? One message each, with the remedy.

Used by the SDK and the gateway before a number is spent, and by the worker on what arrives.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from meterstream_schemas.errors import InvalidEvent
from meterstream_schemas.events import (
    ATTRIBUTE_NAME_BYTES_MAX,
    ATTRIBUTE_VALUE_BYTES_MAX,
    ATTRIBUTES_MAX,
    TIME_MAX_MICROSECONDS,
)

_CONTROL: Final = frozenset(map(chr, [*range(32), 127]))


def check_text(value: object, *, field: str, bytes_max: int) -> str:
    """A non-empty text without control characters or lone surrogates, at most ``bytes_max`` long.

    Raises `InvalidEvent` that names ``field`` and says what to pass instead.
    """
    if not isinstance(value, str):
        raise InvalidEvent(field, f"{type(value).__name__} is not text; pass a str")
    if not value:
        raise InvalidEvent(field, "is empty; pass at least one character")
    _check_encodable(value, field, bytes_max)
    if not value.isprintable() and not _CONTROL.isdisjoint(value):
        raise InvalidEvent(field, f"{value[:40]!r} holds a control character; remove it")
    return value


def check_attributes(attributes: object) -> Mapping[str, str]:
    """A mapping of text to text within the limits of ``events``. Values may be empty.

    Raises `InvalidEvent` that names the attribute.
    """
    if not isinstance(attributes, Mapping):
        raise InvalidEvent(
            "attributes", f"{type(attributes).__name__} is not a mapping; pass a dict"
        )
    if len(attributes) > ATTRIBUTES_MAX:
        raise InvalidEvent(
            "attributes", f"{len(attributes)} of them; at most {ATTRIBUTES_MAX} are kept"
        )
    for name, value in attributes.items():
        check_text(name, field="attributes", bytes_max=ATTRIBUTE_NAME_BYTES_MAX)
        check_value(value, field=f"attributes.{name}", bytes_max=ATTRIBUTE_VALUE_BYTES_MAX)
    return attributes


def check_value(value: object, *, field: str, bytes_max: int) -> str:
    """A text that may be empty and hold anything UTF-8 can, at most ``bytes_max`` long.

    Raises `InvalidEvent` that names ``field``.
    """
    if not isinstance(value, str):
        raise InvalidEvent(field, f"{type(value).__name__} is not text; pass a str")
    _check_encodable(value, field, bytes_max)
    return value


def check_time(time: int) -> int:
    """Microseconds since 1970-01-01 UTC, before the year 10000. Raises `InvalidEvent`."""
    if not 0 <= time < TIME_MAX_MICROSECONDS:
        raise InvalidEvent(
            "time", f"{time} µs lies outside the years 1970 to 9999; pass microseconds UTC"
        )
    return time


def _check_encodable(value: str, field: str, bytes_max: int) -> None:
    if len(value) > bytes_max:
        raise InvalidEvent(field, f"is {len(value)} characters; at most {bytes_max} bytes are kept")
    if value.isascii():
        return
    try:
        size = len(value.encode())
    except UnicodeEncodeError:
        raise InvalidEvent(
            field, f"{value[:40]!r} holds a lone surrogate; repair the text"
        ) from None
    if size > bytes_max:
        raise InvalidEvent(field, f"is {size} bytes; at most {bytes_max} are kept")
