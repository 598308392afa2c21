"""Events on their way to the log, waited for or not, each booked once it was taken."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from meterstream.compat import wiring
from meterstream.compat.agentmeter.books import book
from meterstream.compat.agentmeter.errors import AgentMeterDeliveryError, AgentMeterValidationError
from meterstream.compat.agentmeter.results import MeterEventResponse
from meterstream.compat.agentmeter.translating import recorded

if TYPE_CHECKING:
    from meterstream.compat.agentmeter.events import Event
    from meterstream.compat.agentmeter.journal import Journal
    from meterstream.compat.wiring import Pending, Sent


def send(event: Event, journal: Journal, *, timeout: float) -> MeterEventResponse:
    """Record and wait until the event is in the log. Blocks for at most ``timeout`` seconds.

    Raises `AgentMeterValidationError` and `AgentMeterDeliveryError`.
    """
    return _confirmed(event, _begun(event, journal).wait(timeout), timeout)


async def send_async(
    event: Event,
    journal: Journal,
    *,
    timeout: float,  # noqa: ASYNC109 - as `send`
) -> MeterEventResponse:
    """As `send`, without blocking the event loop."""
    return _confirmed(event, await _begun(event, journal).wait_async(timeout), timeout)


def take(event: Event, journal: Journal) -> MeterEventResponse:
    """Record without waiting. ``success``: it was taken and will be sent.

    What was refused is counted in the meter's status. Raises `AgentMeterValidationError`, and in a
    strict meter what that raises.
    """
    taken = wiring.meter().record(**_arguments(event))
    if taken:
        _note(event, journal)
    message = "taken, to be sent" if taken else "refused or dropped; see the meter's status"
    return MeterEventResponse(
        event.event_id, event.exact_cost, taken, message, event.timestamp, event
    )


def _begun(event: Event, journal: Journal) -> Pending:
    if not event.project_id:
        raise AgentMeterValidationError("project_id: is missing; give it to the client or the call")
    try:
        pending = wiring.begin(**_arguments(event))
    except AgentMeterValidationError:
        raise
    except Exception as problem:
        raise AgentMeterDeliveryError(
            f"the event was not taken: {problem}", event_id=event.event_id
        ) from problem
    if pending is None:
        raise AgentMeterDeliveryError(
            f"the event was not taken: {wiring.meter().status().last_error}",
            event_id=event.event_id,
        )
    _note(event, journal)
    return pending


def _confirmed(event: Event, sent: Sent | None, timeout: float) -> MeterEventResponse:
    if sent is None:
        trouble = wiring.meter().status().last_error
        raise AgentMeterDeliveryError(
            f"no confirmation within {timeout:g} seconds{f': {trouble}' if trouble else ''}; "
            "the event is kept and sent when that is possible",
            event_id=event.event_id,
        )
    return MeterEventResponse(
        event.event_id,
        event.exact_cost,
        success=True,
        message="recorded",
        timestamp=event.timestamp,
        event=event,
        partition=sent.partition,
        offset=sent.offset,
    )


def _note(event: Event, journal: Journal) -> None:
    journal.note(event)
    book(event)


def _arguments(event: Event) -> dict[str, Any]:
    return recorded(event)._asdict()
