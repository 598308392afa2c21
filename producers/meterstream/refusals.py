"""What of a host kept an event from being recorded, told with the event's type and the asked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from meterstream.complaints import describe

if TYPE_CHECKING:
    from collections.abc import Iterable

    from meterstream.incarnation import Incarnation

_CHARACTERS_MAX: Final = 100


class NotRecorded(Exception):
    """For the meter's `Status.last_error` only; nobody catches it."""


def refuse(
    incarnation: Incarnation,
    problem: Exception,
    event_type: object,
    asked: str,
    *,
    arguments: Iterable[str] = (),
) -> None:
    """Count an event as refused; in ``strict`` raise ``problem`` itself.

    ``asked``: what of the host raised it. ``arguments``: those there are, told for a wrong name.
    """
    words = f"{shown(event_type)}: {asked}: {describe(problem)}"
    if isinstance(problem, KeyError) and arguments:
        words += f"; there are {', '.join(arguments)}"
    strict = False
    try:
        incarnation.refused(NotRecorded(words))
    except NotRecorded:
        strict = True
    if strict:
        raise problem


def name_of(function: object) -> str:
    """Module and name of a function, also of what has none."""
    name = getattr(function, "__qualname__", type(function).__qualname__)
    return f"{getattr(function, '__module__', '')}.{name}".replace("<locals>.", "")


def safe_name_of(function: object) -> str:
    """`name_of`, also of an object that cannot be asked."""
    try:
        return name_of(function)[:_CHARACTERS_MAX]
    except Exception:  # noqa: BLE001 - a stranger's proxy
        return "a function"


def shown(event_type: object) -> str:
    """The type of an event as it was said, right or wrong."""
    return event_type[:_CHARACTERS_MAX] if type(event_type) is str else type(event_type).__name__
