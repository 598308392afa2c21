"""What else the fleet says: orders and their VOIDs, seats, levels and their changes, visits."""

from __future__ import annotations

from typing import TYPE_CHECKING

from meterstream_schemas.events import EventKind, MeterEvent
from tests.simulation.fleet import (
    BAD_NUMBERS,
    DAY,
    GOOD_NUMBERS,
    HOUR,
    MINUTE,
    SECOND,
    SINCE,
    VALUES,
    Hostility,
    Said,
    blank,
    hesitation,
    tenant_of,
)

if TYPE_CHECKING:
    import random


def further_sayings(rng: random.Random, at: int, hostility: Hostility) -> list[Said]:
    """An order with what becomes of it, a few seats, samples of a gauge, or a visit."""
    return rng.choice((_order, _order, _seats, _levels, _flow, _visits))(rng, at, hostility)


def _event(rng: random.Random, kind: str, at: int, hostility: Hostility) -> MeterEvent:
    time = at - rng.randrange(2 * SECOND)
    if rng.random() < hostility.lateness:
        time = max(SINCE, at - rng.randrange(rng.choice((HOUR, 3 * HOUR, 2 * DAY))))
    elif rng.random() < 0.05:
        time = at // HOUR * HOUR - rng.choice((0, 0, 1))
    return blank(EventKind.USAGE)._replace(
        tenant=tenant_of(rng, hostility), type=kind, time=time, quantity=1
    )


def _order(rng: random.Random, at: int, hostility: Hostility) -> list[Said]:
    """An order under its key, perhaps twice, and perhaps its VOID: later, earlier, often, wrong."""
    attributes = {"kind": rng.choice(("new", "again", "test")), "weight": f"{rng.random():.3f}"}
    if rng.random() < 0.1:
        attributes["weight"] = rng.choice((*GOOD_NUMBERS, rng.choice(BAD_NUMBERS)))
    if rng.random() < 0.1:
        del attributes["weight"]
    if rng.random() < 0.8:
        attributes["plan"] = rng.choice(("free", "pro", "team", rng.choice(VALUES)))
    if rng.random() < 0.05:
        attributes["tier"] = "gold"
    order = _event(rng, "order", at, hostility)._replace(
        quantity=rng.randint(-500, 100_000),
        scale=rng.choice((0, 1, 2, 2, 6)),
        attributes=attributes,
        subject=rng.choice((None, "u1", "u2")),
        key=f"o{rng.getrandbits(40):x}",
    )
    said = [Said(at, order)]
    if rng.random() < 0.2:
        said.append(Said(at + rng.choice((0, SECOND, 3 * HOUR)), order))
    if rng.random() < 0.4:
        void = order._replace(kind=EventKind.VOID)
        if rng.random() < 0.3 and abs(order.quantity) < 10**9:
            void = void._replace(quantity=order.quantity * 10, scale=order.scale + 1)
        if rng.random() < hostility.conflicts / 3:
            void = void._replace(**rng.choice(({"quantity": 7}, {"key": None}, {"subject": "x"})))
        for _ in range(rng.choice((1, 1, 1, 2))):
            wait = rng.choice((-HOUR, -SECOND, 0, 1, SECOND, 20 * MINUTE, 3 * HOUR, DAY, 2 * DAY))
            said.append(Said(max(SINCE, at + wait), void))
    if rng.random() < 0.05:
        said = said[1:]
    return said


def _seats(rng: random.Random, at: int, hostility: Hostility) -> list[Said]:
    """Seats that are taken and given back, by few people, so that they are so again and again."""
    said: list[Said] = []
    for _ in range(rng.randint(1, 4)):
        attributes = {"seat": rng.choice(("s1", "s2", "s3", "", "\x00", "é"))}
        if rng.random() < 0.1:
            del attributes["seat"]
        if rng.random() < 0.4:
            attributes["op"] = rng.choice(("remove", "remove", "add", ""))
        if rng.random() < 0.5:
            attributes["plan"] = rng.choice(("free", "pro"))
        event = _event(rng, "seat", at, hostility)._replace(
            attributes=attributes,
            subject=rng.choice((None, "", "u1", "u2", "u3")),
            quantity=rng.randint(-5, 50),
            scale=rng.choice((0, 1, 18)),
        )
        said.append(Said(at, event))
        at += rng.randrange(HOUR)
    return said


def _levels(rng: random.Random, at: int, hostility: Hostility) -> list[Said]:
    """What a gauge shows, some of it told late."""
    attributes = {"disk": rng.choice(("a", "b", "c"))} if rng.random() < 0.8 else {}
    tenant = tenant_of(rng, hostility)
    said: list[Said] = []
    for _ in range(rng.randint(1, 5)):
        event = _event(rng, "level", at, hostility)._replace(
            tenant=tenant,
            attributes=attributes,
            quantity=rng.choice((0, 1, 5, -2, rng.randint(0, 10**6))),
            scale=rng.choice((0, 0, 2)),
        )
        said.append(Said(at + rng.choice((0, 0, 0, HOUR, 4 * HOUR)), event))
        at += rng.randrange(3 * HOUR)
    return said


def _flow(rng: random.Random, at: int, hostility: Hostility) -> list[Said]:
    """Changes of a level, now and then taken back."""
    attributes = {"disk": rng.choice(("a", "b"))} if rng.random() < 0.5 else {}
    event = _event(rng, "flow", at, hostility)._replace(
        attributes=attributes, quantity=rng.randint(-50, 60), scale=rng.choice((0, 1))
    )
    if rng.random() < 0.5:
        return [Said(at, event)]
    event = event._replace(key=f"f{rng.getrandbits(40):x}")
    wait = rng.choice((-SECOND, SECOND, HOUR, 5 * HOUR))
    return [Said(at, event), Said(max(SINCE, at + wait), event._replace(kind=EventKind.VOID))]


def _visits(rng: random.Random, at: int, hostility: Hostility) -> list[Said]:
    """Visits without an id, some at once; boundaries are lost, repeated and told late."""
    plain = blank(EventKind.SESSION_HEARTBEAT)._replace(
        tenant=tenant_of(rng, hostility),
        type=rng.choice(("visit", "visit", "agent.run")),
        subject=rng.choice((None, "", "u1", "u1", "u2")),
    )
    told: list[MeterEvent] = []
    for _ in range(rng.choice((1, 1, 2, 4))):
        start = at // MINUTE * MINUTE if rng.random() < 0.1 else at
        length = rng.choice(
            (0, rng.randrange(MINUTE), rng.randrange(HOUR), rng.randrange(9 * HOUR))
        )
        attributes = rng.choice(({}, {"plan": "pro"}, {"plan": "free"}))
        begun = plain._replace(kind=EventKind.SESSION_START, time=start, attributes=attributes)
        ended = plain._replace(kind=EventKind.SESSION_END, time=start + length)
        beat = plain._replace(time=start + length // 2)
        told += rng.choice((
            [begun, ended], [begun, ended], [begun, beat, ended], [begun], [begun, beat], [ended],
            [begun, begun, ended, ended], [ended, beat, begun], [beat],
        ))  # fmt: skip
        at += rng.randrange(rng.choice((SECOND, HOUR)))
    return [Said(event.time + hesitation(rng, hostility), event) for event in told]
