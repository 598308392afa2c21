"""What the demo's services send, as a pure function of a seed, and what must be counted of it.

Every process draws up the same plan from the same seed, so the process that repeats other services'
events knows them to the last byte, and the one that checks the books needs to ask nobody.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping
from decimal import Decimal
from enum import StrEnum
from typing import Final, NamedTuple

TENANTS: Final = ("acme", "globex", "initech", "umbrella", "hooli")
_WEIGHTS: Final = (50, 25, 15, 8, 2)
_ROUTES: Final = ("/v1/chat", "/v1/files", "/v1/search", "/login")
_MODELS: Final = ("small", "large", "vision")
SESSIONS: Final = "sessions started"
"""What the books call the number of sessions, which the session meter counts along."""
SPAN_SECONDS: Final = 2 * 60 * 60
"""Event times lie within so many seconds before the plan's ``until``."""
_SECOND: Final = 1_000_000


class Kind(StrEnum):
    """Which call of the SDK a planned event is."""

    USAGE = "usage"
    START = "start"
    END = "end"


class Planned(NamedTuple):
    """One call. ``time`` is microseconds UTC; ``session`` is empty for usage."""

    kind: Kind
    type: str
    tenant: str
    time: int
    quantity: str
    session: str
    attributes: Mapping[str, str]
    key: str | None


class Plan(NamedTuple):
    """What each service sends, in its order, repeats included. ``repeated`` counts the repeats."""

    services: Mapping[str, list[Planned]]
    repeated: int

    @property
    def calls(self) -> int:
        """How many events are sent in all."""
        return sum(map(len, self.services.values()))


Books = dict[tuple[str, str, str], Decimal]
"""(meter, tenant, group) to what must be counted; group is ``NAME=VALUE`` or empty."""


def draw_plan(seed: int, *, until: int, scale: int = 1) -> Plan:
    """The whole fleet's plan. ``until`` (microseconds UTC) ends the event times."""
    draw = random.Random(seed)  # noqa: S311 - a plan must come out the same again
    services = {
        "api-1": _requests(draw, "api-1", 8_000 * scale, until),
        "api-2": _requests(draw, "api-2", 8_000 * scale, until),
        "assistant": _completions(draw, 4_000 * scale, until),
        "agents": _sessions(draw, 250 * scale, until),
    }
    repeated = 0
    for events in services.values():
        keyed = [event for event in events if event.key]
        again = draw.sample(keyed, len(keyed) // 5)
        repeated += len(again)
        events.extend(again)
        draw.shuffle(events)  # event times come in any order, repeats anywhere
    others = [event for events in services.values() for event in events if event.key]
    services["retrier"] = draw.sample(others, len(others) // 10)
    return Plan(services, repeated + len(services["retrier"]))


def expected(plan: Plan) -> Books:
    """What must be counted: every event once, whoever sent it how often."""
    books: Books = {}
    starts: dict[tuple[str, str], int] = {}
    ends: dict[tuple[str, str], int] = {}
    for event in _distinct(plan.services.values()):
        tenant = event.tenant
        match event.kind:
            case Kind.START:
                starts[tenant, event.session] = event.time
            case Kind.END:
                ends[tenant, event.session] = event.time
            case Kind.USAGE if event.type == "api.request":
                _add(books, "api.requests", tenant, f"route={event.attributes['route']}", 1)
                _add(books, "api.bytes", tenant, "", event.attributes.get("bytes", "0"))
            case Kind.USAGE:
                model = f"model={event.attributes['model']}"
                _add(books, "llm.tokens", tenant, model, event.quantity)
                _add(books, "llm.cost", tenant, "", event.attributes["cost"])
    for (tenant, session), end in ends.items():
        length = Decimal(end - starts[tenant, session]).scaleb(-6)
        _add(books, "agent.seconds", tenant, "", length)
        _add(books, SESSIONS, tenant, "", 1)
    return books


def _requests(draw: random.Random, service: str, count: int, until: int) -> list[Planned]:
    events: list[Planned] = []
    for number in range(count):
        status = draw.choices(("200", "404", "500"), (90, 8, 2))[0]
        attributes = {"route": draw.choice(_ROUTES), "status": status}
        if status == "200":
            attributes["bytes"] = str(draw.randrange(200, 200_000))
        key = f"{service}-{number}" if draw.random() < 0.2 else None
        events.append(
            _usage(draw, "api.request", until, quantity="1", attributes=attributes, key=key)
        )
    return events


def _completions(draw: random.Random, count: int, until: int) -> list[Planned]:
    events: list[Planned] = []
    for number in range(count):
        tokens = draw.randrange(10, 8_000)
        model = draw.choice(_MODELS)
        cost = Decimal(tokens) * Decimal("0.000125")
        attributes = {"model": model, "cost": f"{cost:f}"}
        events.append(
            _usage(
                draw,
                "llm.completion",
                until,
                quantity=str(tokens),
                attributes=attributes,
                key=f"completion-{number}",
            )
        )
    return events


def _sessions(draw: random.Random, count: int, until: int) -> list[Planned]:
    events: list[Planned] = []
    for number in range(count):
        tenant = _tenant(draw)
        length = draw.randrange(_SECOND, 40 * 60 * _SECOND)
        start = until - draw.randrange(length, SPAN_SECONDS * _SECOND)
        for kind, time in ((Kind.START, start), (Kind.END, start + length)):
            key = f"run-{number}-{kind}"
            events.append(Planned(kind, "agent.run", tenant, time, "0", f"run-{number}", {}, key))
    return events


def _usage(
    draw: random.Random,
    event_type: str,
    until: int,
    *,
    quantity: str,
    attributes: Mapping[str, str],
    key: str | None,
) -> Planned:
    time = until - draw.randrange(1, SPAN_SECONDS * _SECOND)
    return Planned(Kind.USAGE, event_type, _tenant(draw), time, quantity, "", attributes, key)


def _tenant(draw: random.Random) -> str:
    return draw.choices(TENANTS, _WEIGHTS)[0]


def _distinct(services: Iterable[list[Planned]]) -> Iterable[Planned]:
    known: set[tuple[str, str]] = set()
    for events in services:
        for event in events:
            if event.key is None:
                yield event
            elif (event.tenant, event.key) not in known:
                known.add((event.tenant, event.key))
                yield event


def _add(books: Books, meter: str, tenant: str, group: str, amount: int | str | Decimal) -> None:
    key = (meter, tenant, group)
    books[key] = books.get(key, Decimal(0)) + Decimal(amount)
