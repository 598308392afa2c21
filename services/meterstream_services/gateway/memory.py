"""A door into memory, for tests and for trying routes without a broker."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Final

from meterstream.intake import Intake
from meterstream_schemas.errors import InvalidEvent
from meterstream_schemas.events import EventKind
from meterstream_services.gateway.port import Fate, Offer, Patience, Ruling


class MemoryDoor:
    """See `meterstream_services.gateway.port.Door`. Everything lies in partition 0, in order.

    ``away`` makes every offer unavailable, as a door does whose log and spool are full.
    """

    def __init__(self) -> None:
        self.taken: Final[list[Offer]] = []
        self.away = False
        self._keys: Final[dict[tuple[str, str], tuple[Offer, int]]] = {}

    async def take(self, offers: Sequence[Offer], patience: Patience = Patience.LOG) -> list[Fate]:
        """See `Door`."""
        del patience  # The memory is never slow.
        return [self._fate(offer) for offer in offers]

    def trouble(self) -> str | None:
        """See `Door`."""
        return "the memory door was told to be away" if self.away else None

    def retry_after_seconds(self) -> int:
        """See `Door`."""
        return 1

    async def close(self) -> None:
        """See `Door`."""

    def _fate(self, offer: Offer) -> Fate:
        if self.away:
            return Fate(Ruling.UNAVAILABLE)
        try:
            _check(offer)
        except InvalidEvent as problem:
            return Fate(Ruling.REFUSED, field=problem.field, reason=problem.problem)
        place = len(self.taken)
        if offer.key is not None:
            known = self._keys.get((offer.tenant, offer.key))
            if known is not None:
                before, at = known
                told = offer if offer.time is not None else offer._replace(time=before.time)
                same = told == before
                return Fate(Ruling.DUPLICATE if same else Ruling.CONFLICT, 0, at)
        kept = offer if offer.time is not None else offer._replace(time=time.time_ns() // 1000)
        if kept.key is not None:
            self._keys[kept.tenant, kept.key] = kept, place
        self.taken.append(kept)
        return Fate(Ruling.ACCEPTED, 0, place)


def _check(offer: Offer) -> None:
    """What the SDK checks of an event, by the SDK."""
    intake = Intake(capacity=1, overflow="raise", block_seconds=0, strict=True, wake=lambda: None)
    intake.take(
        list(EventKind).index(offer.kind),
        offer.type,
        offer.tenant,
        offer.quantity,
        offer.time,
        offer.session,
        offer.subject,
        offer.attributes,
        offer.key,
    )
