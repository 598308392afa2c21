"""What a topic must be set to so that figures rest on it, and why. Pure: no broker is asked here.

Three verdicts: ``ok``; ``warning``, which a person should know of; ``unfit``, with which a promise
of ours would not hold, and which a worker refuses at its start.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Final, NamedTuple

from meterstream_schemas.events import EVENT_BYTES_MAX

DAY_MILLISECONDS: Final = 24 * 60 * 60 * 1000
REPLICAS: Final = "replication factor"
_RECORD_BYTES: Final = EVENT_BYTES_MAX + 1_024
"""The largest event, and what Kafka puts around a record."""


class Verdict(StrEnum):
    """What follows from a setting."""

    OK = "ok"
    WARNING = "warning"
    UNFIT = "unfit"


class Judged(NamedTuple):
    """One setting of a topic: what it is, what it should be, and why."""

    setting: str
    found: str
    wanted: str
    verdict: Verdict
    why: str


def settings_to_make(*, replicas: int, in_sync: int, retention_milliseconds: int) -> dict[str, str]:
    """The settings of a topic that is made by us."""
    return {
        "message.timestamp.type": "LogAppendTime",
        "cleanup.policy": "delete",
        "retention.ms": str(retention_milliseconds),
        "min.insync.replicas": str(min(in_sync, replicas)),
        "unclean.leader.election.enable": "false",
    }


def judge(settings: Mapping[str, str | None], replicas: int) -> list[Judged]:
    """Every setting that promises rest on. ``replicas`` is how many copies each partition has.

    A setting that the broker does not tell is not judged.
    """
    found = [_replicas(replicas)]
    for name, rule in _RULES.items():
        value = settings.get(name)
        if value is not None:
            found.append(rule(name, value, replicas))
    return found


def _replicas(replicas: int) -> Judged:
    why = "every event is on one disk only" if replicas == 1 else "events outlive a broker's disk"
    verdict = Verdict.OK if replicas > 1 else Verdict.WARNING
    return Judged(REPLICAS, str(replicas), "3", verdict, why)


def _timestamps(name: str, value: str, _replicas: int) -> Judged:
    why = "the broker's time decides what is late, not a producer's clock"
    return Judged(name, value, "LogAppendTime", _unless(value == "LogAppendTime"), why)


def _cleanup(name: str, value: str, _replicas: int) -> Judged:
    why = "compaction deletes events that nothing superseded"
    return Judged(name, value, "delete", _unless(value == "delete"), why)


def _elections(name: str, value: str, _replicas: int) -> Judged:
    why = "an unclean election throws acknowledged events away"
    return Judged(name, value, "false", _unless(value == "false"), why)


def _in_sync(name: str, value: str, replicas: int) -> Judged:
    count = int(value)
    wanted = str(max(replicas - 1, 1)) if replicas < 3 else "2"
    if count > replicas:
        why = f"more than the {replicas} copies there are: nothing can be written"
        return Judged(name, value, wanted, Verdict.UNFIT, why)
    if count == 1 and replicas > 2:
        why = "an acknowledged event could be on one disk only, and be lost with it"
        return Judged(name, value, wanted, Verdict.UNFIT, why)
    if count == 1 and replicas == 2:
        why = "while one broker is away, an acknowledged event is on one disk only"
        return Judged(name, value, "2, better 2 of 3 copies", Verdict.WARNING, why)
    return Judged(name, value, wanted, Verdict.OK, "how many disks an acknowledged event is on")


def _retention(name: str, value: str, _replicas: int) -> Judged:
    wanted, milliseconds = str(14 * DAY_MILLISECONDS), int(value)
    why = "a worker that is away for longer loses events; so long can a store be rebuilt"
    if milliseconds == -1 or milliseconds >= 7 * DAY_MILLISECONDS:
        return Judged(name, value, wanted, Verdict.OK, why)
    is_short = milliseconds < DAY_MILLISECONDS
    return Judged(name, value, wanted, Verdict.UNFIT if is_short else Verdict.WARNING, why)


def _retention_bytes(name: str, value: str, _replicas: int) -> Judged:
    why = "a limit by size deletes events sooner than retention.ms says, when many come"
    verdict = Verdict.OK if value == "-1" else Verdict.WARNING
    return Judged(name, value, "-1", verdict, why)


def _record_size(name: str, value: str, _replicas: int) -> Judged:
    why = "a smaller limit refuses events that the SDK accepts"
    wanted = f"at least {_RECORD_BYTES}"
    return Judged(name, value, wanted, _unless(int(value) >= _RECORD_BYTES), why)


def _unless(is_fit: bool) -> Verdict:
    return Verdict.OK if is_fit else Verdict.UNFIT


_RULES: Final[Mapping[str, Callable[[str, str, int], Judged]]] = {
    "message.timestamp.type": _timestamps,
    "cleanup.policy": _cleanup,
    "unclean.leader.election.enable": _elections,
    "min.insync.replicas": _in_sync,
    "retention.ms": _retention,
    "retention.bytes": _retention_bytes,
    "max.message.bytes": _record_size,
}
