"""The door as its routes see it: events offered, and what became of each.

A route parses what a client sent into `Offer` values, asks the principal whether it may speak for
their tenants, and gives them to a `Door`. What comes back says, for each offer in its order, what
the log has. No route talks to Kafka.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from enum import StrEnum
from typing import NamedTuple, Protocol

from meterstream_schemas.events import EventKind


class Offer(NamedTuple):
    """One event as somebody offers it. Nothing in it was checked yet.

    ``time`` is microseconds UTC; None is now, at the door. ``key`` is the caller's idempotency key.
    """

    type: str
    tenant: str
    quantity: int | Decimal | str = 1
    time: int | None = None
    kind: EventKind = EventKind.USAGE
    session: str | None = None
    subject: str | None = None
    attributes: Mapping[str, str] | None = None
    key: str | None = None


class Ruling(StrEnum):
    """What became of an offer."""

    ACCEPTED = "accepted"
    """The log has it: ``partition`` and ``offset`` say where."""
    DUPLICATE = "duplicate"
    """The same was accepted before under its key, at ``partition`` and ``offset``."""
    SPOOLED = "spooled"
    """The spool has it (fsync) and the log will have it. A success; it is counted once."""
    REFUSED = "refused"
    """It can never be counted: ``field`` and ``reason`` say why. Nothing was kept."""
    CONFLICT = "conflict"
    """Its key was used for other content. Nothing was kept."""
    UNAVAILABLE = "unavailable"
    """Not answered for: the log is away and nothing was promised. To be offered again later, under
    its key where it has one: it may be in the log after all."""


class Fate(NamedTuple):
    """What became of one offer."""

    ruling: Ruling
    partition: int | None = None
    offset: int | None = None
    field: str | None = None
    reason: str | None = None

    @property
    def is_kept(self) -> bool:
        """Whether the client may forget the event."""
        return self.ruling in _KEPT


_KEPT = frozenset({Ruling.ACCEPTED, Ruling.DUPLICATE, Ruling.SPOOLED})


class Patience(StrEnum):
    """How long to wait, and what counts as success."""

    LOG = "log"
    """Until the log has it; when that takes too long, `Ruling.UNAVAILABLE`. Where keys are."""
    LOG_OR_SPOOL = "log_or_spool"
    """Until the log has it; when that takes too long, the spool's word counts. For clients without
    ids, whose repetition would count twice."""
    SPOOL = "spool"
    """Until the spool has it: for those who ask for a receipt at once."""


class Door(Protocol):
    """Safe from one event loop. Implementations: `meterstream_services.gateway.door`, `.memory`."""

    async def take(self, offers: Sequence[Offer], patience: Patience = Patience.LOG) -> list[Fate]:
        """Number the offers, send them, and wait for what becomes of each; in their order.

        One bad offer never spoils its neighbours. Does not raise for anything an offer says.
        """
        ...

    def trouble(self) -> str | None:
        """Why nothing can be taken now, in one sentence; None while the log or the spool takes."""
        ...

    def retry_after_seconds(self) -> int:
        """What to tell those whose offers were `Ruling.UNAVAILABLE`."""
        ...

    async def close(self) -> None:
        """Take nothing more; wait for what is under way. Idempotent."""
        ...
