"""One call of `Door.take`: what became of its offers so far, and a future for the rest."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from meterstream_services.gateway.port import Fate, Ruling

if TYPE_CHECKING:
    from meterstream.encoding import Entry

UNAVAILABLE: Final = Fate(Ruling.UNAVAILABLE)
SPOOLED: Final = Fate(Ruling.SPOOLED)


class Request:
    """Fates in the order of the offers; None is not known yet. Belongs to the event loop."""

    __slots__ = ("entries", "fates", "future", "left", "names", "numbers", "timer")

    def __init__(self, offers: int) -> None:
        self.fates: list[Fate | None] = [None] * offers
        self.numbers: list[int] = [0] * offers
        """Under which number each went that is waited for."""
        self.left = 0
        """How many are waited for."""
        self.entries: Sequence[Entry] = ()
        """Of all offers, when they were numbered at once."""
        self.names: Sequence[str] | None = None
        """Then, what their keys are remembered by, where they have keys."""
        self.future: asyncio.Future[None] | None = None
        self.timer: asyncio.TimerHandle | None = None

    def tell(self, place: int, fate: Fate) -> None:
        """One of those that are waited for is known."""
        self.fates[place] = fate
        self.left -= 1
        if not self.left:
            self.finish()

    def finish(self) -> None:
        """All of them are known."""
        future = self.future
        if future is not None and not future.done():
            future.set_result(None)
