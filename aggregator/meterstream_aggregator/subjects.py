"""Sessions without an id: the boundaries of one subject, paired up in event-time order. Pure.

The boundaries and heartbeats of (tenant, type, subject) are kept in event-time order. Each end closes
the oldest start that is still open; what the pairing says is derived anew whenever they change.
"""

from __future__ import annotations

from typing import NamedTuple

from meterstream_aggregator.sessions import Start


class SubjectKey(NamedTuple):
    """Whose boundaries these are, and the partition that tells of them."""

    partition: int
    tenant: str
    type: str
    subject: str


class Subject(NamedTuple):
    """The facts about one subject. ``starts``, ``ends`` and ``signs`` are sorted and distinct.

    ``signs`` are heartbeats, at most the latest between two boundaries. Boundaries before
    ``settled`` are gone: their sessions are over, and no boundary may come before it any more.
    """

    starts: tuple[Start, ...]
    ends: tuple[int, ...]
    signs: tuple[int, ...]
    settled: int
    last_append: int
