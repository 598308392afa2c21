"""The catalogue of the simulated worlds, and how it varies from seed to seed."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    import random

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
  - {name: api.least, type: api.request, aggregate: min, value: attributes.bytes, window: 1h,
     grace: 1h}
  - {name: api.most, type: api.request, aggregate: max, value: attributes.bytes, group_by: [env]}
  - {name: api.mean, type: api.request, aggregate: average, value: attributes.bytes, grace: 2m}
  - {name: api.routes, type: api.request, aggregate: count, group_by: [route], grace: 90m,
     limits: {series_per_tenant: 3}}
  - {name: credit, aggregate: sum, window: 30m, grace: 1h}
  - {name: credit.least, type: credit, aggregate: min, group_by: [route], window: 5m}
  - {name: credit.most, type: credit, aggregate: max, window: 5m, grace: 30m}
  - {name: credit.last, type: credit, aggregate: latest, group_by: [plan], window: 1h, grace: 30m}
  - {name: order.count, type: order, aggregate: count, group_by: [plan], grace: 1h,
     where: {kind: {not_in: [test]}}, limits: {series_per_tenant: 2}}
  - {name: order.sum, type: order, aggregate: sum, grace: 3h, window: 30m}
  - {name: order.sum, type: order, aggregate: sum, grace: 1h, window: 1h,
     where: {plan: {exists: true}}, from: 2026-01-05T07:00:00Z}
  - {name: order.sum, type: order, aggregate: sum, grace: 3h, window: 30m,
     from: 2026-01-05T20:00:00Z}
  - {name: order.mean, type: order, aggregate: average, value: attributes.weight, window: 5m,
     group_by: [kind]}
  - {name: order.gold, type: order, aggregate: max, where: {tier: {exists: true}}, grace: 1m}
  - {name: order.plain, type: order, aggregate: count, where: {plan: {exists: false},
     tier: {exists: false}}}
  - {name: seat, aggregate: unique, value: attributes.seat, operation: attributes.op,
     group_by: [plan], window: 1h, grace: 1h}
  - {name: seat.users, type: seat, aggregate: unique, value: subject, grace: 6h}
  - {name: seat.last, type: seat, aggregate: latest, window: 5m}
  - {name: level, aggregate: time_weighted, group_by: [disk], window: 1h, grace: 2h}
  - {name: level, aggregate: time_weighted, group_by: [disk], window: 30m, grace: 1h,
     from: 2026-01-05T15:00:00Z}
  - {name: flow, aggregate: time_weighted, samples: changes, window: 1h, grace: 3h}
  - {name: run.seconds, type: agent.run, aggregate: session, group_by: [plan], timeout: 30m}
  - name: run.pro
    type: agent.run
    aggregate: session
    where: {plan: [pro]}
    window: 1h
    timeout: 30m
    timeout_bills: timeout
    grace: 1h
  - {name: run.dated, type: agent.run, aggregate: session, window: 30m, timeout: 1h, grace: 2h}
  - {name: run.dated, type: agent.run, aggregate: session, window: 1h, timeout: 10m, grace: 1h,
     group_by: [plan], from: 2026-01-05T12:00:00Z}
  - {name: run.steps, type: agent.run, aggregate: sum, group_by: [plan]}
  - {name: call.seconds, type: voice.call, aggregate: session, group_by: [route], window: 1m}
  - {name: idle.seconds, type: voice.idle, aggregate: session, timeout: 2h, window: 1h, grace: 1h}
  - {name: visit, aggregate: session, timeout: 20m, grace: 1h, longest: 6h,
     limits: {series_per_tenant: 2}, group_by: [plan]}
  - {name: visit.until, type: visit, aggregate: session, timeout: 40m, timeout_bills: timeout,
     window: 1h, where: {plan: {not_in: [free]}}}
"""
_WINDOWS = ("1m", "5m", "15m", "30m", "1h")
_GRACES = ("0s", "1s", "1m", "7m", "30m", "1h", "3h", "24h")
_DATES = ("metering_since", "accept_from", "from")


def varied(rng: random.Random, *, limits: bool = True) -> str:
    """The same meters with other windows, graces, limits and dates; a few are left out."""
    content = yaml.safe_load(CATALOGUE)
    entries: list[dict[str, Any]] = content["meters"]
    for entry in entries:
        session = entry["aggregate"] == "session"
        if rng.random() < 0.5:
            entry["grace"] = rng.choice(_GRACES)
        if rng.random() < 0.3:
            entry["window"] = rng.choice(_WINDOWS[2:] if session else _WINDOWS)
        if rng.random() < 0.3 and limits:
            entry["limits"] = {"series_per_tenant": rng.choice((1, 2, 3, 10_000))}
        if not limits:
            entry.pop("limits", None)
        if session and rng.random() < 0.3:
            entry["longest"] = rng.choice(("1h", "6h", "2d"))
        if "timeout" in entry and rng.random() < 0.3:
            entry["timeout"] = rng.choice(("1s", "5m", "3h"))
        if "from" in entry:
            entry["from"] += timedelta(hours=rng.randint(-3, 3))
    gone = {entry["name"] for entry in entries if rng.random() < 0.1}
    content["meters"] = [entry for entry in entries if entry["name"] not in gone] or entries
    if rng.random() < 0.3:
        content["accept_from"] = content["metering_since"]
        content["metering_since"] += timedelta(days=4, minutes=rng.randrange(36 * 60))
    return yaml.safe_dump(content, sort_keys=False)


def changed(rng: random.Random, text: str, log_time: int) -> str:
    """The catalogue after somebody edited it when the log had come to that time.

    Meters get a further definition from a later hour on, one comes in with a date, and one without
    that reads what nobody read.
    """
    content = yaml.safe_load(text)
    hour = timedelta(hours=1)
    earliest = datetime(1970, 1, 1, tzinfo=UTC) + (log_time // 3_600_000_000 + 2) * hour
    entries: list[dict[str, Any]] = content["meters"]
    latest = {entry["name"]: entry for entry in entries}
    for entry in latest.values():
        since = earliest + rng.randrange(6) * hour
        if rng.random() < 0.5 or entry.get("from", since) > since - hour:
            continue
        again = {**entry, "from": since, "grace": rng.choice(_GRACES)}
        if rng.random() < 0.4:
            again["where"] = {"plan": {"not_in": ["free"]}}
        if rng.random() < 0.4 and "timeout" in again:
            again["timeout"] = rng.choice(("1s", "5m", "3h"))
        entries.append(again)
    further = {"name": "credit.mean", "type": "credit", "aggregate": "average", "from": earliest}
    nobody = {"name": "nobody", "type": "nobody.reads", "aggregate": "sum", "grace": "1h"}
    entries += [further, nobody]
    return yaml.safe_dump(content, sort_keys=False)


def moved(text: str, microseconds: int) -> str:
    """The catalogue with all its dates moved."""
    content = yaml.safe_load(text)
    for holder in (content, *content["meters"]):
        for name in _DATES:
            if name in holder:
                when: datetime = holder[name]
                holder[name] = when + timedelta(microseconds=microseconds)
    return yaml.safe_dump(content, sort_keys=False)
