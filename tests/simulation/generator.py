"""Seeded logs of hostile meter events, with the catalogue that counts them.

``world(seed, events)`` gives the same catalogue and records for the same arguments, always. A world
holds what a careless or unlucky fleet does to a log: disorder, resent runs, numbers that never
arrive, caller keys repeated and contradicted, amounts at every scale and sign up to the limits,
sessions whose boundaries come in any order, twice or never, foreign producers, types nobody meters,
times before metering began and far ahead, unreadable values, and awkward texts.

`world` keeps to one catalogue; in `any_world` catalogue, fleet and calendar vary with the seed.
What is asked of them stands in `tests.simulation.laws`, with how to run a failing seed again.

How it is made: things are *said* at a moment of the fleet's clock; sending numbers them; arriving
puts them into the log, some twice; appending gives them offsets (with holes) and append times (in
whole milliseconds, now and then stepping back).
"""

from __future__ import annotations

import random
from collections import defaultdict
from dataclasses import dataclass, replace
from typing import NamedTuple

from meterstream_schemas.events import EventKind, MeterEvent
from meterstream_schemas.placement import lane_of, partition_of
from tests.oracle.counting import LogRecord
from tests.simulation.catalogues import CATALOGUE, moved, varied
from tests.simulation.fleet import ANY, BEGIN, MINUTE, SINCE, SPAN, Hostility, Said, blank
from tests.simulation.sayings import sayings
from tests.simulation.sleeping import slept, until_a_deadline

__all__ = [
    "ANY",
    "CATALOGUE",
    "ORDERLESS",
    "SINCE",
    "Hostility",
    "any_world",
    "orderless_world",
    "shuffled",
    "world",
]

PARTITIONS = 4
HOUR = 3_600_000_000
_WEEKS = (
    SINCE,
    1_772_668_800_000_000,
    1_774_483_200_000_000,
    1_792_627_200_000_000,
    1_793_232_000_000_000,
)
"""1 January, and a few days before clocks are changed in the US and in Europe, in 2026."""
ORDERLESS = Hostility(conflicts=0.0, clones=0.0, mends=0.0, futures=0.0)
"""A world whose totals do not depend on the order of arrival: see `shuffled`."""


class Sent(NamedTuple):
    """An event under its number, and when it reaches the log."""

    arrival: int
    event: MeterEvent


@dataclass
class _Lane:
    """One numbering lane of one producer."""

    last: int = 0


def world(
    seed: int, events: int, hostility: Hostility = ANY, partitions: int = PARTITIONS
) -> tuple[str, list[LogRecord]]:
    """The catalogue (YAML) and about ``events`` records, in log order over all partitions.

    Offsets rise within a partition, with holes; append times are microseconds UTC.
    """
    rng = random.Random(seed)
    said = sayings(rng, events, hostility)
    sent = _arrived(rng, _numbered(rng, said, hostility), hostility)
    return CATALOGUE, _appended(rng, sent, hostility, partitions)


def any_world(seed: int, events: int) -> tuple[str, list[LogRecord]]:
    """A world of another fleet, catalogue and calendar for each seed.

    The catalogue varies; the fleet is calm or wild, large or small (some partitions are idle then);
    it may sleep for weeks in the middle, or end amid its sessions, and it lives in a week
    in which clocks are changed.
    """
    rng = random.Random(f"any {seed}")
    text = varied(rng)
    hostility = replace(
        ANY,
        disorder=rng.choice((0.0, 0.3, 0.8)),
        lateness=rng.choice((0.0, 0.1, 0.4)),
        further=rng.choice((0.1, 0.35, 0.8)),
        ticks=rng.choice((0.0, 0.03, 0.3)),
        foreign=rng.choice((0.0, 0.05, 0.5)),
        resends=rng.choice((0.0, 0.1, 0.4)),
        clock_steps=rng.choice((0.0, 0.01, 0.2)),
        on_the_close=rng.choice((0.0, 0.3)),
        clock_leaps=rng.choice((0.0, 0.0005, 0.003)),
        tenants=rng.choice((1, 2, 17)),
    )
    records = world(seed, events, hostility)[1]
    days = rng.choice((0, 0, 0, 0, 33, 89, 92, 92))
    asleep = BEGIN + rng.randrange(SPAN)
    moving = rng.choice(_WEEKS) - SINCE
    log = slept(rng, records, asleep, days, moving)
    if rng.random() < 0.5:
        log = until_a_deadline(rng, log, text)
    return moved(text, moving), log


def orderless_world(seed: int, events: int) -> tuple[str, list[LogRecord]]:
    """A world of `ORDERLESS` sayings under a varied catalogue whose series have no limit."""
    text = varied(random.Random(f"orderless {seed}"), limits=False)
    return text, world(seed, events, ORDERLESS)[1]


def shuffled(seed: int, records: list[LogRecord]) -> list[LogRecord]:
    """The same events in another order of arrival, all appended after the last event time.

    Each partition ends with a mark a month later, so that every timeout has passed in any order:
    for worlds that are `ORDERLESS`, all figures are then the same for every seed.
    """
    rng = random.Random(seed)
    events = [record.event for record in records]
    rng.shuffle(events)
    home = {_placed_by(record.event): record.partition for record in records}
    start = max(max(r.append_time, r.event.time) for r in records) + 1_000_000
    offsets: dict[int, int] = defaultdict(int)
    out: list[LogRecord] = []
    for number, event in enumerate(events):
        partition = home[_placed_by(event)]
        out.append(LogRecord(partition, offsets[partition], start + number * 1_000, event))
        offsets[partition] += 1
    end = start + len(events) * 1_000 + 30 * 24 * HOUR
    mark = blank(EventKind.MARK)._replace(tenant="", type="", producer="f" * 32, time=end)
    quiet = [LogRecord(p, offset, end, mark._replace(lane=p)) for p, offset in offsets.items()]
    return out + quiet


def _placed_by(event: MeterEvent) -> str | int:
    """What decides the partition: the tenant, or for a mark its lane."""
    return event.tenant or event.lane


def _numbered(rng: random.Random, said: list[Said], hostility: Hostility) -> list[Sent]:
    """Give each thing said a producer and a number, in the order in which it was said."""
    producers = [f"{rng.getrandbits(128):032x}" for _ in range(5)]
    lanes: dict[tuple[str, int], _Lane] = defaultdict(_Lane)
    sent: list[Sent] = []
    for at, event in sorted(said, key=lambda s: s.at):
        if rng.random() < hostility.foreign:
            sent.append(Sent(at, event))
            continue
        # A producer comes, and goes for good: the later ones take over.
        alive = producers[: 2 + (at - SINCE) // (24 * HOUR) % 4]
        producer, lane = rng.choice(alive), lane_of(event.tenant)
        numbering = lanes[producer, lane]
        if rng.random() < hostility.holes:
            numbering.last += rng.randint(1, 4)
        numbering.last += 1
        told = _skewed(rng, event, hostility)
        sent.append(Sent(at, told._replace(producer=producer, lane=lane, sequence=numbering.last)))
    sent.extend(_ticks(rng, sent, hostility))
    sent.extend(_marks(rng, lanes, sent[-1].arrival))
    return sent


def _skewed(rng: random.Random, event: MeterEvent, hostility: Hostility) -> MeterEvent:
    """The same under a wrong clock; what has a key must be repeated as it was."""
    if event.key is not None or rng.random() >= hostility.skew:
        return event
    wrong = rng.choice((-3 * HOUR, -20 * 60_000_000, 50 * 60_000_000, 2 * HOUR))
    return event._replace(time=event.time + wrong)


def _ticks(rng: random.Random, sent: list[Sent], hostility: Hostility) -> list[Sent]:
    """What workers write to partitions at rest: for each of them, at moments of the log."""
    moments = [each.arrival for each in sent if rng.random() < hostility.ticks]
    return [
        Sent(at + rng.randrange(HOUR), blank(EventKind.MARK)._replace(lane=lane, time=at))
        for at in moments
        for lane in rng.sample(range(PARTITIONS), 2)
    ]


def _marks(rng: random.Random, lanes: dict[tuple[str, int], _Lane], end: int) -> list[Sent]:
    """What producers claim to have sent: some truly, some with a lost tail, some never."""
    marks: list[Sent] = []
    for (producer, lane), numbering in lanes.items():
        fate = rng.random()
        if fate < 0.2:
            continue
        highest = numbering.last + (rng.randint(1, 3) if fate < 0.3 else 0)
        closing = {"closing": "true"} if fate > 0.5 else {}
        mark = blank(EventKind.MARK)._replace(
            tenant="", type="", time=end, attributes=closing,
            producer=producer, lane=lane, sequence=highest,
        )  # fmt: skip
        marks.extend([Sent(end + rng.randrange(1_000_000), mark)] * rng.choice((1, 1, 2)))
    return marks


def _arrived(rng: random.Random, sent: list[Sent], hostility: Hostility) -> list[Sent]:
    """Delay, resend in runs, mend what was refused, and let others misuse a number."""
    late = [Sent(each.arrival + _delay(rng, hostility), each.event) for each in sent]
    by_producer: dict[str, list[Sent]] = defaultdict(list)
    for each in late:
        if each.event.producer and each.event.kind is not EventKind.MARK:
            by_producer[each.event.producer].append(each)
    again: list[Sent] = []
    for own in by_producer.values():
        for _ in range(round(len(own) * hostility.resends / 6)):
            first = rng.randrange(len(own))
            wait = rng.choice((1_000, 1_000_000, 90 * 60_000_000))
            again.extend(
                Sent(each.arrival + wait, each.event)
                for each in own[first : first + rng.randint(1, 12)]
            )
        for each in own:
            if each.event.type == "nobody.reads" and rng.random() < hostility.mends:
                mended = each.event._replace(type="credit")
                again.append(Sent(each.arrival + 2 * HOUR, mended))
            elif rng.random() < hostility.clones:
                other = each.event._replace(quantity=each.event.quantity // 2 + 1)
                again.append(Sent(each.arrival + rng.choice((-1, 1)) * 5_000_000, other))
    return sorted(late + again, key=lambda s: s.arrival)


def _delay(rng: random.Random, hostility: Hostility) -> int:
    if rng.random() >= hostility.disorder:
        return 0
    return rng.choice((5_000, 2_000_000, 10 * 60_000_000, 5 * HOUR)) * rng.randint(1, 10) // 10


def _close_after(rng: random.Random, time: int, append_time: int) -> int:
    """An instant soon after at which some window of the event's time may close, if there is one."""
    window = rng.choice((1, 5, 15, 30, 60)) * MINUTE
    grace = rng.choice((0, 0, 1, 7, 30, 60, 180)) * MINUTE
    close = (time // window + 1) * window + grace
    return close if append_time <= close < append_time + 10 * MINUTE else append_time


def _appended(
    rng: random.Random, sent: list[Sent], hostility: Hostility, partitions: int
) -> list[LogRecord]:
    """Offsets and append times; times that are far ahead can only be made here."""
    offsets = [rng.randrange(1_000) for _ in range(partitions)]
    foreseen: dict[tuple[str, int, int], int] = {}
    records: list[LogRecord] = []
    for arrival, event in sent:
        lane = event.lane if event.kind is EventKind.MARK else lane_of(event.tenant)
        partition = partition_of(lane, partitions)
        append_time = arrival // 1_000 * 1_000
        if rng.random() < hostility.clock_steps:
            append_time -= rng.choice((1_000, 3_000_000, 20 * 60_000_000))
        if rng.random() < hostility.on_the_close:
            append_time = _close_after(rng, event.time, append_time)
        if rng.random() < hostility.clock_leaps:
            append_time += rng.choice((10 * 60_000_000, 2 * HOUR, 7 * HOUR))
        time, number = event.time, (event.producer, event.lane, event.sequence)
        if event.producer and number in foreseen:
            time = foreseen[number]
        elif event.kind is EventKind.USAGE and rng.random() < hostility.futures:
            ahead = rng.choice((0, 1, HOUR, 24 * HOUR, 3_650 * 24 * HOUR))
            time = foreseen[number] = append_time + HOUR + ahead
        event_then = event._replace(time=time)
        records.append(LogRecord(partition, offsets[partition], append_time, event_then))
        offsets[partition] += 1 if rng.random() >= hostility.offset_gaps else rng.randint(2, 9)
    return records
