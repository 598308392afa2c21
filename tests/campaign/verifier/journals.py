"""What producers wrote down before and after each step, and what that demands of the log.

A journal is lines of JSON; see `tests/campaign/journal.py` for who writes which. An event is known
by its ``id``, which stands in its attributes too. Of the three outcomes, *acknowledged* is what a
``k`` or ``a`` line covers or an ``o`` line places, *failed* what an ``x`` line names; all else that
was intended is *unknown*.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class Identity(NamedTuple):
    """An event as its producer means it. ``time`` is 0 but for signs of life of their own."""

    id: str
    kind: str
    time: int = 0


class Intent(NamedTuple):
    """What a producer was about to record. Of a session's block, times are bounds."""

    identity: Identity
    tenant: str
    type: str
    time: int
    until: int | None
    quantity: int
    scale: int
    session: str | None
    subject: str | None
    attributes: dict[str, str]
    key: str | None

    @property
    def is_foreign(self) -> bool:
        """Whether it is sent without a number: a boundary of a session without an id."""
        return self.identity.kind.startswith("SESSION") and self.session is None


class Journals:
    """All journals of a campaign, taken together."""

    def __init__(self) -> None:
        self.intents: dict[Identity, Intent] = {}
        self.attempts = 0
        self.kept: set[Identity] = set()
        self.acknowledged: set[Identity] = set()
        self.failed: set[Identity] = set()
        self.places: dict[tuple[int, int], tuple[str, int, int]] = {}
        """By place in the log, the number that a producer was told to be there."""
        self.refused_numbers: set[tuple[str, int, int]] = set()
        self.producers: dict[str, bool] = {}
        """By incarnation, whether it was closed with nothing left."""
        self.pulses: set[str] = set()
        """Ids of sessions for which signs of life go out by themselves."""

    def read(self, directory: Path) -> None:
        """Take in every journal of a directory."""
        for path in sorted(directory.glob("*.journal")):
            self._take(path)

    def promised(self) -> set[Identity]:
        """What must be counted or stand among the dead letters."""
        return self.kept | self.acknowledged

    def _take(self, path: Path) -> None:
        producer, numbered, failed = "", dict[int, Identity](), set[int]()
        upto, foreign = {"k": 0, "a": 0}, set[int]()
        for word, *said in _lines(path):
            match word:
                case "begin":
                    producer = said[0]
                    self.producers.setdefault(producer, False)
                case "i":
                    numbered[said[0]] = identity = self._intend(said)
                    if self.intents[identity].is_foreign:
                        foreign.add(said[0])
                case "x":
                    failed.add(said[0])
                case "k" | "a":
                    upto[word] = said[0]
                case "d":
                    self.acknowledged.add(numbered[said[0]])
                case "o":
                    self.places[said[3], said[4]] = (said[0], said[1], said[2])
                case "f":
                    self.refused_numbers.add((said[0], said[1], said[2]))
                case "closed":
                    self.producers[producer] = said[0] == 0
                case _:
                    raise ValueError(f"{path.name}: {word!r} means nothing")
        self.failed.update(numbered[n] for n in failed)
        for word, those in (("k", self.kept), ("a", self.acknowledged)):
            covered = (n for n in numbered.keys() - failed - foreign if n <= upto[word])
            those.update(numbered[n] for n in covered)

    def _intend(self, said: list[Any]) -> Identity:
        _, id_, kind, tenant, type_, time, until, quantity, scale, *more = said
        session, subject, attributes, key = more
        own = time if kind == "SESSION_HEARTBEAT" else 0
        identity = Identity(id_, kind, own)
        intent = Intent(
            identity, tenant, type_, time, until, quantity, scale, session, subject, attributes, key
        )
        known = self.intents.setdefault(identity, intent)
        if known != intent:
            raise ValueError(f"{identity} was intended with two contents")
        if until is not None:
            self.pulses.add(id_)
        self.attempts += 1
        return identity


def _lines(path: Path) -> Iterator[list[Any]]:
    """The lines of a journal; one that its writer was killed in has no end and does not count."""
    for line in path.read_bytes().splitlines(keepends=True):
        if line.endswith(b"\n"):
            yield json.loads(line)
