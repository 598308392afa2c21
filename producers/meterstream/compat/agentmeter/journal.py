"""The latest events that a client recorded, in memory: the usage API lists figures, not events."""

from __future__ import annotations

from collections import deque
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from meterstream.compat.agentmeter.errors import AgentMeterValidationError

if TYPE_CHECKING:
    from meterstream.compat.agentmeter.events import Event

EVENTS_MAX: Final = 1000


class Journal:
    """Bounded; the oldest leave. Safe from any thread."""

    def __init__(self) -> None:
        self._events: Final[deque[Event]] = deque(maxlen=EVENTS_MAX)

    def note(self, event: Event) -> None:
        """Keep an event."""
        self._events.append(event)

    def find(
        self,
        *,
        limit: int | None = None,
        since: str | None = None,
        until: str | None = None,
        **fields: str | None,
    ) -> list[dict[str, Any]]:
        """Events whose fields are as given (None is any), the newest first."""
        first, last = _time("start_date", since), _time("end_date", until)
        wanted = {name: value for name, value in fields.items() if value is not None}
        found: list[dict[str, Any]] = []
        for event in reversed(self._events.copy()):
            if limit is not None and len(found) >= limit:
                break
            if (first and event.timestamp < first) or (last and event.timestamp > last):
                continue
            if all(getattr(event, name) == value for name, value in wanted.items()):
                found.append(event.dict())
        return found


def _time(field: str, value: str | None) -> datetime | None:
    if value is None:
        return None
    try:
        time = datetime.fromisoformat(value)
    except (TypeError, ValueError):
        raise AgentMeterValidationError(f"{field}: {value!r:.80} is no ISO 8601 time") from None
    return time if time.tzinfo else time.replace(tzinfo=UTC)
