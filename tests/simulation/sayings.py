"""What the fleet of a simulated world says: usage, caller keys and session boundaries."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from meterstream_schemas.events import EventKind, MeterEvent
from tests.simulation.fleet import (
    BAD_NUMBERS,
    BEGIN,
    DAY,
    GOOD_NUMBERS,
    HOUR,
    MINUTE,
    SECOND,
    SINCE,
    SPAN,
    VALUES,
    Hostility,
    Said,
    blank,
    hesitation,
    tenant_of,
)
from tests.simulation.further import further_sayings

if TYPE_CHECKING:
    import random


def sayings(rng: random.Random, events: int, hostility: Hostility) -> list[Said]:
    """About ``events`` things said by everyone, in no order."""
    said: list[Said] = []
    while len(said) < events:
        at = BEGIN + rng.randrange(SPAN)
        if rng.random() < hostility.further:
            said.extend(further_sayings(rng, at, hostility))
        elif rng.random() < hostility.sessions / 4:
            said.extend(_session(rng, at, hostility))
        elif rng.random() < hostility.keys:
            said.extend(_keyed(rng, at, hostility))
        elif rng.random() < hostility.malformed:
            said.append(_malformed(rng, _usage(rng, at, hostility)))
        else:
            said.append(_usage(rng, at, hostility))
    return said


def _malformed(rng: random.Random, said: Said) -> Said:
    """The same with one field that no event may have."""
    change: dict[str, Any] = rng.choice((
        {"tenant": ""},
        {"tenant": "x" * 129},
        {"tenant": "ü" * 65},
        {"tenant": "a\nb"},
        {"key": ""},
        {"key": "k\x7f"},
        {"key": "k" * 257},
        {"kind": EventKind.SESSION_START, "type": "agent.run", "session": ""},
        {"kind": EventKind.SESSION_END, "type": "agent.run", "session": "s" * 257},
        {"kind": EventKind.SESSION_HEARTBEAT, "type": "voice.call", "session": "s\r"},
        {"kind": EventKind.SESSION_START, "type": "credit", "session": "s1"},
        {"kind": EventKind.VOID, "tenant": ""},
    ))  # fmt: skip
    return Said(said.at, said.event._replace(**change))


def _time(rng: random.Random, at: int, hostility: Hostility) -> int:
    """When it happened: mostly a moment before it is said, now and then hours or days."""
    if rng.random() < hostility.ancient:
        return SINCE - rng.choice((1, HOUR))
    if rng.random() < hostility.lateness:
        return max(SINCE, at - rng.randrange(rng.choice((HOUR, 3 * DAY, 5 * DAY))))
    if rng.random() < 0.1:
        return at // MINUTE * MINUTE - rng.choice((0, 0, 1))
    return at - rng.randrange(2 * SECOND)


def _usage(rng: random.Random, at: int, hostility: Hostility) -> Said:
    event = blank(EventKind.USAGE)._replace(
        tenant=tenant_of(rng, hostility),
        time=_time(rng, at, hostility),
        subject=rng.choice((None, "u1", "u2")),
    )
    if rng.random() < hostility.unknown:
        kind = rng.choice((EventKind.USAGE, EventKind.USAGE, EventKind.UNKNOWN, EventKind.VOID))
        return Said(at, event._replace(kind=kind, type="nobody.reads", quantity=5))
    if rng.random() < 0.6:
        return Said(at, _request(rng, event, hostility))
    event = event._replace(type=rng.choice(("credit", "credit", "agent.run")))
    return Said(at, _spend(rng, event, hostility))


def _request(rng: random.Random, event: MeterEvent, hostility: Hostility) -> MeterEvent:
    attributes = {"status": rng.choice(("200", "200", "200", "404", "500", "503"))}
    if rng.random() < 0.8:
        attributes["route"] = rng.choice(("/pay", "/pay", "/", rng.choice(VALUES)))
    if rng.random() < 0.9:
        attributes["env"] = rng.choice(("prod", "prod", "canary", "test", ""))
    if rng.random() < 0.3:
        attributes["trace"] = f"{rng.getrandbits(64):x}"
    if rng.random() < hostility.bad_values:
        attributes["bytes"] = rng.choice(BAD_NUMBERS)
    elif rng.random() < hostility.extremes:
        attributes["bytes"] = rng.choice(GOOD_NUMBERS)
    elif rng.random() < 0.9:
        attributes["bytes"] = str(rng.randrange(100_000))
    quantity = rng.choice((1, 1, 1, 0, 2**63 - 1))
    return event._replace(type="api.request", quantity=quantity, attributes=attributes)


def _spend(rng: random.Random, event: MeterEvent, hostility: Hostility) -> MeterEvent:
    attributes = {"route": rng.choice(VALUES)} if rng.random() < 0.5 else {"plan": "pro"}
    quantity, scale = rng.randint(-500, 100_000), rng.choice((0, 0, 2, 2, 3, 6))
    if rng.random() < hostility.extremes:
        quantity = rng.choice((0, 2**63 - 1, -(2**63), 10**18, -1, 2**53 + 1))
        scale = rng.choice((0, 0, 1, 9, 17, 18))
        if event.time > BEGIN + 3 * HOUR:
            # Together in few windows, so that sums leave 64 bits.
            event = event._replace(time=BEGIN + rng.randrange(3) * HOUR)
    if rng.random() < hostility.bad_values:
        scale = rng.choice((-1, 19, 2**31 - 1))
    return event._replace(quantity=quantity, scale=scale, attributes=attributes)


def _keyed(rng: random.Random, at: int, hostility: Hostility) -> list[Said]:
    """One event under a caller's key, and its repetitions: the same, respelt, or contradicting."""
    first = _usage(rng, at, hostility).event._replace(key=f"order-{rng.randrange(10**6)}")
    said = [Said(at, first)]
    for _ in range(rng.choice((0, 1, 1, 2, 3))):
        again = first
        if rng.random() < hostility.conflicts:
            again = rng.choice((
                first._replace(quantity=first.quantity // 2 + 1),
                first._replace(time=first.time - 1),
                first._replace(subject="someone else"),
                first._replace(attributes={**first.attributes, "route": "/other"}),
            ))  # fmt: skip
        elif abs(first.quantity) < 10**9 and 0 <= first.scale < 18:
            again = first._replace(quantity=first.quantity * 10, scale=first.scale + 1)
        if rng.random() < 0.1:
            again = again._replace(tenant=tenant_of(rng, hostility))
        said.append(Said(at + rng.choice((0, SECOND, 3 * HOUR)), again))
    return said


def _session(rng: random.Random, at: int, hostility: Hostility) -> list[Said]:
    """One session: its boundaries and heartbeats as they happened, and what became of them."""
    length = rng.choice((
        0, 1, rng.randrange(MINUTE), rng.randrange(HOUR), HOUR, rng.randrange(8 * HOUR), 71 * HOUR,
    ))  # fmt: skip
    start = at // MINUTE * MINUTE if rng.random() < 0.1 else at
    attributes = rng.choice(({}, {"plan": "pro"}, {"plan": "free", "route": rng.choice(VALUES)}))
    calls = ["voice.call"] if length < 71 * HOUR else []
    plain = blank(EventKind.SESSION_HEARTBEAT)._replace(
        tenant=tenant_of(rng, hostility),
        type=rng.choice(["agent.run", "voice.idle", *calls]),
        session=f"s{rng.randrange(10**4 if rng.random() < 0.9 else 3)}",
        subject=rng.choice((None, "u1")),
        attributes=attributes,
    )
    begun = plain._replace(kind=EventKind.SESSION_START, time=start)
    ended = plain._replace(kind=EventKind.SESSION_END, time=start + length, attributes={})
    beats = [
        plain._replace(time=start + length * part // 4)
        for part in range(1, rng.choice((1, 1, 2, 4)))
    ]
    told = {
        0: [begun, *beats],
        1: [*beats, ended],
        2: beats or [ended],
        3: [begun, begun, *beats, ended, ended],
        4: [begun, begun._replace(time=start + MINUTE), *beats, ended],
        5: [begun, begun._replace(attributes={"plan": "pro"}), ended],
        6: [begun, ended, ended._replace(time=ended.time + rng.randrange(HOUR))],
        7: [begun, ended._replace(time=start - 1), *beats],
        8: [begun, ended._replace(time=start - 1), ended],
        9: [begun._replace(time=ended.time), begun, ended],
    }.get(rng.randrange(14), [begun, *beats, ended])
    if rng.random() < hostility.unknown:
        told = [event._replace(session=None) for event in told]
    return [Said(event.time + hesitation(rng, hostility), event) for event in told]
