"""A fleet that sleeps for weeks in the middle of its log, and what is repeated after so long.

While it sleeps, what was said before is heard again: at the very end of the horizons of callers'
keys, producers and settled subjects, and a microsecond later.
"""

from __future__ import annotations

from collections import Counter
from itertools import takewhile
from typing import TYPE_CHECKING, Any

import yaml

from meterstream_schemas.events import EventKind
from tests.oracle.counting import LogRecord
from tests.simulation.fleet import DAY, HOUR, MINUTE, SECOND, blank

if TYPE_CHECKING:
    import random
    from collections.abc import Iterator

REPEATED = 20
_UNITS = {"s": SECOND, "m": MINUTE, "h": HOUR, "d": DAY}
_TOLD_ONCE = (EventKind.SESSION_START, EventKind.SESSION_HEARTBEAT, EventKind.SESSION_END)


def slept(
    rng: random.Random, records: list[LogRecord], asleep: int, days: int, moving: int
) -> list[LogRecord]:
    """The log of a fleet that slept so many days from ``asleep`` on, everything moved in time."""
    lived = [_lived(record, asleep, days * DAY, moving) for record in records]
    awake = asleep + moving + days * DAY
    at = next((n for n, record in enumerate(lived) if record.append_time >= awake), len(lived))
    again = _repeated(rng, lived[:at], awake) if days else []
    return _with_offsets([*lived[:at], *again, *lived[at:]])


def until_a_deadline(rng: random.Random, records: list[LogRecord], text: str) -> list[LogRecord]:
    """The log up to a tick at the very deadline of some session, or just before it."""
    entries = yaml.safe_load(text)["meters"]
    told = [n for n, record in enumerate(records) if record.event.kind in _TOLD_ONCE]
    for at in rng.sample(told, len(told)):
        record = records[at]
        log_time = max(r.append_time for r in records[: at + 1] if r.partition == record.partition)
        for timeout in _timeouts(entries, record.event.type):
            deadline = log_time + timeout
            log = [*records[:at], *_before(records[at:], deadline)]
            if not any(_session(later) == _session(record) for later in log[at + 1 :]):
                nobody = blank(EventKind.MARK)._replace(lane=record.partition, time=deadline)
                tick = deadline - rng.choice((0, 0, 1))
                log.append(record._replace(append_time=tick, event=nobody))
                return _with_offsets(log)
    return records


def _before(records: list[LogRecord], deadline: int) -> Iterator[LogRecord]:
    return takewhile(lambda record: record.append_time < deadline, records)


def _session(record: LogRecord) -> tuple[str, str, str | None]:
    event = record.event
    return event.tenant, event.type, event.session or event.subject


def _timeouts(entries: list[dict[str, Any]], session_type: str) -> list[int]:
    return [
        int(entry["timeout"][:-1]) * _UNITS[entry["timeout"][-1]]
        for entry in entries
        if "timeout" in entry and entry.get("type", entry["name"]) == session_type
    ]


def _lived(record: LogRecord, asleep: int, sleep: int, moving: int) -> LogRecord:
    after = record.event.time >= asleep
    time = record.event.time + moving + (sleep if after else 0)
    append_time = record.append_time + moving + (sleep if record.append_time >= asleep else 0)
    event = record.event._replace(time=max(0, time))
    return record._replace(append_time=append_time, event=event)


def _repeated(rng: random.Random, before: list[LogRecord], awake: int) -> list[LogRecord]:
    """Some of what was said before, again at the horizons that lie in the sleep, in order."""
    keyed = [record for record in before if record.event.key]
    visits = [record for record in before if record.event.kind in _TOLD_ONCE]
    last = {(record.partition, record.event.producer): record for record in before}
    horizons = [
        *((record, record.append_time + 90 * DAY) for record in _some(rng, keyed)),
        *((record, record.event.time + 31 * DAY) for record in _some(rng, visits)),
        *((record, record.append_time + 90 * DAY) for record in last.values()),
    ]
    again: list[LogRecord] = []
    for record, horizon in horizons:
        at, event = horizon + rng.choice((0, 1)), record.event
        if before[-1].append_time < at < awake:
            if event.key or event.kind in _TOLD_ONCE:
                event = event._replace(producer="", sequence=0, lane=0)
            again.append(record._replace(append_time=at, event=event))
    return sorted(again, key=lambda record: record.append_time)


def _some(rng: random.Random, records: list[LogRecord]) -> list[LogRecord]:
    return rng.sample(records, min(REPEATED, len(records)))


def _with_offsets(records: list[LogRecord]) -> list[LogRecord]:
    """The same records; where offsets do not rise by themselves, they do now."""
    more: Counter[int] = Counter()
    last: dict[int, int] = {}
    numbered: list[LogRecord] = []
    for record in records:
        offset = record.offset + more[record.partition]
        if offset <= last.get(record.partition, -1):
            offset = last[record.partition] + 1
            more[record.partition] = offset - record.offset
        last[record.partition] = offset
        numbered.append(record._replace(offset=offset))
    return numbered
