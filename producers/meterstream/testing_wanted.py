"""What a test wants of a recorded event, and the words when there is none like it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from meterstream_schemas.events import EventKind

if TYPE_CHECKING:
    from collections.abc import Sequence

    from meterstream.testing import RecordedEvent

_SHOWN_MAX: Final = 10
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class _Any:
    """Stands for whatever an event has."""

    def __repr__(self) -> str:
        return "ANY"


ANY: Final[Any] = _Any()
"""Any value, or none."""


class Wanted(NamedTuple):
    """Field by field, what an event must have."""

    fields: Mapping[str, Any]

    @classmethod
    def of(cls, event_type: object, given: Mapping[str, Any]) -> Wanted:
        """Check and keep what was asked for. TypeError for what no event can have."""
        fields = {"type": event_type, "kind": EventKind.USAGE, **given}
        unknown = sorted(set(fields) - _FIELDS)
        if unknown:
            raise TypeError(f"an event has no {unknown[0]!r}; it has {', '.join(sorted(_FIELDS))}")
        quantity, time = fields.get("quantity"), fields.get("time")
        if isinstance(quantity, float):
            raise TypeError(f"quantity: {quantity!r} is a float; write Decimal('{quantity!r}')")
        if isinstance(quantity, str | int):
            fields["quantity"] = Decimal(quantity)
        if isinstance(time, datetime) and time.tzinfo is None:
            raise TypeError(f"time: {time} has no zone; write datetime(..., tzinfo=UTC)")
        if isinstance(time, int):
            fields["time"] = _EPOCH + timedelta(microseconds=time)
        return cls({name: value for name, value in fields.items() if value is not ANY})

    def misses(self, event: RecordedEvent) -> list[str]:
        """What is other than wanted, one phrase each; none when the event fits."""
        found: list[str] = []
        for name, wanted in self.fields.items():
            value = getattr(event, name)
            if isinstance(wanted, Mapping):
                for inner, each in wanted.items():
                    found += _miss(f"{name}.{inner}", each, value.get(inner))
            else:
                found += _miss(name, wanted, value)
        return found

    def told(self) -> str:
        """What is wanted, as the arguments it was asked with."""
        rest = dict(self.fields)
        event_type = rest.pop("type", None)
        if rest.get("kind") is EventKind.USAGE:
            del rest["kind"]
        asked = ", ".join(f"{name}={_shown(value)}" for name, value in rest.items())
        who = "any event" if event_type is None else _shown(event_type)
        return f"{who} with {asked}" if asked else who


_FIELDS: Final = frozenset(
    {"type", "tenant", "quantity", "attributes", "session", "subject", "key", "time", "kind"}
)


def complaint(
    wanted: Wanted, events: Sequence[RecordedEvent], found: Sequence[RecordedEvent], expected: str
) -> str:
    """What was wanted and what there is: those that fit first, then near misses before others."""
    lines = [f"expected {expected}, recorded {told(len(found))}: {wanted.told()}"]
    if not events:
        return f"{lines[0]}\nnothing was recorded"
    misses = {index: wanted.misses(event) for index, event in enumerate(events)}
    nearest = sorted(misses, key=lambda index: len(misses[index]))
    lines.append(f"{len(events)} recorded, the nearest first:")
    for index in nearest[:_SHOWN_MAX]:
        why = "; ".join(misses[index])
        lines.append(f"  {_line(events[index])}{f'  <- {why}' if why else '  <- fits'}")
    if len(nearest) > _SHOWN_MAX:
        lines.append(f"  and {len(nearest) - _SHOWN_MAX} more")
    return "\n".join(lines)


def told(times: int) -> str:
    """How often, in words."""
    return {0: "never", 1: "once"}.get(times, f"{times} times")


def _miss(name: str, wanted: object, value: object) -> list[str]:
    if callable(wanted):
        return [] if wanted(value) else [f"{name} is {_shown(value)}, which is refused"]
    if value == wanted:
        return []
    if wanted is None:
        return [f"{name} is {_shown(value)}, not absent"]
    if value is None:
        return [f"{name} is absent, not {_shown(wanted)}"]
    return [f"{name} is {_shown(value)}, not {_shown(wanted)}"]


def _line(event: RecordedEvent) -> str:
    kind = "" if event.kind is EventKind.USAGE else f" ({event.kind})"
    rest = {name: value for name, value in event._asdict().items() if value not in (None, {})}
    told = " ".join(
        f"{name}={_shown(value)}" for name, value in rest.items() if name not in {"type", "kind"}
    )
    return f"{event.type}{kind} {told}"


def _shown(value: object) -> str:
    if isinstance(value, EventKind):
        return str(value)
    if isinstance(value, Decimal):
        return f"{value:f}"
    if isinstance(value, datetime):
        return value.isoformat()
    if callable(value):
        return getattr(value, "__name__", repr(value))
    return f"{value!r:.200}"
