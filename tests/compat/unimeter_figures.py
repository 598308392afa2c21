"""The ready catalogue's figures of Unimeter's events, counted plainly from a memory transport."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from tests.compat.standins import usage_answer

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from meterstream_schemas.events import MeterEvent
    from tests.compat.conftest import Memory


def answer_from(memory: Memory) -> None:
    """Let the fake usage API answer from what has arrived in the memory transport."""

    def usage(asked: Mapping[str, Sequence[str]]) -> dict[str, Any]:
        chosen = [event for event in memory.arrived() if _is_asked(event, asked)]
        groups: dict[tuple[str, ...], list[MeterEvent]] = {}
        for event in chosen:
            place = tuple(event.attributes.get(name, "") for name in asked.get("by", ()))
            groups.setdefault(place, []).append(event)
        names = asked.get("by", ())
        return usage_answer(
            *[
                {
                    "tenant": asked["tenant"][0],
                    "group": dict(zip(names, place, strict=True)),
                    "value": str(_value(asked["meter"][0], events)),
                    "events": len(events),
                }
                for place, events in groups.items()
            ]
        )

    def status(asked: Mapping[str, Sequence[str]]) -> dict[str, Any]:
        logs = enumerate(memory.transport.log)
        return {"partitions": [{"partition": n, "next_offset": len(log)} for n, log in logs]}

    memory.usage.answers |= {"/v1/usage": usage, "/v1/status": status}


def _is_asked(event: MeterEvent, asked: Mapping[str, Sequence[str]]) -> bool:
    first, end = (datetime.fromisoformat(asked[name][0]).timestamp() for name in ("from", "to"))
    wanted: dict[str, list[str]] = {}
    for condition in asked["where"]:
        name, _, value = condition.partition("=")
        wanted.setdefault(name, []).append(value)
    return (
        event.tenant == asked["tenant"][0]
        and event.type == "unimeter.event"
        and first <= event.time / 1e6 < end
        and all(event.attributes.get(name, "") in values for name, values in wanted.items())
        and (asked["meter"][0] != "unimeter.unique" or "value" in event.attributes)
    )


def _value(meter: str, events: Sequence[MeterEvent]) -> int:
    ordered = sorted(events, key=lambda event: (event.time, event.sequence))
    amounts = [event.quantity for event in ordered]
    match meter.removeprefix("unimeter."):
        case "count":
            return len(amounts)
        case "sum":
            return sum(amounts)
        case "max":
            return max(amounts)
        case "latest":
            return amounts[-1]
        case _:
            last = {event.attributes["value"]: event.attributes["operation"] for event in ordered}
            return sum(operation == "add" for operation in last.values())
