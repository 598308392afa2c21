"""What the fleet of a simulated world says: usage, caller keys and session boundaries."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from meterstream_schemas.events import EventKind, MeterEvent

if TYPE_CHECKING:
    import random

SINCE = 1_767_225_600_000_000
"""2026-01-01T00:00:00Z, when metering begins."""
SECOND = 1_000_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR
SPAN = 36 * HOUR
BEGIN = SINCE + 4 * DAY
"""When the fleet begins to speak; sessions may go on for three days after `SPAN`."""

CATALOGUE = """\
metering_since: 2026-01-01T00:00:00Z
meters:
  - {name: api.calls, type: api.request, aggregate: count, group_by: [route, status], window: 1m}
  - {name: api.errors, type: api.request, aggregate: count, where: {status: ["500", "503"]}}
  - name: api.bytes
    type: api.request
    aggregate: sum
    value: attributes.bytes
    unit: byte
    group_by: [status]
    where: {env: [prod, canary]}
    window: 15m
  - {name: api.least, type: api.request, aggregate: min, value: attributes.bytes, window: 1h}
  - {name: api.most, type: api.request, aggregate: max, value: attributes.bytes, group_by: [env]}
  - {name: credit, aggregate: sum, window: 30m}
  - {name: credit.least, type: credit, aggregate: min, group_by: [route], window: 5m}
  - {name: credit.most, type: credit, aggregate: max, window: 5m}
  - {name: run.seconds, type: agent.run, aggregate: session, group_by: [plan], timeout: 30m}
  - name: run.pro
    type: agent.run
    aggregate: session
    where: {plan: [pro]}
    window: 1h
    timeout: 30m
    timeout_bills: timeout
  - {name: run.steps, type: agent.run, aggregate: sum, group_by: [plan]}
  - {name: call.seconds, type: voice.call, aggregate: session, group_by: [route], window: 1m}
  - {name: idle.seconds, type: voice.idle, aggregate: session, timeout: 2h, window: 1h}
"""

TENANTS = (
    "acme", "a", "a-b", "a-b-c", "b", "ACME", "Ünïcødé-株式会社", "t|1", "t:1", "../t", "x" * 128,
    "'; --", "0", "null", "tenant with spaces", "%00", "=1+1",
)  # fmt: skip
VALUES = ("", "/", "/pay", "a|b", "|", "a\x1fb", "\x00", "é", "e\u0301", "v" * 1024, "null", "0")
GOOD_NUMBERS = (
    "0", "1", "17", "-3", "+7", "1.5", "1.50", "-0.000001", ".5", "7.", "1e3", "-0", "12E-4",
    "9223372036854775807", "-9223372036854775808", "0.000000000000000001", "9.223372036854775807",
)  # fmt: skip
BAD_NUMBERS = (
    "", "NaN", "inf", "1_000", "٣", " 1", "1 ", "0x10", "1e19", "9223372036854775808", "1,5",
    "0.0000000000000000001", "--1", "1" * 65, "true",
)  # fmt: skip


@dataclass(frozen=True)
class Hostility:
    """How often each thing goes wrong, as shares of the events."""

    disorder: float = 0.3
    resends: float = 0.1
    holes: float = 0.02
    foreign: float = 0.05
    lateness: float = 0.1
    futures: float = 0.01
    ancient: float = 0.005
    keys: float = 0.08
    conflicts: float = 0.3
    """Of the repeated keys, how many contradict."""
    bad_values: float = 0.01
    unknown: float = 0.01
    mends: float = 0.5
    """Of the events of unknown type, how many come again, mended, under their number."""
    clones: float = 0.002
    extremes: float = 0.02
    malformed: float = 0.005
    sessions: float = 0.3
    clock_steps: float = 0.01
    offset_gaps: float = 0.02


ANY = Hostility()


class Said(NamedTuple):
    """Something a service says at a moment of the fleet's clock (microseconds UTC)."""

    at: int
    event: MeterEvent


def blank(kind: EventKind) -> MeterEvent:
    """An event of a kind with nothing in it and no number."""
    return MeterEvent(kind, "", "", SINCE, 0, 0, None, None, {}, "", 0, 0, None)


def sayings(rng: random.Random, events: int, hostility: Hostility) -> list[Said]:
    """About ``events`` things said by everyone, in no order."""
    said: list[Said] = []
    while len(said) < events:
        at = BEGIN + rng.randrange(SPAN)
        if rng.random() < hostility.sessions / 4:
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


def _tenant(rng: random.Random) -> str:
    return TENANTS[min(int(rng.paretovariate(0.9)) - 1, len(TENANTS) - 1)]


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
        tenant=_tenant(rng), time=_time(rng, at, hostility), subject=rng.choice((None, "u1", "u2"))
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
            again = again._replace(tenant=_tenant(rng))
        said.append(Said(at + rng.choice((0, SECOND, 3 * HOUR)), again))
    return said


def _session(rng: random.Random, at: int, hostility: Hostility) -> list[Said]:
    """One session: its boundaries and heartbeats as they happened, and what became of them."""
    length = rng.choice((
        0, 1, rng.randrange(MINUTE), rng.randrange(HOUR), HOUR, rng.randrange(8 * HOUR), 71 * HOUR,
    ))  # fmt: skip
    start = at // MINUTE * MINUTE if rng.random() < 0.1 else at
    attributes = rng.choice(({}, {"plan": "pro"}, {"plan": "free", "route": rng.choice(VALUES)}))
    plain = blank(EventKind.SESSION_HEARTBEAT)._replace(
        tenant=_tenant(rng),
        type=rng.choice(("agent.run", "voice.call", "voice.idle")),
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
    return [Said(event.time + _hesitation(rng, hostility), event) for event in told]


def _hesitation(rng: random.Random, hostility: Hostility) -> int:
    if rng.random() < hostility.lateness:
        return rng.choice((40 * MINUTE, 3 * HOUR, 2 * DAY))
    return rng.randrange(2 * SECOND)
