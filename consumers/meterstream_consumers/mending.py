"""Mending refused events: what changes, under which identity they go again, and what comes of it.

Plain functions; `letterbox` reads and sends.

A replay must be harmless when it is done twice, so it carries an identity that the worker knows:

- the *number* it was first sent under, in the same partition: a refused number is judged anew until
  it is counted, and is a duplicate from then on;
- where there is none that can stand (a foreign event; another tenant, whose events lie elsewhere; a
  producer whose numbers are not judged any more) its caller's *key*, and without one the key
  ``replay:<partition>-<offset>``: the first replay is counted, the next is a duplicate.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC
from enum import StrEnum
from typing import Any, Final, NamedTuple

from meterstream_aggregator.catalogue import Catalogue
from meterstream_aggregator.civil import InvalidQuestion, parse_time
from meterstream_aggregator.refusals import Reason, Refusal, refusal
from meterstream_aggregator.store.told import DeadLetterRow
from meterstream_consumers.errors import InvalidFix
from meterstream_schemas.errors import InvalidEvent
from meterstream_schemas.events import MeterEvent
from meterstream_schemas.placement import lane_of, partition_of
from meterstream_schemas.quantity import parse_amount

FIXABLE: Final = (
    "type", "tenant", "time", "quantity", "session", "subject", "key", "producer",
    "attributes.NAME",
)  # fmt: skip
_ATTRIBUTE: Final = "attributes."
_KEPT_AS_ABSENT: Final = frozenset({"session", "subject", "key"})


class Fixes(NamedTuple):
    """Fields to replace, and attributes to set, or to take out where the value is None."""

    fields: Mapping[str, Any]
    attributes: Mapping[str, str | None]

    def apply(self, event: MeterEvent) -> MeterEvent:
        """The event with everything replaced."""
        attributes = dict(event.attributes)
        for name, value in self.attributes.items():
            if value is None:
                attributes.pop(name, None)
            else:
                attributes[name] = value
        return event._replace(**self.fields, attributes=attributes)


class Outcome(StrEnum):
    """What is to become of a dead letter."""

    SEND = "send"
    """The worker would count it now, as far as can be told without the log's own state."""
    REFUSED = "refused"
    """The worker would refuse it again."""
    IMPOSSIBLE = "impossible"
    """Nothing of it can be sent: its record is no event, or is gone."""


class Mended(NamedTuple):
    """A dead letter as it would be sent. ``event`` is None for an impossible one.

    ``is_unchanged``: the very bytes go again. ``identity`` is what makes a second replay harmless.
    """

    letter: DeadLetterRow
    outcome: Outcome
    why: str
    event: MeterEvent | None = None
    partition: int = -1
    identity: str = ""
    is_unchanged: bool = False


def parse_fixes(texts: Iterable[str]) -> Fixes:
    """Fixes from ``FIELD=VALUE`` texts. Raises `InvalidFix`, which names the text.

    An empty value takes an attribute, session, subject, key or the producer's number out.
    """
    fields: dict[str, Any] = {}
    attributes: dict[str, str | None] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals:
            raise InvalidFix(text, "write FIELD=VALUE, such as type=api.request")
        if name.startswith(_ATTRIBUTE) and name != _ATTRIBUTE:
            attributes[name.removeprefix(_ATTRIBUTE)] = value or None
            continue
        try:
            fields |= _field(name, value)
        except (InvalidEvent, InvalidQuestion) as problem:
            raise InvalidFix(text, str(problem)) from problem
    return Fixes(fields, attributes)


def mend(
    letter: DeadLetterRow,
    event: MeterEvent,
    fixes: Fixes,
    catalogue: Catalogue,
    *,
    partitions: int,
    now: int,
) -> Mended:
    """What a dead letter becomes with these fixes, judged as a worker would at log time ``now``."""
    mended = fixes.apply(event)
    mended, partition, identity = _identified(letter, event, mended, partitions)
    why = refusal(mended, now, catalogue) or _conflict(letter, event, mended)
    return Mended(
        letter,
        Outcome.SEND if why is None else Outcome.REFUSED,
        "" if why is None else f"{why.reason.value}: {why.detail}",
        mended,
        partition,
        identity,
        is_unchanged=mended == event,
    )


def _field(name: str, value: str) -> dict[str, Any]:
    if name == "quantity":
        amount = parse_amount(value)
        return {"quantity": amount.quantity, "scale": amount.scale}
    if name == "time":
        return {"time": _time(value)}
    if name == "producer":
        if value:
            raise InvalidEvent(name, "can only be taken out, as producer=, with the number")
        return {"producer": "", "lane": 0, "sequence": 0}
    if name in _KEPT_AS_ABSENT:
        return {name: value or None}
    if name in {"type", "tenant"}:
        return {name: value}
    raise InvalidEvent(name, f"is none of the fields that can be mended: {', '.join(FIXABLE)}")


def _time(value: str) -> int:
    return int(value) if value.isascii() and value.isdigit() else parse_time(value, UTC)


def _identified(
    letter: DeadLetterRow, event: MeterEvent, mended: MeterEvent, partitions: int
) -> tuple[MeterEvent, int, str]:
    """The event under an identity that can stand, its partition, and that identity in words."""
    moves = mended.tenant != event.tenant
    partition = letter.partition
    if moves:
        partition = partition_of(lane_of(mended.tenant), partitions)
    if mended.producer and not moves and letter.reason != Reason.EXPIRED_PRODUCER:
        number = f"number {mended.sequence} of lane {mended.lane} of {mended.producer:.80}"
        return mended, partition, number
    key = mended.key if mended.key is not None else f"replay:{letter.partition}-{letter.offset}"
    return mended._replace(producer="", lane=0, sequence=0, key=key), partition, f"key {key:.80}"


def _conflict(letter: DeadLetterRow, event: MeterEvent, mended: MeterEvent) -> Refusal | None:
    """A key that was taken is still taken, unless key or content were mended."""
    if (
        letter.reason != Reason.KEY_CONFLICT
        or mended._replace(producer=event.producer, lane=event.lane, sequence=event.sequence)
        != event
    ):
        return None
    return Refusal(Reason.KEY_CONFLICT, "the key is taken by other content; mend key or content")
